// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
public import LinuxSystem

/// Serves the published ports of a zone: holds them, so that nobody else on the host takes them, and passes on what comes by
/// the host's loopback, from which the kernel routes nothing elsewhere. What comes from outside is the packet filter's matter;
/// where its rules are gone it comes here, too.
///
/// It does so for as long as the zone's first process lives. It needs no rights; what it gets, it gets as open sockets.
public struct PortRelay: ~Copyable {
    /// A port that is served.
    public struct Target: Sendable, Equatable {
        /// By which it is taken back.
        public var key: String
        public var transport: FilterField.Transport
        public var address: IPAddress
        public var port: UInt16

        public init(key: String, transport: FilterField.Transport, address: IPAddress, port: UInt16) {
            self.key = key
            self.transport = transport
            self.address = address
            self.port = port
        }
    }

    private enum Tag {
        static let end: UInt64 = 0
        static let control: UInt64 = 1
        static let first: UInt64 = 2
    }

    private struct Listener {
        let target: Target
        let socket: CInt
    }

    private struct Session {
        let listener: UInt64
        let socket: CInt
        let client: [UInt8]
        var usedAt: Int64
    }

    private var queue: EventQueue
    /// A pidfd.
    private let process: Descriptor
    private let control: Descriptor
    private var descriptors = DescriptorBag()
    private var listeners: [UInt64: Listener] = [:]
    private var streams: [UInt64: StreamBox] = [:]
    private var sessions: [UInt64: Session] = [:]
    private var clients: [[UInt8]: UInt64] = [:]
    private var next = Tag.first
    private var scratch = [UInt8](repeating: 0, count: 64 << 10)

    /// Milliseconds after which a client of UDP that says nothing is forgotten, as the kernel does (nf_conntrack_udp_timeout_stream).
    private static let patience: Int64 = 120_000
    private static let mostSessions = 4096

    /// Dictionaries cannot hold what cannot be copied.
    private final class StreamBox {
        var stream: PortStream
        var interests = (PortStream.Interest(), PortStream.Interest())

        init(_ stream: consuming PortStream) { self.stream = stream }
    }

    /// `process`: a pidfd of the zone's first process. `control`: a listening socket (SOCK_SEQPACKET) for ``PortRequest``.
    public init(process: consuming Descriptor, control: consuming Descriptor) throws(SystemError) {
        let queue = try EventQueue()
        try queue.add(process.raw, tag: Tag.end, read: true)
        try queue.add(control.raw, tag: Tag.control, read: true)
        self.queue = queue
        self.process = process
        self.control = control
    }

    /// Serves a port by a socket of ``PortSocket/listen(_:_:port:)``.
    public mutating func add(_ target: Target, _ socket: consuming Descriptor) throws(SystemError) {
        let tag = newTag()
        try queue.add(socket.raw, tag: tag, read: true)
        listeners[tag] = Listener(target: target, socket: descriptors.adopt(socket))
    }

    /// The numbers of all that it holds.
    public var numbers: Set<CInt> {
        Set(listeners.values.map(\.socket)).union([queue.raw, process.raw, control.raw])
    }

    /// Serves until the zone's first process has ended.
    public consuming func serve() {
        while true {
            // Who has been silent for long is looked for now and then.
            let events = queue.wait(milliseconds: sessions.isEmpty ? -1 : 10_000)
            for event in events {
                if event.tag == Tag.end { return }
                if event.tag == Tag.control { obey() } else { handle(event) }
            }
            if !sessions.isEmpty { forgetSilent() }
        }
    }

    private mutating func newTag() -> UInt64 {
        // Two for each: a connection has two sides.
        next += 2
        return next
    }

    private mutating func handle(_ event: EventQueue.Event) {
        let tag = event.tag & ~1
        if let listener = listeners[tag] {
            listener.target.transport == .tcp ? accept(listener) : receive(tag, listener)
        } else if let box = streams[tag] {
            pass(tag, box, event)
        } else if sessions[tag] != nil {
            answer(tag)
        }
    }

    // MARK: TCP

    private mutating func accept(_ listener: Listener) {
        // Others wait, too.
        for _ in 0..<16 {
            let raw = zn_accept(listener.socket)
            if raw < 0 {
                // What waits goes on to wait; not to be asked for at once again.
                if raw == -EMFILE || raw == -ENFILE { pause(milliseconds: 50) }
                return
            }
            let client = Descriptor(owning: raw)
            Descriptor.setNonBlocking(client.raw)
            let target = listener.target
            guard let zone = try? PortSocket.connect(.tcp, target.address, port: target.port) else { continue }
            let tag = newTag()
            let box = StreamBox(PortStream(client, zone))
            guard (try? queue.add(box.stream.client.raw, tag: tag, read: false)) != nil,
                (try? queue.add(box.stream.zone.raw, tag: tag + 1, read: false, write: true)) != nil
            else { continue }
            box.interests.1 = PortStream.Interest(read: false, write: true)
            streams[tag] = box
        }
    }

    private mutating func pass(_ tag: UInt64, _ box: StreamBox, _ event: EventQueue.Event) {
        let isZone = event.tag & 1 == 1
        // An end of the client's before there is a connection is found once there is one.
        if !box.stream.isConnected, !isZone {
            if event.hasEnded { streams[tag] = nil }
            return
        }
        guard box.stream.pass(&scratch) else {
            box.stream.reset()
            streams[tag] = nil
            return
        }
        if box.stream.isDone {
            streams[tag] = nil
            return
        }
        // A side that is through would be told again and again; one that has more to say is asked again.
        if event.hasEnded, isZone ? box.stream.hasZoneEnded : box.stream.hasClientEnded {
            queue.remove(isZone ? box.stream.zone.raw : box.stream.client.raw)
        }
        let wanted = (box.stream.clientInterest, box.stream.zoneInterest)
        if wanted.0 != box.interests.0 {
            try? queue.set(box.stream.client.raw, tag: tag, read: wanted.0.read, write: wanted.0.write)
        }
        if wanted.1 != box.interests.1 {
            try? queue.set(box.stream.zone.raw, tag: tag + 1, read: wanted.1.read, write: wanted.1.write)
        }
        box.interests = wanted
    }

    // MARK: UDP

    private mutating func receive(_ tag: UInt64, _ listener: Listener) {
        for _ in 0..<16 {
            var name = sockaddr_storage()
            var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let count = withUnsafeMutablePointer(to: &name) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                    scratch.withUnsafeMutableBytes {
                        recvfrom(listener.socket, $0.baseAddress, $0.count, 0, address, &size)
                    }
                }
            }
            if count < 0 { return }
            let client = withUnsafeBytes(of: name) { Array($0.prefix(Int(size))) }
            guard let session = session(tag, listener, client) else { continue }
            sessions[session]?.usedAt = MonotonicClock.milliseconds
            guard let socket = sessions[session]?.socket else { continue }
            // One that is lost is lost, as anywhere on the way.
            _ = send(socket, scratch, count, 0x4000 /* MSG_NOSIGNAL */)
        }
    }

    private mutating func session(_ tag: UInt64, _ listener: Listener, _ client: [UInt8]) -> UInt64? {
        let key = withUnsafeBytes(of: tag) { Array($0) } + client
        if let found = clients[key] { return found }
        if sessions.count >= PortRelay.mostSessions,
            let oldest = sessions.min(by: { $0.value.usedAt < $1.value.usedAt })
        {
            forget(oldest.key)
        }
        let target = listener.target
        guard let socket = try? PortSocket.connect(.udp, target.address, port: target.port) else { return nil }
        let own = newTag()
        guard (try? queue.add(socket.raw, tag: own, read: true)) != nil else { return nil }
        sessions[own] = Session(
            listener: tag, socket: socket.release(), client: client, usedAt: MonotonicClock.milliseconds)
        clients[key] = own
        return own
    }

    private mutating func answer(_ tag: UInt64) {
        guard let session = sessions[tag] else { return }
        sessions[tag]?.usedAt = MonotonicClock.milliseconds
        for _ in 0..<16 {
            let count = scratch.withUnsafeMutableBytes { recv(session.socket, $0.baseAddress, $0.count, 0) }
            // Also where the zone has nobody at that port: the next word of the client's may find somebody.
            if count < 0 { return }
            guard let listener = listeners[session.listener] else { return }
            _ = session.client.withUnsafeBytes { bytes in
                bytes.baseAddress.map { base in
                    sendto(
                        listener.socket, scratch, count, 0x4000 /* MSG_NOSIGNAL */,
                        base.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
                }
            }
        }
    }

    private mutating func forgetSilent() {
        let now = MonotonicClock.milliseconds
        for (tag, session) in sessions where now - session.usedAt > PortRelay.patience { forget(tag) }
    }

    private mutating func forget(_ tag: UInt64) {
        guard let session = sessions.removeValue(forKey: tag) else { return }
        clients[withUnsafeBytes(of: session.listener) { Array($0) } + session.client] = nil
        _ = zn_close(session.socket)
    }

    // MARK: Changes

    /// Does what one client asks for, which has a moment for it.
    private mutating func obey() {
        let raw = zn_accept(control.raw)
        guard raw >= 0 else { return }
        let channel = Channel(owning: raw)
        var peer: uid_t = .max
        guard zn_peer_uid(channel.raw, &peer) >= 0, peer == 0 else { return }
        while (try? waitReadable(channel.raw, milliseconds: 1000)) == true {
            var socket: Descriptor?
            let count = scratch.withUnsafeMutableBytes { bytes in
                (try? channel.receive(into: bytes, descriptor: &socket)) ?? 0
            }
            guard count > 0, let request = PortRequest(String(decoding: scratch.prefix(count), as: UTF8.self)) else {
                return
            }
            var isDone = true
            switch request {
            case .add(let target):
                guard let socket = socket.take() else { return }
                isDone = (try? add(target, socket)) != nil
            case .remove(let key): remove(key)
            }
            let answer: [UInt8] = [isDone ? 1 : 0]
            answer.withUnsafeBytes { _ = try? channel.send($0) }
        }
    }

    /// Connections that there are go on.
    private mutating func remove(_ key: String) {
        for (tag, listener) in listeners where listener.target.key == key {
            queue.remove(listener.socket)
            descriptors.close(listener.socket)
            listeners[tag] = nil
            for (session, value) in sessions where value.listener == tag { forget(session) }
        }
    }
}

/// What a relay can be asked for while it runs, a line each; a socket comes with an addition.
public enum PortRequest: Sendable, Equatable {
    case add(PortRelay.Target)
    case remove(String)

    /// `nil`: nothing of the kind.
    public init?(_ text: String) {
        let words = text.split(separator: " ").map(String.init)
        switch words.first {
        case "add" where words.count == 5:
            guard let address = IPAddress(words[3]), let port = UInt16(words[4]), ["tcp", "udp"].contains(words[2])
            else {
                return nil
            }
            let transport: FilterField.Transport = words[2] == "tcp" ? .tcp : .udp
            self = .add(PortRelay.Target(key: words[1], transport: transport, address: address, port: port))
        case "remove" where words.count == 2: self = .remove(words[1])
        default: return nil
        }
    }

    public var text: String {
        switch self {
        case .add(let target): "add \(target.key) \(target.transport.name) \(target.address) \(target.port)"
        case .remove(let key): "remove \(key)"
        }
    }
}
