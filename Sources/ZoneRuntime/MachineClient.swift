// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import OCI

/// A connection to a machine's monitor: ``MachineRequest``s, and sessions in its guest.
struct MachineClient: ~Copyable {
    let zone: String
    let socket: Descriptor
    private var reader = GuestFrameReader()
    private(set) var queue = GuestFrameQueue()

    /// Connects to the monitor of a running zone.
    init(_ store: ZoneStore, _ zone: String) throws(ZoneError) {
        self.zone = zone
        let folder = try store.openVolatile(zone)
        do throws(SystemError) {
            // An address has room for 107 bytes only.
            let path = "/proc/self/fd/\(folder.raw)/\(MachineMonitor.name)"
            socket = Descriptor(owning: try check(zn_unix_connect(path, 1), "connect", MachineMonitor.name))
            Descriptor.setNonBlocking(socket.raw)
        } catch {
            throw ZoneError("reach the machine of zone \(zone)", error)
        }
    }

    mutating func send(_ frame: GuestFrame) throws(ZoneError) {
        queue.add(frame)
        try flush()
    }

    /// Sends what may be too late: the other side may have said its last word, which is still to be read.
    mutating func offer(_ frame: GuestFrame) {
        do throws(ZoneError) { try send(frame) } catch { queue = GuestFrameQueue() }
    }

    /// Goes on to send what waits.
    mutating func pushOn() {
        do throws(ZoneError) { try flush() } catch { queue = GuestFrameQueue() }
    }

    mutating func flush() throws(ZoneError) {
        do throws(SystemError) { try queue.flush(to: socket.raw) } catch {
            throw ZoneError(.wrongState, "the machine of zone \(zone) has just ended")
        }
    }

    /// Reads what has come; nil at the end.
    mutating func receive() throws(ZoneError) -> [GuestFrame]? {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        let count = read(socket.raw, &buffer, buffer.count)
        if count < 0, errno == EAGAIN || errno == EINTR { return [] }
        guard count > 0 else { return nil }
        reader.append(buffer[..<count])
        var frames: [GuestFrame] = []
        do throws(GuestFrameError) {
            while let frame = try reader.next() { frames.append(frame) }
        } catch {
            throw ZoneError(.system, "the machine of zone \(zone) answers nonsense (\(error))")
        }
        return frames
    }

    /// Asks the monitor for something, and waits for what it answers.
    mutating func ask(_ request: MachineRequest, milliseconds: Int64 = 30_000) throws(ZoneError) -> MachineStatus {
        let bytes = try answer(to: GuestFrame(.control, 0, request.serialized()), milliseconds: milliseconds)
        guard let status = try? MachineStatus(parsing: bytes) else {
            throw ZoneError(.system, "the machine of zone \(zone) answers nonsense")
        }
        return status
    }

    /// Sends a frame that is answered once, and waits for that.
    mutating func answer(to frame: GuestFrame, milliseconds: Int64) throws(ZoneError) -> [UInt8] {
        try send(frame)
        let due = MonotonicClock.milliseconds + milliseconds
        while MonotonicClock.milliseconds < due {
            var poller = Poller()
            let place = poller.add(socket.raw, write: !queue.isEmpty)
            let left = CInt(clamping: due - MonotonicClock.milliseconds)
            let hasEvent = try attempting("wait for the machine of zone \(zone)") { () throws(SystemError) in
                try poller.wait(milliseconds: left)
            }
            guard hasEvent else { continue }
            try flush()
            guard poller.isReadable(place) else { continue }
            guard let frames = try receive() else {
                throw ZoneError(.wrongState, "the machine of zone \(zone) has just ended")
            }
            for frame in frames {
                if frame.kind == .answer { return frame.payload }
                if frame.kind == .failed { throw MachineGuest.failure(frame) }
            }
        }
        throw ZoneError(
            .system, "the machine of zone \(zone) did not answer within \(milliseconds / 1000) s",
            hint: "'zonectl stop \(zone)' ends it")
    }
}
