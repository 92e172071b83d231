// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Lets viewers on the host's loopback reach a machine's VNC socket: a machine has no network of the host's, only the listening
/// socket that it was given.
struct ViewerRelay: ~Copyable {
    /// A viewer and its connection to QEMU.
    private struct Pair {
        let viewer: CInt
        let machine: CInt
        var toMachine: [UInt8] = []
        var toViewer: [UInt8] = []
        var places: (viewer: Int, machine: Int) = (0, 0)
        var isOver = false
    }

    private let listener: Descriptor
    private let path: String
    private var pairs: [Pair] = []
    private var place: Int?

    private static let most = 16
    private static let limit = 256 << 10

    init(_ listener: consuming Descriptor, path: String) {
        Descriptor.setNonBlocking(listener.raw)
        self.listener = listener
        self.path = path
    }

    mutating func join(_ poller: inout Poller) {
        place = pairs.count < ViewerRelay.most ? poller.add(listener.raw) : nil
        for index in pairs.indices {
            let pair = pairs[index]
            pairs[index].places = (
                poller.add(pair.viewer, read: pair.toMachine.count < ViewerRelay.limit, write: !pair.toViewer.isEmpty),
                poller.add(pair.machine, read: pair.toViewer.count < ViewerRelay.limit, write: !pair.toMachine.isEmpty)
            )
        }
    }

    mutating func serve(_ poller: borrowing Poller) {
        for index in pairs.indices.reversed() {
            let places = pairs[index].places
            if poller.isReadable(places.viewer) {
                pairs[index].isOver = !ViewerRelay.take(pairs[index].viewer, &pairs[index].toMachine)
            }
            if poller.isReadable(places.machine), !ViewerRelay.take(pairs[index].machine, &pairs[index].toViewer) {
                pairs[index].isOver = true
            }
            ViewerRelay.give(pairs[index].machine, &pairs[index].toMachine)
            ViewerRelay.give(pairs[index].viewer, &pairs[index].toViewer)
            if pairs[index].isOver {
                _ = Descriptor(owning: pairs[index].viewer)
                _ = Descriptor(owning: pairs[index].machine)
                pairs.remove(at: index)
            }
        }
        if let place, poller.isReadable(place) { accept() }
    }

    private mutating func accept() {
        let viewer = zn_accept(listener.raw)
        guard viewer >= 0 else { return }
        // SOCK_STREAM
        let machine = zn_unix_connect(path, 1)
        guard machine >= 0 else {
            _ = Descriptor(owning: viewer)
            return
        }
        Descriptor.setNonBlocking(viewer)
        Descriptor.setNonBlocking(machine)
        pairs.append(Pair(viewer: viewer, machine: machine))
    }

    /// Reads what is there; false where the other side has ended.
    private static func take(_ raw: CInt, _ bytes: inout [UInt8]) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 32 << 10)
        let count = read(raw, &buffer, buffer.count)
        if count < 0 { return errno == EAGAIN || errno == EINTR }
        bytes.append(contentsOf: buffer[..<count])
        return count > 0
    }

    private static func give(_ raw: CInt, _ bytes: inout [UInt8]) {
        guard !bytes.isEmpty else { return }
        let count = write(raw, bytes, bytes.count)
        if count > 0 { bytes.removeFirst(count) }
    }
}
