// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors
//
// called SYMBOLS PROGRAM ARGUMENTS…: prints the functions that the program calls, in the order of first calls; its
// children too, until they execute something else. SYMBOLS is `nm -n --defined-only PROGRAM`. A breakpoint on every
// function goes when it is met, so that this costs little more than the program itself.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

struct function { uint64_t address; char *names; int isKnown; };
static struct function *functions;
static size_t count;
static uint64_t low, high;
static unsigned char *text;
static struct stat program;
static int told = -1;

static void fail(const char *what) { perror(what); exit(1); }

static void readSymbols(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) fail(path);
    char kind, *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, file) > 0) {
        unsigned long address;
        int start = 0;
        if (sscanf(line, "%lx %c %n", &address, &kind, &start) < 2 || !strchr("tTwW", kind)) continue;
        if (count && functions[count - 1].address == address) {
            char *joined;
            if (asprintf(&joined, "%s%s", functions[count - 1].names, line + start) < 0) exit(1);
            functions[count - 1].names = joined;
            continue;
        }
        functions = realloc(functions, (count + 1) * sizeof *functions);
        functions[count++] = (struct function){address, strdup(line + start), 0};
    }
    if (!count) { fprintf(stderr, "%s: no functions\n", path); exit(1); }
    low = functions[0].address;
    high = functions[count - 1].address + 1;
}

static struct function *find(uint64_t address) {
    size_t from = 0, to = count;
    while (from < to) {
        size_t middle = (from + to) / 2;
        if (functions[middle].address == address) return &functions[middle];
        if (functions[middle].address < address) from = middle + 1; else to = middle;
    }
    return NULL;
}

static int memoryOf(pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) fail(path);
    return file;
}

/// Whether the process still is the program: by file, as its path may be that of a mount which is nowhere.
static int isProgram(pid_t pid) {
    char path[64];
    struct stat now;
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    return stat(path, &now) == 0 && now.st_dev == program.st_dev && now.st_ino == program.st_ino;
}

static void plant(pid_t pid) {
    int file = memoryOf(pid);
    unsigned char *traps = malloc(high - low);
    if (!text) {
        text = malloc(high - low);
        if (pread(file, text, high - low, low) != (ssize_t)(high - low)) fail("read the program");
    }
    memcpy(traps, text, high - low);
    for (size_t index = 0; index < count; index++) traps[functions[index].address - low] = 0xCC;
    if (pwrite(file, traps, high - low, low) != (ssize_t)(high - low)) fail("write the program");
    free(traps);
    close(file);
}

static int meet(pid_t pid) {
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GETREGS, pid, 0, &registers) < 0) return 0;
    struct function *function = find(registers.rip - 1);
    if (!function) return 0;
    if (!function->isKnown) fputs(function->names, stdout);
    function->isKnown = 1;
    int file = memoryOf(pid);
    if (pwrite(file, text + (function->address - low), 1, function->address) != 1) fail("restore a function");
    close(file);
    registers.rip--;
    ptrace(PTRACE_SETREGS, pid, 0, &registers);
    return 1;
}

/// Ends when the program does; a child that stays (a zone that waits for its start) is followed by a process of its own.
static void leave(void) {
    int ends[2];
    unsigned char result = 1;
    if (pipe2(ends, O_CLOEXEC) < 0) fail("pipe2");
    pid_t follower = fork();
    if (follower < 0) fail("fork");
    if (follower == 0) {
        told = ends[1];
        return;
    }
    close(ends[1]);
    if (read(ends[0], &result, 1) != 1) result = 1;
    exit(result);
}

int main(int argc, char **argv) {
    if (argc < 3) { fprintf(stderr, "called SYMBOLS PROGRAM ARGUMENTS…\n"); return 2; }
    readSymbols(argv[1]);
    if (stat(argv[2], &program) < 0) fail(argv[2]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    leave();
    pid_t first = fork();
    if (first == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        dup2(open("/dev/null", O_WRONLY), 1);
        execv(argv[2], argv + 2);
        _exit(127);
    }
    int status;
    unsigned char result = 1;
    if (waitpid(first, &status, 0) != first || !WIFSTOPPED(status)) return 1;
    plant(first);
    ptrace(PTRACE_SETOPTIONS, first, 0,
           PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE);
    ptrace(PTRACE_CONT, first, 0, 0);
    pid_t pid;
    while ((pid = waitpid(-1, &status, __WALL)) > 0) {
        if (!WIFSTOPPED(status)) {
            if (pid == first) {
                result = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
                fflush(stdout);
                if (write(told, &result, 1) != 1) fail("write");
            }
            continue;
        }
        int signal = WSTOPSIG(status), event = status >> 16;
        if (event == PTRACE_EVENT_EXEC) {
            if (!isProgram(pid)) {
                ptrace(PTRACE_DETACH, pid, 0, 0);
                continue;
            }
            plant(pid);
            signal = 0;
        } else if (event || (signal == SIGTRAP && meet(pid)) || signal == SIGSTOP || signal == SIGTRAP) {
            signal = 0;
        }
        ptrace(PTRACE_CONT, pid, 0, signal);
    }
    return result;
}
