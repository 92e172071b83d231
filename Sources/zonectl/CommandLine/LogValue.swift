// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import ZoneRuntime

/// Options about logs and times.
extension OptionValue {
    /// A point in time, in nanoseconds since 1970.
    static func moment(_ text: String?, _ option: String) throws(ZoneError) -> Int64? {
        guard let text else { return nil }
        guard let time = PointInTime.nanoseconds(text, now: FileStatus.now) else {
            throw ZoneError(
                .invalid, "\(option) \"\(text)\" is no point in time",
                hint: "such as 10m (ago), 2026-01-31T08:00Z, or seconds since 1970")
        }
        return time
    }

    /// `--log-driver` and `--log-opt`; nil where neither is given.
    static func log(driver: String?, options: [String]) throws(ZoneError) -> LogPolicy? {
        if driver == nil, options.isEmpty { return nil }
        var policy = LogPolicy()
        switch driver {
        // The names of docker's and podman's that also mean files of zonectl's own.
        case nil, "file", "json-file", "local", "k8s-file": break
        case "none": policy.driver = .none
        case .some(let text):
            throw ZoneError(.invalid, "--log-driver \"\(text)\" is not known", hint: "there is file and none")
        }
        for option in options { try policy.apply(option: option) }
        return policy
    }
}
