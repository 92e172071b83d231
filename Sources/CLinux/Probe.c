// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#define _GNU_SOURCE
#include "Probe.h"

#include <errno.h>
#include <stddef.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
    const char *name;
    long number;
} calls[] = {
    {"openat2", SYS_openat2},
    {"clone3", SYS_clone3},
    {"pidfd_open", SYS_pidfd_open},
    {"pidfd_send_signal", SYS_pidfd_send_signal},
    {"close_range", SYS_close_range},
    {"fsopen", SYS_fsopen},
    {"fsconfig", SYS_fsconfig},
    {"fsmount", SYS_fsmount},
    {"open_tree", SYS_open_tree},
    {"move_mount", SYS_move_mount},
    {"mount_setattr", SYS_mount_setattr},
    {"seccomp", SYS_seccomp},
};
enum { COUNT = sizeof calls / sizeof *calls };

const char *zn_needed_call(int index) { return index >= 0 && index < COUNT ? calls[index].name : NULL; }

bool zn_needed_call_is_missing(int index) {
    if (index < 0 || index >= COUNT) return false;
    // Descriptors, addresses, sizes and flags that there are none of.
    return syscall(calls[index].number, -1L, -1L, -1L, -1L, -1L, -1L) < 0 && errno == ENOSYS;
}

int zn_statfs(const char *path, int64_t *magic, uint64_t *size, uint64_t *free_bytes, uint64_t *free_inodes) {
    struct statfs result;
    if (statfs(path, &result) < 0) return -errno;
    uint64_t block = (uint64_t)(result.f_frsize > 0 ? result.f_frsize : result.f_bsize);
    *magic = (int64_t)result.f_type;
    *size = result.f_blocks * block;
    *free_bytes = result.f_bavail * block;
    *free_inodes = result.f_files == 0 ? UINT64_MAX : result.f_ffree;
    return 0;
}
