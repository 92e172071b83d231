// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#define _GNU_SOURCE
#include "zone.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const capabilities[] = {
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
};
enum { CAPABILITY_COUNT = sizeof capabilities / sizeof *capabilities };

static const struct {
    const char *name;
    int number;
} limits[] = {
    {"CPU", RLIMIT_CPU}, {"FSIZE", RLIMIT_FSIZE}, {"DATA", RLIMIT_DATA}, {"STACK", RLIMIT_STACK},
    {"CORE", RLIMIT_CORE}, {"RSS", RLIMIT_RSS}, {"NPROC", RLIMIT_NPROC}, {"NOFILE", RLIMIT_NOFILE},
    {"MEMLOCK", RLIMIT_MEMLOCK}, {"AS", RLIMIT_AS}, {"LOCKS", RLIMIT_LOCKS}, {"SIGPENDING", RLIMIT_SIGPENDING},
    {"MSGQUEUE", RLIMIT_MSGQUEUE}, {"NICE", RLIMIT_NICE}, {"RTPRIO", RLIMIT_RTPRIO}, {"RTTIME", RLIMIT_RTTIME},
};

int take_limits(const struct json *process, struct fault *fault) {
    for (const struct json *entry = json_first(json_get(process, "rlimits")); entry; entry = entry->next) {
        const char *type = json_text(entry, "type", "");
        size_t i = 0;
        while (i < sizeof limits / sizeof *limits
            && !(strncmp(type, "RLIMIT_", 7) == 0 && strcmp(type + 7, limits[i].name) == 0))
            i++;
        if (i == sizeof limits / sizeof *limits) return fail(fault, "limit \"%s\": is not known", type);
        struct rlimit limit = {
            .rlim_cur = json_unsigned(entry, "soft", 0), .rlim_max = json_unsigned(entry, "hard", 0)};
        if (setrlimit((__rlimit_resource_t)limits[i].number, &limit) < 0) return fail_errno(fault, "set limit %s", type);
    }
    if (json_get(process, "oomScoreAdj")) {
        char text[24];
        snprintf(text, sizeof text, "%lld", (long long)json_number(process, "oomScoreAdj", 0));
        if (write_file("/proc/self/oom_score_adj", text) < 0) return fail_errno(fault, "set oom_score_adj");
    }
    return 0;
}

static int capability_set(const struct json *names, uint64_t *set, struct fault *fault) {
    *set = 0;
    for (const struct json *entry = json_first(names); entry; entry = entry->next) {
        const char *name = json_string(entry, "");
        int number = 0;
        while (number < CAPABILITY_COUNT && !(strncmp(name, "CAP_", 4) == 0 && strcmp(name + 4, capabilities[number]) == 0))
            number++;
        if (number == CAPABILITY_COUNT) return fail(fault, "capability \"%s\": is not known", name);
        // What this kernel does not have cannot be had.
        if (prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1) *set |= UINT64_C(1) << number;
    }
    return 0;
}

static int set_capabilities(uint64_t effective, uint64_t permitted, uint64_t inheritable) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    for (int i = 0; i < 2; i++) {
        data[i].effective = (uint32_t)(effective >> (32 * i));
        data[i].permitted = (uint32_t)(permitted >> (32 * i));
        data[i].inheritable = (uint32_t)(inheritable >> (32 * i));
    }
    return (int)syscall(SYS_capset, &header, data);
}

// So that the program may open its streams anew, /dev/stdout.
static void give_streams(uid_t uid) {
    for (int fd = 0; fd < 3; fd++) {
        struct stat status;
        if (fstat(fd, &status) < 0 || status.st_uid == uid) continue;
        if (S_ISFIFO(status.st_mode) || isatty(fd)) (void)!fchown(fd, uid, (gid_t)-1);
    }
}

int take_identity(const struct json *process, const struct identity *identity, struct fault *fault) {
    const struct json *wanted = json_get(process, "capabilities"), *user = json_get(process, "user");
    uint64_t bounding, effective, permitted, inheritable, ambient;
    if (capability_set(json_get(wanted, "bounding"), &bounding, fault) < 0
        || capability_set(json_get(wanted, "effective"), &effective, fault) < 0
        || capability_set(json_get(wanted, "permitted"), &permitted, fault) < 0
        || capability_set(json_get(wanted, "inheritable"), &inheritable, fault) < 0
        || capability_set(json_get(wanted, "ambient"), &ambient, fault) < 0)
        return -1;
    give_streams(identity->uid);
    if (json_get(user, "umask")) umask((mode_t)json_number(user, "umask", 022) & 0777);
    for (int number = 0; number < 64 && prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0; number++)
        if (!(bounding >> number & 1) && prctl(PR_CAPBSET_DROP, number, 0, 0, 0) < 0)
            return fail_errno(fault, "drop capability %d", number);
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setgroups(identity->group_count, identity->groups) < 0
        || setresgid(identity->gid, identity->gid, identity->gid) < 0
        || setresuid(identity->uid, identity->uid, identity->uid) < 0 || prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
        return fail_errno(fault, "become user %u", identity->uid);
    if (set_capabilities(effective & permitted, permitted, inheritable) < 0)
        return fail_errno(fault, "take the process's capabilities");
    for (int number = 0; number < 64; number++)
        if (ambient >> number & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) < 0)
            return fail_errno(fault, "keep capability %d for a user", number);
    if (json_flag(process, "noNewPrivileges") && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return fail_errno(fault, "forbid new privileges");
    // Else the terminal's signals and /proc/self would belong to root.
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    return 0;
}
