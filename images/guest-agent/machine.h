// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// What the agent makes of the machine before a program runs in it.
#ifndef MACHINE_H
#define MACHINE_H

#include "json.h"
#include "system.h"

// Where the zone's root is among the agent's own mounts.
#define NEW_ROOT "/newroot"

// boot.c
int mount_devices(struct fault *fault);
int mount_rest(struct fault *fault);
// Loads the drivers of a feature of /modules/order, up to a module where one is given.
int load_modules(const char *feature, const char *through, struct fault *fault);
// Loads drivers for devices that nobody waits for.
void load_modules_for_devices(void);
// Waits for the port and the host at its other end; the descriptor.
int open_port(struct fault *fault);

// root.c
int mount_shares(struct fault *fault);
int write_files(const struct json *files, struct fault *fault);
// Mounts the zone's root at NEW_ROOT.
int mount_root(const struct json *root, struct fault *fault);
// Brings what was written to the disks.
void close_root(void);

// network.c
int configure_network(const struct json *interfaces, struct fault *fault);

#endif
