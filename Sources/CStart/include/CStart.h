// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// The entry point of zonectl, before the C library.
//
// A process that enters a zone can be reached there as /proc/PID/exe, and through that its file could be overwritten
// from inside (CVE-2019-5736). So when zonectl is called to enter a zone, it first executes its own file again through
// a detached read-only bind mount, which nobody can make writable: the mount is in no namespace.
//
// Why here and not in main: of a start, most goes into the set-up of the C library and of Swift (on a virtual machine
// every `cpuid` of theirs is a trap). From here, the second execution costs a fifth of what it costs from main.

#ifndef CSTART_H
#define CSTART_H

/// The ELF entry point; `Package.swift` names it to the linker. Not to be called.
void zn_start(void);

#endif
