// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#define _GNU_SOURCE
#include "Attributes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define RESULT(call) ({ __typeof__(call) r_ = (call); r_ < 0 ? -errno : r_; })

// --- Mounts --------------------------------------------------------------------------------------------------------

int zn_fspick(int fd) {
    return (int)RESULT(syscall(SYS_fspick, fd, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH));
}
int zn_fsconfig_reconfigure(int fd) {
    return (int)RESULT(syscall(SYS_fsconfig, fd, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0));
}
int zn_mount_setattr_idmap(int fd, bool recursive, int userns_fd) {
    // MOUNT_ATTR_IDMAP, AT_RECURSIVE: younger than Debian 12's headers would have them.
    struct { uint64_t set, clear, propagation, userns_fd; } attributes = {0x00100000, 0, 0, (uint64_t)userns_fd};
    unsigned int flags = AT_EMPTY_PATH | (recursive ? 0x8000u : 0);
    return (int)RESULT(syscall(SYS_mount_setattr, fd, "", flags, &attributes, sizeof attributes));
}

// --- Extended attributes -------------------------------------------------------------------------------------------

ssize_t zn_flistxattr(int fd, char *names, size_t size) { return RESULT(flistxattr(fd, names, size)); }
ssize_t zn_fgetxattr(int fd, const char *name, void *value, size_t size) {
    return RESULT(fgetxattr(fd, name, value, size));
}
ssize_t zn_listxattr(const char *path, char *names, size_t size) { return RESULT(listxattr(path, names, size)); }
ssize_t zn_getxattr(const char *path, const char *name, void *value, size_t size) {
    return RESULT(getxattr(path, name, value, size));
}
int zn_setxattr(const char *path, const char *name, const void *value, size_t size) {
    return RESULT(setxattr(path, name, value, size, 0));
}

// --- Content -------------------------------------------------------------------------------------------------------

int zn_clone_content(int to, int from) { return RESULT(ioctl(to, FICLONE, from)); }
int64_t zn_lseek(int fd, int64_t offset, int whence) { return RESULT(lseek(fd, offset, whence)); }

// --- Processes -----------------------------------------------------------------------------------------------------

int zn_personality(unsigned long persona) { return RESULT(personality(persona)); }
int zn_sched_setattr(uint32_t policy, uint64_t flags, int32_t nice, uint32_t priority, uint64_t runtime,
                     uint64_t deadline, uint64_t period) {
    // The first version of struct sched_attr, which every kernel since 3.14 takes.
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {48, policy, flags, nice, priority, runtime, deadline, period};
    return (int)RESULT(syscall(SYS_sched_setattr, 0, &attributes, 0));
}
// IOPRIO_WHO_PROCESS, the caller.
int zn_ioprio_set(int priority) { return (int)RESULT(syscall(SYS_ioprio_set, 1, 0, priority)); }
int zn_sched_setaffinity(const void *mask, size_t size) {
    return (int)RESULT(syscall(SYS_sched_setaffinity, 0, size, mask));
}
int zn_sched_setaffinity_of(pid_t thread, const void *mask, size_t size) {
    return (int)RESULT(syscall(SYS_sched_setaffinity, thread, size, mask));
}
int zn_sched_getaffinity(void *mask, size_t size) {
    return (int)RESULT(syscall(SYS_sched_getaffinity, 0, size, mask));
}
int zn_prlimit(pid_t pid, int resource, uint64_t soft, uint64_t hard) {
    struct rlimit limit = {soft, hard};
    return RESULT(prlimit(pid, (__rlimit_resource_t)resource, &limit, NULL));
}
