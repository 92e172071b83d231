// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#define _GNU_SOURCE
#include "program.h"
#include "zone.h"

#include <errno.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

_Noreturn static void give_up(const struct child *child, const struct fault *fault) {
    struct report report = {.kind = REPORT_FAULT, .fault = *fault};
    send_report(child->report, &report, -1);
    _exit(fault->code);
}

static void reset_signals(void) {
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

// MARK: A small init

_Noreturn static void supervise(pid_t program) {
    sigset_t all;
    sigfillset(&all);
    for (;;) {
        int number, status;
        if (sigwait(&all, &number) != 0) continue;
        if (number != SIGCHLD) {
            kill(program, number);
            continue;
        }
        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
            if (pid == program) _exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
    }
}

// Returns in the process that executes the program; this one stays as the zone's first.
static int start_below_init(bool has_terminal, struct fault *fault) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    pid_t pid = clone_process(0, SIGCHLD);
    if (pid < 0) return fail_errno(fault, "make the process below init");
    if (pid > 0) {
        // The other end of the socket would never see its end.
        syscall(SYS_close_range, 3, ~0U, 0);
        supervise(pid);
    }
    // A group of its own in the foreground: Ctrl-C is for the program and not for init.
    setpgid(0, 0);
    if (has_terminal) tcsetpgrp(0, getpid());
    reset_signals();
    return 0;
}

// MARK: The program

// A list of texts as execve(2) wants it, with room for one more.
static char **vector(const struct json *list, size_t *count) {
    size_t room = 2;
    for (const struct json *entry = json_first(list); entry; entry = entry->next) room++;
    char **texts = calloc(room, sizeof *texts);
    *count = 0;
    for (const struct json *entry = json_first(list); texts && entry; entry = entry->next)
        texts[(*count)++] = (char *)json_string(entry, "");
    return texts;
}

static const char *variable(char **environment, const char *name, const char *otherwise) {
    size_t length = strlen(name);
    const char *value = otherwise;
    for (; *environment; environment++)
        if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=') value = *environment + length + 1;
    return value;
}

static int refuse_program(struct fault *fault, int reason, const char *name, const char *path) {
    if (reason == ENOENT && !strchr(name, '/')) {
        fail(fault, "exec: \"%s\": executable file not found in $PATH (%s)", name, path);
    } else {
        errno = reason;
        fail_errno(fault, "exec: \"%s\"", name);
    }
    fault->code = reason == ENOENT || reason == ENOTDIR ? 127 : 126;
    return -1;
}

// As execvp(3), with the PATH of the program's own environment.
static int execute(char **arguments, char **environment, struct fault *fault) {
    const char *name = arguments[0] ? arguments[0] : "";
    const char *path = variable(environment, "PATH", "/bin:/usr/bin");
    if (*name == 0 || strchr(name, '/')) {
        execve(name, arguments, environment);
        return refuse_program(fault, errno, name, path);
    }
    bool is_denied = false;
    for (const char *part = path, *end;; part = end + 1) {
        char file[PATH_MAX];
        end = strchrnul(part, ':');
        int length = end == part ? snprintf(file, sizeof file, "./%s", name)
                                 : snprintf(file, sizeof file, "%.*s/%s", (int)(end - part), part, name);
        if (length > 0 && (size_t)length < sizeof file) {
            execve(file, arguments, environment);
            if (errno == EACCES) is_denied = true;
            else if (errno != ENOENT && errno != ENOTDIR) return refuse_program(fault, errno, name, path);
        }
        if (*end == 0) break;
    }
    return refuse_program(fault, is_denied ? EACCES : ENOENT, name, path);
}

static int enter_directory(const char *path, bool is_first, struct fault *fault) {
    if (*path != '/') return fail(fault, "working directory %s: is no absolute path", path);
    if (is_first && chdir(path) < 0 && errno == ENOENT) make_folders(path, 0755);
    if (chdir(path) < 0) return fail_errno(fault, "working directory %s", path);
    return 0;
}

static int become_program(const struct json *process, bool is_first, bool has_init, struct fault *fault) {
    static struct identity identity;
    size_t count;
    char **arguments = vector(json_get(process, "args"), &count);
    char **environment = vector(json_get(process, "env"), &count);
    if (!arguments || !environment) return fail_errno(fault, "start the program");
    if (find_identity(json_get(process, "user"), &identity, fault) < 0) return -1;
    static char home[sizeof identity.home + 8];
    snprintf(home, sizeof home, "HOME=%s", *identity.home ? identity.home : "/");
    if (!variable(environment, "HOME", NULL)) environment[count] = home;
    if (has_init && start_below_init(json_flag(process, "terminal"), fault) < 0) return -1;
    if (take_limits(process, fault) < 0) return -1;
    if (enter_directory(json_text(process, "cwd", "/"), is_first, fault) < 0) return -1;
    if (take_identity(process, &identity, fault) < 0) return -1;
    return execute(arguments, environment, fault);
}

static int prepare(const struct child *child, struct fault *fault) {
    const struct launch *launch = child->launch;
    const struct json *configuration = launch->configuration, *spec = json_get(configuration, "spec");
    bool is_first = launch->first == 0, has_terminal = json_flag(launch->process, "terminal");
    setsid();
    if (is_first && enter_new_root(spec, fault) < 0) return -1;
    if (has_terminal) {
        bool owns_terminal = !is_first || !json_flag(configuration, "initSystem");
        int master = open_terminal(launch->process, is_first, owns_terminal, fault);
        if (master < 0) return -1;
        struct report report = {.kind = REPORT_TERMINAL};
        if (send_report(child->report, &report, master) < 0) return fail_errno(fault, "pass the terminal on");
        close(master);
    }
    for (int fd = 0; fd < 3 && !has_terminal; fd++)
        if (dup2(child->streams[fd], fd) < 0) return fail_errno(fault, "pass the streams on");
    if (!is_first) return 0;
    bool is_read_only = json_flag(json_get(configuration, "root"), "readOnly") || json_flag(json_get(spec, "root"), "readonly");
    return finish_root(spec, is_read_only, fault);
}

_Noreturn void run_child(const struct child *child) {
    struct fault fault = {0};
    const struct launch *launch = child->launch;
    bool is_first = launch->first == 0;
    reset_signals();
    if (prepare(child, &fault) == 0)
        become_program(launch->process, is_first, is_first && json_flag(launch->configuration, "init"), &fault);
    give_up(child, &fault);
}
