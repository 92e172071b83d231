// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import CNetlink
import Glibc
public import LinuxSystem

extension Links {
    /// Makes a link whose other end is a descriptor, for a machine's network card: what is written to it comes from the link, a
    /// frame each, and what is sent on the link is read. It goes with its last descriptor, and so with who has it.
    /// `hasHeader`: each frame has a `virtio_net_hdr` before it (VIRTIO 1.2, 5.1.6), as QEMU's virtio-net wants
    /// (`-netdev tap,fd=N,vhost=…`). The link is in the network namespace that the calling thread is in, and down.
    /// Documentation/networking/tuntap.rst.
    public static func makeTap(_ name: String, hasHeader: Bool) throws(SystemError) -> Descriptor {
        let descriptor = try Descriptor.open("/dev/net/tun", [.readWrite, .nonBlocking])
        // struct ifreq: a name of 16 bytes, then 24 of which the first two are flags.
        var request = [UInt8](repeating: 0, count: 40)
        let text = Array(name.utf8)
        guard text.count < 16 else { throw SystemError("make tap", name, .nameTooLong) }
        request.replaceSubrange(0..<text.count, with: text)
        let flags = UInt16(IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL) | (hasHeader ? UInt16(IFF_VNET_HDR) : 0)
        request.replaceSubrange(16..<18, with: withUnsafeBytes(of: flags) { Array($0) })
        let result = request.withUnsafeMutableBytes { bytes in
            // TUNSETIFF
            bytes.baseAddress.map { zn_ioctl_pointer(descriptor.raw, 0x4004_54CA, $0) } ?? -EFAULT
        }
        try check(result, "make tap", name)
        return descriptor
    }
}
