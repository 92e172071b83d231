// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// What the host says is JSON: read into a tree, within bounds that the text itself sets.
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum json_kind { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_kind kind;
    // Of a member of an object.
    const char *key;
    // Of a string, which holds no zero byte.
    const char *text;
    // Of a whole number that fits; else 0.
    uint64_t magnitude;
    bool is_negative;
    struct json *first;
    struct json *next;
};

struct json_document {
    struct json *nodes;
    char *text;
    size_t used;
    size_t room;
    size_t text_used;
    // Why there is none.
    const char *reason;
};

// Reads a whole text. NULL where it is none; the document is then empty and says why.
const struct json *json_parse(struct json_document *document, const unsigned char *bytes, size_t length);
void json_free(struct json_document *document);

// A member of an object; NULL where there is none, or no object.
const struct json *json_get(const struct json *object, const char *key);
// The first entry of an array or object, NULL where there is none.
const struct json *json_first(const struct json *list);
// A value's text, or what stands for it where it is none.
const char *json_string(const struct json *value, const char *otherwise);
const char *json_text(const struct json *object, const char *key, const char *otherwise);
bool json_flag(const struct json *object, const char *key);
int64_t json_number(const struct json *object, const char *key, int64_t otherwise);
// A number from 0 to 2^64 - 1.
uint64_t json_unsigned(const struct json *object, const char *key, uint64_t otherwise);

#endif
