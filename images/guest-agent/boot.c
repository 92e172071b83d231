// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#define _GNU_SOURCE
#include "machine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PORT_NAME "zone.agent.0"
#define PORTS "/sys/class/virtio-ports"

// Milliseconds that the port may take to appear, and the host to open its end.
enum { PATIENCE = 30000 };

static int mount_one(
    const char *type, const char *place, unsigned long flags, const char *options, struct fault *fault) {
    if (mkdir(place, 0755) < 0 && errno != EEXIST) return fail_errno(fault, "mkdir %s", place);
    // The kernel may have mounted it by itself.
    if (mount(type, place, type, flags, options) < 0 && errno != EBUSY)
        return fail_errno(fault, "mount %s on %s", type, place);
    return 0;
}

int mount_devices(struct fault *fault) {
    if (mount_one("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, fault) < 0) return -1;
    return mount_one("devtmpfs", "/dev", MS_NOSUID, "mode=755", fault);
}

int mount_rest(struct fault *fault) {
    if (mount_one("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, fault) < 0) return -1;
    return mount_one("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755", fault);
}

// MARK: Modules

static bool has_entries(const char *path) {
    DIR *folder = opendir(path);
    bool found = false;
    struct dirent *entry;
    while (folder && !found && (entry = readdir(folder)))
        found = strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (folder) closedir(folder);
    return found;
}

static int load_module(const char *name, struct fault *fault) {
    char path[128];
    int length = snprintf(path, sizeof path, "/modules/%s", name);
    if (length < 0 || (size_t)length >= sizeof path) return fail(fault, "module %s: its name is too long", name);
    // A machine without that bus needs no driver of it.
    if (strncmp(name, "virtio_pci", 10) == 0 && !has_entries("/sys/bus/pci/devices")) return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno(fault, "open %s", path);
    // EEXIST: built in, or loaded before.
    bool is_loaded = syscall(SYS_finit_module, fd, "", 0) == 0 || errno == EEXIST;
    int reason = errno;
    close(fd);
    errno = reason;
    return is_loaded ? 0 : fail_errno(fault, "load module %s", path);
}

int load_modules(const char *feature, const char *through, struct fault *fault) {
    static char text[64 << 10];
    // A kernel without a list has everything built in.
    if (read_file("/modules/order", text, sizeof text) < 0) return 0;
    size_t length = strlen(feature);
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        if (strncmp(line, feature, length) != 0 || line[length] != ':') continue;
        line += length + 1;
        for (char *name; (name = strsep(&line, " "));) {
            if (*name == 0) continue;
            if (load_module(name, fault) < 0) return -1;
            if (through && strcmp(name, through) == 0) return 0;
        }
    }
    return 0;
}

void load_modules_for_devices(void) {
    static const char place[] = "/sys/bus/virtio/devices";
    DIR *folder = opendir(place);
    struct dirent *entry;
    while (folder && (entry = readdir(folder))) {
        char path[300], number[16];
        snprintf(path, sizeof path, "%s/%.200s/device", place, entry->d_name);
        if (read_file(path, number, sizeof number) < 0) continue;
        struct fault fault;
        // Numbers of the virtio specification, section 5.
        const char *feature = strcmp(number, "0x0004\n") == 0 ? "rng" : strcmp(number, "0x0005\n") == 0 ? "balloon" : NULL;
        if (feature && load_modules(feature, NULL, &fault) < 0) fprintf(stderr, "agent: %s\n", fault.text);
    }
    if (folder) closedir(folder);
}

// MARK: The port

static bool find_port(char *device, size_t room) {
    DIR *folder = opendir(PORTS);
    bool found = false;
    struct dirent *entry;
    while (folder && !found && (entry = readdir(folder))) {
        char path[300], name[64];
        snprintf(path, sizeof path, PORTS "/%.200s/name", entry->d_name);
        found = read_file(path, name, sizeof name) > 0 && strcmp(name, PORT_NAME "\n") == 0;
        if (found) snprintf(device, room, "/dev/%.200s", entry->d_name);
    }
    if (folder) closedir(folder);
    return found;
}

int open_port(struct fault *fault) {
    int64_t end = now_milliseconds() + PATIENCE;
    char device[256];
    int port = -1;
    while (now_milliseconds() < end) {
        if (port < 0 && find_port(device, sizeof device)) {
            port = open(device, O_RDWR | O_CLOEXEC | O_NONBLOCK);
            if (port < 0) return fail_errno(fault, "open %s", device);
        }
        struct pollfd entry = {.fd = port, .events = POLLOUT};
        if (port >= 0 && poll(&entry, 1, 0) >= 0 && !(entry.revents & POLLHUP)) return port;
        pause_milliseconds(1);
    }
    return fail(fault, "the port " PORT_NAME " did not appear, or nobody is at its other end");
}
