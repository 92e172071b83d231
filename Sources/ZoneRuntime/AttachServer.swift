// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// The keeper's side of `attach`: a socket in ROOT/NAME, of mode 0600, which obeys its owner and root only.
struct AttachServer: ~Copyable {
    static let name = "attach.sock"
    /// SOCK_SEQPACKET.
    static let type: CInt = 5

    private struct Client {
        let raw: CInt
        /// Packets that the client has not taken yet, and since when.
        var pending: [[UInt8]] = []
        var pendingSince: Int64 = 0
        var observes = false
        /// Input that the zone has not taken yet.
        var input: ArraySlice<UInt8> = []
        var place: Int?
    }

    private let socket: Descriptor
    private var clients: [Client] = []
    private var descriptors = DescriptorBag()
    private var packet = [UInt8](repeating: 0, count: AttachMessage.room + 1)

    /// Milliseconds that a client may take nothing while the zone waits for it; then it is cut off.
    private static let patience: Int64 = 5000
    private static let mostClients = 64

    /// Makes the socket; what a killed keeper left there is replaced.
    init(in folder: borrowing Descriptor) throws(SystemError) {
        do throws(SystemError) { try folder.remove(AttachServer.name) } catch {
            if error.errno != .noEntry { throw error }
        }
        // An address has room for 107 bytes only.
        let path = "/proc/self/fd/\(folder.raw)/\(AttachServer.name)"
        socket = Descriptor(
            owning: try check(zn_unix_listen(path, AttachServer.type), "listen", AttachServer.name))
        Descriptor.setNonBlocking(socket.raw)
    }

    /// Whether somebody has not taken what was sent: no more is to be read from the zone until then.
    var isCongested: Bool { clients.contains { !$0.pending.isEmpty } }

    /// When the most patient look at a client that takes nothing is over.
    var deadline: Int64? {
        clients.filter { !$0.pending.isEmpty }.map { $0.pendingSince + AttachServer.patience }.min()
    }

    /// Adds what is waited for and returns the socket's place.
    mutating func join(_ poller: inout Poller) -> Int {
        for index in clients.indices {
            let client = clients[index]
            // Of one whose input waits nothing is read, not even that it has hung up: poll(2) could not be told to wait
            // otherwise.
            let isWaited = client.input.isEmpty || !client.pending.isEmpty
            clients[index].place = poller.add(
                isWaited ? client.raw : -1, read: client.input.isEmpty, write: !client.pending.isEmpty)
        }
        return poller.add(socket.raw)
    }

    /// Does what can be done now.
    mutating func serve(_ poller: borrowing Poller, listener: Int, _ streams: inout KeeperStreams) {
        let now = MonotonicClock.milliseconds
        for index in clients.indices.reversed() {
            guard let place = clients[index].place else { continue }
            if !clients[index].pending.isEmpty {
                // One that is gone is closed, and its place is another's.
                if poller.isWritable(place), !flush(index) { continue }
                if !clients[index].pending.isEmpty, now - clients[index].pendingSince > AttachServer.patience {
                    close(index)
                    continue
                }
            }
            if clients[index].input.isEmpty, poller.isReadable(place), !receive(index, &streams) { close(index) }
        }
        if poller.isReadable(listener) { accept(streams) }
    }

    private mutating func accept(_ streams: borrowing KeeperStreams) {
        let raw = zn_accept(socket.raw)
        guard raw >= 0 else { return }
        let connection = Descriptor(owning: raw)
        var peer: uid_t = .max
        guard zn_peer_uid(connection.raw, &peer) >= 0, peer == 0 || peer == geteuid(),
            clients.count < AttachServer.mostClients
        else { return }
        Descriptor.setNonBlocking(connection.raw)
        clients.append(Client(raw: descriptors.adopt(connection)))
        send(
            .hello(hasTerminal: streams.hasTerminal, takesInput: streams.inputNumber != nil), to: clients.count - 1)
    }

    /// Takes one packet; `false` where the client is gone.
    private mutating func receive(_ index: Int, _ streams: inout KeeperStreams) -> Bool {
        let raw = clients[index].raw
        let count = packet.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map { zn_read(raw, $0, bytes.count) } ?? 0
        }
        if count == -Int(EAGAIN) || count == -Int(EINTR) { return true }
        guard count > 0 else { return false }
        switch AttachMessage(packet[..<count]) {
        case .input(let bytes):
            let taken = streams.write(bytes[...])
            clients[index].input = bytes[taken...]
        case .inputEnd: streams.endInput()
        case .window(let size): streams.resize(size)
        case .observe: clients[index].observes = true
        // Not what a client says.
        default: return false
        }
        return true
    }

    /// Tries again what the zone did not take. Returns whether something is left.
    mutating func passInput(_ streams: inout KeeperStreams) -> Bool {
        var isLeft = false
        for index in clients.indices where !clients[index].input.isEmpty {
            let taken = streams.write(clients[index].input)
            clients[index].input = clients[index].input.dropFirst(taken)
            if !clients[index].input.isEmpty { isLeft = true }
        }
        return isLeft
    }

    /// Sends output to all who want it.
    mutating func send(_ bytes: UnsafeRawBufferPointer, from source: KeeperStreams.Source) {
        if clients.isEmpty { return }
        let message: AttachMessage = source == .output ? .output(Array(bytes)) : .error(Array(bytes))
        for index in clients.indices.reversed() where !clients[index].observes { send(message, to: index) }
    }

    /// Tells everybody of the end.
    mutating func sendEnd(_ code: Int32?, isLast: Bool) {
        for index in clients.indices.reversed() { send(.ended(code ?? -1, isLast: isLast), to: index) }
    }

    /// Nothing is read from the zone while something is pending: few packets at most wait here.
    private mutating func send(_ message: AttachMessage, to index: Int) {
        if clients[index].pending.isEmpty { clients[index].pendingSince = MonotonicClock.milliseconds }
        clients[index].pending.append(message.bytes)
        flush(index)
    }

    /// Sends what is pending; a client that is gone is forgotten, and the result `false`.
    @discardableResult
    private mutating func flush(_ index: Int) -> Bool {
        while let packet = clients[index].pending.first {
            let raw = clients[index].raw
            let result = packet.withUnsafeBytes { bytes in
                bytes.baseAddress.map { zn_write(raw, $0, bytes.count) } ?? 0
            }
            if result == -Int(EAGAIN) || result == -Int(EINTR) { return true }
            if result < 0 {
                close(index)
                return false
            }
            clients[index].pending.removeFirst()
            clients[index].pendingSince = MonotonicClock.milliseconds
        }
        return true
    }

    /// Waits until all have taken what was sent: for what a zone says last, and for its end. One that takes nothing for a
    /// while is cut off.
    mutating func settle() {
        while isCongested {
            var poller = Poller()
            for index in clients.indices where !clients[index].pending.isEmpty {
                clients[index].place = poller.add(clients[index].raw, read: false, write: true)
            }
            let now = MonotonicClock.milliseconds
            let left = max(1, (deadline ?? now) - now + 1)
            // Where not even poll(2) works nobody can be told.
            guard (try? poller.wait(milliseconds: CInt(clamping: left))) != nil else { return }
            for index in clients.indices.reversed() where !clients[index].pending.isEmpty {
                if let place = clients[index].place, poller.isWritable(place), !flush(index) { continue }
                if !clients[index].pending.isEmpty,
                    MonotonicClock.milliseconds - clients[index].pendingSince > AttachServer.patience
                {
                    close(index)
                }
            }
        }
    }

    private mutating func close(_ index: Int) {
        descriptors.close(clients[index].raw)
        clients.remove(at: index)
    }
}
