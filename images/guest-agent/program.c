// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#define _GNU_SOURCE
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

// How long a program's start may take, in milliseconds: a zone may stop what is born in it.
enum { LONGEST_START = 15000 };

pid_t clone_process(uint64_t flags, int exit_signal) {
    struct clone_args arguments = {.flags = flags, .exit_signal = (uint64_t)exit_signal};
    return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

static uint64_t namespaces(const struct json *configuration) {
    static const struct {
        const char *name;
        uint64_t flag;
    } kinds[] = {{"pid", CLONE_NEWPID}, {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS}};
    const struct json *list = json_get(json_get(json_get(configuration, "spec"), "linux"), "namespaces");
    uint64_t flags = CLONE_NEWNS;
    for (const struct json *entry = json_first(list); entry; entry = entry->next)
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
            if (strcmp(json_text(entry, "type", ""), kinds[i].name) == 0) flags |= kinds[i].flag;
    return flags;
}

static void close_if_open(int fd) {
    if (fd >= 0) close(fd);
}

int send_report(int socket, const struct report *report, int descriptor) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {.iov_base = (void *)report, .iov_len = sizeof *report};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)sizeof *report ? 0 : -1;
}

// 1, 0 at the end, -1.
static int receive_report(int socket, struct report *report, int *descriptor) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_base = report, .iov_len = sizeof *report};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    *descriptor = -1;
    ssize_t count = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (count == 0) return 0;
    struct cmsghdr *header = count < 0 ? NULL : CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS) memcpy(descriptor, CMSG_DATA(header), sizeof *descriptor);
    return count == (ssize_t)sizeof *report ? 1 : -1;
}

static int take_terminal(struct program *program, int master) {
    if (master < 0) return -1;
    program->output = master;
    program->input = fcntl(master, F_DUPFD_CLOEXEC, 0);
    program->peer = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    return program->input < 0 ? -1 : 0;
}

// Follows the new process until its program is executed, which closes its end of the socket.
static int wait_for_program(int socket, struct program *program, struct fault *fault) {
    int64_t end = now_milliseconds() + LONGEST_START;
    for (;;) {
        int64_t left = end - now_milliseconds();
        struct pollfd entry = {.fd = socket, .events = POLLIN};
        int ready = left > 0 ? poll(&entry, 1, (int)left) : 0;
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) return fail(fault, "the program's start takes too long");
        struct report report;
        int descriptor, result = receive_report(socket, &report, &descriptor);
        if (result < 0) return fail_errno(fault, "hear of the program's start");
        if (result == 0) break;
        switch (report.kind) {
        case REPORT_FAULT:
            *fault = report.fault;
            fault->text[sizeof fault->text - 1] = 0;
            return -1;
        case REPORT_PID: program->pid = report.pid; break;
        case REPORT_TERMINAL:
            if (take_terminal(program, descriptor) < 0) return fail(fault, "hold the program's terminal");
            break;
        default: close_if_open(descriptor);
        }
    }
    return program->pid > 0 ? 0 : fail(fault, "the program's process has ended too soon");
}

static int open_streams(const struct launch *launch, int child[3], struct program *program, struct fault *fault) {
    int pipes[2];
    if (json_flag(launch->process, "terminal")) return 0;
    if (launch->is_interactive) {
        if (pipe2(pipes, O_CLOEXEC) < 0) return fail_errno(fault, "make a pipe");
        child[0] = pipes[0];
        program->input = pipes[1];
    } else if ((child[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0) {
        return fail_errno(fault, "open /dev/null");
    }
    int *own[] = {NULL, &program->output, &program->error};
    for (int i = 1; i < 3; i++) {
        if (pipe2(pipes, O_CLOEXEC) < 0) return fail_errno(fault, "make a pipe");
        *own[i] = pipes[0];
        child[i] = pipes[1];
    }
    return 0;
}

static int launch_child(const struct child *child, int own_end, struct program *program, struct fault *fault) {
    const struct launch *launch = child->launch;
    bool is_first = launch->first == 0;
    pid_t pid = clone_process(is_first ? namespaces(launch->configuration) : 0, SIGCHLD);
    if (pid < 0) return fail_errno(fault, "make a process");
    if (pid > 0) {
        if (is_first) program->pid = pid;
        return 0;
    }
    close(own_end);
    if (is_first) run_child(child);
    struct report report = {.kind = REPORT_PID};
    int zone = (int)syscall(SYS_pidfd_open, launch->first, 0);
    if (zone < 0 || syscall(SYS_setns, zone, namespaces(launch->configuration)) < 0) {
        fail_errno(&report.fault, "enter the zone");
    } else {
        // A child of the agent's: this process goes as soon as it is there.
        report.pid = clone_process(CLONE_PARENT, 0);
        if (report.pid == 0) run_child(child);
        if (report.pid < 0) fail_errno(&report.fault, "make a process");
    }
    if (report.fault.code) report.kind = REPORT_FAULT;
    _exit(send_report(child->report, &report, -1) < 0);
}

static void set_non_blocking(int fd) {
    if (fd >= 0) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

int start_program(const struct launch *launch, struct program *program, struct fault *fault) {
    *program = (struct program){.pid = 0, .input = -1, .output = -1, .error = -1, .peer = -1};
    struct child child = {.launch = launch, .streams = {-1, -1, -1}};
    int sockets[2] = {-1, -1};
    int result = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets);
    if (result < 0) fail_errno(fault, "make a socket");
    child.report = sockets[1];
    if (result == 0) result = open_streams(launch, child.streams, program, fault);
    if (result == 0) result = launch_child(&child, sockets[0], program, fault);
    for (int i = 0; i < 3; i++) close_if_open(child.streams[i]);
    close_if_open(sockets[1]);
    if (result == 0) result = wait_for_program(sockets[0], program, fault);
    close_if_open(sockets[0]);
    if (result < 0) {
        if (program->pid > 0) kill(program->pid, SIGKILL);
        close_if_open(program->input);
        close_if_open(program->output);
        close_if_open(program->error);
        close_if_open(program->peer);
        return -1;
    }
    set_non_blocking(program->input);
    set_non_blocking(program->output);
    set_non_blocking(program->error);
    return 0;
}
