// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#define _GNU_SOURCE
#include "zone.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// More than this is no list of users but an attack on the memory.
enum { LIMIT = 4 << 20 };

// A number from 0 to 4294967294, digits only: the last one means "no change" to the kernel.
static bool parse_id(const char *text, uint32_t *id) {
    uint64_t value = 0;
    if (*text == 0) return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return false;
        value = value * 10 + (uint64_t)(*text - '0');
        if (value >= UINT32_MAX) return false;
    }
    *id = (uint32_t)value;
    return true;
}

// The content of a file of the zone's; an empty text where there is none.
static char *read_list(const char *path, struct fault *fault) {
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat status;
    char *text = NULL;
    size_t length;
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) return strdup("");
    if (fd >= 0 && fstat(fd, &status) == 0) text = S_ISREG(status.st_mode) ? read_whole(fd, LIMIT, &length) : strdup("");
    if (!text) fail_errno(fault, "read %s", path);
    if (fd >= 0) close(fd);
    return text;
}

// Parts a line at its colons; the number of fields.
static size_t part(char *line, char *fields[], size_t most) {
    size_t count = 0;
    while (line && count < most) fields[count++] = strsep(&line, ":");
    return count;
}

struct entry {
    bool is_there;
    char name[257];
    uint32_t uid, gid;
};

// The first entry of passwd(5) with that name, or with that number where there is no name.
static int find_user(
    const char *name, uint32_t uid, struct entry *found, struct identity *identity, struct fault *fault) {
    found->is_there = false;
    char *text = read_list("/etc/passwd", fault);
    if (!text) return -1;
    for (char *rest = text, *line; !found->is_there && (line = strsep(&rest, "\n"));) {
        char *fields[7];
        uint32_t own, group;
        if (part(line, fields, 7) < 6 || !parse_id(fields[2], &own) || !parse_id(fields[3], &group)) continue;
        if (name ? strcmp(fields[0], name) != 0 : own != uid) continue;
        found->is_there = true;
        found->uid = own;
        found->gid = group;
        snprintf(found->name, sizeof found->name, "%s", fields[0]);
        snprintf(identity->home, sizeof identity->home, "%s", fields[5]);
    }
    free(text);
    return 0;
}

static bool has_member(char *list, const char *name) {
    for (char *member; (member = strsep(&list, ","));)
        if (strcmp(member, name) == 0) return true;
    return false;
}

// Of group(5): the number of the group called `group`, or all groups that `user` is a member of.
static int find_groups(
    const char *group, const char *user, struct identity *identity, const char *wanted, struct fault *fault) {
    char *text = read_list("/etc/group", fault);
    if (!text) return -1;
    bool is_found = false;
    for (char *rest = text, *line; !is_found && (line = strsep(&rest, "\n"));) {
        char *fields[4];
        uint32_t gid;
        if (part(line, fields, 4) < 4 || !parse_id(fields[2], &gid)) continue;
        if (group && strcmp(fields[0], group) == 0) {
            is_found = true;
            identity->gid = gid;
        } else if (!group && identity->group_count < MOST_GROUPS && has_member(fields[3], user)) {
            identity->groups[identity->group_count++] = gid;
        }
    }
    free(text);
    if (group && !is_found) return fail(fault, "user \"%s\": not found in the zone's /etc/passwd or /etc/group", wanted);
    return 0;
}

// "USER[:GROUP]", each a name or a number.
static int find_named(const char *wanted, struct identity *identity, struct fault *fault) {
    char text[520];
    if (strlen(wanted) >= sizeof text) return fail(fault, "a user's name is too long");
    memcpy(text, wanted, strlen(wanted) + 1);
    char *group = strchr(text, ':');
    if (group) *group++ = 0;
    if (*text == 0 || (group && (*group == 0 || strchr(group, ':')))) return fail(fault, "user \"%s\": is no name", wanted);
    struct entry user;
    uint32_t uid = 0;
    bool is_number = parse_id(text, &uid);
    if (find_user(is_number ? NULL : text, uid, &user, identity, fault) < 0) return -1;
    if (!is_number && !user.is_there)
        return fail(fault, "user \"%s\": not found in the zone's /etc/passwd or /etc/group", wanted);
    identity->uid = is_number ? uid : user.uid;
    identity->gid = user.is_there ? user.gid : 0;
    uint32_t gid;
    if (!group) return user.is_there ? find_groups(NULL, user.name, identity, wanted, fault) : 0;
    // An explicit group stands alone.
    if (!parse_id(group, &gid)) return find_groups(group, NULL, identity, wanted, fault);
    identity->gid = gid;
    return 0;
}

int find_identity(const struct json *user, struct identity *identity, struct fault *fault) {
    memset(identity, 0, sizeof *identity);
    const char *name = json_text(user, "username", "");
    if (*name) return find_named(name, identity, fault);
    uint64_t uid = json_unsigned(user, "uid", 0), gid = json_unsigned(user, "gid", 0);
    if (uid >= UINT32_MAX || gid >= UINT32_MAX) return fail(fault, "the process's user: is no number");
    identity->uid = (uid_t)uid;
    identity->gid = (gid_t)gid;
    const struct json *entry = json_first(json_get(user, "additionalGids"));
    for (; entry; entry = entry->next) {
        if (entry->kind != JSON_NUMBER || entry->is_negative || entry->magnitude >= UINT32_MAX)
            return fail(fault, "the process's groups: one is no number");
        if (identity->group_count == MOST_GROUPS) return fail(fault, "the process has too many groups");
        identity->groups[identity->group_count++] = (gid_t)entry->magnitude;
    }
    struct entry found;
    return find_user(NULL, identity->uid, &found, identity, fault);
}
