// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// Makes calls that containers do not need, on every ABI of an x86-64 kernel, and prints one line for each:
// the name and what errno it failed with, `0` if it succeeded, `killed` if it died of it.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void show(const char *name, long result, int error) {
    printf("%s %d\n", name, result < 0 ? error : 0);
    fflush(stdout);
}
// A call that is not even refused ends the process: each has one of its own.
static int is_child(const char *name) {
    pid_t pid = fork();
    if (pid == 0) return 1;
    int status;
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status)) printf("%s killed\n", name);
    fflush(stdout);
    return 0;
}
#define TRY(name, ...)                    \
    do {                                  \
        if (!is_child(name)) break;       \
        long r_ = syscall(__VA_ARGS__);   \
        show(name, r_, errno);            \
        _exit(0);                         \
    } while (0)

#if defined(__x86_64__)
// The 32-bit entry; its pointers must lie below 4 GiB.
static long old_call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
    return result;
}
static void try_old(const char *name, long number, long a, long b, long c) {
    if (!is_child(name)) return;
    int result = (int)old_call(number, a, b, c);
    show(name, result < 0 ? -1 : 0, -result);
    _exit(0);
}
#endif

int main(void) {
    // For the first process of a zone alone: on a host some of these calls would do what they say.
    if (getppid() != 0) return 2;
    static char attributes[128];
    TRY("af_alg", SYS_socket, AF_ALG, SOCK_SEQPACKET, 0);
    TRY("af_vsock", SYS_socket, AF_VSOCK, SOCK_STREAM, 0);
    TRY("io_uring_setup", SYS_io_uring_setup, 1, attributes);
    TRY("keyctl", SYS_keyctl, 0, -3, 1, 0, 0);
    TRY("add_key", SYS_add_key, "user", "x", "x", 1, -3);
    TRY("request_key", SYS_request_key, "user", "x", "x", -3);
    TRY("bpf", SYS_bpf, 0, attributes, sizeof attributes);
    TRY("userfaultfd", SYS_userfaultfd, O_CLOEXEC | 1);
    TRY("perf_event_open", SYS_perf_event_open, attributes, 0, -1, -1, 0);
    TRY("unshare_user", SYS_unshare, CLONE_NEWUSER);

    TRY("clone3", SYS_clone3, NULL, 0);
    TRY("fsopen", SYS_fsopen, "tmpfs", 0);
    TRY("open_tree", SYS_open_tree, AT_FDCWD, "/", 1);
    TRY("open_by_handle_at", SYS_open_by_handle_at, AT_FDCWD, attributes, 0);
    TRY("kexec_load", SYS_kexec_load, 0, 0, 0, 0);
    TRY("init_module", SYS_init_module, attributes, 0, "");
#if defined(__x86_64__)
    unsigned int *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (low == MAP_FAILED) return 1;
    low[0] = AF_ALG;
    low[1] = SOCK_SEQPACKET;
    low[2] = 0;
    // socketcall(SYS_SOCKET, …), socket, keyctl, add_key, bpf, userfaultfd, io_uring_setup, unshare
    try_old("i386_socketcall", 102, 1, (long)low, 0);
    try_old("i386_socket", 359, AF_ALG, SOCK_SEQPACKET, 0);
    try_old("i386_keyctl", 288, 0, -3, 1);
    try_old("i386_bpf", 357, 0, (long)low, 64);
    try_old("i386_userfaultfd", 374, 1, 0, 0);
    try_old("i386_io_uring_setup", 425, 1, (long)(low + 64), 0);
    try_old("i386_unshare", 310, CLONE_NEWUSER, 0, 0);
    TRY("x32_socket", 0x40000000 + SYS_socket, AF_ALG, SOCK_SEQPACKET, 0);
    TRY("x32_getpid", 0x40000000 + SYS_getpid);
    TRY("x32_keyctl", 0x40000000 + SYS_keyctl, 0, -3, 1, 0, 0);
    TRY("x32_unshare", 0x40000000 + SYS_unshare, CLONE_NEWUSER);
#endif
    return 0;
}
