// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#include "frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint16_t read_u16(const unsigned char *bytes) {
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

uint32_t read_u32(const unsigned char *bytes) {
    return read_u16(bytes) | (uint32_t)read_u16(bytes + 2) << 16;
}

static void write_u32(unsigned char *bytes, uint32_t number) {
    for (int i = 0; i < 4; i++) bytes[i] = (unsigned char)(number >> (8 * i));
}

int reader_fill(struct frame_reader *reader, int fd) {
    if (reader->begin > 0) {
        memmove(reader->bytes, reader->bytes + reader->begin, reader->end - reader->begin);
        reader->end -= reader->begin;
        reader->begin = 0;
    }
    // Half of the room holds the longest frame: there is always some left.
    ssize_t count = read(fd, reader->bytes + reader->end, sizeof reader->bytes - reader->end);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (count <= 0) return -1;
    reader->end += (size_t)count;
    return 1;
}

int reader_next(struct frame_reader *reader, struct frame *frame) {
    const unsigned char *bytes = reader->bytes + reader->begin;
    size_t there = reader->end - reader->begin;
    if (there < FRAME_HEADER) return 0;
    frame->kind = bytes[0];
    frame->session = read_u32(bytes + 4);
    frame->length = read_u32(bytes + 8);
    if (frame->length > FRAME_LONGEST + 1) return -1;
    if (there - FRAME_HEADER < frame->length) return 0;
    frame->payload = bytes + FRAME_HEADER;
    reader->begin += FRAME_HEADER + frame->length;
    return 1;
}

size_t queue_count(const struct frame_queue *queue) {
    return queue->end - queue->begin;
}

static unsigned char *reserve(struct frame_queue *queue, size_t length) {
    if (queue->begin > 0) {
        memmove(queue->bytes, queue->bytes + queue->begin, queue_count(queue));
        queue->end -= queue->begin;
        queue->begin = 0;
    }
    if (queue->room - queue->end < length) {
        size_t room = queue->end + length + (128 << 10);
        unsigned char *bytes = realloc(queue->bytes, room);
        if (!bytes) return NULL;
        queue->bytes = bytes;
        queue->room = room;
    }
    return queue->bytes + queue->end;
}

static void write_header(unsigned char *bytes, enum frame_kind kind, uint32_t session, size_t length) {
    memset(bytes, 0, FRAME_HEADER);
    bytes[0] = (unsigned char)kind;
    write_u32(bytes + 4, session);
    write_u32(bytes + 8, (uint32_t)length);
}

int queue_add(struct frame_queue *queue, enum frame_kind kind, uint32_t session, const void *payload, size_t length) {
    unsigned char *bytes = reserve(queue, FRAME_HEADER + length);
    if (!bytes) return -1;
    write_header(bytes, kind, session, length);
    if (length > 0) memcpy(bytes + FRAME_HEADER, payload, length);
    queue->end += FRAME_HEADER + length;
    return 0;
}

int queue_add_number(struct frame_queue *queue, enum frame_kind kind, uint32_t session, uint32_t number) {
    unsigned char payload[4];
    write_u32(payload, number);
    return queue_add(queue, kind, session, payload, sizeof payload);
}

int queue_add_credit(struct frame_queue *queue, uint32_t session, enum stream stream, uint32_t count) {
    unsigned char payload[5] = {(unsigned char)stream};
    write_u32(payload + 1, count);
    return queue_add(queue, FRAME_CREDIT, session, payload, sizeof payload);
}

int queue_add_failed(struct frame_queue *queue, uint32_t session, unsigned char code, const char *sentence) {
    size_t length = strlen(sentence);
    unsigned char payload[1 + 1024] = {code};
    if (length > sizeof payload - 1) length = sizeof payload - 1;
    memcpy(payload + 1, sentence, length);
    return queue_add(queue, FRAME_FAILED, session, payload, 1 + length);
}

unsigned char *queue_room(struct frame_queue *queue, size_t length) {
    unsigned char *bytes = reserve(queue, FRAME_HEADER + 1 + length);
    return bytes ? bytes + FRAME_HEADER + 1 : NULL;
}

void queue_add_data(struct frame_queue *queue, uint32_t session, enum stream stream, size_t length) {
    unsigned char *bytes = queue->bytes + queue->end;
    write_header(bytes, FRAME_DATA, session, length + 1);
    bytes[FRAME_HEADER] = (unsigned char)stream;
    queue->end += FRAME_HEADER + 1 + length;
}

int queue_flush(struct frame_queue *queue, int fd) {
    while (queue->begin < queue->end) {
        ssize_t count = write(fd, queue->bytes + queue->begin, queue_count(queue));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) return 0;
        if (count < 0) return -1;
        queue->begin += (size_t)count;
    }
    queue->begin = queue->end = 0;
    return 0;
}
