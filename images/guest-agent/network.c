// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#define _GNU_SOURCE
#include "machine.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

// Milliseconds that a card may take to appear.
enum { PATIENCE = 5000 };

struct address {
    unsigned char family;
    unsigned char length;
    size_t size;
    unsigned char bytes[16];
};

// "10.88.0.2/16", or an address alone.
static bool parse_address(const char *text, bool has_length, struct address *address) {
    char part[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t size = slash ? (size_t)(slash - text) : strlen(text);
    if (size >= sizeof part || has_length != (slash != NULL)) return false;
    memcpy(part, text, size);
    part[size] = 0;
    address->family = strchr(part, ':') ? AF_INET6 : AF_INET;
    address->size = address->family == AF_INET ? 4 : 16;
    if (inet_pton(address->family, part, address->bytes) != 1) return false;
    unsigned long length = 0;
    if (slash) {
        char *end;
        if (slash[1] < '0' || slash[1] > '9') return false;
        length = strtoul(slash + 1, &end, 10);
        if (*end != 0 || length > address->size * 8) return false;
    }
    address->length = (unsigned char)length;
    return true;
}

struct message {
    struct nlmsghdr header;
    union {
        struct ifaddrmsg address;
        struct rtmsg route;
    } body;
    unsigned char attributes[128];
};

static void start_message(struct message *message, unsigned short type, size_t body) {
    memset(message, 0, sizeof *message);
    message->header.nlmsg_type = type;
    message->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    message->header.nlmsg_len = (unsigned int)NLMSG_LENGTH(body);
}

static void add_attribute(struct message *message, unsigned short type, const void *value, size_t size) {
    size_t at = NLMSG_ALIGN(message->header.nlmsg_len);
    struct rtattr attribute = {.rta_type = type, .rta_len = (unsigned short)RTA_LENGTH(size)};
    if (at + RTA_SPACE(size) > sizeof *message) return;
    memcpy((char *)message + at, &attribute, sizeof attribute);
    memcpy((char *)message + at + RTA_LENGTH(0), value, size);
    message->header.nlmsg_len = (unsigned int)(at + RTA_LENGTH(size));
}

// Sends a message and reads the kernel's answer to it.
static int talk(int netlink, const struct message *message) {
    if (send(netlink, message, message->header.nlmsg_len, 0) < 0) return -1;
    union {
        struct nlmsghdr header;
        char bytes[4096];
    } answer;
    ssize_t count = recv(netlink, &answer, sizeof answer, 0);
    if (count < 0) return -1;
    struct nlmsgerr error;
    if ((size_t)count < NLMSG_LENGTH(sizeof error) || answer.header.nlmsg_type != NLMSG_ERROR) {
        errno = EPROTO;
        return -1;
    }
    memcpy(&error, NLMSG_DATA(&answer.header), sizeof error);
    errno = -error.error;
    return error.error == 0 ? 0 : -1;
}

static int add_address(int netlink, unsigned int index, const struct address *address) {
    struct message message;
    start_message(&message, RTM_NEWADDR, sizeof message.body.address);
    message.body.address.ifa_family = address->family;
    message.body.address.ifa_prefixlen = address->length;
    message.body.address.ifa_index = index;
    add_attribute(&message, IFA_LOCAL, address->bytes, address->size);
    add_attribute(&message, IFA_ADDRESS, address->bytes, address->size);
    if (address->family == AF_INET && address->length < 31) {
        uint32_t broadcast;
        memcpy(&broadcast, address->bytes, sizeof broadcast);
        broadcast |= htonl(0xFFFFFFFFu >> address->length);
        add_attribute(&message, IFA_BROADCAST, &broadcast, sizeof broadcast);
    }
    return talk(netlink, &message);
}

static int add_default_route(int netlink, unsigned int index, const struct address *gateway) {
    struct message message;
    start_message(&message, RTM_NEWROUTE, sizeof message.body.route);
    message.body.route.rtm_family = gateway->family;
    message.body.route.rtm_table = RT_TABLE_MAIN;
    message.body.route.rtm_protocol = RTPROT_BOOT;
    message.body.route.rtm_scope = RT_SCOPE_UNIVERSE;
    message.body.route.rtm_type = RTN_UNICAST;
    add_attribute(&message, RTA_GATEWAY, gateway->bytes, gateway->size);
    add_attribute(&message, RTA_OIF, &index, sizeof index);
    return talk(netlink, &message);
}

static bool find_card(const char *mac, char name[IFNAMSIZ]) {
    DIR *folder = opendir("/sys/class/net");
    bool found = false;
    struct dirent *entry;
    while (folder && !found && (entry = readdir(folder))) {
        char path[300], text[64];
        if (entry->d_name[0] == '.' || strlen(entry->d_name) >= IFNAMSIZ) continue;
        snprintf(path, sizeof path, "/sys/class/net/%.200s/address", entry->d_name);
        if (read_file(path, text, sizeof text) < 0) continue;
        text[strcspn(text, "\n")] = 0;
        found = strcasecmp(text, mac) == 0;
        if (found) memcpy(name, entry->d_name, strlen(entry->d_name) + 1);
    }
    if (folder) closedir(folder);
    return found;
}

static int bring_up(int control, const char *name) {
    struct ifreq request = {0};
    memcpy(request.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
    if (ioctl(control, SIOCGIFFLAGS, &request) < 0) return -1;
    request.ifr_flags |= IFF_UP;
    return ioctl(control, SIOCSIFFLAGS, &request);
}

static int set_link(int control, const char *old, const char *name, int64_t mtu, struct fault *fault) {
    struct ifreq request = {0};
    memcpy(request.ifr_name, old, strnlen(old, IFNAMSIZ - 1));
    if (strcmp(old, name) != 0) {
        memcpy(request.ifr_newname, name, strlen(name) + 1);
        if (ioctl(control, SIOCSIFNAME, &request) < 0) return fail_errno(fault, "rename network card %s to %s", old, name);
        memset(&request, 0, sizeof request);
        memcpy(request.ifr_name, name, strlen(name));
    }
    if (mtu > 0 && mtu <= INT32_MAX) {
        request.ifr_mtu = (int)mtu;
        if (ioctl(control, SIOCSIFMTU, &request) < 0) return fail_errno(fault, "set the mtu of %s", name);
    }
    return 0;
}

static int configure_card(int control, int netlink, const struct json *card, struct fault *fault) {
    const char *mac = json_text(card, "mac", ""), *name = json_text(card, "name", "");
    if (*name == 0 || strlen(name) >= IFNAMSIZ || strchr(name, '/'))
        return fail(fault, "network card %s: \"%s\" is no name", mac, name);
    char old[IFNAMSIZ];
    int64_t end = now_milliseconds() + PATIENCE;
    while (!find_card(mac, old)) {
        if (now_milliseconds() > end) return fail(fault, "there is no network card %s", mac);
        pause_milliseconds(2);
    }
    if (set_link(control, old, name, json_number(card, "mtu", 0), fault) < 0) return -1;
    // Nobody else has its address: without the search for one that has, it can be used at once.
    char path[128];
    snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/accept_dad", name);
    (void)write_file(path, "0");
    unsigned int index = if_nametoindex(name);
    struct address address;
    for (const struct json *entry = json_first(json_get(card, "addresses")); entry; entry = entry->next) {
        const char *text = json_string(entry, "");
        if (!parse_address(text, true, &address)) return fail(fault, "address %s: is none", text);
        if (address.family == AF_INET6) {
            // It has its routes from here, too: what routers advertise is for systems of their own.
            snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/accept_ra", name);
            (void)write_file(path, "0");
        }
        if (add_address(netlink, index, &address) < 0) return fail_errno(fault, "give %s address %s", name, text);
    }
    if (bring_up(control, name) < 0) return fail_errno(fault, "bring up %s", name);
    for (const struct json *entry = json_first(json_get(card, "gateways")); entry; entry = entry->next) {
        const char *text = json_string(entry, "");
        if (!parse_address(text, false, &address)) return fail(fault, "gateway %s: is no address", text);
        if (add_default_route(netlink, index, &address) < 0) return fail_errno(fault, "set the route by %s", text);
    }
    return 0;
}

int configure_network(const struct json *interfaces, struct fault *fault) {
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    int result = 0;
    if (control < 0 || netlink < 0 || bring_up(control, "lo") < 0) result = fail_errno(fault, "bring up loopback");
    const struct json *card = json_first(interfaces);
    for (; card && result == 0; card = card->next) result = configure_card(control, netlink, card, fault);
    if (control >= 0) close(control);
    if (netlink >= 0) close(netlink);
    return result;
}
