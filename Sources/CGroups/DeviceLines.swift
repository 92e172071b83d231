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

    private struct Access: OptionSet {
        let rawValue: UInt8

        /// Letters of `rwm`, which are checked already.
        init(_ letters: String) {
            self.init()
            for (index, letter) in "rwm".utf8.enumerated() where letters.utf8.contains(letter) {
                insert(Access(rawValue: 1 << UInt8(index)))
            }
        }

        init(rawValue: UInt8) { self.rawValue = rawValue }

        static let all = Access("rwm")

        var text: String {
            (contains(Access("r")) ? "r" : "") + (contains(Access("w")) ? "w" : "") + (contains(Access("m")) ? "m" : "")
        }
    }

    private struct Exception {
        let type: String
        let major: Int64?
        let minor: Int64?
        var access: Access

        func overlaps(_ other: Exception) -> Bool {
            type == other.type && !access.isDisjoint(with: other.access)
                && (major == nil || other.major == nil || major == other.major)
                && (minor == nil || other.minor == nil || minor == other.minor)
        }

        func contains(_ other: Exception) -> Bool {
            type == other.type && (major == nil || major == other.major) && (minor == nil || minor == other.minor)
        }

        /// `c 1:3 rwm`, with `*` for any number.
        var text: String {
            let number = { (value: Int64?) in value.map { String($0) } ?? "*" }
            return "\(type) \(number(major)):\(number(minor)) \(access.text)"
        }
    }

    private(set) var lines: [Line] = []
    private var allowsByDefault = true
    /// Whether a rule for everything came before; else the group's default is what its parent or an earlier update left.
    private var isKnown = false
    private var exceptions: [Exception] = []

    init(_ rules: [Spec.DeviceRule]) throws(SystemError) {
        for rule in rules { try append(rule) }
    }

    private mutating func append(_ rule: Spec.DeviceRule) throws(SystemError) {
        try DeviceController.verify(rule)
        let any = { (value: Int64?) -> Int64? in value.flatMap { $0 < 0 ? nil : $0 } }
        let access = Access(rule.access ?? "rwm")
        let type = rule.type ?? "a"
        if type == "a", any(rule.major) == nil, any(rule.minor) == nil, access == .all {
            lines.append(Line(allow: rule.allow, text: "a"))
            allowsByDefault = rule.allow
            isKnown = true
            exceptions = []
            return
        }
        let types: [String] = type == "a" ? ["b", "c"] : type == "b" ? ["b"] : ["c"]
        for type in types {
            let exception = Exception(type: type, major: any(rule.major), minor: any(rule.minor), access: access)
            if rule.allow == allowsByDefault {
                try remove(exception)
                if !isKnown { lines.append(Line(allow: rule.allow, text: exception.text)) }
            } else {
                exceptions.append(exception)
                lines.append(Line(allow: rule.allow, text: exception.text))
            }
        }
    }

    /// Back to the default: each exception that lies within is named by its own numbers, as the kernel wants it.
    private mutating func remove(_ wanted: Exception) throws(SystemError) {
        for index in exceptions.indices where exceptions[index].overlaps(wanted) {
            guard wanted.contains(exceptions[index]) else {
                throw SystemError(
                    "limit", "devices: cgroup version 1 cannot take \(wanted.text) out of \(exceptions[index].text)",
                    .notSupported)
            }
            var part = exceptions[index]
            part.access.formIntersection(wanted.access)
            exceptions[index].access.subtract(wanted.access)
            lines.append(Line(allow: allowsByDefault, text: part.text))
        }
        exceptions.removeAll { $0.access.isEmpty }
    }
}
