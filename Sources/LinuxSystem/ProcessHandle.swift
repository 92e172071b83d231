// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

/// A process, held by a pidfd: it can be signalled and waited for without the danger that its number is reused.
public struct ProcessHandle: ~Copyable, Sendable {
    public let pid: Int32
    let descriptor: Descriptor

    public init(pid: Int32, pidfd: consuming Descriptor) {
        self.pid = pid
        descriptor = pidfd
    }

    /// Opens a handle on a running process. The corresponding system call is `pidfd_open`.
    public init(pid: Int32) throws(SystemError) {
        self.pid = pid
        descriptor = Descriptor(owning: try check(zn_pidfd_open(pid), "pidfd_open", "\(pid)"))
    }

    /// Returns a second handle on the process.
    public func duplicate() throws(SystemError) -> ProcessHandle {
        ProcessHandle(pid: pid, pidfd: try descriptor.duplicate())
    }

    /// The pidfd's number, for `poll` and `setns`: readable once the process has ended.
    public var raw: CInt { descriptor.raw }

    /// Sends a signal. The corresponding system call is `pidfd_send_signal`.
    public func signal(_ number: CInt) throws(SystemError) {
        try check(zn_pidfd_send_signal(raw, number), "send signal \(number) to process", "\(pid)")
    }

    /// Waits for a child of ours and reaps it.
    public func wait() throws(SystemError) -> ExitStatus {
        guard let status = try reap(blocking: true) else { throw SystemError("wait", "\(pid)", .noChild) }
        return status
    }

    /// Reaps a child of ours if it has ended.
    public func poll() throws(SystemError) -> ExitStatus? {
        try reap(blocking: false)
    }

    private func reap(blocking: Bool) throws(SystemError) -> ExitStatus? {
        var status: CInt = 0
        switch try check(zn_wait_pidfd(raw, !blocking, &status), "wait", "\(pid)") {
        case 0: return nil
        case 1: return .exited(status)
        default: return .signalled(status)
        }
    }

    /// How a process ended that is another's child and was open when it ended; `nil` before Linux 6.15, and before its
    /// parent has waited for it.
    func reapedStatus() -> ExitStatus? {
        var status: CInt = 0
        switch zn_pidfd_exit(raw, &status) {
        case 1: return .exited(status)
        case 2: return .signalled(status)
        default: return nil
        }
    }

    /// Waits until the process has ended, whoever its parent is; `false` after `milliseconds` without that.
    public func waitUntilEnded(milliseconds: Int) throws(SystemError) -> Bool {
        try waitReadable(raw, milliseconds: milliseconds)
    }
}

/// How a process ended.
public enum ExitStatus: Sendable, Equatable {
    case exited(CInt)
    case signalled(CInt)

    /// The status as a shell shows it: 128+n for a process that signal n killed.
    public var shellCode: CInt {
        switch self {
        case .exited(let code): code
        case .signalled(let number): 128 + number
        }
    }
}

/// What `/proc/PID/stat` tells of a process, see proc_pid_stat(5).
public struct ProcessStatus: Sendable, Equatable {
    /// One letter: `R`, `S`, `D`, `Z`, `T`, `X`…
    public let state: UInt8
    public let parent: Int32
    /// Clock ticks since boot; with the pid it identifies a process for as long as the machine runs.
    public let startTime: UInt64
    /// CPU time of all its threads, its own and the kernel's for it, in milliseconds.
    public let processorMilliseconds: Int64

    /// Reads the status; throws `ENOENT` or `ESRCH` where there is no such process.
    public init(of pid: Int32) throws(SystemError) {
        let path = "/proc/\(Int(pid))/stat"
        // One read and no list of fields: `ls` does this for each zone. What counts is within the first 500 bytes.
        let text = try Descriptor.open(path, [.readOnly]).read(upTo: 1024)
        // The second field is the command in parentheses and may hold anything; the last `)` ends it.
        guard let close = text.lastIndex(of: UInt8(ascii: ")")), close + 2 < text.count else {
            throw SystemError("read", path, .invalid)
        }
        let state = text[close + 2]
        var fields = NumberFields(rest: text[(close + 3)...])
        guard let parent = fields.next().flatMap({ Int32(exactly: $0) }) else {
            throw SystemError("read", path, .invalid)
        }
        // tty_nr and tpgid are -1 where there is none.
        var ticks: UInt64 = 0
        for place in 5..<22 {
            let number = fields.next()
            // utime, stime
            if place == 14 || place == 15 { ticks &+= number ?? 0 }
        }
        guard let startTime = fields.next() else { throw SystemError("read", path, .invalid) }
        self.state = state
        self.parent = parent
        self.startTime = startTime
        // USER_HZ is 100 wherever Linux runs.
        processorMilliseconds = Int64(clamping: ticks.multipliedReportingOverflow(by: 10).partialValue)
    }

    /// Whether the process has ended and only waits to be reaped.
    public var isZombie: Bool { state == UInt8(ascii: "Z") || state == UInt8(ascii: "X") }
}

/// Unsigned numbers with a space before each.
private struct NumberFields {
    var rest: ArraySlice<UInt8>

    /// The next number; nil at the end, and where there is something else, which is stepped over.
    mutating func next() -> UInt64? {
        guard rest.popFirst() == UInt8(ascii: " ") else { return nil }
        var value: UInt64? = 0
        var isEmpty = true
        while let byte = rest.first, byte != UInt8(ascii: " "), byte != 0x0A {
            rest.removeFirst()
            isEmpty = false
            guard byte >= 0x30, byte <= 0x39, let before = value else {
                value = nil
                continue
            }
            let (product, overflow) = before.multipliedReportingOverflow(by: 10)
            let (sum, second) = product.addingReportingOverflow(UInt64(byte - 0x30))
            value = overflow || second ? nil : sum
        }
        return isEmpty ? nil : value
    }
}

/// Waits until `descriptor` is readable or hung up; `false` when the time is over. Negative: without limit.
public func waitReadable(_ descriptor: CInt, milliseconds: Int) throws(SystemError) -> Bool {
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    while true {
        let result = zn_poll(&entry, 1, CInt(clamping: milliseconds))
        if result == -EINTR { continue }
        return try check(result, "poll") > 0
    }
}

/// Sleeps without a timer of its own.
public func pause(milliseconds: CInt) {
    var entry = pollfd(fd: -1, events: 0, revents: 0)
    _ = zn_poll(&entry, 0, milliseconds)
}

/// The calling process's number.
public func getProcessID() -> Int32 {
    getpid()
}
