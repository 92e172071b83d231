// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// What the first process of a machine does. Each returns the call's result, or -errno.

#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/// finit_module(2).
int zn_load_module(int fd);
/// Milliseconds since 1970 become the time.
int zn_set_clock(int64_t milliseconds);
/// A child that has ended and was not waited for; 0: there is none. It stays as it is.
pid_t zn_ended_child(void);
/// Reaps a child that has ended.
int zn_reap(pid_t pid);
/// A signal to a process, to a group where `pid` is negative, and to all that the caller may signal where it is -1.
int zn_kill(pid_t pid, int signal);
/// Sends the caller a signal once that many milliseconds have passed; 0: no more. There is one such timer.
int zn_signal_after(int signal, int milliseconds);
/// How many bytes wait in a pipe (FIONREAD).
int zn_waiting_bytes(int fd, int *_Nonnull count);
/// umount(2), without flags.
int zn_umount(const char *_Nonnull path);
/// Switches the machine off, or starts it anew where it cannot be switched off. What is not on the disks is lost.
void zn_switch_off(void);

#endif
