// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import Namespaces

/// The streams of a detached zone, as its keeper holds them.
///
/// Output goes through two named pipes in ROOT/NAME, which the zone's side has open for reading as well: when a keeper is
/// killed the zone is not hung up, and the next keeper opens them again. A terminal has no such second door: it is hung
/// up with its keeper.
struct KeeperStreams: ~Copyable {
    /// Where output comes from.
    enum Source: Int, CaseIterable {
        case output, error
    }

    private var output: Descriptor?
    private var error: Descriptor?
    /// For `-i` without a terminal.
    private var input: Descriptor?
    private var console: Descriptor?
    /// Held open until the end of the process: one that closes its terminal may open it again.
    private var peer: Descriptor?
    private var buffer = [UInt8](repeating: 0, count: 16_384)

    /// None yet: for a zone with a terminal, see ``take(console:)``.
    init() {}

    private static let names = ["stdout", "stderr"]

    /// Makes the pipes in ROOT/NAME and puts the zone's ends into the plan.
    init(_ plan: inout LaunchPlan, in folder: borrowing Descriptor, passesInput: Bool) throws(SystemError) {
        if passesInput {
            let pipe = try Pipe()
            plan.process.standard.input = plan.descriptors.adopt(try pipe.reader.duplicate())
            let writer = try pipe.writer.duplicate()
            Descriptor.setNonBlocking(writer.raw)
            input = consume writer
        } else {
            plan.process.standard.input = plan.descriptors.adopt(try Descriptor.open("/dev/null", [.readOnly]))
        }
        plan.process.standard.output = plan.descriptors.adopt(try KeeperStreams.makePipe(0, folder))
        plan.process.standard.error = plan.descriptors.adopt(try KeeperStreams.makePipe(1, folder))
        try openReaders(folder)
    }

    /// Takes over from a keeper that is gone.
    init(adopting folder: borrowing Descriptor) throws(SystemError) {
        try openReaders(folder)
    }

    private mutating func openReaders(_ folder: borrowing Descriptor) throws(SystemError) {
        let flags: OpenFlags = [.readOnly, .nonBlocking, .noFollow]
        output = try folder.open(KeeperStreams.names[0], flags, resolve: .beneath)
        error = try folder.open(KeeperStreams.names[1], flags, resolve: .beneath)
    }

    /// Returns the zone's end. Who writes may be any user of the zone's, who opens it again as /dev/stdout; nobody else
    /// gets through the folder.
    private static func makePipe(_ index: Int, _ folder: borrowing Descriptor) throws(SystemError) -> Descriptor {
        let name = names[index]
        let result = zn_mknodat(folder.raw, name, S_IFIFO | 0o600, 0, 0)
        if result != -EEXIST { try check(result, "mkfifo", name) }
        let pipe = try folder.open(name, [.readWrite, .noFollow], resolve: .beneath)
        // Past the mask.
        try check(zn_fchmod(pipe.raw, 0o622), "chmod", name)
        return pipe
    }

    mutating func take(console descriptor: consuming Descriptor?) {
        guard let descriptor else { return }
        Descriptor.setNonBlocking(descriptor.raw)
        peer = Terminal.peer(of: descriptor.raw)
        console = consume descriptor
    }

    // MARK: Output

    /// The descriptor that this output comes from, `nil` where it has ended.
    func number(_ source: Source) -> CInt? {
        switch source {
        case .output: Descriptor.number(of: console) ?? Descriptor.number(of: output)
        case .error: Descriptor.number(of: error)
        }
    }

    /// Hands over what is there, at most one buffer full; `false` where there is nothing now.
    mutating func read(_ source: Source, _ take: (UnsafeRawBufferPointer) -> Void) -> Bool {
        guard let raw = number(source) else { return false }
        let count = buffer.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map { zn_read(raw, $0, bytes.count) } ?? 0
        }
        if count > 0 {
            buffer.withUnsafeBytes { take(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
            return true
        }
        if count == -Int(EAGAIN) || count == -Int(EINTR) { return false }
        // The end: all that held the other side have gone.
        switch source {
        case .output:
            if console != nil { console = nil } else { output = nil }
        case .error: error = nil
        }
        return false
    }

    // MARK: Input

    var hasTerminal: Bool { console != nil }
    /// Where what is typed goes, `nil` where nothing reads it.
    var inputNumber: CInt? { Descriptor.number(of: console) ?? Descriptor.number(of: input) }

    /// Passes on what somebody types; what the zone does not take now is dropped by a terminal, which is what terminals
    /// do, and waited for by a pipe: returns how many bytes were taken.
    mutating func write(_ bytes: ArraySlice<UInt8>) -> Int {
        guard let raw = inputNumber else { return bytes.count }
        do throws(SystemError) {
            if let count = try ConsoleIO.write(raw, bytes) { return count }
        } catch {}
        // Nobody reads any more.
        input = nil
        return bytes.count
    }

    /// There is nothing more to come: for a terminal the key that says so.
    mutating func endInput() {
        if let raw = Descriptor.number(of: console) {
            _ = try? ConsoleIO.write(raw, [4])
        } else {
            input = nil
        }
    }

    func resize(_ size: WindowSize) {
        if let raw = Descriptor.number(of: console) { Terminal.setSize(size, of: raw) }
    }
}
