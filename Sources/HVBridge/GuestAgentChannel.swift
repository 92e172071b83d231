// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem
import OCI

/// A connection to the QEMU guest agent, a program in the guest, over a stream socket that leads to its serial port.
///
/// Everything that comes is the guest's: ``QMPError`` tells what is wrong with it, within the call's time and with at most
/// ``messageLimit`` bytes held. The stream has no beginning and answers have no names, so each first call, and each one
/// after an error, brings both ends into step: `guest-sync-delimited` with a random number, before whose answer the agent
/// puts the byte 0xFF, which no JSON text holds. What came before is dropped.
///
///     guest agent                                                          ZoneRuntime
///         |  0xFF {"execute": "guest-sync-delimited", "arguments": {"id": N}}  |
///         | <----------------------------------------------------------------- |
///         |  rest of an old answer, 0xFF {"return": N}                         |
///         | -----------------------------------------------------------------> |
///         |  {"execute": "guest-ping"}                                         |
///         | <----------------------------------------------------------------- |
///         |  {"return": {}}                                                    |
///         | -----------------------------------------------------------------> |
public struct GuestAgentChannel: ~Copyable {
    /// The longest answer that is read, in bytes.
    public static let messageLimit = 1 << 18
    private static let sentinel: UInt8 = 0xFF

    private var socket: QMPLineSocket
    private var isInStep = false

    /// Takes over a connected stream socket, which must not be shared: it no longer blocks. Nothing is sent yet.
    public init(_ socket: consuming Descriptor) {
        self.socket = QMPLineSocket(socket, limit: GuestAgentChannel.messageLimit)
    }

    /// Returns if the agent runs and answers.
    public mutating func ping(milliseconds: Int = 5000) throws(QMPError) {
        _ = try execute(GuestAgent.Ping(), milliseconds: milliseconds)
    }

    public mutating func operatingSystem(milliseconds: Int = 5000) throws(QMPError) -> GuestOperatingSystem {
        try execute(GuestAgent.GetOperatingSystem(), milliseconds: milliseconds)
    }

    public mutating func interfaces(milliseconds: Int = 5000) throws(QMPError) -> [GuestInterface] {
        try execute(GuestAgent.GetInterfaces(), milliseconds: milliseconds)
    }

    /// Asks the guest to go down. The agent answers only a refusal, for which `grace` milliseconds are waited; without one
    /// the guest is on its way, which its end will show.
    public mutating func shutdown(
        _ mode: GuestShutdownMode = .powerdown, milliseconds: Int = 5000, grace: Int = 1000
    ) throws(QMPError) {
        let command = GuestAgent.Shutdown(mode: mode)
        try prepare(command, until: deadline(in: milliseconds))
        // Whatever comes later is not an answer to the next command.
        isInStep = false
        do throws(QMPError) { _ = try awaitAnswer(command, until: deadline(in: grace)) } catch {
            switch error {
            case .closed, .timedOut: return
            default: throw error
            }
        }
    }

    // MARK: Commands

    private mutating func execute<C: QMPCommand>(_ command: C, milliseconds: Int) throws(QMPError) -> C.Reply {
        let end = deadline(in: milliseconds)
        try prepare(command, until: end)
        isInStep = false
        let answer = try awaitAnswer(command, until: end)
        isInStep = true
        return answer
    }

    private mutating func prepare<C: QMPCommand>(_ command: C, until end: Int64) throws(QMPError) {
        if !isInStep { try synchronize(id: Int64.random(in: 1...Int64.max), until: end) }
        isInStep = false
        try send(QMPConnection.text(of: command, id: nil), C.name, until: end)
    }

    /// Brings both ends into step.
    mutating func synchronize(id: Int64, until end: Int64) throws(QMPError) {
        let command = GuestAgent.Synchronize(id: id)
        // The same byte makes the agent forget the half of a command that an earlier client left.
        let text = [GuestAgentChannel.sentinel] + QMPConnection.text(of: command, id: nil)
        try send(text, GuestAgent.Synchronize.name, until: end)
        var isAfterSentinel = false
        while true {
            if !isAfterSentinel { isAfterSentinel = socket.discard(through: GuestAgentChannel.sentinel) }
            if isAfterSentinel {
                if let line = try lineOrNothing() {
                    // What is no JSON here is an old answer's rest: the right one is still to come.
                    if let message = try? JSON(parsing: line), message["return"] == .number(String(id)) {
                        isInStep = true
                        return
                    }
                    // The answer to an earlier question, or the other end's nonsense.
                    isAfterSentinel = false
                    continue
                }
            }
            try more(GuestAgent.Synchronize.name, until: end)
        }
    }

    /// Takes a line without what is before the last 0xFF in it; one that is too long is as good as nonsense here.
    private mutating func lineOrNothing() throws(QMPError) -> [UInt8]? {
        do throws(QMPError) {
            guard let line = try socket.nextLine() else { return nil }
            guard let sentinel = line.lastIndex(of: GuestAgentChannel.sentinel) else { return line }
            return Array(line[(sentinel + 1)...])
        } catch {
            guard case .tooLarge = error else { throw error }
            return []
        }
    }

    private mutating func awaitAnswer<C: QMPCommand>(_ command: C, until end: Int64) throws(QMPError) -> C.Reply {
        while true {
            while let line = try socket.nextLine() {
                if line.allSatisfy({ $0 == 0x0D || $0 == 0x20 }) { continue }
                let refusal: QMPRefusal
                do throws(JSONError) {
                    let message = try JSON(parsing: line)
                    if let value = message["return"] { return try C.Reply(json: value) }
                    guard let error = message["error"] else {
                        throw JSONError(place: "", reason: "neither a result nor an error")
                    }
                    refusal = try QMPRefusal(json: error)
                } catch {
                    throw .malformed("the guest agent's answer to \(C.name)", error)
                }
                throw refusal.error(C.name)
            }
            try more(C.name, until: end)
        }
    }

    private mutating func send(_ text: [UInt8], _ name: String, until end: Int64) throws(QMPError) {
        while true {
            try socket.flush()
            if !socket.hasUnsent, try socket.begin(text, descriptor: -1) { return }
            if MonotonicClock.milliseconds >= end { throw .timedOut(command: name) }
            // What came before the command is nobody's answer, and would be in the way of a guest that waits to say it.
            _ = socket.discard(through: GuestAgentChannel.sentinel)
            if socket.hasEnded { throw .closed }
            try socket.wait(until: end, write: true)
            _ = try socket.fill()
        }
    }

    /// Waits for more to look at.
    private mutating func more(_ name: String, until end: Int64) throws(QMPError) {
        while true {
            try socket.flush()
            if try socket.fill() {
                if socket.hasEnded { throw .closed }
                // Also a guest that never stops talking comes to the end of the time here.
                if MonotonicClock.milliseconds <= end { return }
            }
            if MonotonicClock.milliseconds >= end { throw .timedOut(command: name) }
            try socket.wait(until: end, write: socket.hasUnsent)
        }
    }
}
