// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import HVBridge
import LinuxSystem

/// Finds out that a guest's kernel hangs before anything of the zone's has begun. An emulated processor that its host keeps waiting at the wrong
/// moment measures its interrupt timer as far too slow; Linux then does without ("APIC frequency too slow"), and never brings up
/// its second processor. The reset button helps, and costs nothing: no disk has been looked at.
struct MachineBootWatch {
    /// Boots that are given up for another one.
    private static let most = 3
    /// Milliseconds between looks.
    static let interval: Int64 = 2000
    /// Milliseconds of a kernel that waits for ever without doing anything.
    private static let idle: Int64 = 60_000

    /// Milliseconds of CPU time in which a kernel boots many times over, however busy the host is.
    private let busy: Int64
    private var began: (processor: Int64, time: Int64)?
    private var resets = 0

    init(processors: Int64) { busy = 15_000 + 5_000 * max(1, processors) }

    /// Whether to press the button: by the CPU time that QEMU has had, and a clock that does not stop, both in milliseconds.
    mutating func isHung(processor: Int64, time: Int64) -> Bool {
        guard let began else {
            self.began = (processor, time)
            return false
        }
        guard processor - began.processor >= busy || time - began.time >= MachineBootWatch.idle else { return false }
        guard resets < MachineBootWatch.most else { return false }
        resets += 1
        self.began = (processor, time)
        return true
    }
}

extension MachineMonitor {
    /// Looks at a guest that boots, and begins anew where its kernel hangs.
    mutating func watchBoot() {
        guard guest?.phase == .booting, let status = try? ProcessStatus(of: qemu.pid) else { return }
        let time = MonotonicClock.milliseconds
        guard bootWatch.isHung(processor: status.processorMilliseconds, time: time) else { return }
        MachineProcess.say("zonectl: zone \(run.name): the guest's kernel hangs in its boot, and is started anew")
        // Else the reset would be its end (-no-reboot).
        _ = try? qmp.execute(QMP.SetRebootAction(.reset))
        _ = try? qmp.execute(QMP.SystemReset())
        _ = try? qmp.execute(QMP.SetRebootAction(.shutdown))
        guest?.extend(to: time + run.bootMilliseconds)
    }
}
