// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#define _GNU_SOURCE
#include "zone.h"
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

static int make_node(
    int root, const char *path, mode_t mode, dev_t device, uid_t uid, gid_t gid, struct fault *fault) {
    char folder[PATH_MAX];
    const char *name = strrchr(path, '/');
    size_t length = name ? (size_t)(name - path) : 0;
    if (*path != '/' || name[1] == 0 || length >= sizeof folder) return fail(fault, "device %s: is no path", path);
    memcpy(folder, path, length);
    folder[length] = 0;
    int parent = find_or_make_inside(root, length ? folder : "/", true);
    if (parent < 0) return fail_errno(fault, "make device %s", path);
    // One that is there stays, but for its owner.
    bool is_made = mknodat(parent, name + 1, mode, device) == 0 || errno == EEXIST || errno == EROFS;
    if (is_made && fchownat(parent, name + 1, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 && errno != EROFS) is_made = false;
    int reason = errno;
    close(parent);
    errno = reason;
    return is_made ? 0 : fail_errno(fault, "make device %s", path);
}

static int make_devices(int root, const struct json *devices, struct fault *fault) {
    static const struct {
        const char *path;
        unsigned int major, minor;
    } usual[] = {
        {"/dev/null", 1, 3}, {"/dev/zero", 1, 5}, {"/dev/full", 1, 7},
        {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
    };
    static const char *const links[][2] = {
        {"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
        {"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"},
    };
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        dev_t device = makedev(usual[i].major, usual[i].minor);
        if (make_node(root, usual[i].path, S_IFCHR | 0666, device, 0, 0, fault) < 0) return -1;
    }
    for (const struct json *entry = json_first(devices); entry; entry = entry->next) {
        const char *type = json_text(entry, "type", "c");
        mode_t kind = *type == 'b' ? S_IFBLK : *type == 'p' ? S_IFIFO : S_IFCHR;
        mode_t mode = (mode_t)json_number(entry, "fileMode", 0666) & 0777;
        dev_t device = makedev(
            (unsigned int)json_number(entry, "major", 0), (unsigned int)json_number(entry, "minor", 0));
        uid_t uid = (uid_t)json_number(entry, "uid", 0);
        gid_t gid = (gid_t)json_number(entry, "gid", 0);
        if (make_node(root, json_text(entry, "path", ""), kind | mode, device, uid, gid, fault) < 0) return -1;
    }
    int folder = find_inside(root, "/dev", O_PATH | O_DIRECTORY);
    if (folder < 0) return fail_errno(fault, "open /dev");
    int result = 0;
    for (size_t i = 0; i < sizeof links / sizeof *links && result == 0; i++)
        if (symlinkat(links[i][0], folder, links[i][1]) < 0 && errno != EEXIST && errno != EROFS)
            result = fail_errno(fault, "make link /dev/%s", links[i][1]);
    close(folder);
    return result;
}

int enter_new_root(const struct json *spec, struct fault *fault) {
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return fail_errno(fault, "part the zone's mounts");
    int root = open(NEW_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) return fail_errno(fault, "open the zone's root");
    if (make_mounts(root, json_get(spec, "mounts"), fault) < 0) return -1;
    if (make_devices(root, json_get(json_get(spec, "linux"), "devices"), fault) < 0) return -1;
    close(root);
    // The first file system of a kernel cannot be pivoted from: what is moved over it covers it for good.
    if (chdir(NEW_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
        return fail_errno(fault, "change to the zone's root");
    const char *name = json_text(spec, "hostname", "");
    if (*name && sethostname(name, strlen(name)) < 0) return fail_errno(fault, "set the host name");
    const char *domain = json_text(spec, "domainname", "");
    if (*domain && setdomainname(domain, strlen(domain)) < 0) return fail_errno(fault, "set the domain name");
    return 0;
}

static int set_kernel(const struct json *settings, struct fault *fault) {
    for (const struct json *entry = json_first(settings); entry; entry = entry->next) {
        char path[256];
        int length = snprintf(path, sizeof path, "/proc/sys/%s", entry->key);
        if (length < 0 || (size_t)length >= sizeof path || strstr(path, ".."))
            return fail(fault, "sysctl %s: is no name", entry->key);
        for (char *c = path + strlen("/proc/sys/"); *c; c++)
            if (*c == '.') *c = '/';
            else if (*c == '/') *c = '.';
        if (write_file(path, json_string(entry, "")) < 0) return fail_errno(fault, "sysctl %s", entry->key);
    }
    return 0;
}

static int cover(const char *path, bool is_masked) {
    struct stat status;
    if (stat(path, &status) < 0) return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
    if (is_masked && S_ISDIR(status.st_mode))
        return mount("tmpfs", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "nr_inodes=1");
    if (is_masked) return mount("/dev/null", path, NULL, MS_BIND, NULL);
    if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0) return -1;
    // As the mount that it comes from, which may not be less strict.
    struct statfs system;
    unsigned long flags = MS_REMOUNT | MS_BIND | MS_RDONLY;
    if (statfs(path, &system) == 0)
        flags |= (unsigned long)system.f_flags & (MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME);
    return mount(NULL, path, NULL, flags, NULL);
}

static int cover_all(const struct json *paths, bool is_masked, struct fault *fault) {
    for (const struct json *entry = json_first(paths); entry; entry = entry->next) {
        const char *path = json_string(entry, "");
        if (*path != '/') return fail(fault, "\"%s\" is no absolute path", path);
        if (cover(path, is_masked) < 0) return fail_errno(fault, "%s %s", is_masked ? "mask" : "protect", path);
    }
    return 0;
}

int finish_root(const struct json *spec, bool is_read_only, struct fault *fault) {
    const struct json *system = json_get(spec, "linux");
    if (set_kernel(json_get(system, "sysctl"), fault) < 0) return -1;
    if (cover_all(json_get(system, "maskedPaths"), true, fault) < 0) return -1;
    if (cover_all(json_get(system, "readonlyPaths"), false, fault) < 0) return -1;
    if (is_read_only && mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0)
        return fail_errno(fault, "make the root read-only");
    return 0;
}

// MARK: The terminal

static int show_console(int terminal, struct fault *fault) {
    char text[FD_PATH];
    int place = open("/dev/console", O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    if (place >= 0) close(place);
    if (mount(fd_path(text, terminal), "/dev/console", NULL, MS_BIND, NULL) < 0)
        return fail_errno(fault, "mount the terminal on /dev/console");
    return 0;
}

int open_terminal(const struct json *process, bool is_first, bool owns_terminal, struct fault *fault) {
    int master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW);
    if (master < 0) return fail_errno(fault, "open a terminal");
    struct statfs system;
    if (fstatfs(master, &system) < 0 || system.f_type != DEVPTS_SUPER_MAGIC)
        return fail(fault, "open a terminal: /dev/pts is no devpts");
    int unlocked = 0;
    if (ioctl(master, TIOCSPTLCK, &unlocked) < 0) return fail_errno(fault, "unlock the terminal");
    // From the master itself, not by a path that an image could have covered.
    int terminal = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0) return fail_errno(fault, "open the terminal");
    const struct json *size = json_get(process, "consoleSize");
    struct winsize window = {
        .ws_row = (unsigned short)json_number(size, "height", 0),
        .ws_col = (unsigned short)json_number(size, "width", 0)};
    if (size) ioctl(master, TIOCSWINSZ, &window);
    if (is_first && show_console(terminal, fault) < 0) return -1;
    for (int fd = 0; fd < 3; fd++)
        if (dup2(terminal, fd) < 0) return fail_errno(fault, "pass the terminal on");
    if (terminal > 2) close(terminal);
    if (owns_terminal && ioctl(0, TIOCSCTTY, 0) < 0) return fail_errno(fault, "take the terminal over");
    return master;
}
