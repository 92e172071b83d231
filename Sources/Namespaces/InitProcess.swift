// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// A small init: pid 1 of the zone that starts the program, passes signals on to it and reaps orphans.
///
/// It is this same process image, so nothing has to be found in the zone. Its executable is reached through a
/// read-only mount (CStart) and it is not dumpable, so the zone can neither change nor read it.
enum InitProcess {
    /// Clones; returns in the child, which executes the program. The parent stays as init and never returns.
    static func startProgramBelow(
        _ process: ProcessPlan,
        _ identity: Identity,
        channel: borrowing Channel
    ) throws(LaunchFailure) {
        // Everything waits to be picked up by sigwait below; the program starts with an empty mask again.
        try attempt(.initProcess, zn_sigmask(.max))
        let pid = try attempt(.initProcess, zn_fork())
        if pid == 0 {
            // A group of its own in the foreground, so that Ctrl-C reaches the program and not init.
            _ = setpgid(0, 0)
            if process.hasTerminal { _ = tcsetpgrp(0, getpid()) }
            try attempt(.initProcess, zn_sigmask(0))
            return
        }
        try Privileges.settle(process, identity, channel)
        // The channel too: the parent takes its end as the sign that the program runs.
        _ = zn_close_range(3, .max, 0)
        supervise(pid)
    }

    private static func supervise(_ program: CInt) -> Never {
        var all = sigset_t()
        sigfillset(&all)
        while true {
            var number: CInt = 0
            guard sigwait(&all, &number) == 0 else { continue }
            if number != SIGCHLD {
                _ = kill(program, number)
                continue
            }
            var status: CInt = 0
            while true {
                let pid = waitpid(-1, &status, WNOHANG)
                if pid <= 0 { break }
                if pid == program {
                    let signal = status & 0x7f
                    _exit(signal == 0 ? status >> 8 & 0xff : 128 + signal)
                }
            }
        }
    }
}
