// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define RESULT(call) ({ __typeof__(call) r_ = (call); r_ < 0 ? -errno : r_; })
#define AGAIN(call) ({ __typeof__(call) a_; do { a_ = (call); } while (a_ < 0 && errno == EINTR); a_ < 0 ? -errno : a_; })

// --- Files ---------------------------------------------------------------------------------------------------------

int zn_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
    struct { uint64_t flags, mode, resolve; } how = {flags, mode, resolve};
    long result;
    // EAGAIN: the kernel saw a rename or mount race during a scoped lookup (openat2(2)); a bounded retry is the remedy.
    for (int attempt = 0; attempt < 128; attempt++) {
        result = syscall(SYS_openat2, dirfd, path, &how, sizeof how);
        if (result >= 0 || (errno != EAGAIN && errno != EINTR)) break;
    }
    return (int)RESULT(result);
}
int zn_openat(int dirfd, const char *path, int flags, mode_t mode) { return AGAIN(openat(dirfd, path, flags, mode)); }
int zn_close(int fd) { return RESULT(close(fd)); }
int zn_close_range(unsigned int first, unsigned int last, unsigned int flags) {
    return (int)RESULT(syscall(SYS_close_range, first, last, flags));
}
ssize_t zn_read(int fd, void *buffer, size_t count) { return AGAIN(read(fd, buffer, count)); }
ssize_t zn_write(int fd, const void *buffer, size_t count) { return AGAIN(write(fd, buffer, count)); }
int zn_fcntl(int fd, int command, long argument) { return AGAIN(fcntl(fd, command, argument)); }
int zn_dup3(int from, int to, int flags) { return AGAIN(dup3(from, to, flags)); }
int zn_mkdirat(int dirfd, const char *path, mode_t mode) { return RESULT(mkdirat(dirfd, path, mode)); }
int zn_mknodat(int dirfd, const char *path, mode_t mode, unsigned int major, unsigned int minor) {
    return RESULT(mknodat(dirfd, path, mode, makedev(major, minor)));
}
int zn_symlinkat(const char *target, int dirfd, const char *path) { return RESULT(symlinkat(target, dirfd, path)); }
int zn_linkat(int fromfd, const char *from, int tofd, const char *to, int flags) {
    return RESULT(linkat(fromfd, from, tofd, to, flags));
}
int zn_unlinkat(int dirfd, const char *path, int flags) { return RESULT(unlinkat(dirfd, path, flags)); }
int zn_renameat2(int fromfd, const char *from, int tofd, const char *to, unsigned int flags) {
    return (int)RESULT(syscall(SYS_renameat2, fromfd, from, tofd, to, flags));
}
ssize_t zn_readlinkat(int dirfd, const char *path, char *buffer, size_t size) {
    return RESULT(readlinkat(dirfd, path, buffer, size));
}
int zn_fstatat(int dirfd, const char *path, struct stat *result, int flags) {
    return RESULT(fstatat(dirfd, path, result, flags));
}
int zn_fstatfs_magic(int fd, int64_t *magic) {
    struct statfs info;
    int result = AGAIN(fstatfs(fd, &info));
    if (result == 0) *magic = (int64_t)info.f_type;
    return result;
}
int zn_fchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags) {
    return RESULT(fchownat(dirfd, path, uid, gid, flags));
}
int zn_fchmodat(int dirfd, const char *path, mode_t mode) { return RESULT(fchmodat(dirfd, path, mode, 0)); }
int zn_fchmod(int fd, mode_t mode) { return RESULT(fchmod(fd, mode)); }
ssize_t zn_pwrite(int fd, const void *buffer, size_t count, off_t offset) {
    return AGAIN(pwrite(fd, buffer, count, offset));
}
ssize_t zn_pread(int fd, void *buffer, size_t count, off_t offset) {
    return AGAIN(pread(fd, buffer, count, offset));
}
int zn_ftruncate(int fd, off_t size) { return AGAIN(ftruncate(fd, size)); }
int zn_utimensat(int dirfd, const char *path, int64_t seconds, int64_t nanoseconds, int flags) {
    struct timespec times[2] = {{seconds, nanoseconds}, {seconds, nanoseconds}};
    return RESULT(utimensat(dirfd, path, times, flags));
}
int zn_fsetxattr(int fd, const char *name, const void *value, size_t size) {
    return RESULT(fsetxattr(fd, name, value, size, 0));
}
int zn_lsetxattr(const char *path, const char *name, const void *value, size_t size) {
    return RESULT(lsetxattr(path, name, value, size, 0));
}
int zn_ofd_lock_shared(int fd) {
    struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    return AGAIN(fcntl(fd, F_OFD_SETLK, &whole));
}

int zn_flock(int fd, int operation) { return AGAIN(flock(fd, operation)); }
int zn_fsync(int fd) { return AGAIN(fsync(fd)); }
int zn_syncfs(int fd) { return AGAIN(syncfs(fd)); }
int zn_pipe2(int fds[2], int flags) { return RESULT(pipe2(fds, flags)); }
int zn_memfd_create(const char *name, unsigned int flags) { return (int)RESULT(syscall(SYS_memfd_create, name, flags)); }
ssize_t zn_getdents64(int fd, void *buffer, size_t size) { return RESULT(syscall(SYS_getdents64, fd, buffer, size)); }

// --- Mounts --------------------------------------------------------------------------------------------------------

int zn_fsopen(const char *type, unsigned int flags) {
    return (int)RESULT(syscall(SYS_fsopen, type, flags | FSOPEN_CLOEXEC));
}
int zn_fsconfig_flag(int fd, const char *key) {
    return (int)RESULT(syscall(SYS_fsconfig, fd, FSCONFIG_SET_FLAG, key, NULL, 0));
}
int zn_fsconfig_string(int fd, const char *key, const char *value) {
    return (int)RESULT(syscall(SYS_fsconfig, fd, FSCONFIG_SET_STRING, key, value, 0));
}
int zn_fsconfig_create(int fd) {
    return (int)RESULT(syscall(SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
}
int zn_fsmount(int fd, unsigned int attributes) {
    return (int)RESULT(syscall(SYS_fsmount, fd, FSMOUNT_CLOEXEC, attributes));
}
int zn_open_tree(int dirfd, const char *path, bool recursive) {
    unsigned int flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (recursive ? ZN_AT_RECURSIVE : 0);
    return (int)RESULT(syscall(SYS_open_tree, dirfd, path, flags));
}
int zn_move_mount(int fromfd, int tofd) {
    return (int)RESULT(
        syscall(SYS_move_mount, fromfd, "", tofd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
}
static int set_attributes(int fd, const char *path, bool recursive, uint64_t set, uint64_t clear, uint64_t propagation) {
    struct { uint64_t set, clear, propagation, userns_fd; } attributes = {set, clear, propagation, 0};
    unsigned int flags = (*path ? 0 : AT_EMPTY_PATH) | (recursive ? ZN_AT_RECURSIVE : 0);
    return (int)RESULT(syscall(SYS_mount_setattr, fd, path, flags, &attributes, sizeof attributes));
}
int zn_mount_setattr(int fd, bool recursive, uint64_t set, uint64_t clear, uint64_t propagation) {
    return set_attributes(fd, "", recursive, set, clear, propagation);
}
int zn_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *options) {
    return RESULT(mount(source, target, type, flags, options));
}
int zn_set_root_propagation(unsigned long propagation) {
    return RESULT(mount(NULL, "/", NULL, MS_REC | propagation, NULL));
}
int zn_pivot_root(const char *new_root, const char *put_old) {
    return (int)RESULT(syscall(SYS_pivot_root, new_root, put_old));
}
int zn_umount_detach(const char *path) { return RESULT(umount2(path, MNT_DETACH)); }
int zn_fchdir(int fd) { return RESULT(fchdir(fd)); }
int zn_chdir(const char *path) { return RESULT(chdir(path)); }
int zn_chroot(const char *path) { return RESULT(chroot(path)); }

// --- Processes -----------------------------------------------------------------------------------------------------

// clone(2) in the place of clone3(2), which the seccomp filters of containers hide as they cannot see its flags. It
// cannot put the child into a group: the child goes there itself, before it does anything else, and tells whether it did.
static int clone_before_clone3(uint64_t flags, int *pidfd, int cgroup_fd) {
    int report[2] = {-1, -1};
    int procs = -1;
    if (cgroup_fd >= 0) {
        // Opened here: a child in a new user namespace has no right to the file.
        procs = openat(cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
        if (procs < 0) return -errno;
        if (pipe2(report, O_CLOEXEC) < 0) {
            int error = -errno;
            close(procs);
            return error;
        }
    }
    int result = (int)RESULT(syscall(SYS_clone, flags | CLONE_PIDFD | SIGCHLD, 0, pidfd, 0, 0));
    if (cgroup_fd < 0) return result;
    int error = 0;
    if (result == 0) {
        if (write(procs, "0", 1) < 0) {
            error = errno;
            if (write(report[1], &error, sizeof error) != sizeof error) _exit(126);
            _exit(127);
        }
    }
    close(report[1]);
    close(procs);
    // Nothing comes from a child that is where it should be: its end is closed.
    if (result > 0 && AGAIN(read(report[0], &error, sizeof error)) > 0) {
        siginfo_t info;
        (void)AGAIN(waitid(P_PIDFD, (id_t)*pidfd, &info, WEXITED));
        close(*pidfd);
        result = -error;
    }
    close(report[0]);
    return result;
}
int zn_clone3(uint64_t flags, int *pidfd, int cgroup_fd) {
    struct clone_args args;
    memset(&args, 0, sizeof args);
    args.flags = flags | CLONE_PIDFD;
    args.pidfd = (uint64_t)(uintptr_t)pidfd;
    args.exit_signal = SIGCHLD;
    if (cgroup_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)cgroup_fd;
    }
    int result = (int)RESULT(syscall(SYS_clone3, &args, sizeof args));
    return result == -ENOSYS ? clone_before_clone3(flags, pidfd, cgroup_fd) : result;
}
int zn_fork(void) { return (int)RESULT(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }
int zn_fork_sibling(int *pidfd) {
    return (int)RESULT(syscall(SYS_clone, CLONE_PARENT | CLONE_PIDFD | SIGCHLD, 0, pidfd, 0, 0));
}
int zn_pidfd_open(pid_t pid) { return (int)RESULT(syscall(SYS_pidfd_open, pid, 0)); }
int zn_pidfd_send_signal(int pidfd, int signal) {
    return (int)RESULT(syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
}
int zn_wait_pidfd(int pidfd, bool no_hang, int *status) {
    siginfo_t info;
    info.si_pid = 0;
    int result = AGAIN(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | (no_hang ? WNOHANG : 0)));
    if (result < 0 || info.si_pid == 0) return result;
    *status = info.si_status;
    return info.si_code == CLD_EXITED ? 1 : 2;
}
// struct pidfd_info of linux/pidfd.h, in its first version; newer than Debian 12's headers.
struct pidfd_exit {
    uint64_t mask;
    uint64_t cgroup;
    uint32_t ids[11];
    int32_t exit_code;
};
int zn_pidfd_exit(int pidfd, int *status) {
    enum { PIDFD_INFO_EXIT = 1 << 3 };
    struct pidfd_exit info;
    memset(&info, 0, sizeof info);
    info.mask = PIDFD_INFO_EXIT;
    int result = RESULT(ioctl(pidfd, _IOWR(0xFF, 11, struct pidfd_exit), &info));
    // Without the flag in the answer it has not been waited for yet.
    if (result < 0 || !(info.mask & PIDFD_INFO_EXIT)) return result;
    *status = WIFSIGNALED(info.exit_code) ? WTERMSIG(info.exit_code) : WEXITSTATUS(info.exit_code);
    return WIFSIGNALED(info.exit_code) ? 2 : 1;
}
int zn_setns(int fd, int flags) { return RESULT(setns(fd, flags)); }
int zn_unshare(int flags) { return RESULT(unshare(flags)); }
int zn_execve(const char *path, char *const *argv, char *const *envp) { return RESULT(execve(path, argv, envp)); }
int zn_setsid(void) { return RESULT(setsid()); }
int zn_may_execute(const char *path) {
    struct stat status;
    if (stat(path, &status) < 0) return -errno;
    // As execve(2) says of a directory.
    if (!S_ISREG(status.st_mode)) return -EACCES;
    // Not libc's wrapper, which computes from the real user where the kernel lacks faccessat2(2), Linux 5.8.
    return (int)RESULT(syscall(SYS_faccessat2, AT_FDCWD, path, X_OK, AT_EACCESS));
}
// The raw calls: glibc's wrappers would broadcast to threads, and there are none.
int zn_setresuid(uid_t uid) { return (int)RESULT(syscall(SYS_setresuid, uid, uid, uid)); }
int zn_setresgid(gid_t gid) { return (int)RESULT(syscall(SYS_setresgid, gid, gid, gid)); }
int zn_setgroups(size_t count, const gid_t *groups) { return (int)RESULT(syscall(SYS_setgroups, count, groups)); }
int zn_sethostname(const char *name, size_t length) { return RESULT(sethostname(name, length)); }
int zn_setdomainname(const char *name, size_t length) { return RESULT(setdomainname(name, length)); }
int zn_getrlimit(int resource, uint64_t *soft, uint64_t *hard) {
    struct rlimit limit;
    int result = RESULT(getrlimit((__rlimit_resource_t)resource, &limit));
    if (result == 0) {
        *soft = limit.rlim_cur;
        *hard = limit.rlim_max;
    }
    return result;
}
int zn_setrlimit(int resource, uint64_t soft, uint64_t hard) {
    struct rlimit limit = {soft, hard};
    return RESULT(setrlimit((__rlimit_resource_t)resource, &limit));
}
int zn_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
    return RESULT(prctl(option, a, b, c, d));
}
int zn_seccomp_filter(const void *instructions, unsigned short count, unsigned int flags) {
    struct sock_fprog program = {count, (struct sock_filter *)instructions};
    return (int)RESULT(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program));
}
bool zn_seccomp_knows_flags(unsigned int flags) {
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, NULL) < 0 && errno == EFAULT;
}
int zn_spawn_close_from(void *actions, int first) {
    return -posix_spawn_file_actions_addclosefrom_np((posix_spawn_file_actions_t *)actions, first);
}
int zn_reset_signals(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    for (int number = 1; number < NSIG; number++) sigaction(number, &action, NULL);  // SIGKILL and SIGSTOP refuse: fine
    return zn_sigmask(0);
}
int zn_keyctl_join_session(const char *name) {
    return (int)RESULT(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name, 0, 0, 0));
}

// --- Waiting and terminals -----------------------------------------------------------------------------------------

int zn_poll(void *pollfds, size_t count, int timeout_ms) { return RESULT(poll(pollfds, count, timeout_ms)); }
static void fill(sigset_t *set, uint64_t mask) {
    sigemptyset(set);
    for (int number = 1; number <= 64; number++)
        if (mask >> (number - 1) & 1) sigaddset(set, number);
}
int zn_sigmask(uint64_t mask) {
    sigset_t set;
    fill(&set, mask);
    return RESULT(sigprocmask(SIG_SETMASK, &set, NULL));
}
int zn_signalfd(uint64_t mask) {
    sigset_t set;
    fill(&set, mask);
    int result = RESULT(sigprocmask(SIG_BLOCK, &set, NULL));
    return result < 0 ? result : RESULT(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}
int zn_ioctl(int fd, unsigned long request, uint64_t argument) { return RESULT(ioctl(fd, request, argument)); }
int zn_ioctl_pointer(int fd, unsigned long request, void *argument) { return RESULT(ioctl(fd, request, argument)); }
int zn_socketpair_seqpacket(int fds[2]) { return RESULT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds)); }

int zn_socketpair_stream(int fds[2]) { return RESULT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)); }

static int unix_address(const char *path, struct sockaddr_un *address) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address->sun_path) return -ENAMETOOLONG;
    strcpy(address->sun_path, path);
    return 0;
}
int zn_unix_listen(const char *path, int type) {
    struct sockaddr_un address;
    int result = unix_address(path, &address);
    if (result < 0) return result;
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    // The mode of the file is what the mask leaves of 0777; there is no other thread that could notice.
    mode_t before = umask(0177);
    result = RESULT(bind(fd, (struct sockaddr *)&address, sizeof address));
    umask(before);
    if (result >= 0) result = RESULT(listen(fd, 4));
    if (result < 0) {
        close(fd);
        return result;
    }
    return fd;
}
int zn_unix_connect(const char *path, int type) {
    struct sockaddr_un address;
    int result = unix_address(path, &address);
    if (result < 0) return result;
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    result = AGAIN(connect(fd, (struct sockaddr *)&address, sizeof address));
    if (result < 0) {
        close(fd);
        return result;
    }
    return fd;
}
int zn_accept(int socket) { return AGAIN(accept4(socket, NULL, NULL, SOCK_CLOEXEC)); }
int zn_epoll_create(void) { return RESULT(epoll_create1(EPOLL_CLOEXEC)); }
int zn_epoll_change(int queue, int operation, int fd, uint32_t events, uint64_t tag) {
    struct epoll_event event = {.events = events, .data.u64 = tag};
    return RESULT(epoll_ctl(queue, operation, fd, &event));
}
int zn_epoll_wait(int queue, uint64_t *tags, uint32_t *events, size_t room, int timeout_ms) {
    struct epoll_event found[64];
    int count = RESULT(epoll_wait(queue, found, room < 64 ? (int)room : 64, timeout_ms));
    for (int i = 0; i < count; i++) {
        tags[i] = found[i].data.u64;
        events[i] = found[i].events;
    }
    return count;
}
int zn_peer_uid(int socket, uid_t *uid) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    int result = RESULT(getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size));
    if (result == 0) *uid = peer.uid;
    return result;
}

union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
};
ssize_t zn_send_fd(int socket, const void *data, size_t size, int fd) {
    struct iovec vector = {(void *)data, size};
    union control control;
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (fd >= 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    return AGAIN(sendmsg(socket, &message, MSG_NOSIGNAL));
}
ssize_t zn_receive_fd(int socket, void *buffer, size_t size, int *fd) {
    struct iovec vector = {buffer, size};
    union control control;
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    *fd = -1;
    ssize_t result = AGAIN(recvmsg(socket, &message, MSG_CMSG_CLOEXEC));
    if (result < 0) return result;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof *fd))
        memcpy(fd, CMSG_DATA(header), sizeof *fd);
    return result;
}

// --- eBPF ----------------------------------------------------------------------------------------------------------

int zn_bpf_load_device(const void *instructions, uint32_t count) {
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    attributes.insns = (uint64_t)(uintptr_t)instructions;
    attributes.insn_cnt = count;
    attributes.license = (uint64_t)(uintptr_t) "Apache-2.0";
    memcpy(attributes.prog_name, "zone_devices", sizeof "zone_devices");
    return (int)RESULT(syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes));
}
int zn_bpf_attach_device(int cgroup_fd, int program_fd, int replaced_fd) {
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.target_fd = (uint32_t)cgroup_fd;
    attributes.attach_bpf_fd = (uint32_t)program_fd;
    attributes.attach_type = BPF_CGROUP_DEVICE;
    attributes.attach_flags = BPF_F_ALLOW_MULTI | (replaced_fd < 0 ? 0 : BPF_F_REPLACE);
    if (replaced_fd >= 0) attributes.replace_bpf_fd = (uint32_t)replaced_fd;
    return (int)RESULT(syscall(SYS_bpf, BPF_PROG_ATTACH, &attributes, sizeof attributes));
}
int zn_bpf_detach_device(int cgroup_fd, int program_fd) {
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.target_fd = (uint32_t)cgroup_fd;
    attributes.attach_bpf_fd = (uint32_t)program_fd;
    attributes.attach_type = BPF_CGROUP_DEVICE;
    return (int)RESULT(syscall(SYS_bpf, BPF_PROG_DETACH, &attributes, sizeof attributes));
}
int zn_bpf_device_programs(int cgroup_fd, uint32_t *ids, uint32_t count) {
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.query.target_fd = (uint32_t)cgroup_fd;
    attributes.query.attach_type = BPF_CGROUP_DEVICE;
    attributes.query.prog_ids = (uint64_t)(uintptr_t)ids;
    attributes.query.prog_cnt = count;
    int result = (int)RESULT(syscall(SYS_bpf, BPF_PROG_QUERY, &attributes, sizeof attributes));
    return result < 0 ? result : (int)attributes.query.prog_cnt;
}
int zn_bpf_open_program(uint32_t id, bool *ours) {
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_id = id;
    int fd = (int)RESULT(syscall(SYS_bpf, BPF_PROG_GET_FD_BY_ID, &attributes, sizeof attributes));
    if (fd < 0) return fd;
    struct bpf_prog_info info;
    memset(&info, 0, sizeof info);
    memset(&attributes, 0, sizeof attributes);
    attributes.info.bpf_fd = (uint32_t)fd;
    attributes.info.info_len = sizeof info;
    attributes.info.info = (uint64_t)(uintptr_t)&info;
    long result = RESULT(syscall(SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &attributes, sizeof attributes));
    *ours = result >= 0 && strcmp(info.name, "zone_devices") == 0;
    return fd;
}

// --- Notifications -------------------------------------------------------------------------------------------------

int zn_eventfd(void) { return RESULT(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }
int zn_inotify(void) { return RESULT(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)); }
int zn_inotify_watch(int fd, const char *path, uint32_t events) { return RESULT(inotify_add_watch(fd, path, events)); }

// --- KVM -----------------------------------------------------------------------------------------------------------

int zn_map_shared(int fd, size_t size, void **address) {
    void *result = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
    if (result == MAP_FAILED) return -errno;
    *address = result;
    return 0;
}
int zn_unmap(void *address, size_t size) { return RESULT(munmap(address, size)); }

// A timer that signals this thread alone, with a signal that is blocked everywhere but inside KVM_RUN: it can neither
// be missed between the start of the timer and the entry into the guest, nor reach a handler or kill the process.
int zn_kvm_run(int vcpu, const void *page, int timeout_ms, uint32_t *suberror) {
    sigset_t alarm, before;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGALRM;
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    // struct kvm_signal_mask: the size of the kernel's set, then all signals but SIGALRM.
    struct { uint32_t size; uint64_t blocked; } __attribute__((packed)) mask = {8, ~(1ULL << (SIGALRM - 1))};
    struct itimerspec time = {.it_value = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L}};
    timer_t timer;
    int result = RESULT(timer_create(CLOCK_MONOTONIC, &event, &timer));
    if (result < 0) return result;
    sigprocmask(SIG_BLOCK, &alarm, &before);
    result = RESULT(ioctl(vcpu, KVM_SET_SIGNAL_MASK, &mask));
    if (result >= 0) result = RESULT(timer_settime(timer, 0, &time, NULL));
    if (result >= 0) result = RESULT(ioctl(vcpu, KVM_RUN, 0));
    timer_delete(timer);
    sigtimedwait(&alarm, NULL, &(struct timespec){0, 0});
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (result == -EINTR) return -ETIMEDOUT;
    if (result < 0) return result;
    const struct kvm_run *run = page;
    if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR) *suberror = run->internal.suberror;
    return (int)run->exit_reason;
}

// --- Macros --------------------------------------------------------------------------------------------------------

unsigned int zn_major(dev_t device) { return major(device); }
unsigned int zn_minor(dev_t device) { return minor(device); }
uint64_t zn_tiocgptpeer(void) { return TIOCGPTPEER; }

// --- The running executable ----------------------------------------------------------------------------------------

// Volatile, as its content changes after compilation.
__attribute__((section(".zonectl_commit"), used)) static const volatile char commit[48] = "unknown";
const char *zn_commit(void) { return (const char *)commit; }


// The kernel lays the arguments out one after another, and the environment behind them; libc hands both to constructors.
static int argument_count;
static char **all_arguments;
static char *first_argument;
static size_t arguments_length;
static size_t all_length;
__attribute__((constructor)) static void remember_arguments(int argc, char **argv, char **envp) {
    argument_count = argc;
    all_arguments = argv;
    if (argc < 1) return;
    char *last = argv[argc - 1];
    first_argument = argv[0];
    arguments_length = all_length = (size_t)(last - first_argument) + strlen(last);
    for (; *envp; envp++) last = *envp;
    if (last > first_argument) all_length = (size_t)(last - first_argument) + strlen(last);
}
int zn_argument_count(void) { return argument_count; }
char **zn_arguments(void) { return all_arguments; }
// What the Swift runtime asks for CommandLine's sake. Its own object finds the arguments by reading and parsing
// /proc/self/maps before main, whether anybody asks or not: with these two defined it is not linked.
__attribute__((visibility("hidden"))) char **_swift_stdlib_getUnsafeArgvArgc(int *count) {
    *count = argument_count;
    return all_arguments;
}
__attribute__((visibility("hidden"))) void _swift_stdlib_overrideUnsafeArgvArgc(char **arguments, int count) {
    all_arguments = arguments;
    argument_count = count;
}
void zn_hide_arguments(const char *name) {
    if (!first_argument) return;
    memset(first_argument, 0, all_length);
    strncpy(first_argument, name, arguments_length);
    prctl(PR_SET_NAME, name, 0, 0, 0);
}

int zn_execute_read_only(void) {
    int tree = zn_open_tree(AT_FDCWD, "/proc/self/exe", false);
    if (tree < 0) return tree;
    int result = zn_mount_setattr(tree, false, ZN_MOUNT_ATTR_RDONLY, 0, 0);
    // See CStart: the mount has no path.
    if (result >= 0) result = RESULT(setenv("SWIFT_BACKTRACE", "enable=no,swift-backtrace=/dev/null", 1));
    if (result >= 0) result = RESULT(syscall(SYS_execveat, tree, "", zn_arguments(), environ, AT_EMPTY_PATH));
    close(tree);
    return result;
}

bool zn_executable_is_read_only(void) {
    struct statfs info;
    return statfs("/proc/self/exe", &info) == 0 && (info.f_flags & ST_RDONLY);
}
