// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#define _GNU_SOURCE
#include "session.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    // The most that is taken at once.
    PART = 32 << 10,
    // More than a terminal holds, whose content cannot be counted.
    TERMINAL_REST = 256 << 10,
    // Granted in parts of this size: the host never has less than the rest of the window.
    GRANT = WINDOW / 4,
    ROOM = WINDOW + 2,
    END_OF_INPUT = 4,
};

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

struct session *session_new(uint32_t number, const struct program *program) {
    struct session *session = calloc(1, sizeof *session);
    if (!session) return NULL;
    bool is_terminal = program->error < 0;
    session->number = number;
    session->pid = program->pid;
    session->has_terminal = is_terminal;
    session->peer = program->peer;
    session->input = (struct input){.fd = program->input, .is_terminal = is_terminal, .last = -1, .allowance = WINDOW};
    session->outputs[0] = (struct output){
        .stream = STREAM_OUTPUT, .fd = program->output, .is_terminal = is_terminal, .credit = WINDOW};
    session->outputs[1] = (struct output){.stream = STREAM_ERROR, .fd = program->error, .credit = WINDOW};
    return session;
}

void session_free(struct session *session) {
    close_fd(&session->input.fd);
    close_fd(&session->outputs[0].fd);
    close_fd(&session->outputs[1].fd);
    close_fd(&session->peer);
    free(session->input.bytes);
    free(session);
}

// MARK: Input

static void drop_input(struct input *input) {
    input->owed += input->end - input->begin;
    input->begin = input->end = 0;
}

static void close_input(struct input *input) {
    close_fd(&input->fd);
    drop_input(input);
}

static bool add_input(struct input *input, const unsigned char *bytes, size_t length) {
    if (!input->bytes) input->bytes = malloc(ROOM);
    if (!input->bytes) return false;
    if (input->begin > 0) {
        memmove(input->bytes, input->bytes + input->begin, input->end - input->begin);
        input->end -= input->begin;
        input->begin = 0;
    }
    if (length > ROOM - input->end) return false;
    memcpy(input->bytes + input->end, bytes, length);
    input->end += length;
    return true;
}

static void write_input(struct input *input) {
    // What nobody reads is dropped.
    if (input->fd < 0) return drop_input(input);
    while (input->begin < input->end) {
        ssize_t count = write(input->fd, input->bytes + input->begin, input->end - input->begin);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) return;
        if (count <= 0) return close_input(input);
        input->begin += (size_t)count;
        input->owed += (size_t)count;
    }
    input->begin = input->end = 0;
    if (input->has_ended && !input->is_terminal) close_input(input);
}

void session_write_input(struct session *session, struct frame_queue *queue) {
    struct input *input = &session->input;
    write_input(input);
    if (input->owed < GRANT) return;
    // Not what the host has not sent.
    size_t count = input->owed < WINDOW - input->allowance ? input->owed : WINDOW - input->allowance;
    input->owed = 0;
    if (count == 0) return;
    input->allowance += count;
    queue_add_credit(queue, session->number, STREAM_INPUT, (uint32_t)count);
}

int session_accept(struct session *session, const unsigned char *bytes, size_t length, struct frame_queue *queue) {
    struct input *input = &session->input;
    if (input->has_ended || length == 0) return 0;
    if (length > input->allowance) return -1;
    if (!add_input(input, bytes, length)) return -1;
    input->allowance -= length;
    input->last = bytes[length - 1];
    session_write_input(session, queue);
    return 0;
}

static void end_input(struct input *input) {
    if (input->has_ended) return;
    input->has_ended = true;
    if (!input->is_terminal) return;
    // The first one after an unfinished line only sends the line; the second is the end: termios(3).
    static const unsigned char ends[] = {END_OF_INPUT, END_OF_INPUT};
    add_input(input, ends, input->last < 0 || input->last == '\n' ? 1 : 2);
}

// MARK: What the host says

void session_end_stream(struct session *session, unsigned int stream, struct frame_queue *queue) {
    if (stream == STREAM_INPUT) {
        end_input(&session->input);
        return session_write_input(session, queue);
    }
    for (int i = 0; i < 2; i++)
        if (session->outputs[i].stream == stream || session->has_terminal) close_fd(&session->outputs[i].fd);
    if (!session->has_terminal) return;
    // Without a screen it is hung up.
    close_input(&session->input);
    close_fd(&session->peer);
}

int session_grant(struct session *session, unsigned int stream, uint32_t count) {
    for (int i = 0; i < 2; i++) {
        struct output *output = &session->outputs[i];
        if (output->stream != stream) continue;
        if (count > WINDOW - output->credit) return -1;
        output->credit += count;
    }
    return 0;
}

void session_resize(struct session *session, uint16_t rows, uint16_t columns) {
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    if (session->has_terminal && session->outputs[0].fd >= 0) ioctl(session->outputs[0].fd, TIOCSWINSZ, &size);
}

void session_close(struct session *session) {
    session->is_closed = true;
    close_input(&session->input);
    close_fd(&session->outputs[0].fd);
    close_fd(&session->outputs[1].fd);
    close_fd(&session->peer);
    // The number is that of a child that was not reaped.
    if (session->has_ended) return;
    kill(-session->pid, SIGKILL);
    kill(session->pid, SIGKILL);
}

// MARK: What the program does

void session_ended(struct session *session, int status) {
    session->has_ended = true;
    session->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    close_fd(&session->peer);
    close_input(&session->input);
    for (int i = 0; i < 2; i++) {
        struct output *output = &session->outputs[i];
        int count = 0;
        if (output->fd < 0) continue;
        // What children of it say is not waited for.
        output->is_limited = true;
        if (output->is_terminal) output->left = TERMINAL_REST;
        else output->left = ioctl(output->fd, FIONREAD, &count) == 0 && count > 0 ? (size_t)count : 0;
        if (output->left == 0) close_fd(&output->fd);
    }
}

bool session_pass(struct session *session, struct output *output, struct frame_queue *queue) {
    if (output->fd < 0 || output->credit == 0) return false;
    size_t wanted = output->credit < PART ? output->credit : PART;
    if (output->is_limited && output->left < wanted) wanted = output->left;
    unsigned char *room = queue_room(queue, wanted);
    if (!room) return false;
    ssize_t count = read(output->fd, room, wanted);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (output->is_limited) close_fd(&output->fd);
        return false;
    }
    if (count <= 0) {
        unsigned char stream = (unsigned char)output->stream;
        close_fd(&output->fd);
        // Else `exited` says it.
        if (!output->is_limited) queue_add(queue, FRAME_END, session->number, &stream, 1);
        return false;
    }
    queue_add_data(queue, session->number, output->stream, (size_t)count);
    output->credit -= (size_t)count;
    if (output->is_limited) {
        output->left -= (size_t)count;
        if (output->left == 0) close_fd(&output->fd);
    }
    return true;
}

bool session_finish(struct session *session, struct frame_queue *queue) {
    if (!session->has_ended) return false;
    if (session->is_closed) return true;
    for (int i = 0; i < 2; i++) {
        while (queue_count(queue) < MOST_WAITING && session_pass(session, &session->outputs[i], queue)) {}
        if (session->outputs[i].fd >= 0) return false;
    }
    queue_add_number(queue, FRAME_EXITED, session->number, (uint32_t)session->status);
    return true;
}
