// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux

/// What this program is.
enum Version {
    static let number = "0.1.0"

    static var commit: String { String(cString: zn_commit()) }
}
