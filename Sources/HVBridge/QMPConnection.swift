// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem
import OCI

/// A connection to a QEMU process that speaks the QEMU Machine Protocol.
///
///     QEMU                                ZoneRuntime
///      |  {"QMP": {"version": …}}            |
///      | ----------------------------------> |  negotiate
///      |  {"execute": "qmp_capabilities"}    |
///      | <---------------------------------- |
///      |  {"return": {}}                     |
///      | ----------------------------------> |
///      |  {"execute": "stop", "id": 2}       |
///      | <---------------------------------- |  execute
///      |  {"event": "STOP", …}               |
///      | ----------------------------------> |  kept for nextEvent
///      |  {"return": {}, "id": 2}            |
///      | ----------------------------------> |
///
/// QEMU is not trusted: a guest may have taken it over. Whatever it sends or leaves out, each call ends within its time,
/// memory is bounded by ``messageLimit`` and ``eventLimit``, and the outcome is an error of ``QMPError``.
///
/// For a `poll(2)` loop: wait until ``raw`` is readable, call ``receive()``, then take events until ``nextEvent()`` has none.
/// An ``execute(_:milliseconds:)`` may have received events too, so events are taken before each wait as well.
public struct QMPConnection: ~Copyable {
    /// The longest message that is read, in bytes; the answers of 7.2 stay below 256 KiB. Parsed, a hostile one takes
    /// up to forty times its size.
    public static let messageLimit = 1 << 20
    /// Events that are kept; of more, the oldest are dropped. Each takes 8 KiB at most.
    public static let eventLimit = 256

    private var socket: QMPLineSocket
    private let eventLimit: Int
    /// The version that QEMU greeted with.
    public private(set) var version: QEMUVersion?
    /// Events that were dropped because nobody took them.
    public private(set) var droppedEvents: UInt64 = 0
    private var events: [QMPEvent] = []
    private var lastID: UInt64 = 0
    private var awaited: UInt64?
    private var answer: Answer?
    /// Why the connection is at its end.
    private var failure: QMPError?

    private enum Answer {
        case value(JSON)
        case refusal(QMPRefusal)
    }

    /// Takes over a connected stream socket, which must not be shared: it no longer blocks.
    public init(_ socket: consuming Descriptor) {
        self.init(socket, messageLimit: QMPConnection.messageLimit, eventLimit: QMPConnection.eventLimit)
    }

    init(_ socket: consuming Descriptor, messageLimit: Int, eventLimit: Int) {
        self.socket = QMPLineSocket(socket, limit: messageLimit)
        self.eventLimit = eventLimit
    }

    /// The socket's number, for `poll(2)`.
    public var raw: CInt { socket.raw }

    /// Waits for QEMU's greeting and leaves its negotiation mode, in which it takes no other command.
    public mutating func negotiate(milliseconds: Int = 5000) throws(QMPError) {
        let end = deadline(in: milliseconds)
        while version == nil {
            pump()
            if version != nil { break }
            if let failure { throw failure }
            try wait(until: end, for: "the connection")
        }
        _ = try execute(QMP.Capabilities(), descriptor: -1, until: end)
    }

    /// Sends a command and waits for its answer, which takes at most `milliseconds`.
    public mutating func execute<C: QMPCommand>(
        _ command: C, milliseconds: Int = 5000
    ) throws(QMPError) -> C.Reply {
        try execute(command, descriptor: -1, until: deadline(in: milliseconds))
    }

    /// Sends a command together with a descriptor of the caller's, of which QEMU gets a copy.
    public mutating func execute<C: QMPDescriptorCommand>(
        _ command: C, sending descriptor: CInt, milliseconds: Int = 5000
    ) throws(QMPError) -> C.Reply {
        try execute(command, descriptor: descriptor, until: deadline(in: milliseconds))
    }

    /// Reads what came, at most 64 KiB. Returns whether an event waits to be taken. An error is thrown again by each call;
    /// ``QMPError/closed`` only once the events that came before it are taken.
    public mutating func receive() throws(QMPError) -> Bool {
        pump()
        switch failure {
        case nil: return !events.isEmpty
        case .closed where !events.isEmpty: return true
        case .some(let failure): throw failure
        }
    }

    /// Takes the oldest event that waits, also after an error.
    public mutating func nextEvent() -> QMPEvent? {
        events.isEmpty ? nil : events.removeFirst()
    }

    // MARK: Commands

    private mutating func execute<C: QMPCommand>(
        _ command: C, descriptor: CInt, until end: Int64
    ) throws(QMPError) -> C.Reply {
        if let failure { throw failure }
        lastID &+= 1
        try send(QMPConnection.text(of: command, id: lastID), descriptor, C.name, until: end)
        awaited = lastID
        defer {
            awaited = nil
            answer = nil
        }
        while true {
            pump()
            switch answer {
            case .value(let json):
                do throws(JSONError) { return try C.Reply(json: json) } catch {
                    throw .malformed("the answer to \(C.name)", error)
                }
            case .refusal(let refusal): throw refusal.error(C.name)
            case nil: break
            }
            if let failure { throw failure }
            try wait(until: end, for: C.name)
        }
    }

    /// Sends a command, after what is left of an earlier one for which there was no time.
    private mutating func send(
        _ text: [UInt8], _ descriptor: CInt, _ name: String, until end: Int64
    ) throws(QMPError) {
        while true {
            do throws(QMPError) {
                try socket.flush()
                if !socket.hasUnsent, try socket.begin(text, descriptor: descriptor) { return }
            } catch {
                // What QEMU said last tells why it ended.
                pump()
                if case .closed = error { fail(error) }
                throw error
            }
            pump()
            if let failure { throw failure }
            try wait(until: end, for: name, write: true)
        }
    }

    private func wait(until end: Int64, for name: String, write: Bool = false) throws(QMPError) {
        if MonotonicClock.milliseconds >= end { throw .timedOut(command: name) }
        try socket.wait(until: end, write: write || socket.hasUnsent)
    }

    /// One line of JSON; without an id for those who do not know it.
    static func text<C: QMPCommand>(of command: C, id: UInt64?) -> [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        writer.name("execute")
        writer.string(C.name)
        let arguments = command.arguments
        if !arguments.isEmpty {
            writer.name("arguments")
            JSON.object(arguments).write(to: &writer)
        }
        if let id {
            writer.name("id")
            writer.literal(String(id))
        }
        writer.endObject()
        writer.endText()
        return writer.bytes
    }

    // MARK: What comes

    /// Reads once, without waiting, and looks at each message that is complete.
    private mutating func pump() {
        if failure != nil { return }
        var isDeaf = false
        do throws(QMPError) { try socket.flush() } catch {
            // What it said before it stopped listening is still to be read.
            guard case .closed = error else { return fail(error) }
            isDeaf = true
        }
        do throws(QMPError) {
            guard try socket.fill() else {
                if isDeaf { fail(.closed) }
                return
            }
            while let line = try socket.nextLine() { try take(line) }
            if socket.hasEnded { fail(.closed) }
        } catch {
            fail(error)
        }
    }

    private mutating func fail(_ error: QMPError) {
        if failure != nil { return }
        failure = error
        socket.cutOff()
    }

    private mutating func take(_ line: [UInt8]) throws(QMPError) {
        // The line ends with CR LF; an empty one says nothing.
        if line.allSatisfy({ $0 == 0x0D || $0 == 0x20 }) { return }
        do throws(JSONError) {
            let message = try JSON(parsing: line)
            guard case .object = message else { throw JSONError(place: "", reason: "a message is no object") }
            if let name = message["event"] {
                keep(try QMPEvent(name: try String(json: name), message))
            } else if let value = message["return"] {
                guard let id = message["id"] else { throw JSONError(place: "", reason: "an answer has no id") }
                settle(id, .value(value))
            } else if let error = message["error"] {
                let refusal: QMPRefusal
                do throws(JSONError) { refusal = try QMPRefusal(json: error) } catch { throw error.inside("error") }
                settle(message["id"], .refusal(refusal))
            } else if let greeting = message["QMP"] {
                if version != nil { throw JSONError(place: "", reason: "a second greeting") }
                guard let described = greeting["version"] else {
                    throw JSONError(place: "QMP.version", reason: "is missing")
                }
                do throws(JSONError) { version = try QEMUVersion(json: described) } catch {
                    throw error.inside("QMP.version")
                }
            } else {
                throw JSONError(place: "", reason: "a message is neither greeting, answer nor event")
            }
        } catch {
            throw .malformed("a message of QEMU's", error)
        }
    }

    /// Keeps an answer if it is the one that is waited for. An error without an id is: QEMU did not get so far as to read it.
    private mutating func settle(_ id: JSON?, _ answer: Answer) {
        guard let awaited, id == nil || id == .number(String(awaited)) else { return }
        self.answer = answer
        self.awaited = nil
    }

    private mutating func keep(_ event: QMPEvent) {
        if events.count >= eventLimit {
            events.removeFirst()
            droppedEvents &+= 1
        }
        events.append(event)
    }
}
