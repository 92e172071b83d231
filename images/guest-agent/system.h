// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// Faults in sentences, files and paths.
#ifndef SYSTEM_H
#define SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Why something did not come to be, for the one who asked.
struct fault {
    // As an exit status: 127 no such program, 126 none that can be executed, 125 anything else.
    unsigned char code;
    char text[600];
};

// Notes a fault of code 125 and returns -1.
__attribute__((format(printf, 2, 3))) int fail(struct fault *fault, const char *format, ...);
// The same, with the reason in errno after the words.
__attribute__((format(printf, 2, 3))) int fail_errno(struct fault *fault, const char *format, ...);

int64_t now_milliseconds(void);
void pause_milliseconds(int milliseconds);

// Reads a file of at most `room` - 1 bytes, followed by a zero byte. The number of bytes, or -1.
ssize_t read_file(const char *path, char *bytes, size_t room);
// Reads all of a file up to a limit, followed by a zero byte; to be freed. NULL with errno.
char *read_whole(int fd, size_t limit, size_t *length);
int write_file(const char *path, const char *text);
int make_folders(const char *path, mode_t mode);

// Opens (O_PATH) what is at a path below a root; links in it never lead out of the root.
int find_inside(int root, const char *path, int flags);
// The same, and makes the folders, or the folders and the file, that are missing.
int find_or_make_inside(int root, const char *path, bool is_folder);

enum { FD_PATH = 32 };
// The path of an open descriptor, for calls that take none.
const char *fd_path(char text[FD_PATH], int fd);

#endif
