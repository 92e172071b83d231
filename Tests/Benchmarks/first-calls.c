// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// Prints the functions that a command and all its children call, each once, in the order of their first call:
//
//     first-calls EXECUTABLE SYMBOLS COMMAND ARGUMENT…
//
// SYMBOLS is EXECUTABLE with its symbols. Every function of EXECUTABLE gets a breakpoint wherever it runs; one that was
// hit is taken away, so this costs little. x86-64 only.

#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned char *text;                // as it is in the file
static const char **names;                 // of the function that begins at each byte of it
static unsigned char *called;
static uint64_t begin, size;
static struct stat executable;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void load(const char *path) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status) < 0) fail(path);
    unsigned char *image = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (image == MAP_FAILED) fail(path);
    Elf64_Ehdr *header = (Elf64_Ehdr *)image;
    Elf64_Shdr *sections = (Elf64_Shdr *)(image + header->e_shoff);
    const char *titles = (const char *)image + sections[header->e_shstrndx].sh_offset;
    Elf64_Shdr *symbols = NULL;
    int index = 0;
    for (int i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type == SHT_SYMTAB) symbols = sections + i;
        if (strcmp(titles + sections[i].sh_name, ".text") == 0) index = i;
    }
    if (!symbols || !index) fail("no symbols, or no .text");
    begin = sections[index].sh_addr;
    size = sections[index].sh_size;
    text = image + sections[index].sh_offset;
    names = calloc(size, sizeof *names);
    called = calloc(size, 1);
    if (!names || !called) fail("calloc");
    Elf64_Sym *symbol = (Elf64_Sym *)(image + symbols->sh_offset), *end = symbol + symbols->sh_size / sizeof *symbol;
    const char *strings = (const char *)image + sections[symbols->sh_link].sh_offset;
    for (; symbol < end; symbol++) {
        int type = ELF64_ST_TYPE(symbol->st_info);
        // Without a size it may be data.
        if ((type == STT_FUNC || type == STT_GNU_IFUNC) && symbol->st_shndx == index && symbol->st_size)
            names[symbol->st_value - begin] = strings + symbol->st_name;
    }
}

static void write_memory(pid_t pid, uint64_t address, const unsigned char *bytes, size_t count) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0 || pwrite(file, bytes, count, (off_t)address) != (ssize_t)count) fail(path);
    close(file);
}

static void set_breakpoints(pid_t pid) {
    unsigned char *changed = malloc(size);
    if (!changed) fail("malloc");
    memcpy(changed, text, size);
    for (uint64_t i = 0; i < size; i++)
        if (names[i] && !called[i]) changed[i] = 0xcc;
    write_memory(pid, begin, changed, size);
    free(changed);
}

/// Whether the stop was one of our breakpoints.
static int take_breakpoint(pid_t pid) {
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GETREGS, pid, 0, &registers) < 0) return 0;
    uint64_t offset = registers.rip - 1 - begin;
    if (offset >= size || !names[offset]) return 0;
    // A child may have the breakpoint still, from before its birth.
    if (!called[offset]) puts(names[offset]);
    called[offset] = 1;
    write_memory(pid, begin + offset, text + offset, 1);
    registers.rip--;
    ptrace(PTRACE_SETREGS, pid, 0, &registers);
    return 1;
}

static int runs_executable(pid_t pid) {
    char path[64];
    struct stat status;
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    return stat(path, &status) == 0 && status.st_ino == executable.st_ino && status.st_dev == executable.st_dev;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    if (stat(argv[1], &executable) < 0) fail(argv[1]);
    load(argv[2]);
    pid_t first = fork();
    if (first == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execvp(argv[3], argv + 3);
        _exit(127);
    }
    int status, result = 1;
    if (first < 0 || waitpid(first, &status, 0) < 0) fail("fork");
    ptrace(PTRACE_SETOPTIONS, first, 0, PTRACE_O_TRACEEXEC | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE);
    ptrace(PTRACE_CONT, first, 0, 0);
    for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
        if (pid == first && WIFEXITED(status)) result = WEXITSTATUS(status);
        if (!WIFSTOPPED(status)) continue;
        int signal = WSTOPSIG(status), event = status >> 16;
        if (event == PTRACE_EVENT_EXEC && runs_executable(pid)) set_breakpoints(pid);
        // SIGSTOP is how a new child begins.
        if (event || signal == SIGSTOP || (signal == SIGTRAP && take_breakpoint(pid))) signal = 0;
        ptrace(PTRACE_CONT, pid, 0, signal);
    }
    return result;
}
