// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux

/// What a guest needs to know of the processor below it.
public enum HostProcessor {
    /// The rate of the time-stamp counter in kHz, measured for one to two milliseconds; `nil` without one.
    ///
    /// An emulated guest reads the same counter and has nothing to measure it by that does not jump while the host is busy:
    /// it is told, by `tsc_early_khz=` on its kernel's command line.
    public static func timeStampKilohertz() -> UInt32? {
        let rate = zn_tsc_khz()
        return rate == 0 ? nil : rate
    }
}
