// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// Prints wall nanoseconds, CPU microseconds and peak resident KiB of commands, one after another:
//
//     measure [-u] [-s] [-p FILE] COMMAND ARGUMENT… [:: COMMAND ARGUMENT…]…
//
//   -u       first, and not counted: a mount namespace in which a hybrid host's version 2 hierarchy is not to be seen
//   -s       the first command is conmon, whose line on its pipe for that tells that the container is made
//   -p FILE  FILE holds the pid of a process that the first command leaves behind; it is reaped before the last begins
//
// A program of its own, and a small one: what getrusage(2) tells of a command includes the memory that its process had
// before it executed the command. CPU time is that of the processes that were left behind, too.

#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long long microseconds(struct timeval time) { return time.tv_sec * 1000000LL + time.tv_usec; }

static int ends_well(char **words, long *peak) {
    pid_t pid = vfork();
    if (pid < 0) return 0;
    if (pid == 0) {
        execvp(words[0], words);
        _exit(127);
    }
    int status;
    struct rusage usage;
    if (wait4(pid, &status, 0, &usage) < 0) return 0;
    if (usage.ru_maxrss > *peak) *peak = usage.ru_maxrss;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// Gives the commands a pipe as conmon expects it; returns the end to read from, or -1.
static int make_word_pipe(int *other) {
    int ends[2];
    char number[16];
    if (pipe(ends) < 0) return -1;
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    snprintf(number, sizeof number, "%d", ends[1]);
    setenv("_OCI_SYNCPIPE", number, 1);
    *other = ends[1];
    return ends[0];
}

/// Waits for conmon's line: {"pid": N}, or -1 and a message.
static int is_good_word(int from, int other) {
    char line[4096];
    close(other);
    unsetenv("_OCI_SYNCPIPE");
    ssize_t size = read(from, line, sizeof line - 1);
    close(from);
    if (size <= 0) return 0;
    line[size] = 0;
    int pid = 0;
    const char *colon = strchr(line, ':');
    if (colon) pid = atoi(colon + 1);
    if (pid <= 0) fputs(line, stderr);
    return pid > 0;
}

static int reap(const char *file) {
    int pid = 0;
    FILE *stream = fopen(file, "re");
    if (!stream || fscanf(stream, "%d", &pid) != 1 || pid <= 0) return 0;
    fclose(stream);
    return waitpid(pid, NULL, 0) == pid;
}

int main(int argc, char **argv) {
    const char *left_behind = NULL;
    int option, word = -1, word_end = -1;
    while ((option = getopt(argc, argv, "+usp:")) != -1) {
        if (option == 's' && (word = make_word_pipe(&word_end)) < 0) return 2;
        if (option == 'p') left_behind = optarg;
        if (option == '?') return 2;
        if (option == 'u' && (unshare(CLONE_NEWNS) < 0 || umount2("/sys/fs/cgroup/unified", 0) < 0)) {
            perror("measure: cannot hide /sys/fs/cgroup/unified");
            return 2;
        }
    }
    if (optind >= argc) return 2;
    // What a runtime leaves behind is ours to reap: a process that nobody reaps has not ended for some of them.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    long peak = 0;
    long long begin = now();
    for (int first = optind, last; first < argc; first = last + 1) {
        for (last = first; last < argc && strcmp(argv[last], "::") != 0;) last++;
        int is_final = last >= argc;
        argv[last < argc ? last : argc] = NULL;
        if (is_final && left_behind && !reap(left_behind)) return 1;
        if (!ends_well(argv + first, &peak)) return 1;
        if (word >= 0 && !is_good_word(word, word_end)) return 1;
        word = -1;
    }
    long long wall = now() - begin;
    struct rusage all;
    getrusage(RUSAGE_CHILDREN, &all);
    fprintf(stderr, "\nmeasured %lld %lld %ld\n", wall, microseconds(all.ru_utime) + microseconds(all.ru_stime), peak);
    return 0;
}
