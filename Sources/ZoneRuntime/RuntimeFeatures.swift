// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import CLinux
import LinuxSystem
import Namespaces
import OCI
import Seccomp

/// What this runtime supports, features.md and features-linux.md of the runtime specification.
public enum RuntimeFeatures {
    /// The whole as JSON text.
    public static func text(version: String, commit: String) -> [UInt8] {
        var writer = JSONWriter(pretty: true)
        value(version, commit).write(to: &writer)
        writer.endText()
        return writer.bytes
    }

    private static func value(_ version: String, _ commit: String) -> JSON {
        .object([
            .init("ociVersionMin", .string("1.0.0")),
            .init("ociVersionMax", .string(Spec.version)),
            .init(
                "hooks",
                list(["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"])),
            .init("mountOptions", list(MountOptions.known.sorted())),
            .init("linux", linux),
            .init(
                "annotations",
                .object([
                    .init("io.zoneruntime.version", .string(version)), .init("io.zoneruntime.commit", .string(commit)),
                ])),
            // systemd does what these say, with root's rights.
            .init("potentiallyUnsafeConfigAnnotations", list(["org.systemd.property."])),
        ])
    }

    private static var linux: JSON {
        let layout = try? CGroupLayout.ofHost()
        let isUnified = layout?.isUnified ?? false
        return .object([
            .init("namespaces", list(Spec.Namespace.Kind.allCases.map(\.rawValue).sorted())),
            .init(
                "capabilities",
                list((0..<64).filter { Capability.all >> UInt64($0) & 1 == 1 }.compactMap { Capability.name(of: $0) })),
            .init(
                "cgroup",
                .object([
                    .init("v1", .bool(true)), .init("v2", .bool(true)), .init("systemd", .bool(isUnified)),
                    .init("systemdUser", .bool(isUnified)), .init("rdma", .bool(true)),
                ])),
            .init(
                "seccomp",
                .object([
                    .init("enabled", .bool(true)), .init("actions", list(SeccompProgram.actions)),
                    .init("operators", list(SeccompProgram.operators)),
                    .init("archs", list(SeccompProgram.architectures)),
                    .init("knownFlags", list(SeccompProgram.knownFlags)),
                    .init("supportedFlags", list(supportedFlags)),
                ])),
            .init("apparmor", enabled(true)),
            .init("selinux", enabled(true)),
            .init("intelRdt", enabled(false)),
            .init("mountExtensions", .object([.init("idmap", enabled(true))])),
        ])
    }

    /// The flags that this kernel knows, too. TSYNC is kept by having one thread only, whatever the kernel.
    private static var supportedFlags: [String] {
        SeccompProgram.knownFlags.filter { name in
            SeccompProgram.bits(ofFlag: name).map { zn_seccomp_knows_flags($0) } ?? true
        }
    }

    private static func list(_ texts: [String]) -> JSON { .array(texts.map { .string($0) }) }

    private static func enabled(_ value: Bool) -> JSON { .object([.init("enabled", .bool(value))]) }
}
