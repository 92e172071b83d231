// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// Executes PROGRAM with some system calls that answer ENOSYS, as on a kernel that does not have them. Their numbers are
// CALLS, both are given when it is compiled. It stands in the program's place: the arguments are the program's own.

#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const unsigned int calls[] = {CALLS};
enum { COUNT = sizeof calls / sizeof *calls };

int main(int argc, char **argv) {
    (void)argc;
    struct sock_filter filter[COUNT + 3];
    int n = 0;
    // Numbers of the native ABI only: the program has no other calls.
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < COUNT; i++)
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], COUNT - i, 0);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
    struct sock_fprog program = {(unsigned short)n, filter};
    // Without CAP_SYS_ADMIN a filter is only for who gives up setuid programs.
    if (geteuid() != 0) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
        perror("without: seccomp");
        return 99;
    }
    execv(PROGRAM, argv);
    perror("without: " PROGRAM);
    return 99;
}
