// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// A QEMU program that reads a disk's image, and has no other way to it than to ask us for its bytes.
///
/// It gets neither the path nor the open file but a socket, on which ``NBDServer`` answers. So it can run as nobody,
/// whoever the file belongs to, in an empty network, with little memory; no name in an image leads it anywhere. It is
/// killed when this value goes.
struct ServedProgram: ~Copyable {
    /// Bytes of output that are kept, of each stream.
    private static let most = 1 << 20
    private static let nobody = 65534

    private var file: FileDisk
    private var server = NBDServer()
    private let parts: RunningProgram
    private(set) var output: [UInt8] = []
    private var errors: [UInt8] = []
    private var isOpen = (output: true, errors: true)
    private let name: String
    /// When its time is over.
    private let end: Int64

    /// Starts a program of qemu-utils. In its arguments `file.…` options for ``file(_:)`` stand for the image; a listening
    /// socket, where there is one, becomes the one that systemd would have given it.
    init(
        _ name: String, _ arguments: [String], listener: CInt? = nil, serving file: consuming FileDisk,
        milliseconds: Int
    ) throws(DiskFault) {
        let started: RunningProgram
        do throws(SystemError) {
            started = try RunningProgram(try ServedProgram.confined(name, arguments), listener)
        } catch {
            if error.errno == .noEntry {
                throw DiskFault(.noProgram, "\(error)", hint: "Debian's packages qemu-utils and util-linux have them")
            }
            throw DiskFault(error)
        }
        self.file = file
        self.name = name
        end = MonotonicClock.milliseconds + Int64(milliseconds)
        parts = started
    }

    /// How a program names the image that it is served.
    static func file(_ format: DiskFormat, listens: Bool) -> String {
        // Of two sizes that a VHD tells of, the true one.
        let more = format == .vpc ? ",force_size_calc=current_size" : ""
        return "driver=\(format.driver)\(more),file.driver=nbd,file.server.type=fd,file.server.str=\(listens ? 4 : 3)"
    }

    private static func confined(_ name: String, _ arguments: [String]) throws(SystemError) -> HostProgram {
        // sh takes the place of systemd, which tells a program its own number.
        let activated = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\""
        var words = [try HostProgram.find("setpriv"), "--no-new-privs", "--pdeathsig", "KILL"]
        if geteuid() == 0 {
            words = [try HostProgram.find("unshare"), "--net", "--ipc"] + words
            words += ["--reuid", "\(nobody)", "--regid", "\(nobody)", "--clear-groups", "--inh-caps=-all"]
        }
        // Memory for the largest tables of a header that was taken, several times over.
        words += [try HostProgram.find("prlimit"), "--as=2147483648", "--core=0", "--fsize=0", "--nofile=64"]
        words += [try HostProgram.find("sh"), "-c", activated, "sh", try HostProgram.find(name)]
        return try HostProgram(words[0], Array(words.dropFirst()) + arguments)
    }

    // MARK: Serving

    /// Answers the program until `descriptor` can be read; `false` where the program has ended before.
    mutating func serve(until descriptor: CInt) throws(DiskFault) -> Bool {
        while true {
            var poller = Poller()
            let wanted = poller.add(descriptor)
            let requests = server.isEnded ? nil : poller.add(parts.socket.raw)
            let ended = poller.add(parts.process.handle.raw)
            if isOpen.output { _ = poller.add(parts.output.raw) }
            if isOpen.errors { _ = poller.add(parts.errors.raw) }
            try wait(&poller)
            if isOpen.output { isOpen.output = drain(parts.output.raw, into: .output) }
            if isOpen.errors { isOpen.errors = drain(parts.errors.raw, into: .errors) }
            if poller.isReadable(wanted) { return true }
            if let requests, poller.isReadable(requests) { try answer() }
            if poller.isReadable(ended) { return false }
        }
    }

    /// Answers the program until it has ended.
    mutating func finish() throws(DiskFault) -> ExitStatus {
        while try serve(until: parts.process.handle.raw) {
            let status: ExitStatus?
            do throws(SystemError) { status = try parts.process.handle.poll() } catch { throw DiskFault(error) }
            guard let status else { continue }
            _ = drain(parts.output.raw, into: .output)
            _ = drain(parts.errors.raw, into: .errors)
            return status
        }
        throw failure()
    }

    /// That the program failed, with the first line of what it said.
    mutating func failure() -> DiskFault {
        // What it wrote last may have to come yet.
        _ = try? parts.process.handle.waitUntilEnded(milliseconds: 1000)
        _ = drain(parts.errors.raw, into: .errors)
        let line = errors.prefix { $0 != 0x0A }.map { $0 >= 0x20 && $0 < 0x7F ? $0 : 0x3F }.prefix(500)
        return DiskFault(.failed, line.isEmpty ? "\(name) failed" : String(decoding: line, as: UTF8.self))
    }

    private func wait(_ poller: inout Poller) throws(DiskFault) {
        let left = end - MonotonicClock.milliseconds
        if left <= 0 { throw DiskFault(.failed, "\(name) took too long") }
        do throws(SystemError) { _ = try poller.wait(milliseconds: CInt(clamping: left)) } catch {
            throw DiskFault(error)
        }
    }

    private mutating func answer() throws(DiskFault) {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = zn_read(parts.socket.raw, &buffer, buffer.count)
        if count == -Int(EAGAIN) { return }
        // It has gone.
        if count <= 0 { return server.close() }
        server.take(buffer[..<count])
        while let reply = try server.answer(&file) { try send(reply) }
    }

    private func send(_ bytes: [UInt8]) throws(DiskFault) {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes { buffer in
                let start = buffer.baseAddress.map { $0 + done }
                return Glibc.send(parts.socket.raw, start, buffer.count - done, CInt(MSG_NOSIGNAL))
            }
            if count > 0 {
                done += count
                continue
            }
            // One that has ended is noticed where it is waited for.
            guard count < 0, Glibc.errno == EAGAIN || Glibc.errno == EINTR else { return }
            var poller = Poller()
            _ = poller.add(parts.socket.raw, read: false, write: true)
            try wait(&poller)
        }
    }

    /// Reads what is there; `false` at the end of a stream.
    private mutating func drain(_ raw: CInt, into stream: Stream) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 16384)
        let count = zn_read(raw, &buffer, buffer.count)
        if count <= 0 { return count == -Int(EAGAIN) }
        switch stream {
        case .output: output += buffer[..<min(count, max(0, ServedProgram.most - output.count))]
        case .errors: errors += buffer[..<min(count, max(0, ServedProgram.most - errors.count))]
        }
        return true
    }

    private enum Stream {
        case output, errors
    }
}

/// A process that does not outlive this value.
struct KilledProcess: ~Copyable {
    let handle: ProcessHandle

    init(_ handle: consuming ProcessHandle) {
        self.handle = handle
    }

    deinit {
        // Both fail where it was waited for already.
        try? handle.signal(SIGKILL)
        _ = try? handle.wait()
    }
}

/// A program that runs, and our ends of what it was given.
struct RunningProgram: ~Copyable {
    let socket: Descriptor
    let output: Descriptor
    let errors: Descriptor
    let process: KilledProcess

    init(_ program: consuming HostProgram, _ listener: CInt?) throws(SystemError) {
        var ends: [CInt] = [-1, -1]
        let kind = CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        try check(socketpair(AF_UNIX, kind, 0, &ends) == 0 ? 0 : -Glibc.errno, "socketpair")
        let socket = Descriptor(owning: ends[0])
        let other = Descriptor(owning: ends[1])
        let output = try Pipe()
        let errors = try Pipe()
        program.inherited = (listener.map { [$0] } ?? []) + [other.raw]
        let process = KilledProcess(try program.start(output: output.writer.raw, errors: errors.writer.raw))
        self.socket = socket
        self.output = output.takeReader()
        self.errors = errors.takeReader()
        self.process = process
        // An empty socket takes so much.
        _ = Glibc.send(self.socket.raw, NBDServer.greeting, NBDServer.greeting.count, CInt(MSG_NOSIGNAL))
        for raw in [self.socket.raw, self.output.raw, self.errors.raw] { Descriptor.setNonBlocking(raw) }
    }
}
