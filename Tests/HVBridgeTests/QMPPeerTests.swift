// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI

@testable import HVBridge

/// The other end of a control connection: what it says is written beforehand, as all is done by one thread.
struct QMPPeer: ~Copyable {
    let socket: Descriptor

    /// Sends a text as it is.
    func say(_ text: String) throws {
        try socket.writeAll(Array(text.utf8), "peer")
    }

    func say(_ bytes: [UInt8]) throws {
        try socket.writeAll(bytes, "peer")
    }

    /// The lines that were sent to it so far.
    func heard() -> [String] {
        var buffer = [UInt8](repeating: 0, count: 1 << 18)
        let size = recv(socket.raw, &buffer, buffer.count, CInt(MSG_DONTWAIT))
        return buffer.prefix(max(size, 0)).split(separator: 0x0A).map { String(decoding: $0, as: UTF8.self) }
    }

    /// A descriptor that came with the next message.
    func takeDescriptor() throws -> Descriptor? {
        let channel = Channel(owning: try socket.duplicate().release())
        var descriptor: Descriptor?
        var buffer = [UInt8](repeating: 0, count: 4096)
        _ = try buffer.withUnsafeMutableBytes { try channel.receive(into: $0, descriptor: &descriptor) }
        return descriptor
    }

    consuming func close() {}
}

/// Both ends of a connection.
struct QMPFixture: ~Copyable {
    static let greeting =
        #"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1:7.2"}, "#
        + #""capabilities": ["oob"]}}"# + "\r\n"
    static let stopped =
        #"{"timestamp": {"seconds": 1795352195, "microseconds": 895488}, "event": "STOP"}"# + "\r\n"

    var qmp: QMPConnection
    let peer: QMPPeer

    init(messageLimit: Int = QMPConnection.messageLimit, eventLimit: Int = QMPConnection.eventLimit) throws {
        let pair = try QMPSocketPair()
        peer = QMPPeer(socket: try pair.theirs.duplicate())
        qmp = QMPConnection(pair.takeOurs(), messageLimit: messageLimit, eventLimit: eventLimit)
    }

    /// The greeting is read first: an answer that comes before its command is passed over.
    mutating func negotiate() throws {
        try peer.say(QMPFixture.greeting)
        _ = try qmp.receive()
        try peer.say(#"{"return": {}, "id": 1}"# + "\r\n")
        try qmp.negotiate()
    }

    /// A connection whose negotiation is over; the next command has the id 2.
    static func negotiated() throws -> QMPFixture {
        var fixture = try QMPFixture()
        try fixture.negotiate()
        _ = fixture.peer.heard()
        return fixture
    }

    consuming func takeConnection() -> QMPConnection { qmp }
}

/// The error that something ends with.
func failure<Value>(_ body: () throws(QMPError) -> Value) -> QMPError? {
    do throws(QMPError) { _ = try body() } catch { return error }
    return nil
}

/// What tells errors apart, without the reasons.
func kind(_ error: QMPError?) -> String {
    switch error {
    case nil: "none"
    case .closed: "closed"
    case .timedOut: "timedOut"
    case .malformed: "malformed"
    case .refused: "refused"
    case .system: "system"
    case .tooLarge: "tooLarge"
    }
}

func reason(_ error: QMPError?) -> String {
    error.map { "\($0)" } ?? ""
}
