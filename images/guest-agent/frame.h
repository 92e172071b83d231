// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// Messages between the machine's monitor and the agent: Sources/ZoneRuntime/GuestFrame.swift says what each means.
#ifndef FRAME_H
#define FRAME_H

#include <stddef.h>
#include <stdint.h>

enum frame_kind {
    FRAME_CONFIGURE = 1,
    FRAME_OPEN = 2,
    FRAME_DATA = 3,
    FRAME_END = 4,
    FRAME_RESIZE = 5,
    FRAME_SIGNAL = 6,
    FRAME_CREDIT = 7,
    FRAME_CLOSE = 8,
    FRAME_POWER_OFF = 9,
    FRAME_HELLO = 64,
    FRAME_CONFIGURED = 65,
    FRAME_STARTED = 66,
    FRAME_EXITED = 67,
    FRAME_FAILED = 68,
    FRAME_ANSWER = 69,
};

enum stream { STREAM_INPUT = 0, STREAM_OUTPUT = 1, STREAM_ERROR = 2 };

enum {
    // GuestConfiguration.version.
    PROTOCOL_VERSION = 1,
    FRAME_HEADER = 12,
    FRAME_LONGEST = 64 << 10,
    // Bytes of a stream that may be on the way.
    WINDOW = 256 << 10,
};

struct frame {
    unsigned int kind;
    uint32_t session;
    const unsigned char *payload;
    size_t length;
};

// What comes, until it is a whole frame.
struct frame_reader {
    unsigned char bytes[2 * (FRAME_HEADER + FRAME_LONGEST + 1)];
    size_t begin, end;
};

// Reads what there is. 1 where something came, 0 where nothing did, -1 where nobody is there any more.
int reader_fill(struct frame_reader *reader, int fd);
// The next frame, valid until the next call of reader_fill. 1, 0 where there is no whole one, -1 where it is none.
int reader_next(struct frame_reader *reader, struct frame *frame);

// What waits to be sent.
struct frame_queue {
    unsigned char *bytes;
    size_t begin, end, room;
};

size_t queue_count(const struct frame_queue *queue);
// 0, or -1 where there is no memory for it.
int queue_add(struct frame_queue *queue, enum frame_kind kind, uint32_t session, const void *payload, size_t length);
int queue_add_number(struct frame_queue *queue, enum frame_kind kind, uint32_t session, uint32_t number);
int queue_add_credit(struct frame_queue *queue, uint32_t session, enum stream stream, uint32_t count);
int queue_add_failed(struct frame_queue *queue, uint32_t session, unsigned char code, const char *sentence);
// Room for `length` bytes of a stream, which queue_add_data then takes as they were put there. NULL without memory.
unsigned char *queue_room(struct frame_queue *queue, size_t length);
void queue_add_data(struct frame_queue *queue, uint32_t session, enum stream stream, size_t length);
// Writes what is taken now. -1 where nobody is there any more.
int queue_flush(struct frame_queue *queue, int fd);

uint32_t read_u32(const unsigned char *bytes);
uint16_t read_u16(const unsigned char *bytes);

#endif
