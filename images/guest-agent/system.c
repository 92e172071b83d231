// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#define _GNU_SOURCE
#include "system.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int fail(struct fault *fault, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fault->text, sizeof fault->text, format, arguments);
    va_end(arguments);
    fault->code = 125;
    return -1;
}

int fail_errno(struct fault *fault, const char *format, ...) {
    int reason = errno;
    va_list arguments;
    va_start(arguments, format);
    int count = vsnprintf(fault->text, sizeof fault->text, format, arguments);
    va_end(arguments);
    size_t used = count < 0 ? 0 : (size_t)count;
    if (used < sizeof fault->text) snprintf(fault->text + used, sizeof fault->text - used, ": %s", strerror(reason));
    fault->code = 125;
    return -1;
}

int64_t now_milliseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

void pause_milliseconds(int milliseconds) {
    struct timespec time = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000L};
    nanosleep(&time, NULL);
}

static ssize_t read_all(int fd, char *bytes, size_t room) {
    size_t used = 0;
    while (used + 1 < room) {
        ssize_t count = read(fd, bytes + used, room - 1 - used);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return -1;
        if (count == 0) break;
        used += (size_t)count;
    }
    bytes[used] = 0;
    return (ssize_t)used;
}

ssize_t read_file(const char *path, char *bytes, size_t room) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return -1;
    ssize_t count = read_all(fd, bytes, room);
    close(fd);
    return count;
}

char *read_whole(int fd, size_t limit, size_t *length) {
    size_t room = 4096;
    char *bytes = malloc(room);
    *length = 0;
    while (bytes) {
        ssize_t count = read(fd, bytes + *length, room - 1 - *length);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) break;
        *length += (size_t)count;
        bytes[*length] = 0;
        if (count == 0) return bytes;
        if (*length + 1 < room) continue;
        if (room > limit) {
            errno = EFBIG;
            break;
        }
        char *more = realloc(bytes, room *= 2);
        if (!more) break;
        bytes = more;
    }
    free(bytes);
    return NULL;
}

int write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    size_t length = strlen(text);
    ssize_t count = write(fd, text, length);
    int reason = count < 0 ? errno : EIO;
    close(fd);
    if (count == (ssize_t)length) return 0;
    errno = reason;
    return -1;
}

int make_folders(const char *path, mode_t mode) {
    char text[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof text) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(text, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (text[i] != '/' && text[i] != 0) continue;
        char kept = text[i];
        text[i] = 0;
        if (mkdir(text, mode) < 0 && errno != EEXIST) return -1;
        text[i] = kept;
    }
    return 0;
}

int find_inside(int root, const char *path, int flags) {
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC), .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

int find_or_make_inside(int root, const char *path, bool is_folder) {
    int found = find_inside(root, path, O_PATH);
    if (found >= 0 || errno != ENOENT) return found;
    char text[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof text) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(text, path, length + 1);
    int folder = find_inside(root, "/", O_PATH | O_DIRECTORY);
    for (size_t begin = 0, i = 0; folder >= 0 && i <= length; i++) {
        if (text[i] != '/' && text[i] != 0) continue;
        bool is_last = text[i] == 0;
        text[i] = 0;
        if (i > begin) {
            int next = find_inside(root, text, O_PATH);
            if (next < 0 && errno == ENOENT) {
                // A link that leads nowhere is in the way: EEXIST.
                const char *name = text + begin;
                int made = -1;
                if (!is_last || is_folder) {
                    made = mkdirat(folder, name, 0755);
                } else {
                    made = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
                    if (made >= 0) close(made);
                }
                if (made >= 0) next = find_inside(root, text, O_PATH);
            }
            int reason = errno;
            close(folder);
            errno = reason;
            folder = next;
        }
        if (!is_last) text[i] = '/';
        begin = i + 1;
    }
    return folder;
}

const char *fd_path(char text[FD_PATH], int fd) {
    snprintf(text, FD_PATH, "/proc/self/fd/%d", fd);
    return text;
}
