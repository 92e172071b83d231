// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// What a zone's processes make of themselves before they execute a program: all of it happens in the new process.
#ifndef ZONE_H
#define ZONE_H

#include "json.h"
#include "system.h"

enum { MOST_GROUPS = 1024 };

struct identity {
    uid_t uid;
    gid_t gid;
    gid_t groups[MOST_GROUPS];
    size_t group_count;
    // Of /etc/passwd; empty where the user has no entry.
    char home[256];
};

// zone.c: the zone of this process's own namespaces, whose root is at NEW_ROOT and becomes the process's.
int enter_new_root(const struct json *spec, struct fault *fault);
// Masks, settings of the kernel, a read-only root: once the console is in its place.
int finish_root(const struct json *spec, bool is_read_only, struct fault *fault);
// A terminal of the zone's own: returns its master, and makes its other end the standard streams of this process.
int open_terminal(const struct json *process, bool is_first, bool owns_terminal, struct fault *fault);

// mounts.c
int make_mounts(int root, const struct json *mounts, struct fault *fault);

// user.c: looks the user up below the process's root.
int find_identity(const struct json *user, struct identity *identity, struct fault *fault);

// privileges.c
int take_limits(const struct json *process, struct fault *fault);
int take_identity(const struct json *process, const struct identity *identity, struct fault *fault);

#endif
