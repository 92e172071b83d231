// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import OCI

/// Executes a zone's health check again and again, beside everything else that its keeper does.
struct HealthMonitor: ~Copyable {
    static let fileName = "health.json"

    private struct Check: ~Copyable {
        let process: ProcessHandle
        let output: Descriptor
        /// The end of what it wrote.
        var text: [UInt8] = []
        var deadline: Int64
        /// It has had its time, and what it executes in the zone was killed.
        var isOver = false
    }

    private let policy: HealthPolicy
    private let program: HostProgram
    private let started = MonotonicClock.milliseconds
    private var due: Int64
    private var check: Check?
    private(set) var record = HealthRecord()
    /// Whether a check has ended since somebody asked last.
    private var hasNews = false
    private var place = (process: 0, output: 0)

    /// Bytes of a check's output that are kept.
    private static let room = 4096

    /// `nil` where the zone has no check.
    init?(_ policy: HealthPolicy?, zone: String, _ folders: ZoneFolders) {
        guard let policy else { return nil }
        let words = ["--root", folders.root, "--store", folders.store, "exec", zone] + policy.command
        // Our own executable, through the read-only mount that it was executed by; also where it was replaced on the disk.
        guard let program = try? HostProgram("/proc/self/exe", words) else { return nil }
        self.policy = policy
        self.program = program
        due = started + policy.interval
    }

    /// When something is to be done next.
    var deadline: Int64 {
        if let limit = runningDeadline { return limit }
        return due
    }

    private var runningDeadline: Int64? {
        switch check {
        case .some(let check): check.deadline
        case .none: nil
        }
    }

    mutating func join(_ poller: inout Poller) {
        switch check {
        case .some(let check):
            place = (poller.add(check.process.raw), poller.add(check.output.raw))
        case .none: return
        }
    }

    /// Does what is due. Returns whether the zone's health is another one than before. A zone that is paused is neither
    /// healthy nor not: it is not checked, and what a check says that was frozen with it does not count.
    mutating func serve(_ poller: borrowing Poller, isPaused: () -> Bool) -> Bool {
        let before = record.status
        let now = MonotonicClock.milliseconds
        guard var running = check.take() else {
            if now >= due { if isPaused() { due = now + policy.interval } else { start(now) } }
            return record.status != before
        }
        if poller.isReadable(place.output) { HealthMonitor.drain(&running) }
        // A check that is over may leave processes that hold its output: they are not waited for.
        if let status = try? running.process.poll() {
            HealthMonitor.drain(&running)
            if running.isOver {
                tooLate(running.text, isPaused)
            } else {
                finish(status.shellCode, running.text, isPaused)
            }
        } else if now >= running.deadline, !running.isOver {
            // The process in the zone, and not the zonectl that waits for it: its successor as a parent, the zone's first
            // process, may be none that reaps.
            HealthMonitor.killChildren(of: running.process.pid)
            running.isOver = true
            running.deadline = now + HealthMonitor.patience
            check = consume running
        } else if now >= running.deadline {
            try? running.process.signal(SIGKILL)
            _ = try? running.process.wait()
            tooLate(running.text, isPaused)
        } else {
            check = consume running
        }
        return record.status != before
    }

    private mutating func start(_ now: Int64) {
        do throws(SystemError) {
            let pipe = try Pipe()
            let process = try program.start(output: pipe.writer.raw, errors: pipe.writer.raw)
            let output = try pipe.reader.duplicate()
            Descriptor.setNonBlocking(output.raw)
            check = Check(process: process, output: output, deadline: now + policy.timeout)
        } catch {
            finish(125, Array("\(error)".utf8)) { false }
        }
    }

    private mutating func tooLate(_ text: [UInt8], _ isPaused: () -> Bool) {
        finish(124, text + Array("\nzonectl: no answer within \(policy.timeout) ms".utf8), isPaused)
    }

    /// Milliseconds that a check may take to end once it was killed; one that is frozen with its zone does not.
    private static let patience: Int64 = 1000

    /// By proc_pid_task_children(5); a kernel without that leaves it to PR_SET_PDEATHSIG.
    private static func killChildren(of pid: Int32) {
        guard let text = try? readHostFile("/proc/\(pid)/task/\(pid)/children", limit: 4096) else { return }
        for child in String(decoding: text, as: UTF8.self).fields(" ").compactMap({ Int32($0) }) {
            // Our grandchild until its parent has reaped it, which is a moment later than it ends: the number is still its own.
            try? ProcessHandle(pid: child).signal(SIGKILL)
        }
    }

    /// What the last check has said, if that was not asked for before.
    mutating func takeNews() -> HealthRecord? {
        defer { hasNews = false }
        return hasNews ? record : nil
    }

    private mutating func finish(_ code: Int32, _ text: [UInt8], _ isPaused: () -> Bool) {
        let now = MonotonicClock.milliseconds
        due = now + policy.interval
        if code != 0, isPaused() { return }
        hasNews = true
        record.note(
            code, String(decoding: text.suffix(HealthMonitor.room), as: UTF8.self), at: Int64(time(nil)), policy,
            isStarting: now - started < policy.startPeriod)
    }

    private static func drain(_ check: inout Check) {
        for _ in 0..<64 {
            guard let bytes = try? ConsoleIO.read(check.output.raw, room), !bytes.isEmpty else { return }
            check.text = (check.text + bytes).suffix(room)
        }
    }

    deinit {
        switch check {
        case .some(let check):
            // Its zone has ended, and so has it, or is about to.
            try? check.process.signal(SIGKILL)
            _ = try? check.process.wait()
        case .none: return
        }
    }
}
