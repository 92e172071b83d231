// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// What can be found out about the host without changing it.

#ifndef PROBE_H
#define PROBE_H

#include <stdbool.h>
#include <stdint.h>

/// The name of the system call with this place in the list of those that zones cannot do without; NULL behind the last.
const char *_Nullable zn_needed_call(int index);
/// Whether the kernel, or a filter in front of it, does not know that call (ENOSYS). It is called with arguments that it
/// must refuse: nothing happens.
bool zn_needed_call_is_missing(int index);
/// statfs(2): the magic number of the file system that holds the path, its size and what is free for the caller, in bytes,
/// and its free inodes, UINT64_MAX where it does not count them.
int zn_statfs(
    const char *_Nonnull path, int64_t *_Nonnull magic, uint64_t *_Nonnull size, uint64_t *_Nonnull free_bytes,
    uint64_t *_Nonnull free_inodes);

#endif
