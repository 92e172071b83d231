// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// A program in a machine with its streams, or a copy to or from it, as the agent attends to it.
final class GuestSession {
    let number: UInt32
    let process: ProcessHandle
    /// What a process of the agent's own found out, ``GuestCopy``.
    let finding: GuestCopy.Finding?
    private let hasTerminal: Bool
    private var peer: Descriptor?
    private(set) var input: GuestInput
    let outputs: [GuestOutput]
    private var status: ExitStatus?
    /// Nobody asks for it any more.
    private var isClosed = false

    init(_ number: UInt32, _ started: consuming GuestZone.Started) {
        self.number = number
        var streams = started.streams
        process = started.process
        finding = nil
        peer = streams.peer.take()
        hasTerminal = Descriptor.number(of: peer) != nil
        input = GuestInput(streams.input.take(), isTerminal: hasTerminal)
        outputs = GuestOutput.all(&streams, isTerminal: hasTerminal)
    }

    init(_ number: UInt32, _ copy: consuming GuestCopy) {
        self.number = number
        var streams = copy.streams
        process = copy.process
        finding = copy.finding
        hasTerminal = false
        input = GuestInput(streams.input.take(), isTerminal: false)
        outputs = GuestOutput.all(&streams, isTerminal: false)
    }

    // MARK: What the host says

    func accept(_ bytes: ArraySlice<UInt8>, _ queue: inout GuestFrameQueue) throws(GuestWindowError) {
        try input.accept(bytes)
        writeInput(&queue)
    }

    /// A stream has ended for the host.
    func end(_ stream: GuestFrame.Stream, _ queue: inout GuestFrameQueue) {
        if stream == .input {
            input.end()
            return writeInput(&queue)
        }
        for output in outputs where output.stream == stream || hasTerminal { output.close() }
        if hasTerminal {
            // Without a screen it is hung up.
            input.close()
            peer = nil
        }
    }

    func resize(_ size: WindowSize) {
        if hasTerminal, let raw = outputs.first?.raw { Terminal.setSize(size, of: raw) }
    }

    func signal(_ number: CInt) {
        // ESRCH: it has ended this moment.
        if (1...64).contains(number) { try? process.signal(number) }
    }

    func grant(_ stream: GuestFrame.Stream, _ count: UInt32) throws(GuestWindowError) {
        for output in outputs where output.stream == stream { try output.credit.grant(count) }
    }

    /// Kills the program, and what it started in its group.
    func close() {
        isClosed = true
        input.close()
        for output in outputs { output.close() }
        peer = nil
        // The number is that of a child that was not reaped.
        if status == nil {
            _ = zn_kill(-process.pid, SIGKILL)
            try? process.signal(SIGKILL)
        }
    }

    // MARK: What the program does

    /// Passes on input that waits.
    func writeInput(_ queue: inout GuestFrameQueue) {
        input.write()
        if let count = input.inflow.grant() {
            queue.add(GuestFrame(.credit, number, stream: .input, numbers: [count]))
        }
    }

    /// The process has ended.
    func ended(_ status: ExitStatus) {
        self.status = status
        peer = nil
        input.close()
        for output in outputs { output.limit() }
    }

    /// Whether all is said; says the last of it.
    func finish(_ queue: inout GuestFrameQueue) -> Bool {
        guard let status else { return false }
        if isClosed { return true }
        guard outputs.allSatisfy({ $0.isDone }) else { return false }
        if let finding {
            for frame in finding.frames(number, status) { queue.add(frame) }
        } else {
            queue.add(.exited(number, status))
        }
        return true
    }

    /// Whether the process has ended and its last words are being sent.
    var isEnding: Bool { status != nil }
}

/// What comes for a program, on its way to it.
struct GuestInput: ~Copyable {
    private var descriptor: Descriptor?
    private let isTerminal: Bool
    var inflow = GuestInflow()
    private var lastByte: UInt8?
    private var hasEnded = false

    init(_ descriptor: consuming Descriptor?, isTerminal: Bool) {
        self.descriptor = descriptor
        self.isTerminal = isTerminal
    }

    /// The descriptor, where something waits for it.
    var waiting: CInt? { inflow.waiting.isEmpty ? nil : Descriptor.number(of: descriptor) }

    mutating func accept(_ bytes: ArraySlice<UInt8>) throws(GuestWindowError) {
        if hasEnded { return }
        try inflow.accept(bytes)
        if let last = bytes.last { lastByte = last }
    }

    /// Nothing more comes.
    mutating func end() {
        if hasEnded { return }
        hasEnded = true
        // The first VEOF after an unfinished line only sends the line; the second is the end: termios(3).
        if isTerminal { inflow.add(lastByte == nil || lastByte == 0x0A ? [4] : [4, 4]) }
    }

    /// Writes what can be written now; what nobody reads is dropped, as the host has the rest of it on the way.
    mutating func write() {
        guard let raw = Descriptor.number(of: descriptor) else { return inflow.drop() }
        while !inflow.waiting.isEmpty {
            let count: Int?
            do throws(SystemError) { count = try ConsoleIO.write(raw, inflow.waiting) } catch { count = nil }
            guard let count else { return close() }
            if count == 0 { return }
            inflow.take(count)
        }
        if hasEnded, !isTerminal { close() }
    }

    mutating func close() {
        descriptor = nil
        inflow.drop()
    }
}

/// What a program says, on its way to the host.
final class GuestOutput {
    let stream: GuestFrame.Stream
    var credit = GuestCredit()
    private var descriptor: Descriptor?
    private let isTerminal: Bool
    /// How much of it is still of interest, after the end of the program: what children of it say is not waited for.
    private var left: Int?

    /// The most that is taken at once.
    static let part = 32 << 10
    /// More than a terminal holds, whose content cannot be counted.
    private static let terminalRest = 256 << 10

    private init(_ stream: GuestFrame.Stream, _ descriptor: consuming Descriptor, isTerminal: Bool) {
        self.stream = stream
        self.descriptor = consume descriptor
        self.isTerminal = isTerminal
    }

    static func all(_ streams: inout GuestStreams, isTerminal: Bool) -> [GuestOutput] {
        var all: [GuestOutput] = []
        if let output = streams.output.take() { all.append(GuestOutput(.output, output, isTerminal: isTerminal)) }
        if let error = streams.error.take() { all.append(GuestOutput(.error, error, isTerminal: false)) }
        return all
    }

    var raw: CInt? { Descriptor.number(of: descriptor) }
    var isDone: Bool { raw == nil }
    /// Whether the host takes more.
    var isWanted: Bool { credit.left > 0 && raw != nil }

    func close() { descriptor = nil }

    /// The program has ended: only what it has said already is passed on.
    func limit() {
        guard let raw else { return }
        var count: CInt = 0
        if isTerminal {
            left = GuestOutput.terminalRest
        } else {
            left = zn_waiting_bytes(raw, &count) >= 0 ? Int(max(count, 0)) : 0
        }
        if left == 0 { close() }
    }

    /// Passes on what there is, once. Whether something was.
    func pass(_ session: UInt32, _ queue: inout GuestFrameQueue, _ buffer: inout [UInt8]) -> Bool {
        guard let raw, credit.left > 0 else { return false }
        let wanted = min(GuestOutput.part, credit.left, left ?? .max)
        let size = buffer.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map { zn_read(raw, $0, min(wanted, bytes.count)) } ?? 0
        }
        if size == -Int(EAGAIN) || size == -Int(EINTR) {
            if left != nil { close() }
            return false
        }
        guard size > 0 else {
            close()
            // Else `exited` says it.
            if left == nil { queue.add(GuestFrame(.end, session, [stream.rawValue])) }
            return false
        }
        queue.add(session, stream, buffer[..<size])
        credit.spend(size)
        if let left {
            self.left = left - size
            if left == size { close() }
        }
        return true
    }
}
