// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// Nothing of the C library works yet: no errno, no memcpy (its address is not resolved), no stack protector. Loops hold
// a barrier so that the compiler does not turn them into calls.

#include "CStart.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#define BARRIER() __asm__ volatile("" ::: "memory")
#define ST_RDONLY 1
#define EMPTY_PATH 0x1000

#if defined(__x86_64__)
static long call(long number, long a, long b, long c, long d, long e) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}
// rdx holds a function that the dynamic linker wants called at exit: it is kept for _start.
__asm__(".globl zn_start\n"
        ".type zn_start,@function\n"
        "zn_start:\n"
        "    xor %ebp, %ebp\n"
        "    mov %rdx, %rbx\n"
        "    mov %rsp, %rdi\n"
        "    call zn_before_start\n"
        "    mov %rbx, %rdx\n"
        "    jmp _start\n"
        ".size zn_start, . - zn_start\n");
#elif defined(__aarch64__)
static long call(long number, long a, long b, long c, long d, long e) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}
__asm__(".globl zn_start\n"
        ".type zn_start,%function\n"
        "zn_start:\n"
        "    mov x29, #0\n"
        "    mov x19, x0\n"
        "    mov x0, sp\n"
        "    bl zn_before_start\n"
        "    mov x0, x19\n"
        "    b _start\n"
        ".size zn_start, . - zn_start\n");
#else
#error "no entry point is written for this architecture"
#endif

static int same(const char *a, const char *b) {
    for (; *a && *a == *b; a++, b++) BARRIER();
    return *a == *b;
}

/// Verbs after which a child of zonectl enters a zone, on both faces; `Command.entersZone` has those of the people's.
static int enters_zone(long argc, char **argv) {
    for (long i = 1; i < argc; i++)
        if (same(argv[i], "run") || same(argv[i], "exec") || same(argv[i], "create") || same(argv[i], "restore")) return 1;
    return 0;
}

// The runtime looks for its crash reporter below the folder of its executable, and ends the program where it cannot find
// that: it is told to look nowhere.
#define NO_REPORTER "SWIFT_BACKTRACE=enable=no,swift-backtrace=/dev/null"

/// The first process of a machine has no /proc that would tell the runtime where its executable is. The kernel has given it
/// HOME and TERM: the last of its variables makes room.
static void prepare_first_process(char **envp) {
    struct statfs info;
    if (call(SYS_getpid, 0, 0, 0, 0, 0) != 1 || call(SYS_statfs, (long)"/proc/self", (long)&info, 0, 0, 0) >= 0) return;
    if (!*envp) return;
    while (envp[1]) {
        envp++;
        BARRIER();
    }
    *envp = (char *)NO_REPORTER;
}

__attribute__((used, visibility("hidden"))) void zn_before_start(long *stack) {
    long argc = stack[0];
    char **argv = (char **)(stack + 1);
    char **envp = argv + argc + 1;
    prepare_first_process(envp);
    if (!enters_zone(argc, argv) || call(SYS_geteuid, 0, 0, 0, 0, 0) != 0) return;
    struct statfs info;
    if (call(SYS_statfs, (long)"/proc/self/exe", (long)&info, 0, 0, 0) < 0 || info.f_flags & ST_RDONLY) return;
    // Whatever fails from here on leaves the executable writable, which main finds and reports.
    long tree = call(SYS_open_tree, AT_FDCWD, (long)"/proc/self/exe", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC, 0, 0);
    if (tree < 0) return;
    struct mount_attr attributes;
    attributes.attr_set = MOUNT_ATTR_RDONLY;
    attributes.attr_clr = 0;
    attributes.propagation = 0;
    attributes.userns_fd = 0;
    long result = call(SYS_mount_setattr, tree, (long)"", EMPTY_PATH, (long)&attributes, sizeof attributes);
    // The mount has no path, so the Swift runtime would look for its crash reporter in the working directory, which is
    // anybody's. More variables than this is nobody's environment.
    enum { MOST = 4096 };
    char *environment[MOST];
    long count = 0;
    environment[count++] = (char *)NO_REPORTER;
    for (; *envp && count < MOST - 1; envp++) {
        environment[count++] = *envp;
        BARRIER();
    }
    environment[count] = NULL;
    if (result == 0 && !*envp)
        call(SYS_execveat, tree, (long)"", (long)argv, (long)environment, EMPTY_PATH);
    call(SYS_close, tree, 0, 0, 0, 0);
}
