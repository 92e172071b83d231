// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import CNetlink
import Glibc
public import LinuxSystem

/// A link whose other end is a descriptor, for a machine's network card: what is written to it comes from the link, a
/// frame each, and what is sent on the link is read. Each frame has a `virtio_net_hdr` before it (VIRTIO 1.2, 5.1.6), as QEMU's
/// virtio-net wants (`-netdev tap,fd=N,vhost=…`). Documentation/networking/tuntap.rst.
public enum Tap {
    /// The corresponding C constants are TUNSETIFF, TUNSETPERSIST, TUNSETOWNER.
    private static let (attach, persist, owner): (UInt, UInt, UInt) = (0x4004_54CA, 0x4004_54CB, 0x4004_54CC)

    /// A descriptor that belongs to no link yet. Its link will be in the network namespace that the calling thread is in.
    public static func open() throws(SystemError) -> Descriptor {
        try Descriptor.open("/dev/net/tun", [.readWrite, .nonBlocking])
    }

    /// Makes a link, down, in the network namespace that the calling thread is in. It goes with its last descriptor, and so with
    /// who has it.
    public static func make(_ name: String) throws(SystemError) -> Descriptor {
        let descriptor = try open()
        try attach(descriptor.raw, name, isNew: true)
        return descriptor
    }

    /// Makes a link that stays without a descriptor, and to which a user without rights may attach one.
    public static func make(_ name: String, for user: UInt32) throws(SystemError) {
        let descriptor = try make(name)
        try check(zn_ioctl(descriptor.raw, owner, UInt64(user)), "make tap", name)
        try check(zn_ioctl(descriptor.raw, persist, 1), "make tap", name)
    }

    /// Makes a descriptor the end of a link that was made for this user, and the link's fate that of the descriptor.
    public static func attach(_ raw: CInt, _ name: String) throws(SystemError) {
        try attach(raw, name, isNew: false)
        try check(zn_ioctl(raw, persist, 0), "attach tap", name)
    }

    private static func attach(_ raw: CInt, _ name: String, isNew: Bool) throws(SystemError) {
        // struct ifreq: a name of 16 bytes, then 24 of which the first two are flags.
        var request = [UInt8](repeating: 0, count: 40)
        let text = Array(name.utf8)
        guard text.count < 16 else { throw SystemError("make tap", name, .nameTooLong) }
        request.replaceSubrange(0..<text.count, with: text)
        let flags = UInt16(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) | (isNew ? UInt16(IFF_TUN_EXCL) : 0)
        request.replaceSubrange(16..<18, with: withUnsafeBytes(of: flags) { Array($0) })
        let result = request.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map { zn_ioctl_pointer(raw, attach, $0) } ?? -EFAULT
        }
        try check(result, isNew ? "make tap" : "attach tap", name)
    }
}
