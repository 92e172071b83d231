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
        let deadline: Int64
    }

    private let policy: HealthPolicy
    private let program: HostProgram
    private let started = MonotonicClock.milliseconds
    private var due: Int64
    private var check: Check?
    private(set) var record = HealthRecord()
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
            finish(status.shellCode, running.text, isPaused)
        } else if now >= running.deadline {
            try? running.process.signal(SIGKILL)
            _ = try? running.process.wait()
            finish(124, running.text + Array("\nzonectl: no answer within \(policy.timeout) ms".utf8), isPaused)
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

    private mutating func finish(_ code: Int32, _ text: [UInt8], _ isPaused: () -> Bool) {
        let now = MonotonicClock.milliseconds
        due = now + policy.interval
        if code != 0, isPaused() { return }
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
