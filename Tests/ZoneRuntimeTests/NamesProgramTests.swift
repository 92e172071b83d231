// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Testing

@testable import ZoneRuntime

@Suite struct NamesProgramTests {
    @Test(arguments: [
        ("root:x:0:0::/root:/bin/sh\ndnsmasq:x:104:65534:dnsmasq,,,:/var/lib/misc:/usr/sbin/nologin\n", 104, 65534),
        ("dnsmasq:x:993:991::/:", 993, 991),
        // Nobody is none of these.
        ("", 65534, 65534),
        ("dnsmasq:x:0:0::/:", 65534, 65534),
        ("dnsmasq:x:12:0::/:", 65534, 65534),
        ("dnsmasq:x:-1:5::/:", 65534, 65534),
        ("dnsmasq:x:4294967295:5::/:", 65534, 65534),
        ("dnsmasq:x:4294967296:5::/:", 65534, 65534),
        ("dnsmasq:x\ndnsmasq\n:::\ndnsmasq::7:8:", 7, 8),
        ("dnsmasq2:x:7:7::/:\nx:dnsmasq:7:7", 65534, 65534),
        ("dnsmasq\u{301}:x:7:7::/:", 65534, 65534),
    ])
    func userIsTheHostsOrNobody(_ passwd: String, _ uid: UInt32, _ gid: UInt32) {
        #expect(NamesProgram.user(passwd) == (uid, gid))
    }

    @Test(arguments: [
        ("/etc/../run/systemd/resolve/stub-resolv.conf", "/run/systemd/resolve/stub-resolv.conf"),
        ("/etc//./resolv.conf/", "/etc/resolv.conf"),
        ("/../../x", "/x"),
        ("/", "/"),
        ("/a/..", "/"),
        ("/etc/...", "/etc/..."),
    ])
    func pathsAreSettled(_ path: String, _ expected: String) {
        #expect(NamesProgram.settled(path) == expected)
    }
}
