// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Testing

@Suite struct SeccompFlagTests {
    @Test func theKernelIsAskedWithoutBeingFiltered() {
        // SECCOMP_FILTER_FLAG_LOG, Linux 4.14; the last bit is nobody's.
        #expect(zn_seccomp_knows_flags(1 << 1))
        #expect(!zn_seccomp_knows_flags(1 << 31))
        // WAIT_KILLABLE_RECV alone is refused by every kernel: it is about a listener.
        #expect(!zn_seccomp_knows_flags(1 << 5))
    }
}
