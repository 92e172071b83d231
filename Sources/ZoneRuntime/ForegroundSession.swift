// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem

/// Stays with a process in the foreground: passes on signals, and keystrokes and output where it has a terminal of its
/// own. One `poll` loop; returns when the process has ended and its output is written.
struct ForegroundSession {
    /// A pidfd.
    let process: CInt
    /// The master of the process's terminal.
    let console: CInt?
    /// Whether stdin goes to the process's terminal.
    let passesInput: Bool

    private static let chunk = 16384

    /// Serves until the end. `signal` sends a signal to the process.
    func serve(
        _ signals: borrowing SignalQueue,
        signal: (CInt) throws(SystemError) -> Void
    ) throws(ZoneError) {
        do throws(SystemError) {
            guard let console else { return try wait(signals, signal) }
            // Raw, so that Ctrl-C and Ctrl-Z are keys of the zone's terminal and not signals to us.
            let raw = passesInput && Terminal.isTerminal(0) ? try RawMode(0) : nil
            try relay(console, signals, signal)
            drop(raw)
        } catch {
            throw ZoneError("serve the zone's terminal", error)
        }
    }

    private func wait(
        _ signals: borrowing SignalQueue,
        _ signal: (CInt) throws(SystemError) -> Void
    ) throws(SystemError) {
        var poller = Poller()
        while true {
            poller.removeAll()
            let ended = poller.add(process)
            let pending = poller.add(signals.raw)
            guard try poller.wait() else { continue }
            if poller.isReadable(pending) { try pass(signals, signal, console: nil) }
            if poller.isReadable(ended) { return }
        }
    }

    /// Copies both ways. The end of the output, not of the process, ends the loop: what it wrote last must be seen,
    /// and what its children that hold the terminal still write is cut off by the end of the pid namespace.
    private func relay(
        _ console: CInt,
        _ signals: borrowing SignalQueue,
        _ signal: (CInt) throws(SystemError) -> Void
    ) throws(SystemError) {
        var poller = Poller()
        var reading = passesInput
        var pendingInput: [UInt8] = []
        var hasEnded = false
        while true {
            poller.removeAll()
            let output = poller.add(console, read: true, write: !pendingInput.isEmpty)
            let pending = poller.add(signals.raw)
            let ended = hasEnded ? nil : poller.add(process)
            let input = reading && pendingInput.isEmpty ? poller.add(0) : nil
            // After the end, only what is there already.
            guard try poller.wait(milliseconds: hasEnded ? 0 : -1) || hasEnded else { continue }
            if poller.isReadable(pending) { try pass(signals, signal, console: console) }
            if let ended, poller.isReadable(ended) { hasEnded = true }
            if poller.isReadable(output) {
                guard try copyOutput(console) else { return }
            } else if hasEnded {
                return
            }
            if !pendingInput.isEmpty, poller.isWritable(output) {
                let written = try ConsoleIO.write(console, pendingInput)
                pendingInput.removeFirst(written)
            }
            if let input, poller.isReadable(input) {
                pendingInput = try ConsoleIO.read(0, ForegroundSession.chunk) ?? []
                if pendingInput.isEmpty {
                    reading = false
                    // The end of a file becomes the key that means it: VEOF, Ctrl-D.
                    pendingInput = [4]
                }
            }
        }
    }

    /// Returns `false` when nobody holds the terminal's other end any more.
    private func copyOutput(_ console: CInt) throws(SystemError) -> Bool {
        guard let bytes = try ConsoleIO.read(console, ForegroundSession.chunk), !bytes.isEmpty else { return false }
        var rest = bytes[...]
        while !rest.isEmpty {
            let written = try ConsoleIO.write(1, Array(rest))
            rest = rest.dropFirst(written)
        }
        return true
    }

    private func pass(
        _ signals: borrowing SignalQueue,
        _ signal: (CInt) throws(SystemError) -> Void,
        console: CInt?
    ) throws(SystemError) {
        while let number = signals.next() {
            switch number {
            case SIGWINCH:
                if let console, let size = Terminal.size(of: 0) { Terminal.setSize(size, of: console) }
            case SIGCONT:
                // Continued in the foreground of its terminal: the window may have changed meanwhile.
                if let console, let size = Terminal.size(of: 0) { Terminal.setSize(size, of: console) }
            default:
                // ESRCH: it has ended this moment, which the loop is about to see.
                do throws(SystemError) { try signal(number) } catch {
                    if error.errno != .noProcess { throw error }
                }
            }
        }
    }
}
