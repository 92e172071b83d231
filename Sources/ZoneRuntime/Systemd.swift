// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// The machine's systemd, asked by its own program.
enum Systemd {
    /// Whether it is the host's first process, sd_booted(3). Ordinary users' zones are none of its units.
    static var isRunning: Bool { !Rootless.isInside && (try? FileStatus.of("/run/systemd/system")) != nil }

    /// Runs `systemctl`, which waits until the job is done.
    static func control(_ words: [String], for attempt: String, unit: String? = nil) throws(ZoneError) {
        let outcome: HostProgram.Outcome
        do throws(SystemError) {
            var program = try HostProgram("systemctl", ["--no-pager", "--no-ask-password"] + words)
            // Longer than any unit of ours may take to start or to end.
            program.milliseconds = 90_000_000
            outcome = try program.run()
        } catch {
            throw ZoneError(attempt, error)
        }
        if outcome.status == .exited(0) { return }
        let reason = outcome.reason.isEmpty ? "systemctl ended with \(outcome.status.shellCode)" : outcome.reason
        throw ZoneError(
            .system, "\(attempt): \(reason)", hint: unit.map { "'journalctl -u \($0)' tells why" })
    }

    static func reload() throws(ZoneError) {
        try control(["daemon-reload"], for: "make systemd read its units again")
    }
}
