// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Installs stdin, stdout and stderr, and makes sure that nothing else reaches the program.
enum StandardStreams {
    static func install(
        _ process: ProcessPlan,
        console: consuming Descriptor?,
        uid: UInt32
    ) throws(LaunchFailure) {
        if let console {
            // The user must be able to open its own terminal again, through /dev/console for example.
            try attempt(.standardStreams, zn_fchownat(console.raw, "", uid, UInt32.max, 0x1000))
            for target in CInt(0)...2 { try attempt(.standardStreams, zn_dup3(console.raw, target, 0)) }
        } else {
            let sources = [process.standard.input, process.standard.output, process.standard.error]
            for (target, source) in sources.enumerated() {
                let target = CInt(truncatingIfNeeded: target)
                if source == target {
                    try attempt(.standardStreams, zn_fcntl(target, F_SETFD, 0))
                } else {
                    try attempt(.standardStreams, zn_dup3(source, target, 0))
                }
            }
        }
        // Also what the caller of zonectl left open for us (CVE-2024-21626). The flag is CLOSE_RANGE_CLOEXEC.
        try attempt(.standardStreams, zn_close_range(3, .max, 4))
        for number in process.inherited + Array(3..<3 + CInt(clamping: process.preservedDescriptors)) {
            try attempt(.standardStreams, zn_fcntl(number, F_SETFD, 0))
        }
    }
}
