// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#include "json.h"

#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 64 };

struct reader {
    struct json_document *document;
    const unsigned char *bytes;
    size_t length;
    size_t at;
};

static struct json *read_value(struct reader *reader, int depth);

static void *refuse(struct reader *reader, const char *reason) {
    if (!reader->document->reason) reader->document->reason = reason;
    return NULL;
}

static int peek(const struct reader *reader) {
    return reader->at < reader->length ? reader->bytes[reader->at] : -1;
}

static void skip_blanks(struct reader *reader) {
    for (int c = peek(reader); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = peek(reader)) reader->at++;
}

static bool take(struct reader *reader, char wanted) {
    skip_blanks(reader);
    if (peek(reader) != wanted) return false;
    reader->at++;
    return true;
}

static struct json *new_node(struct reader *reader, enum json_kind kind) {
    struct json_document *document = reader->document;
    if (document->used == document->room) return refuse(reader, "too many values");
    struct json *node = &document->nodes[document->used++];
    node->kind = kind;
    return node;
}

// A text in the document never needs more room than in the source, where it has quotes.
static void put(struct reader *reader, unsigned int byte) {
    reader->document->text[reader->document->text_used++] = (char)byte;
}

static void put_scalar(struct reader *reader, uint32_t scalar) {
    if (scalar < 0x80) {
        put(reader, scalar);
    } else if (scalar < 0x800) {
        put(reader, 0xC0 | scalar >> 6);
        put(reader, 0x80 | (scalar & 0x3F));
    } else if (scalar < 0x10000) {
        put(reader, 0xE0 | scalar >> 12);
        put(reader, 0x80 | (scalar >> 6 & 0x3F));
        put(reader, 0x80 | (scalar & 0x3F));
    } else {
        put(reader, 0xF0 | scalar >> 18);
        put(reader, 0x80 | (scalar >> 12 & 0x3F));
        put(reader, 0x80 | (scalar >> 6 & 0x3F));
        put(reader, 0x80 | (scalar & 0x3F));
    }
}

static int read_hex(struct reader *reader) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
        int c = peek(reader);
        if (c >= '0' && c <= '9') value = value * 16 + c - '0';
        else if (c >= 'a' && c <= 'f') value = value * 16 + c - 'a' + 10;
        else if (c >= 'A' && c <= 'F') value = value * 16 + c - 'A' + 10;
        else return -1;
        reader->at++;
    }
    return value;
}

static bool read_unicode(struct reader *reader) {
    int unit = read_hex(reader);
    if (unit <= 0 || (unit >= 0xDC00 && unit <= 0xDFFF)) return false;
    uint32_t scalar = (uint32_t)unit;
    if (unit >= 0xD800 && unit <= 0xDBFF) {
        if (peek(reader) != '\\') return false;
        reader->at++;
        if (peek(reader) != 'u') return false;
        reader->at++;
        int second = read_hex(reader);
        if (second < 0xDC00 || second > 0xDFFF) return false;
        scalar = 0x10000 + ((scalar - 0xD800) << 10) + (uint32_t)(second - 0xDC00);
    }
    put_scalar(reader, scalar);
    return true;
}

static bool read_escape(struct reader *reader) {
    int c = peek(reader);
    reader->at++;
    switch (c) {
    case '"':
    case '\\':
    case '/': put(reader, (unsigned int)c); return true;
    case 'b': put(reader, '\b'); return true;
    case 'f': put(reader, '\f'); return true;
    case 'n': put(reader, '\n'); return true;
    case 'r': put(reader, '\r'); return true;
    case 't': put(reader, '\t'); return true;
    case 'u': return read_unicode(reader);
    default: return false;
    }
}

static const char *read_string(struct reader *reader) {
    if (!take(reader, '"')) return refuse(reader, "a string is missing");
    size_t begin = reader->document->text_used;
    for (;;) {
        int c = peek(reader);
        // Zero bytes would end a path early.
        if (c < 0x20) return refuse(reader, "a string does not end, or holds a control character");
        reader->at++;
        if (c == '"') break;
        if (c != '\\') put(reader, (unsigned int)c);
        else if (!read_escape(reader)) return refuse(reader, "a wrong escape in a string");
    }
    put(reader, 0);
    return &reader->document->text[begin];
}

static struct json *read_number(struct reader *reader) {
    struct json *node = new_node(reader, JSON_NUMBER);
    if (!node) return NULL;
    if (peek(reader) == '-') {
        node->is_negative = true;
        reader->at++;
    }
    bool fits = true, has_digit = false;
    int c;
    while ((c = peek(reader)) >= '0' && c <= '9') {
        uint64_t digit = (uint64_t)(c - '0');
        has_digit = true;
        fits = fits && node->magnitude <= (UINT64_MAX - digit) / 10;
        if (fits) node->magnitude = node->magnitude * 10 + digit;
        reader->at++;
    }
    if (!has_digit) return refuse(reader, "a wrong number");
    // Nothing that the agent reads has fractions.
    while (c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-' || (c >= '0' && c <= '9')) {
        fits = false;
        reader->at++;
        c = peek(reader);
    }
    if (!fits) node->magnitude = 0;
    return node;
}

static struct json *read_list(struct reader *reader, enum json_kind kind, int depth) {
    struct json *list = new_node(reader, kind);
    if (!list) return NULL;
    char end = kind == JSON_OBJECT ? '}' : ']';
    reader->at++;
    if (take(reader, end)) return list;
    struct json **place = &list->first;
    do {
        const char *key = NULL;
        if (kind == JSON_OBJECT) {
            key = read_string(reader);
            if (!key) return NULL;
            if (!take(reader, ':')) return refuse(reader, "':' is missing");
        }
        struct json *value = read_value(reader, depth + 1);
        if (!value) return NULL;
        value->key = key;
        *place = value;
        place = &value->next;
    } while (take(reader, ','));
    if (!take(reader, end)) return refuse(reader, "a list does not end");
    return list;
}

static struct json *read_word(struct reader *reader, const char *word, enum json_kind kind) {
    size_t length = strlen(word);
    if (reader->length - reader->at < length || memcmp(reader->bytes + reader->at, word, length) != 0)
        return refuse(reader, "an unknown word");
    reader->at += length;
    return new_node(reader, kind);
}

static struct json *read_value(struct reader *reader, int depth) {
    if (depth > DEEPEST) return refuse(reader, "nested too deep");
    skip_blanks(reader);
    switch (peek(reader)) {
    case '{': return read_list(reader, JSON_OBJECT, depth);
    case '[': return read_list(reader, JSON_ARRAY, depth);
    case 't': return read_word(reader, "true", JSON_TRUE);
    case 'f': return read_word(reader, "false", JSON_FALSE);
    case 'n': return read_word(reader, "null", JSON_NULL);
    case '"': {
        const char *text = read_string(reader);
        struct json *node = text ? new_node(reader, JSON_STRING) : NULL;
        if (node) node->text = text;
        return node;
    }
    default: return read_number(reader);
    }
}

const struct json *json_parse(struct json_document *document, const unsigned char *bytes, size_t length) {
    *document = (struct json_document){0};
    // Each value has at least one byte, and one that parts it from the next.
    document->room = length / 2 + 1;
    document->nodes = calloc(document->room, sizeof *document->nodes);
    document->text = malloc(length + 1);
    struct reader reader = {.document = document, .bytes = bytes, .length = length};
    const struct json *root = NULL;
    if (document->nodes && document->text) root = read_value(&reader, 0);
    else refuse(&reader, "out of memory");
    if (root) {
        skip_blanks(&reader);
        if (reader.at < reader.length) root = refuse(&reader, "more than one value");
    }
    if (!root) {
        const char *reason = document->reason;
        json_free(document);
        document->reason = reason;
    }
    return root;
}

void json_free(struct json_document *document) {
    free(document->nodes);
    free(document->text);
    *document = (struct json_document){0};
}

const struct json *json_get(const struct json *object, const char *key) {
    if (!object || object->kind != JSON_OBJECT) return NULL;
    for (const struct json *entry = object->first; entry; entry = entry->next)
        if (strcmp(entry->key, key) == 0) return entry;
    return NULL;
}

const struct json *json_first(const struct json *list) {
    return list ? list->first : NULL;
}

const char *json_string(const struct json *value, const char *otherwise) {
    return value && value->kind == JSON_STRING ? value->text : otherwise;
}

const char *json_text(const struct json *object, const char *key, const char *otherwise) {
    return json_string(json_get(object, key), otherwise);
}

bool json_flag(const struct json *object, const char *key) {
    const struct json *value = json_get(object, key);
    return value && value->kind == JSON_TRUE;
}

int64_t json_number(const struct json *object, const char *key, int64_t otherwise) {
    const struct json *value = json_get(object, key);
    if (!value || value->kind != JSON_NUMBER || value->magnitude > INT64_MAX) return otherwise;
    return value->is_negative ? -(int64_t)value->magnitude : (int64_t)value->magnitude;
}

uint64_t json_unsigned(const struct json *object, const char *key, uint64_t otherwise) {
    const struct json *value = json_get(object, key);
    return value && value->kind == JSON_NUMBER && !value->is_negative ? value->magnitude : otherwise;
}
