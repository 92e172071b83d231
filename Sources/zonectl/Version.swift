// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import OCI

/// What this program is.
enum Version {
    static let number = "0.1.0"

    /// When this number was given, for manual pages and packages: YEAR-MONTH-DAY.
    static let date = "2026-11-21"

    /// Of the OCI runtime specification.
    static var specification: String { Spec.version }

    static var commit: String { String(cString: zn_commit()) }

    static var text: String { "zonectl \(number) (\(commit))" }
}
