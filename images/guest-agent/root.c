// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#define _GNU_SOURCE
#include "machine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

// Places that GuestConfiguration names.
#define SHARES "/run/zone/share"
#define FILES "/run/zone/files"
#define LOWER "/lower"
#define UPPER "/upper"

// Milliseconds that a disk may take to appear.
enum { PATIENCE = 5000 };

int mount_shares(struct fault *fault) {
    if (make_folders(SHARES, 0700) < 0) return fail_errno(fault, "mkdir " SHARES);
    if (mount("zone", SHARES, "virtiofs", 0, NULL) < 0) return fail_errno(fault, "mount the host's folders");
    return 0;
}

int write_files(const struct json *files, struct fault *fault) {
    if (!json_first(files)) return 0;
    if (make_folders(FILES, 0755) < 0) return fail_errno(fault, "mkdir " FILES);
    for (const struct json *entry = json_first(files); entry; entry = entry->next) {
        const char *name = json_text(entry, "name", "");
        const char *content = json_text(entry, "content", "");
        char path[PATH_MAX];
        int length = snprintf(path, sizeof path, FILES "/%s", name);
        if (*name == 0 || strchr(name, '/') || strcmp(name, "..") == 0 || (size_t)length >= sizeof path)
            return fail(fault, "file %s: is no name", name);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0) return fail_errno(fault, "make %s", path);
        mode_t mode = (mode_t)json_number(entry, "mode", 0644) & 07777;
        size_t size = strlen(content);
        bool is_written = write(fd, content, size) == (ssize_t)size && fchmod(fd, mode) == 0;
        close(fd);
        if (!is_written) return fail_errno(fault, "write %s", path);
    }
    return 0;
}

// The device of the disk with a serial number.
static int find_disk(const char *serial, char *device, size_t room, struct fault *fault) {
    int64_t end = now_milliseconds() + PATIENCE;
    do {
        DIR *folder = opendir("/sys/block");
        struct dirent *entry;
        while (folder && (entry = readdir(folder))) {
            char path[300], text[128];
            if (strncmp(entry->d_name, "vd", 2) != 0) continue;
            snprintf(path, sizeof path, "/sys/block/%.200s/serial", entry->d_name);
            if (read_file(path, text, sizeof text) < 0) continue;
            text[strcspn(text, "\n")] = 0;
            if (strcmp(text, serial) != 0) continue;
            snprintf(device, room, "/dev/%.200s", entry->d_name);
            closedir(folder);
            return 0;
        }
        if (folder) closedir(folder);
        pause_milliseconds(2);
    } while (now_milliseconds() < end);
    return fail(fault, "there is no disk %s", serial);
}

static int mount_disk(
    const char *serial, const char *place, const char *type, unsigned long flags, struct fault *fault) {
    char device[256];
    if (find_disk(serial, device, sizeof device, fault) < 0) return -1;
    if (make_folders(place, 0700) < 0) return fail_errno(fault, "mkdir %s", place);
    if (mount(device, place, type, flags, NULL) < 0) return fail_errno(fault, "mount disk %s (%s)", serial, type);
    return 0;
}

// Where the zone's changes go: owner and mode of the root are those of the image's at first.
static int make_upper(struct fault *fault) {
    if (mkdir(UPPER "/upper", 0755) == 0) {
        struct stat status;
        if (stat(LOWER, &status) < 0 || chown(UPPER "/upper", status.st_uid, status.st_gid) < 0
            || chmod(UPPER "/upper", status.st_mode & 07777) < 0)
            return fail_errno(fault, "give the zone's root its owner");
    } else if (errno != EEXIST) {
        return fail_errno(fault, "mkdir " UPPER "/upper");
    }
    if (mkdir(UPPER "/work", 0700) < 0 && errno != EEXIST) return fail_errno(fault, "mkdir " UPPER "/work");
    return 0;
}

static int mount_share_root(const char *share, struct fault *fault) {
    int all = open(SHARES, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int folder = all < 0 ? -1 : find_inside(all, share, O_PATH | O_DIRECTORY);
    char text[FD_PATH];
    int result = folder < 0 ? -1 : mount(fd_path(text, folder), NEW_ROOT, NULL, MS_BIND, NULL);
    if (result < 0) fail_errno(fault, "mount the zone's root out of the host's folders");
    if (folder >= 0) close(folder);
    if (all >= 0) close(all);
    return result;
}

int mount_root(const struct json *root, struct fault *fault) {
    if (make_folders(NEW_ROOT, 0700) < 0) return fail_errno(fault, "mkdir " NEW_ROOT);
    const char *share = json_text(root, "share", NULL);
    if (share) return mount_share_root(share, fault);
    const char *image = json_text(root, "image", NULL);
    const char *changes = json_text(root, "changes", NULL);
    if (!image) return fail(fault, "the zone's root: neither a disk nor a folder is named");
    if (mount_disk(image, LOWER, "erofs", MS_RDONLY | MS_NOATIME, fault) < 0) return -1;
    if (changes) {
        if (mount_disk(changes, UPPER, "ext4", MS_NOATIME, fault) < 0) return -1;
    } else {
        if (make_folders(UPPER, 0700) < 0) return fail_errno(fault, "mkdir " UPPER);
        if (mount("tmpfs", UPPER, "tmpfs", 0, "mode=755") < 0) return fail_errno(fault, "mount a tmpfs on " UPPER);
    }
    if (make_upper(fault) < 0) return -1;
    const char *options = "lowerdir=" LOWER ",upperdir=" UPPER "/upper,workdir=" UPPER "/work";
    if (mount("overlay", NEW_ROOT, "overlay", 0, options) < 0)
        return fail_errno(fault, "mount the zone's overlay file system");
    return 0;
}

void close_root(void) {
    umount2(NEW_ROOT, 0);
    umount2(UPPER, 0);
    sync();
}
