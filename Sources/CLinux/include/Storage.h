// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// Loop devices, project quota and the size of file systems. Each returns the call's result, or -errno.

#ifndef STORAGE_H
#define STORAGE_H

#include <linux/loop.h>
#include <stdbool.h>
#include <stdint.h>

// Loop devices, loop(4).
enum {
    ZN_LOOP_CTL_GET_FREE = LOOP_CTL_GET_FREE,
    ZN_LOOP_SET_CAPACITY = LOOP_SET_CAPACITY,
};
/// Gives a loop device a file, until nobody has the device open or mounted any more (LO_FLAGS_AUTOCLEAR). Linux 5.8.
int zn_loop_configure(int loop, int file);
/// 1: the device's file is this one; 0: it has another one, or none.
int zn_loop_has_file(int loop, uint64_t device, uint64_t inode);

// Sizes, in bytes.
int zn_fstatfs_sizes(int fd, int64_t *_Nonnull total, int64_t *_Nonnull available);
/// Lets a mounted ext4 have so many blocks, while it is in use.
int zn_ext4_resize(int fd, uint64_t blocks);

// Project quota: the file system that holds the file `fd` (quotactl_fd(2), Linux 5.14).
/// 1: the file system keeps a project's files within its limits; 0: it does not.
int zn_project_quota_is_enforced(int fd);
/// The files of a project may take so many bytes.
int zn_project_limit(int fd, uint32_t project, uint64_t bytes);
/// What a project's files take. `*inodes` counts them.
int zn_project_use(int fd, uint32_t project, uint64_t *_Nonnull bytes, uint64_t *_Nonnull inodes);
/// Makes a directory, and what will be made below it, a project's (FS_XFLAG_PROJINHERIT).
int zn_project_set(int fd, uint32_t project);

#endif
