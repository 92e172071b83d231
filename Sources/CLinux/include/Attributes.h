// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// System calls on attributes of mounts, files and processes; included by CLinux.h.

#ifndef CLINUX_ATTRIBUTES_H
#define CLINUX_ATTRIBUTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Mounts.
/// fspick(2) of the file system that is mounted where `fd` is.
int zn_fspick(int fd);
int zn_fsconfig_reconfigure(int fd);
/// mount_setattr(2) with MOUNT_ATTR_IDMAP, Linux 5.12.
int zn_mount_setattr_idmap(int fd, bool recursive, int userns_fd);

// Extended attributes.
ssize_t zn_flistxattr(int fd, char *_Nullable names, size_t size);
ssize_t zn_fgetxattr(int fd, const char *_Nonnull name, void *_Nullable value, size_t size);
/// The same by a path that is followed: /proc/self/fd/N reaches what was opened with O_PATH, which has no other way.
ssize_t zn_listxattr(const char *_Nonnull path, char *_Nullable names, size_t size);
ssize_t zn_getxattr(const char *_Nonnull path, const char *_Nonnull name, void *_Nullable value, size_t size);
int zn_setxattr(const char *_Nonnull path, const char *_Nonnull name, const void *_Nullable value, size_t size);

// Content.
/// FICLONE: `to` shares the blocks of `from` until one of them is written to.
int zn_clone_content(int to, int from);
// SEEK_DATA and SEEK_HOLE, which glibc shows only to GNU sources.
enum { ZN_SEEK_DATA = 3, ZN_SEEK_HOLE = 4 };
int64_t zn_lseek(int fd, int64_t offset, int whence);

// Processes.
int zn_personality(unsigned long persona);
/// sched_setattr(2) of the caller.
int zn_sched_setattr(uint32_t policy, uint64_t flags, int32_t nice, uint32_t priority, uint64_t runtime,
                     uint64_t deadline, uint64_t period);
/// ioprio_set(2) of the caller.
int zn_ioprio_set(int priority);
int zn_sched_setaffinity(const void *_Nonnull mask, size_t size);
int zn_sched_setaffinity_of(pid_t thread, const void *_Nonnull mask, size_t size);
/// The raw call: returns how many bytes the kernel wrote.
int zn_sched_getaffinity(void *_Nonnull mask, size_t size);
int zn_prlimit(pid_t pid, int resource, uint64_t soft, uint64_t hard);

#endif
