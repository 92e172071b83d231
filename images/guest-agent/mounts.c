// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#define _GNU_SOURCE
#include "machine.h"
#include "zone.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

struct options {
    unsigned long flags;
    unsigned long propagation;
    bool is_bind;
    // What the file system itself takes.
    char data[4096];
};

static const struct {
    const char *name;
    unsigned long set, clear;
} meanings[] = {
    {"ro", MS_RDONLY, 0}, {"rw", 0, MS_RDONLY}, {"nosuid", MS_NOSUID, 0}, {"suid", 0, MS_NOSUID},
    {"nodev", MS_NODEV, 0}, {"dev", 0, MS_NODEV}, {"noexec", MS_NOEXEC, 0}, {"exec", 0, MS_NOEXEC},
    {"noatime", MS_NOATIME, 0}, {"atime", 0, MS_NOATIME}, {"nodiratime", MS_NODIRATIME, 0},
    {"diratime", 0, MS_NODIRATIME}, {"relatime", MS_RELATIME, 0}, {"norelatime", 0, MS_RELATIME},
    {"strictatime", MS_STRICTATIME, 0}, {"nostrictatime", 0, MS_STRICTATIME},
    {"nosymfollow", MS_NOSYMFOLLOW, 0}, {"symfollow", 0, MS_NOSYMFOLLOW}, {"sync", MS_SYNCHRONOUS, 0},
    {"async", 0, MS_SYNCHRONOUS}, {"dirsync", MS_DIRSYNC, 0}, {"defaults", 0, 0},
    // Here a mount begins empty.
    {"tmpcopyup", 0, 0}, {"notmpcopyup", 0, 0},
};

static const struct {
    const char *name;
    unsigned long flags;
} propagations[] = {
    {"private", MS_PRIVATE}, {"rprivate", MS_PRIVATE | MS_REC}, {"shared", MS_SHARED},
    {"rshared", MS_SHARED | MS_REC}, {"slave", MS_SLAVE}, {"rslave", MS_SLAVE | MS_REC},
    {"unbindable", MS_UNBINDABLE}, {"runbindable", MS_UNBINDABLE | MS_REC},
};

static bool add_option(struct options *options, const char *text) {
    if (strcmp(text, "bind") == 0 || strcmp(text, "rbind") == 0) {
        options->is_bind = true;
        options->flags |= *text == 'r' ? MS_BIND | MS_REC : MS_BIND;
        return true;
    }
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++) {
        // `rro` and its like mean the same for all mounts below, of which the host's folders have none.
        bool is_recursive = *text == 'r' && strcmp(text + 1, meanings[i].name) == 0;
        if (!is_recursive && strcmp(text, meanings[i].name) != 0) continue;
        options->flags = (options->flags & ~meanings[i].clear) | meanings[i].set;
        return true;
    }
    for (size_t i = 0; i < sizeof propagations / sizeof *propagations; i++) {
        if (strcmp(text, propagations[i].name) != 0) continue;
        options->propagation = propagations[i].flags;
        return true;
    }
    size_t used = strlen(options->data), length = strlen(text);
    if (used + length + 2 > sizeof options->data) return false;
    if (used > 0) options->data[used++] = ',';
    memcpy(options->data + used, text, length + 1);
    return true;
}

static int parse_options(const struct json *mount, struct options *options, struct fault *fault) {
    memset(options, 0, sizeof *options);
    const struct json *entry = json_first(json_get(mount, "options"));
    for (; entry; entry = entry->next)
        if (!add_option(options, json_string(entry, ""))) return fail(fault, "a mount has too many options");
    if (strcmp(json_text(mount, "type", ""), "bind") == 0 && !options->is_bind) {
        options->is_bind = true;
        options->flags |= MS_BIND;
    }
    return 0;
}

// Gives a mount at a path flags that mount(2) does not take while it makes one.
static int change_mount(int root, const char *target, unsigned long flags) {
    char text[FD_PATH];
    // Opened anew: what was open there is under the mount.
    int place = find_inside(root, target, O_PATH);
    if (place < 0) return -1;
    int result = mount(NULL, fd_path(text, place), NULL, flags, NULL);
    int reason = errno;
    close(place);
    errno = reason;
    return result;
}

static bool is_folder(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static int make_mount(int root, const struct json *entry, struct options *options, struct fault *fault) {
    const char *target = json_text(entry, "destination", "");
    const char *type = json_text(entry, "type", NULL);
    const char *source = json_text(entry, "source", NULL);
    if (*target != '/') return fail(fault, "mount on \"%s\": is no absolute path", target);
    if (parse_options(entry, options, fault) < 0) return -1;
    if (options->is_bind && (!source || *source != '/')) return fail(fault, "mount on %s: its source is no path", target);
    char text[FD_PATH];
    int place = find_or_make_inside(root, target, !options->is_bind || is_folder(source));
    if (place < 0) return fail_errno(fault, "mount on %s", target);
    unsigned long made = options->is_bind ? options->flags & (MS_BIND | MS_REC) : options->flags;
    const char *data = options->is_bind || !*options->data ? NULL : options->data;
    int result = mount(source ? source : type, fd_path(text, place), options->is_bind ? NULL : type, made, data);
    if (result < 0) fail_errno(fault, "mount %s on %s", source ? source : type ? type : "nothing", target);
    close(place);
    if (result < 0) return -1;
    unsigned long rest = options->flags & ~(unsigned long)(MS_BIND | MS_REC);
    if (options->is_bind && rest && change_mount(root, target, MS_REMOUNT | MS_BIND | rest) < 0)
        return fail_errno(fault, "mount on %s: its options", target);
    if (options->propagation && change_mount(root, target, options->propagation) < 0)
        return fail_errno(fault, "mount on %s: its propagation", target);
    return 0;
}

int make_mounts(int root, const struct json *mounts, struct fault *fault) {
    struct options *options = malloc(sizeof *options);
    if (!options) return fail_errno(fault, "make the zone's mounts");
    int result = 0;
    for (const struct json *entry = json_first(mounts); entry && result == 0; entry = entry->next)
        // The machine has no control groups to show.
        if (strcmp(json_text(entry, "type", ""), "cgroup") != 0) result = make_mount(root, entry, options, fault);
    free(options);
    return result;
}
