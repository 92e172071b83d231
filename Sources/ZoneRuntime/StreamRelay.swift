// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem

/// Copies bytes from one descriptor to another, a buffer at a time, without ever blocking.
struct StreamRelay {
    /// What happened in one round.
    enum Outcome {
        case goesOn
        /// Nothing more will come; what came is written.
        case ended
        /// The reader of the destination is gone.
        case readerGone
        case failed(SystemError)
    }

    let source: CInt
    let destination: CInt
    /// Written after the end of the source: for a terminal the keys that mean it.
    let endKeys: Bool

    private var buffer: ArraySlice<UInt8> = []
    private var isReading = true
    /// Whether there is nothing more to copy, or nobody to copy it to.
    private(set) var isDone = false
    private var lastByte: UInt8?

    /// At most what poll(2) promises to take without blocking: PIPE_BUF.
    private static let chunk = 4096

    init(from source: CInt, to destination: CInt, endKeys: Bool = false) {
        self.source = source
        self.destination = destination
        self.endKeys = endKeys
    }

    /// Adds what this stream waits for to a round; either to read or to write, so that a slow reader slows the writer.
    func join(_ poller: inout Poller) -> Int? {
        if isDone { return nil }
        if !buffer.isEmpty { return poller.add(destination, read: false, write: true) }
        return isReading ? poller.add(source) : nil
    }

    mutating func stop() {
        isDone = true
    }

    /// Copies what can be copied now.
    mutating func serve() -> Outcome {
        do throws(SystemError) {
            if buffer.isEmpty, isReading { try fill() }
            if !buffer.isEmpty {
                guard let written = try ConsoleIO.write(destination, buffer) else { return .readerGone }
                buffer = buffer.dropFirst(written)
            }
        } catch {
            return .failed(error)
        }
        return buffer.isEmpty && !isReading ? .ended : .goesOn
    }

    /// Copies everything that is there already, up to a bound: somebody may go on writing for ever.
    mutating func drain() -> Outcome {
        for _ in 0..<65_536 {
            let hadBuffer = !buffer.isEmpty
            var poller = Poller()
            guard let index = join(&poller) else { return .ended }
            // What is to be written is waited for, what is to be read must be there.
            guard let ready = try? poller.wait(milliseconds: hadBuffer ? -1 : 0), ready else { return .ended }
            guard poller.isReadable(index) || poller.isWritable(index) else { return .ended }
            let outcome = serve()
            if case .goesOn = outcome { continue }
            return outcome
        }
        return .ended
    }

    private mutating func fill() throws(SystemError) {
        guard let bytes = try ConsoleIO.read(source, StreamRelay.chunk) else { return }
        if bytes.isEmpty {
            isReading = false
            // The first VEOF after an unfinished line only sends the line; the second is the end: termios(3).
            if endKeys { buffer = lastByte == nil || lastByte == 0x0A ? [4] : [4, 4] }
            return
        }
        lastByte = bytes.last
        buffer = bytes[...]
    }
}
