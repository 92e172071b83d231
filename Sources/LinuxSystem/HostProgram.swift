// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

/// A program of the host's that does a job for us and ends: its output is collected, its time is limited.
///
/// It inherits nothing: standard input is what ``input`` says, the environment is ours to choose, signals are as after
/// login, every other descriptor is closed, and a process group of its own keeps the terminal's signals away.
public struct HostProgram: Sendable {
    /// Where programs are looked for, whatever the caller's PATH says.
    public static let folders = [
        "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
    ]

    /// Absolute path.
    public let program: String
    /// Without the program's own name.
    public var arguments: [String]
    /// `NAME=value` each.
    public var environment = ["PATH=\(HostProgram.folders.joined(separator: ":"))", "LC_ALL=C"]
    public var input: [UInt8] = []
    /// The caller's descriptor for standard input, in the place of ``input``; its position is shared.
    public var inputDescriptor: CInt?
    /// Descriptors of the caller's that become 3, 4 and so on.
    public var inherited: [CInt] = []
    public var milliseconds = 30_000
    /// Bytes of output and of errors, each, that are kept; what is more is read and dropped.
    public var limit = 1 << 20

    /// `program` is an absolute path, or a name that is looked for in ``folders``; `.noEntry` where it is in none.
    public init(_ program: String, _ arguments: [String] = []) throws(SystemError) {
        self.program = try HostProgram.find(program)
        self.arguments = arguments
    }

    /// Returns the absolute path of a program.
    public static func find(_ name: String) throws(SystemError) -> String {
        if name.utf8.first == UInt8(ascii: "/") { return name }
        if name.isEmpty || name.utf8.contains(UInt8(ascii: "/")) { throw SystemError("find program", name, .invalid) }
        for folder in folders {
            let path = "\(folder)/\(name)"
            if access(path, X_OK) == 0, (try? FileStatus.of(path))?.kind == .regular { return path }
        }
        throw SystemError("find program", name, .noEntry)
    }

    /// How a program ended and what it wrote.
    public struct Outcome: Sendable {
        public let status: ExitStatus
        public let output: [UInt8]
        public let errors: [UInt8]
        /// Whether it wrote more than ``HostProgram/limit``.
        public let isCut: Bool

        /// The first line that the program wrote to its error stream.
        public var reason: String {
            let line = errors.split(separator: UInt8(ascii: "\n")).first ?? []
            return String(decoding: line, as: UTF8.self)
        }
    }

    /// Runs the program to its end. Throws when it cannot be started, and `.timedOut` when it was killed for its time.
    public func run() throws(SystemError) -> Outcome {
        let output = try Pipe()
        let errors = try Pipe()
        let process = try start(output: output.writer.raw, errors: errors.writer.raw)
        // Ours would keep the pipes from ever ending.
        _ = consume output.writer
        _ = consume errors.writer
        var collector = Collector(output: output.reader, errors: errors.reader, limit: limit)
        let end = MonotonicClock.milliseconds + Int64(milliseconds)
        while try !collector.wait(for: process.raw, milliseconds: end - MonotonicClock.milliseconds) {
            if MonotonicClock.milliseconds < end { continue }
            try? process.signal(SIGKILL)
            _ = try process.wait()
            throw SystemError("run", program, .timedOut)
        }
        let status = try process.wait()
        return Outcome(
            status: status, output: collector.streams.output, errors: collector.streams.errors,
            isCut: collector.isCut)
    }

    // MARK: The start

    /// Starts the program for a caller that talks to it meanwhile, and waits for it: ``ProcessHandle/wait()``. `output` and
    /// `errors` are the caller's descriptors for what it writes; ``milliseconds`` and ``limit`` mean nothing here.
    public func start(output: CInt, errors: CInt) throws(SystemError) -> ProcessHandle {
        for text in [program] + arguments + environment where text.utf8.contains(0) {
            throw SystemError("run", "\(program): an argument holds a NUL", .invalid)
        }
        let standardInput = try openInput()
        var actions = FileActions()
        actions.move(standardInput.raw, to: 0)
        actions.move(output, to: 1)
        actions.move(errors, to: 2)
        // Out of the way first: one of them may have the number that another gets.
        var copies = DescriptorBag()
        for (index, descriptor) in inherited.enumerated() {
            let copy = try check(zn_fcntl(descriptor, F_DUPFD_CLOEXEC, 100), "duplicate descriptor", program)
            actions.move(copies.adopt(Descriptor(owning: copy)), to: 3 + CInt(index))
        }
        actions.closeAll(from: 3 + CInt(inherited.count))
        let pid = try spawn(actions)
        do throws(SystemError) { return try ProcessHandle(pid: pid) } catch {
            // A kernel without pidfds: nothing may be left behind.
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
            throw error
        }
    }

    private func openInput() throws(SystemError) -> Descriptor {
        if let inputDescriptor {
            return Descriptor(
                owning: try check(zn_fcntl(inputDescriptor, F_DUPFD_CLOEXEC, 3), "duplicate descriptor", program))
        }
        if input.isEmpty { return try Descriptor.open("/dev/null", [.readOnly]) }
        // Not a pipe, which would have to be filled while the program runs.
        let file = try Descriptor.inMemory("input")
        try file.writeAll(input, program)
        file.rewind()
        return file
    }

    private func spawn(_ actions: borrowing FileActions) throws(SystemError) -> pid_t {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setpgroup(&attributes, 0)
        let flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP
        posix_spawnattr_setflags(&attributes, Int16(flags))
        var pid: pid_t = 0
        let words = CStrings([program] + arguments)
        let variables = CStrings(environment)
        let result = actions.withPointer {
            posix_spawn(&pid, program, $0, &attributes, words.pointers, variables.pointers)
        }
        if result != 0 { throw SystemError("run", program, Errno(rawValue: result)) }
        return pid
    }
}

/// What becomes of the descriptors between fork and exec.
private struct FileActions: ~Copyable {
    private var actions = posix_spawn_file_actions_t()

    init() {
        posix_spawn_file_actions_init(&actions)
    }

    deinit {
        var actions = actions
        posix_spawn_file_actions_destroy(&actions)
    }

    mutating func move(_ from: CInt, to number: CInt) {
        posix_spawn_file_actions_adddup2(&actions, from, number)
    }

    mutating func closeAll(from first: CInt) {
        _ = zn_spawn_close_from(&actions, first)
    }

    func withPointer(_ body: (UnsafePointer<posix_spawn_file_actions_t>) -> CInt) -> CInt {
        withUnsafePointer(to: actions) { body($0) }
    }
}

/// A NULL-terminated array of C strings, as execve(2) wants it.
private struct CStrings: ~Copyable {
    let pointers: [UnsafeMutablePointer<CChar>?]

    init(_ texts: [String]) {
        pointers = texts.map { strdup($0) } + [nil]
    }

    deinit {
        for pointer in pointers { free(pointer) }
    }
}

/// Reads what a program writes until it has ended.
private struct Collector: ~Copyable {
    private let output: Descriptor
    private let errors: Descriptor
    private let limit: Int
    private var isOpen = (output: true, errors: true)
    private(set) var streams: (output: [UInt8], errors: [UInt8]) = ([], [])
    private(set) var isCut = false

    init(output: consuming Descriptor, errors: consuming Descriptor, limit: Int) {
        self.output = output
        self.errors = errors
        self.limit = limit
        Descriptor.setNonBlocking(self.output.raw)
        Descriptor.setNonBlocking(self.errors.raw)
    }

    /// Returns `true` once the process has ended and all that it wrote is read. Another process that it left behind may
    /// hold the streams open: that is not waited for.
    mutating func wait(for process: CInt, milliseconds: Int64) throws(SystemError) -> Bool {
        var poller = Poller()
        let end = poller.add(process)
        if isOpen.output { _ = poller.add(output.raw) }
        if isOpen.errors { _ = poller.add(errors.raw) }
        if try !poller.wait(milliseconds: CInt(clamping: max(milliseconds, 0))) { return false }
        let isEnded = poller.isReadable(end)
        if isOpen.output { isOpen.output = try drain(output.raw, \.output) }
        if isOpen.errors { isOpen.errors = try drain(errors.raw, \.errors) }
        return isEnded
    }

    /// Reads what is there; `false` at the end of the stream.
    private mutating func drain(
        _ raw: CInt, _ stream: WritableKeyPath<(output: [UInt8], errors: [UInt8]), [UInt8]>
    ) throws(SystemError) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 16384)
        // A program that writes without end must not keep us from looking at the clock.
        for _ in 0..<64 {
            let size = buffer.withUnsafeMutableBytes { bytes in
                bytes.baseAddress.map { zn_read(raw, $0, bytes.count) } ?? 0
            }
            if size == -Int(EAGAIN) { return true }
            let count = try check(size, "read output of program")
            if count == 0 { return false }
            let room = max(0, limit - streams[keyPath: stream].count)
            if count > room { isCut = true }
            streams[keyPath: stream] += buffer.prefix(min(count, room))
        }
        return true
    }
}
