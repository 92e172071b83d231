// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// Programs in the zone.
#ifndef PROGRAM_H
#define PROGRAM_H

#include "json.h"
#include "system.h"

struct program {
    pid_t pid;
    // The agent's ends of its streams, which do not block: pipes, or the master of its terminal as input and output.
    int input, output, error;
    // With a terminal: its other end, held open until the program's end.
    int peer;
};

struct launch {
    const struct json *configuration;
    const struct json *process;
    // 0: the zone's own program, which makes the zone. Else the zone's first process, whose namespaces are joined.
    pid_t first;
    bool is_interactive;
};

// Starts a program and waits until it is executed.
int start_program(const struct launch *launch, struct program *program, struct fault *fault);

// child.c, in the new process: never returns. `report` takes the fault, or the terminal's master.
struct child {
    const struct launch *launch;
    // Its ends of the pipes; -1 with a terminal.
    int streams[3];
    int report;
};
_Noreturn void run_child(const struct child *child);

enum report_kind { REPORT_FAULT = 1, REPORT_PID = 2, REPORT_TERMINAL = 3 };
struct report {
    int kind;
    pid_t pid;
    struct fault fault;
};
// Sends a report, with a descriptor where one is given (else -1).
int send_report(int socket, const struct report *report, int descriptor);

// A process as clone3(2) makes it.
pid_t clone_process(uint64_t flags, int exit_signal);

#endif
