// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Waits for something to be written to a log.
struct LogWaiter: ~Copyable {
    enum Event {
        case written, idle, interrupted
        /// The time that was wanted has passed.
        case over
    }

    private let signals: SignalQueue
    /// Without one, as when the user's watches are used up (inotify(7), max_user_watches), the log is looked at often.
    private let watch: Descriptor?
    /// When the zone is to be looked at again.
    private var due = MonotonicClock.milliseconds + LogWaiter.interval

    private static let interval: Int64 = 1000

    init(folder: String) throws(ZoneError) {
        signals = try attempting("wait for signals") { () throws(SystemError) in try SignalQueue(SignalSet([SIGINT])) }
        let descriptor = zn_inotify()
        var watch: Descriptor?
        if descriptor >= 0 {
            let owner = Descriptor(owning: descriptor)
            let events = UInt32(IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF)
            if zn_inotify_watch(descriptor, folder, events) >= 0 { watch = consume owner }
        }
        self.watch = watch
    }

    mutating func wait(until end: Int64?) throws(ZoneError) -> Event {
        do throws(SystemError) {
            let now = MonotonicClock.milliseconds
            if now >= due {
                due = now + LogWaiter.interval
                return .idle
            }
            var rest = due - now
            if let end {
                // The clock of the lines, which may be set; so it is looked at again and again.
                let left = end.subtractingReportingOverflow(FileStatus.now)
                if left.partialValue < 0, !left.overflow { return .over }
                if !left.overflow { rest = min(rest, left.partialValue / 1_000_000 + 1) }
            }
            var poller = Poller()
            let interrupt = poller.add(signals.raw)
            let change = Descriptor.number(of: watch)
            if let change { _ = poller.add(change) } else { rest = min(rest, 100) }
            guard try poller.wait(milliseconds: CInt(clamping: rest)) else { return .written }
            if poller.isReadable(interrupt), signals.next() != nil { return .interrupted }
            // What happened is seen by looking.
            if let change { _ = try ConsoleIO.read(change, 4096) }
            return .written
        } catch {
            throw ZoneError("wait for the log", error)
        }
    }
}
