// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#define _GNU_SOURCE
#include "Storage.h"

#include <errno.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RESULT(call) ({ __typeof__(call) r_ = (call); r_ < 0 ? -errno : r_; })

// --- Loop devices --------------------------------------------------------------------------------------------------

int zn_loop_configure(int loop, int file) {
    struct loop_config config;
    memset(&config, 0, sizeof config);
    config.fd = (uint32_t)file;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    return RESULT(ioctl(loop, LOOP_CONFIGURE, &config));
}
int zn_loop_has_file(int loop, uint64_t device, uint64_t inode) {
    struct loop_info64 info;
    int result = RESULT(ioctl(loop, LOOP_GET_STATUS64, &info));
    if (result == -ENXIO) return 0;
    return result < 0 ? result : info.lo_device == device && info.lo_inode == inode;
}

// --- Sizes ---------------------------------------------------------------------------------------------------------

int zn_fstatfs_sizes(int fd, int64_t *total, int64_t *available) {
    struct statfs info;
    int result = RESULT(fstatfs(fd, &info));
    if (result < 0) return result;
    *total = (int64_t)(info.f_blocks * (uint64_t)info.f_frsize);
    *available = (int64_t)(info.f_bavail * (uint64_t)info.f_frsize);
    return 0;
}
int zn_ext4_resize(int fd, uint64_t blocks) {
    // EXT4_IOC_RESIZE_FS, which no header has.
    return RESULT(ioctl(fd, _IOW('f', 16, uint64_t), &blocks));
}

// --- Project quota -------------------------------------------------------------------------------------------------

// SYS_quotactl_fd is younger than some headers; the number is the same on all machines.
static int quota(int fd, int command, uint32_t project, void *argument) {
    return (int)RESULT(syscall(443, fd, (unsigned int)QCMD(command, PRJQUOTA), project, argument));
}
int zn_project_quota_is_enforced(int fd) {
    // Of XFS by name, but every file system with quota answers.
    struct fs_quota_stat state;
    memset(&state, 0, sizeof state);
    if (quota(fd, Q_XGETQSTAT, 0, &state) < 0) return 0;
    return (state.qs_flags & FS_QUOTA_PDQ_ENFD) != 0;
}
int zn_project_limit(int fd, uint32_t project, uint64_t bytes) {
    struct if_dqblk limit;
    memset(&limit, 0, sizeof limit);
    // In units of 1024 bytes. Without a soft limit there is no time of grace.
    limit.dqb_bhardlimit = bytes >> 10;
    limit.dqb_valid = QIF_BLIMITS;
    return quota(fd, Q_SETQUOTA, project, &limit);
}
int zn_project_use(int fd, uint32_t project, uint64_t *bytes, uint64_t *inodes) {
    struct if_dqblk use;
    memset(&use, 0, sizeof use);
    int result = quota(fd, Q_GETQUOTA, project, &use);
    // XFS knows nothing of a project that never was.
    if (result == -ENOENT || result == -ESRCH) result = 0;
    *bytes = use.dqb_curspace;
    *inodes = use.dqb_curinodes;
    return result;
}
int zn_project_set(int fd, uint32_t project) {
    struct fsxattr attributes;
    int result = RESULT(ioctl(fd, FS_IOC_FSGETXATTR, &attributes));
    if (result < 0) return result;
    attributes.fsx_projid = project;
    attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT;
    return RESULT(ioctl(fd, FS_IOC_FSSETXATTR, &attributes));
}
