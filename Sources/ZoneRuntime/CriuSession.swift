// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import OCI

/// One request to criu, as `criu swrk` takes it: over a socket, in protocol buffers (criu's images/rpc.proto).
///
/// Not by options of the command line: only so criu waits for our word before it lets the processes run, hands over the
/// master of a terminal, and makes the first process our child. It also gives up, and lets a zone that it was saving go
/// on, when we are killed.
struct CriuSession: ~Copyable {
    enum Kind: Int32 {
        case dump = 1
        case restore = 2
        case preDump = 4

        var verb: String { self == .restore ? "restore" : "checkpoint" }
    }

    /// Numbers of the fields of `criu_opts`.
    enum Field {
        static let imagesFolder = 1
        static let pid = 2
        static let leaveRunning = 3
        static let externalSockets = 4
        static let tcpEstablished = 5
        static let shellJob = 7
        static let fileLocks = 8
        static let logLevel = 9
        static let logFile = 10
        static let pageServer = 11
        static let notifies = 12
        static let root = 13
        static let parent = 14
        static let tracksMemory = 15
        static let autoDeduplicate = 16
        static let workFolder = 17
        static let linkRemap = 18
        static let groupRoot = 25
        static let isSibling = 26
        static let inherited = 27
        static let groupMode = 34
        static let external = 37
        static let emptyNamespaces = 38
        static let joined = 39
        static let freezer = 44
        static let skipInFlight = 46
        static let lazyPages = 48
        static let statusDescriptor = 49
        static let orphanTerminal = 50
        static let securityProfile = 53
    }

    /// What criu says on its way.
    struct Notice: ~Copyable {
        /// Such as `post-restore`.
        let name: String
        let pid: Int32
        var descriptor: Descriptor?
    }

    let kind: Kind
    let id: String
    let settings: CriuSettings
    private let program: HostProgram
    private var images: Descriptor
    private var work: Descriptor
    private let workPath: String

    /// `program` is `--criu`'s value.
    init(
        _ kind: Kind, _ id: String, _ settings: CriuSettings, program: String?
    ) throws(ZoneError) {
        guard !Rootless.isInside else {
            throw ZoneError(
                .notPermitted, "\(kind.verb): only root can save and restore processes with criu",
                hint: "this needs root rights: try sudo")
        }
        let found = try CriuSession.find(program, kind.verb)
        var settings = settings
        settings.imagePath = CriuSession.absolute(settings.imagePath)
        let path = settings.workPath.map { CriuSession.absolute($0) } ?? settings.imagePath
        let images = try CriuSession.folder(settings.imagePath, "--image-path", makes: kind != .restore)
        let work = try CriuSession.folder(path, "--work-path", makes: true)
        self.kind = kind
        self.id = id
        self.settings = settings
        self.program = found
        self.images = images
        self.work = work
        workPath = path
    }

    /// Opens the folders once more, after the mount namespace was changed: criu mounts upon something in them.
    mutating func reopenFolders() throws(ZoneError) {
        images = try CriuSession.folder(settings.imagePath, "--image-path", makes: false)
        work = try CriuSession.folder(workPath, "--work-path", makes: false)
    }

    /// The checkpoint's folder.
    func withImages<R>(_ body: (borrowing Descriptor) throws(SystemError) -> R) throws(ZoneError) -> R {
        try attempting("--image-path \(settings.imagePath)") { () throws(SystemError) in try body(images) }
    }

    func savedFile(_ spec: Spec) throws(ZoneError) -> CheckpointFile {
        try CheckpointFile.read(in: images, settings.imagePath, spec)
    }

    private static func find(_ program: String?, _ verb: String) throws(ZoneError) -> HostProgram {
        do throws(SystemError) {
            var name = program ?? "criu"
            if name.contains("/") {
                guard let resolved = realpath(name, nil) else {
                    throw SystemError("open", name, Errno(rawValue: errno))
                }
                defer { free(resolved) }
                name = String(cString: resolved)
            }
            return try HostProgram(name, ["swrk", "3"])
        } catch {
            if let program { throw ZoneError(.unsupported, "\(verb): --criu \(program): \(error.errno.message)") }
            guard error.errno == .noEntry else { throw ZoneError(verb, error) }
            throw ZoneError(
                .unsupported, "\(verb): criu is not installed: apt-get install criu",
                hint: "or name the program with --criu PATH before the verb")
        }
    }

    private static func folder(_ path: String, _ option: String, makes: Bool) throws(ZoneError) -> Descriptor {
        try attempting("\(option) \(path)") { () throws(SystemError) in
            // What was in the processes' memory is nobody else's business.
            if makes { _ = try Descriptor.makePath(path, mode: 0o700) }
            return try Descriptor.open(path, [.readOnly, .directory])
        }
    }

    // MARK: The request

    private var logName: String {
        switch kind {
        case .dump: "dump.log"
        case .restore: "restore.log"
        case .preDump: "pre-dump.log"
        }
    }

    /// What every request says.
    func options(groups: CriuSettings.GroupMode? = nil) -> CriuMessage {
        var options = CriuMessage()
        // criu looks them up in /proc of who asks.
        options.add(Field.imagesFolder, images.raw)
        options.add(Field.workFolder, work.raw)
        options.add(Field.logLevel, 4)
        options.add(Field.logFile, logName)
        options.add(Field.notifies, true)
        options.add(Field.groupMode, (groups ?? settings.groups).number)
        for (field, isSet) in [
            (Field.tcpEstablished, settings.keepsTCP), (Field.externalSockets, settings.allowsExternalSockets),
            (Field.shellJob, settings.isShellJob), (Field.fileLocks, settings.keepsFileLocks),
            (Field.lazyPages, settings.isLazy), (Field.autoDeduplicate, settings.deduplicates),
        ] where isSet {
            options.add(field, true)
        }
        if settings.emptiesNetwork { options.add(Field.emptyNamespaces, Int32(0x4000_0000) /* CLONE_NEWNET */) }
        return options
    }

    /// Runs criu to its end. `inherited` are descriptors that it gets as ``inherited(_:)`` says; `notice` is called at each
    /// of its steps, and what it throws ends criu's work. Returns the pid of a restored first process.
    func run(
        _ options: CriuMessage, inherited: [CInt] = [], notice: (inout Notice) throws(ZoneError) -> Void
    ) throws(ZoneError) -> Int32 {
        // An older log is not this one's.
        try? work.remove(logName)
        let errors = try attempting(kind.verb) { () throws(SystemError) in try Descriptor.inMemory("criu") }
        var raw: CInt = -1
        let channel = try attempting(kind.verb) { () throws(SystemError) in try Channel(other: &raw) }
        let process = try start(Descriptor(owning: raw), errors, inherited)
        var request = CriuMessage()
        request.add(1, kind.rawValue)
        request.add(2, options)
        let outcome: Result<Int32, ZoneError>
        do throws(ZoneError) { outcome = .success(try talk(channel, request, errors, notice)) } catch {
            outcome = .failure(error)
        }
        // With the socket closed it ends.
        _ = try? process.wait()
        return try outcome.get()
    }

    /// `socket` is criu's end, which is closed here with this call.
    private func start(
        _ socket: consuming Descriptor, _ errors: borrowing Descriptor, _ inherited: [CInt]
    ) throws(ZoneError) -> ProcessHandle {
        var program = program
        program.inherited = [socket.raw] + inherited
        do throws(SystemError) { return try program.start(output: errors.raw, errors: errors.raw) } catch {
            throw ZoneError("\(kind.verb): run \(program.program)", error)
        }
    }

    /// The number that descriptor `index` of those for criu has there: behind its streams and the socket.
    static func inherited(_ index: Int) -> Int32 { Int32(clamping: index + 4) }

    private func talk(
        _ channel: consuming Channel, _ request: CriuMessage, _ errors: borrowing Descriptor,
        _ notice: (inout Notice) throws(ZoneError) -> Void
    ) throws(ZoneError) -> Int32 {
        var refusal: ZoneError?
        do throws(SystemError) { try send(request, channel) } catch { throw failure(nil, errors) }
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            var descriptor: Descriptor?
            let size: Int
            do throws(SystemError) {
                size = try buffer.withUnsafeMutableBytes { (bytes) -> Result<Int, SystemError> in
                    do throws(SystemError) {
                        return .success(try channel.receive(into: bytes, descriptor: &descriptor))
                    } catch {
                        return .failure(error)
                    }
                }.get()
            } catch {
                throw refusal ?? failure(nil, errors)
            }
            guard size > 0, let answer = CriuAnswer(buffer[..<size]), let type = answer.number(1) else {
                throw refusal ?? failure(nil, errors)
            }
            guard type == 6 /* NOTIFY */ else {
                guard type == kind.rawValue, answer.number(2) == 1, refusal == nil else {
                    throw refusal ?? failure(answer, errors)
                }
                return answer.message(4)?.number(1) ?? 0
            }
            var reply = CriuMessage()
            reply.add(1, 6)
            let body = answer.message(5)
            var told = Notice(
                name: body?.text(1) ?? "", pid: body?.number(2) ?? 0, descriptor: descriptor.take())
            do throws(ZoneError) { try notice(&told) } catch { refusal = refusal ?? error }
            reply.add(3, refusal == nil)
            do throws(SystemError) { try send(reply, channel) } catch { throw refusal ?? failure(nil, errors) }
        }
    }

    private func send(_ message: CriuMessage, _ channel: borrowing Channel) throws(SystemError) {
        try message.bytes.withUnsafeBytes { (bytes) -> Result<Void, SystemError> in
            do throws(SystemError) { return .success(try channel.send(bytes)) } catch { return .failure(error) }
        }.get()
    }

    // MARK: What went wrong

    /// criu's own words: the last errors of its log, or what it wrote to its error stream.
    private func failure(_ answer: CriuAnswer?, _ errors: borrowing Descriptor) -> ZoneError {
        let log = (try? work.readFile(logName, limit: 64 << 20)) ?? []
        var said = CriuSession.lastErrors(log)
        var place = ""
        if log.isEmpty {
            errors.rewind()
            said = CriuSession.lastErrors((try? errors.readAll(limit: 1 << 20)) ?? [], all: true)
        } else {
            place = " (its log is \(workPath)/\(logName))"
        }
        if said.isEmpty, let text = answer?.text(9) { said = text }
        if said.isEmpty, let code = answer?.number(7), code > 0 { said = Errno(rawValue: code).message }
        if said.isEmpty { said = "it ended without a word" }
        var hint: String? = log.isEmpty ? "'criu check' tells what this machine lacks" : nil
        if kind == .restore, said.hasPrefix("File fd/") {
            hint = "a stream that was a file when the container was saved must be the same file, unchanged"
        }
        return ZoneError(
            .system, "\(kind.verb) container \(id): criu failed: \(said)\(place)", hint: hint)
    }

    /// What criu says after every failure, and what is no reason for one.
    private static let noise = ["Restoring FAILED", "Dumping FAILED", "Pre-dumping FAILED", "cg: cgroupd:", "rlimit: "]

    /// The last lines that tell of errors, without their time stamps; the first of them is usually the cause.
    static func lastErrors(_ log: [UInt8], all: Bool = false) -> String {
        let lines = log.split(separator: UInt8(ascii: "\n")).compactMap { line -> String? in
            let words = line.split(separator: UInt8(ascii: " "))
            if all { return String(decoding: line, as: UTF8.self) }
            guard words.contains(where: { $0.elementsEqual("Error".utf8) }) else { return nil }
            // `(00.012345)    123: Error (criu/mount.c:1): text`
            var rest = String(decoding: line, as: UTF8.self)[...]
            while let next = rest.firstIndex(of: ")") {
                rest = rest[rest.index(after: next)...]
                guard rest.hasPrefix(": ") else { continue }
                return noise.contains { rest.dropFirst(2).hasPrefix($0) } ? nil : String(rest.dropFirst(2))
            }
            return String(decoding: line, as: UTF8.self)
        }
        return lines.suffix(3).joined(separator: "; ")
    }

    private static func absolute(_ path: String) -> String {
        if path.isAbsolutePath { return path }
        guard let folder = getcwd(nil, 0) else { return path }
        defer { free(folder) }
        return "\(String(cString: folder))/\(path)"
    }
}
