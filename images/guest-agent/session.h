// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// Programs with their streams, as the agent attends to them.
#ifndef SESSION_H
#define SESSION_H

#include "frame.h"
#include "program.h"

struct input {
    int fd;
    bool is_terminal, has_ended;
    // The last byte that came, -1 before there is one.
    int last;
    // What has come and is not yet where it goes: at most a window, and two bytes that end a terminal's input.
    unsigned char *bytes;
    size_t begin, end;
    // How much may still come, and what was taken of it and not granted anew.
    size_t allowance, owed;
};

struct output {
    enum stream stream;
    int fd;
    bool is_terminal;
    // What the host takes.
    size_t credit;
    // After the program's end: how much is still of interest.
    bool is_limited;
    size_t left;
};

struct session {
    uint32_t number;
    pid_t pid;
    bool has_terminal, has_ended, is_closed;
    int status;
    int peer;
    struct input input;
    struct output outputs[2];
    struct session *next;
};

// More than this waits to be sent: programs' output waits where it is.
enum { MOST_WAITING = 512 << 10 };

// NULL without memory.
struct session *session_new(uint32_t number, const struct program *program);
void session_free(struct session *session);

// What the host says. -1 where it breaks the protocol.
int session_accept(struct session *session, const unsigned char *bytes, size_t length, struct frame_queue *queue);
int session_grant(struct session *session, unsigned int stream, uint32_t count);
void session_end_stream(struct session *session, unsigned int stream, struct frame_queue *queue);
void session_resize(struct session *session, uint16_t rows, uint16_t columns);
void session_close(struct session *session);

// What the program does.
void session_write_input(struct session *session, struct frame_queue *queue);
// Passes on what an output has, once: whether something was.
bool session_pass(struct session *session, struct output *output, struct frame_queue *queue);
void session_ended(struct session *session, int status);
// Whether all is said; says the last of it.
bool session_finish(struct session *session, struct frame_queue *queue);

#endif
