// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

/// The two ends of a pipe. The corresponding system call is `pipe2`.
public struct Pipe: ~Copyable {
    public let reader: Descriptor
    public let writer: Descriptor

    public init() throws(SystemError) {
        var ends: [CInt] = [-1, -1]
        try check(zn_pipe2(&ends, OpenFlags.closeOnExec.rawValue), "pipe")
        reader = Descriptor(owning: ends[0])
        writer = Descriptor(owning: ends[1])
    }

    /// Gives up the end that is written to, which somebody else has by now.
    public consuming func takeReader() -> Descriptor { reader }
}
