# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: ZoneRuntime authors
"""What a zone may send: forged frames of all kinds, written in its network namespace, are heard by nobody (P15)."""

import ipaddress
import re
import socket
import struct

from networks import BOTH, addresses, host, inside, make, reaches, sh, within, zone

ETH_P_ALL = 3
# By which frames are known: an option of neighbour discovery that nobody has, its sum the same for every number.
MARK = b"\xfd\x01zn\x00\x00\xff\xff"


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def ip_bytes(text):
    return ipaddress.ip_address(text).packed


def ethernet(target, source, kind, payload):
    return mac_bytes(target) + mac_bytes(source) + struct.pack("!H", kind) + payload


def arp(operation, sender_mac, sender, target_mac, target):
    return struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + mac_bytes(sender_mac) + ip_bytes(sender) + mac_bytes(
        target_mac) + ip_bytes(target)


def four(source, target, protocol, payload, options=b"", fragment=0):
    header = struct.pack("!BBHHHBBH", 0x45 + len(options) // 4, 0, 20 + len(options) + len(payload), 7, fragment, 64, protocol, 0)
    header += ip_bytes(source) + ip_bytes(target) + options
    return header[:10] + checksum(header) + header[12:] + payload


def six(source, target, header, payload):
    return struct.pack("!IHBB", 6 << 28, len(payload), header, 255) + ip_bytes(source) + ip_bytes(target) + payload


def icmp(source, target, kind, payload):
    payload += MARK
    pseudo = ip_bytes(source) + ip_bytes(target) + struct.pack("!II", 4 + len(payload), 58)
    whole = bytes([kind, 0])
    return whole + checksum(pseudo + whole + bytes(2) + payload) + payload


def udp(source, target, payload=b""):
    payload += MARK
    return struct.pack("!HHHH", source, target, 8 + len(payload), 0) + payload


def link_local(mac):
    octets = bytearray(mac_bytes(mac))
    octets[0] ^= 2
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + bytes(octets[:3]) + b"\xff\xfe" + bytes(octets[3:])))


def frames(own, victim, gateway):
    """What a zone may not send, and what it may, by name. `own` and the others: MAC, IPv4, IPv6 address."""
    mac, ip, ip6 = own
    everyone, group = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"
    to, to_ip, to_ip6 = victim
    local, of_gateway = link_local(mac), link_local(gateway[0])
    nobody6, all_nodes = "::", "ff02::1"
    target_mac = b"\x02\x01" + mac_bytes(mac)
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + ip_bytes("fd00:bad::")
    router = struct.pack("!BBHII", 64, 0, 1800, 0, 0) + b"\x01\x01" + mac_bytes(mac) + prefix

    def says(owner):
        return struct.pack("!I", 0x20000000) + ip_bytes(owner) + target_mac

    def frame(kind, payload, target=to, source=mac):
        return ethernet(target, source, kind, payload)

    def advertisement(source, owner, target=to_ip6):
        return six(source, target, 58, icmp(source, target, 136, says(owner)))

    def behind(header, source, target, inner):
        """An ICMP message behind another header of eight octets."""
        return six(source, target, header, struct.pack("!BBHI", 58, 0, 0, 0) + inner)

    dhcp = udp(67, 68, b"\x02\x01\x06\x00" + bytes(236) + b"\x63\x82\x53\x63\x35\x01\x05\xff")
    dhcp6 = udp(547, 546, b"\x07\x00\x00\x01")
    ra = icmp(local, all_nodes, 134, router)
    na = icmp(ip6, to_ip6, 136, says(gateway[2]))
    redirect = icmp(local, to_ip6, 137, bytes(4) + ip_bytes(local) + ip_bytes("2001:db8::1"))
    word = udp(5000, 5000)
    wrong = {
        "ARP answer, the gateway's address": frame(0x0806, arp(2, mac, gateway[1], to, to_ip)),
        "ARP answer, the gateway's address and MAC": frame(0x0806, arp(2, gateway[0], gateway[1], to, to_ip)),
        "ARP answer, own address, another's MAC": frame(0x0806, arp(2, gateway[0], ip, to, to_ip)),
        "ARP request, the gateway's address": frame(0x0806, arp(1, mac, gateway[1], to, to_ip), everyone),
        "ARP announcement of the victim's address": frame(0x0806, arp(1, mac, to_ip, to, to_ip), everyone),
        "ARP of an odd kind": frame(0x0806, b"\x00\x06" + arp(2, mac, gateway[1], to, to_ip)[2:]),
        "another's MAC": frame(0x0800, four(ip, to_ip, 17, word), source=gateway[0]),
        "a group's MAC as source": frame(0x0800, four(ip, to_ip, 17, word), source="01:00:5e:00:00:01"),
        "another's IPv4 address": frame(0x0800, four(gateway[1], to_ip, 17, word)),
        "another's IPv4 address, to all": frame(0x0800, four(to_ip, "255.255.255.255", 17, word), everyone),
        "no IPv4 address": frame(0x0800, four("0.0.0.0", to_ip, 17, word)),
        "a loopback address as source": frame(0x0800, four("127.0.0.1", to_ip, 17, word)),
        "to a loopback address": frame(0x0800, four(ip, "127.0.0.1", 17, word)),
        "DHCP offer": frame(0x0800, four(ip, to_ip, 17, dhcp)),
        "DHCP offer to all": frame(0x0800, four(ip, "255.255.255.255", 17, dhcp), everyone),
        "DHCP offer behind options": frame(0x0800, four(ip, to_ip, 17, dhcp, b"\x01" * 40)),
        "DHCP offer, first fragment": frame(0x0800, four(ip, to_ip, 17, dhcp, fragment=0x2000)),
        "another's IPv6 address": frame(0x86DD, six(to_ip6, to_ip6, 17, word)),
        "the gateway's link-local address": frame(0x86DD, six(of_gateway, to_ip6, 17, word)),
        "no IPv6 address": frame(0x86DD, six(nobody6, to_ip6, 17, word)),
        "DHCPv6 answer": frame(0x86DD, six(ip6, to_ip6, 17, dhcp6)),
        "neighbour advertisement of the gateway": frame(0x86DD, advertisement(ip6, gateway[2])),
        "neighbour advertisement of the victim, to all": frame(0x86DD, advertisement(local, to_ip6, all_nodes), group),
        "neighbour advertisement of the gateway's link-local": frame(0x86DD, advertisement(local, of_gateway)),
        "neighbour advertisement from the gateway": frame(0x86DD, advertisement(gateway[2], gateway[2])),
        "neighbour advertisement from nobody": frame(0x86DD, advertisement(nobody6, gateway[2], all_nodes), group),
        "neighbour solicitation from another": frame(
            0x86DD, six(gateway[2], to_ip6, 58, icmp(gateway[2], to_ip6, 135, bytes(4) + ip_bytes(to_ip6) + target_mac))),
        "router advertisement": frame(0x86DD, six(local, all_nodes, 58, ra), group),
        "router advertisement to one": frame(0x86DD, six(ip6, to_ip6, 58, icmp(ip6, to_ip6, 134, router))),
        "router advertisement as the gateway": frame(
            0x86DD, six(of_gateway, all_nodes, 58, icmp(of_gateway, all_nodes, 134, router)), group),
        "redirect": frame(0x86DD, six(local, to_ip6, 58, redirect)),
        "router advertisement, to a group, to all": frame(0x86DD, six(local, all_nodes, 58, ra), everyone),
        "frame of bridges": ethernet("01:80:c2:00:00:00", mac, 0x0800, four(ip, to_ip, 17, word)),
        "BPDU": ethernet("01:80:c2:00:00:00", mac, 39, b"\x42\x42\x03" + bytes(36)),
        "LLDP": ethernet("01:80:c2:00:00:0e", mac, 0x88CC, bytes(40)),
        "PAUSE": ethernet("01:80:c2:00:00:01", mac, 0x8808, b"\x00\x01\xff\xff" + bytes(40)),
        "802.1Q": frame(0x8100, b"\x00\x14\x08\x00" + four(ip, to_ip, 17, word)),
        "802.1Q, VLAN 0": frame(0x8100, b"\x00\x00\x08\x06" + arp(2, mac, gateway[1], to, to_ip)),
        "802.1Q twice": frame(0x8100, b"\x00\x14\x81\x00\x00\x15\x86\xdd" + six(local, all_nodes, 58, ra)),
        "802.1ad": frame(0x88A8, b"\x00\x14\x08\x00" + four(ip, to_ip, 17, word)),
        "PPPoE": frame(0x8863, bytes(40)),
        "MPLS": frame(0x8847, b"\x00\x01\x01\x40" + four(gateway[1], to_ip, 17, word)),
        "802.3": frame(60, bytes(60)),
    }
    # Behind what guards overlook: hop by hop and destination options, routing, fragments, mobility.
    for header in (0, 43, 44, 60, 135, 139, 140, 253):
        wrong[f"router advertisement behind header {header}"] = frame(0x86DD, behind(header, local, all_nodes, ra), group)
        wrong[f"neighbour advertisement behind header {header}"] = frame(0x86DD, behind(header, ip6, to_ip6, na))
    right = {
        "ARP answer": frame(0x0806, arp(2, mac, ip, to, to_ip)),
        "ARP request to all": frame(0x0806, arp(1, mac, ip, "00:00:00:00:00:00", to_ip), everyone),
        "ARP probe": frame(0x0806, arp(1, mac, "0.0.0.0", "00:00:00:00:00:00", to_ip), everyone),
        "UDP": frame(0x0800, four(ip, to_ip, 17, word)),
        "UDP behind options": frame(0x0800, four(ip, to_ip, 17, word, b"\x01" * 40)),
        "UDP to all": frame(0x0800, four(ip, "255.255.255.255", 17, word), everyone),
        "UDP to a group": frame(0x0800, four(ip, "224.0.0.251", 17, word), "01:00:5e:00:00:fb"),
        "DHCP request": frame(0x0800, four("0.0.0.0", "255.255.255.255", 17, udp(68, 67, bytes(240))), everyone),
        "UDP, IPv6": frame(0x86DD, six(ip6, to_ip6, 17, word)),
        "UDP, link-local": frame(0x86DD, six(local, to_ip6, 17, word)),
        "UDP to an IPv6 group": frame(0x86DD, six(ip6, all_nodes, 17, word), group),
        "neighbour advertisement": frame(0x86DD, advertisement(ip6, ip6)),
        "neighbour advertisement, link-local": frame(0x86DD, advertisement(local, local, all_nodes), group),
        "neighbour solicitation": frame(
            0x86DD, six(ip6, to_ip6, 58, icmp(ip6, to_ip6, 135, bytes(4) + ip_bytes(to_ip6) + target_mac))),
        "whether an address is free": frame(
            0x86DD, six(nobody6, all_nodes, 58, icmp(nobody6, all_nodes, 135, bytes(4) + ip_bytes(ip6))), group),
    }
    # The kernel may look at a fragment only when it has all of them.
    rest = frame(0x0800, four(ip, to_ip, 17, bytes(8), fragment=len(dhcp) // 8))
    return wrong, right, rest


def hear(ear, names):
    """What comes until it is silent, by name."""
    heard = set()
    try:
        while True:
            for first, second in re.findall(re.escape(MARK[:4]) + rb"(..)(..)", ear.recv(1 << 16), re.S):
                number = int.from_bytes(first, "big")
                if number + int.from_bytes(second, "big") == 0xFFFF and number < len(names):
                    heard.add(names[number])
    except TimeoutError:
        return heard


def test_what_comes_from_a_zone_is_its_own(host):
    """All that a zone with every right over its link can send: another one sees only what is that zone's to say."""
    make(host, "net", *BOTH)
    liar, victim = zone(host, "l", "net"), zone(host, "v", "net")
    assert reaches(host, liar, victim) and reaches(host, liar, victim, six=True)
    bridge = host.run("network", "inspect", "net").json[0]["bridge"]
    ends = [(sh(host, name, "cat /sys/class/net/eth0/address").strip(), *addresses(host, name)) for name in (liar, victim)]
    gateway = (host.namespace.run("ip", "-br", "link", "show", bridge).split()[2], "10.77.0.1", "fd00:77::1")
    end = host.namespace.run("sh", "-c", "ip -o link | grep -o 'zv[0-9a-f]*' | head -1").strip()
    shown = "ip -6 route; ip route; ip -o -4 addr"
    before = sh(host, victim, shown)
    sender = within(inside(host, liar), socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0)
    ears = [within(path, socket.socket, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            for path in (inside(host, victim), host.namespace.path)]
    try:
        sender.bind(("eth0", 0))
        ears[0].bind(("eth0", 0))
        # On the bridge itself, where the host would hear it.
        ears[1].bind((bridge, 0))
        for ear in ears:
            ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            ear.settimeout(0.5)
        wrong, right, rest = frames(ends[0], ends[1], gateway)
        names = [*wrong, *right]

        def send_all():
            for number, frame in enumerate([*wrong.values(), *right.values()]):
                frame = frame.ljust(60, b"\0") if MARK in frame else frame.ljust(60, b"\0") + MARK
                sender.send(frame.replace(MARK, MARK[:4] + struct.pack("!HH", number, 0xFFFF - number)))
            sender.send(rest)
            return [hear(ear, names) for ear in ears]

        heard = send_all()
        assert not (heard[0] | heard[1]) & set(wrong), sorted((heard[0] | heard[1]) & set(wrong))
        assert heard[0] == set(right), sorted(set(right) - heard[0])
        assert sh(host, victim, shown) == before
        assert gateway[0] in sh(host, victim, "ping -c 1 -W 2 10.77.0.1 >/dev/null; ip neigh show 10.77.0.1")
        assert reaches(host, victim, liar)
        # All that would have come through is worth the trouble: without the guard most does.
        host.namespace.run("tc", "qdisc", "del", "dev", end, "clsact")
        unguarded = send_all()
        assert len((unguarded[0] | unguarded[1]) & set(wrong)) > len(wrong) // 2, sorted(set(wrong) - unguarded[0] - unguarded[1])
    finally:
        for made in (sender, *ears):
            made.close()
