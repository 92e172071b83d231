// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import OCI

/// gzip's data decompressed by `igzip`, where that is installed (Debian's package isal): in a process beside this one, and in
/// a third of zlib's time. Whoever meets any fault on this way does it again without: then it is told as always.
final class FastGzip {
    /// What the start of a process is worth.
    private static let smallest: Int64 = 2 << 20
    /// F_SETPIPE_SZ, fcntl(2), and what unprivileged users may ask for (pipe(7)).
    private static let setPipeSize: CInt = 1031
    private static let pipeSize = 1 << 20

    private let file: Descriptor
    private let process: ProcessHandle
    private let begin: Int64
    private var isWaitedFor = false

    private init(_ file: consuming Descriptor, _ process: consuming ProcessHandle, begin: Int64) {
        self.file = file
        self.process = process
        self.begin = begin
    }

    deinit {
        if isWaitedFor { return }
        // It has no reader any more, and would end by itself.
        try? process.signal(SIGKILL)
        _ = try? process.wait()
    }

    /// Starts to decompress a file from its current position on; `output` becomes what reads the result. `nil` where it is no
    /// gzip data in a regular file, where that is small, and where the program is not there.
    static func start(on file: borrowing Descriptor, output: inout Descriptor?) -> FastGzip? {
        let begin = Int64(lseek(file.raw, 0, SEEK_CUR))
        guard begin >= 0, let status = try? file.stat(), status.kind == .regular, status.size - begin >= smallest,
            let magic = try? file.read(at: begin, upTo: 3), magic == [0x1F, 0x8B, 8],
            var program = try? HostProgram("igzip", ["-d", "-c"])
        else { return nil }
        do throws(SystemError) {
            let pipe = try Pipe()
            _ = zn_fcntl(pipe.writer.raw, setPipeSize, pipeSize)
            let nowhere = try Descriptor.open("/dev/null", [.writeOnly])
            let own = Descriptor(owning: try check(zn_fcntl(file.raw, F_DUPFD_CLOEXEC, 3), "duplicate descriptor"))
            program.inputDescriptor = own.raw
            let process = try program.start(output: pipe.writer.raw, errors: nowhere.raw)
            output = pipe.takeReader()
            return FastGzip(own, process, begin: begin)
        } catch {
            return nil
        }
    }

    /// Compressed bytes taken so far; the program reads ahead a little.
    var taken: Int64 { max(0, Int64(lseek(file.raw, 0, SEEK_CUR)) - begin) }

    /// Waits for the program's end, once all output was read, and takes the digest of what it has read.
    func finish() throws(ImageError) -> (digest: Digest, size: Int64) {
        isWaitedFor = true
        let status = try attempting("run igzip") { () throws(SystemError) in try process.wait() }
        guard status == .exited(0) else { throw ImageError(.invalid, "cannot be decompressed") }
        var hash = SHA256()
        var size: Int64 = 0
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 4096)
        defer { buffer.deallocate() }
        guard let base = buffer.baseAddress else { return (hash.finish(), 0) }
        while true {
            let count = zn_pread(file.raw, base, buffer.count, Int(begin + size))
            let read = try attempting("read") { () throws(SystemError) in try check(count, "read") }
            if read == 0 { return (hash.finish(), size) }
            hash.update(UnsafeRawBufferPointer(start: base, count: read))
            size += Int64(read)
        }
    }
}
