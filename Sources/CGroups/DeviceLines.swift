// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// Device rules as version 1 takes them: lines for `devices.allow` and `devices.deny`.
///
/// Its kernel keeps no list of rules but a default and exceptions from it, and takes every line that begins with `a`
/// for everything, whatever stands behind. So a rule for both types becomes two lines, and a rule that would have to
/// cut a piece out of an exception, which the kernel silently does not do, is refused.
struct DeviceLines {
    struct Line: Equatable {
        let allow: Bool
        let text: String
    }

    private struct Exception {
        let type: Character
        let major: Int64?
        let minor: Int64?
        var access: Set<Character>

        func overlaps(_ other: Exception) -> Bool {
            type == other.type && !access.isDisjoint(with: other.access)
                && (major == nil || other.major == nil || major == other.major)
                && (minor == nil || other.minor == nil || minor == other.minor)
        }

        func hasSamePlace(_ other: Exception) -> Bool {
            type == other.type && major == other.major && minor == other.minor
        }
    }

    private(set) var lines: [Line] = []
    private var allowsByDefault = true
    private var exceptions: [Exception] = []

    init(_ rules: [Spec.DeviceRule]) throws(SystemError) {
        for rule in rules { try append(rule) }
    }

    private mutating func append(_ rule: Spec.DeviceRule) throws(SystemError) {
        try DeviceController.verify(rule)
        let any = { (value: Int64?) -> Int64? in value.flatMap { $0 < 0 ? nil : $0 } }
        let access = Set(rule.access ?? "rwm")
        let type = rule.type ?? "a"
        if type == "a", any(rule.major) == nil, any(rule.minor) == nil, access.count == 3 {
            lines.append(Line(allow: rule.allow, text: "a"))
            allowsByDefault = rule.allow
            exceptions = []
            return
        }
        let types: [Character] = type == "a" ? ["b", "c"] : type == "b" ? ["b"] : ["c"]
        for type in types {
            let exception = Exception(type: type, major: any(rule.major), minor: any(rule.minor), access: access)
            if rule.allow == allowsByDefault {
                try remove(exception)
            } else {
                exceptions.append(exception)
            }
            let number = { (value: Int64?) in value.map { String($0) } ?? "*" }
            let letters = rule.access ?? "rwm"
            lines.append(
                Line(
                    allow: rule.allow,
                    text: "\(type) \(number(exception.major)):\(number(exception.minor)) \(letters)"))
        }
    }

    private mutating func remove(_ exception: Exception) throws(SystemError) {
        for index in exceptions.indices where exceptions[index].overlaps(exception) {
            guard exceptions[index].hasSamePlace(exception) else {
                throw SystemError(
                    "limit", "devices: cgroup version 1 cannot take a part out of an earlier rule", .notSupported)
            }
            exceptions[index].access.subtract(exception.access)
        }
        exceptions.removeAll { $0.access.isEmpty }
    }
}
