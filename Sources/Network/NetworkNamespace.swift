// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
public import LinuxSystem

/// The network namespace of the calling thread, which can be another one for a moment, network_namespaces(7).
public enum NetworkNamespace {
    private static let own = "/proc/thread-self/ns/net"

    /// Runs `body` in another one. The corresponding system call is `setns`.
    public static func inside<R: ~Copyable>(
        _ namespace: borrowing Descriptor, _ body: () throws(SystemError) -> R
    ) throws(SystemError) -> R {
        let own = try Descriptor.open(own, [.readOnly])
        try check(zn_setns(namespace.raw, CLONE_NEWNET), "setns", "network namespace")
        let result: R
        do throws(SystemError) { result = try body() } catch {
            try check(zn_setns(own.raw, CLONE_NEWNET), "setns", "network namespace")
            throw error
        }
        try check(zn_setns(own.raw, CLONE_NEWNET), "setns", "network namespace")
        return result
    }

    /// A new one, which is there as long as something holds it. The corresponding system call is `unshare`.
    public static func make() throws(SystemError) -> Descriptor {
        let former = try Descriptor.open(own, [.readOnly])
        try check(zn_unshare(CLONE_NEWNET), "unshare", "network namespace")
        let made: Descriptor
        do throws(SystemError) { made = try Descriptor.open(own, [.readOnly]) } catch {
            try check(zn_setns(former.raw, CLONE_NEWNET), "setns", "network namespace")
            throw error
        }
        try check(zn_setns(former.raw, CLONE_NEWNET), "setns", "network namespace")
        return made
    }
}
