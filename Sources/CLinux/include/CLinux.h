// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// One function per system call that Swift cannot name: variadic in libc, or newer than Debian 12's glibc.
// Each returns the call's result, or -errno, so that no caller ever reads `errno` itself.

#ifndef CLINUX_H
#define CLINUX_H

#include "Attributes.h"
#include "Guest.h"
#include "Processor.h"
#include "Probe.h"
#include "Storage.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct stat;

// Constants that are macros with casts, or missing from older headers; Swift imports them as plain integers.
enum {
    ZN_RESOLVE_NO_XDEV = 0x01,
    ZN_RESOLVE_NO_MAGICLINKS = 0x02,
    ZN_RESOLVE_NO_SYMLINKS = 0x04,
    ZN_RESOLVE_BENEATH = 0x08,
    ZN_RESOLVE_IN_ROOT = 0x10,
    ZN_MOUNT_ATTR_RDONLY = 0x1,
    ZN_MOUNT_ATTR_NOSUID = 0x2,
    ZN_MOUNT_ATTR_NODEV = 0x4,
    ZN_MOUNT_ATTR_NOEXEC = 0x8,
    ZN_MOUNT_ATTR_ATIME_MASK = 0x70,
    ZN_MOUNT_ATTR_RELATIME = 0x00,
    ZN_MOUNT_ATTR_NOATIME = 0x10,
    ZN_MOUNT_ATTR_STRICTATIME = 0x20,
    ZN_MOUNT_ATTR_NODIRATIME = 0x80,
    ZN_MOUNT_ATTR_NOSYMFOLLOW = 0x200000,
    ZN_AT_RECURSIVE = 0x8000,
};

// Files.
int zn_openat2(int dirfd, const char *_Nonnull path, uint64_t flags, uint64_t mode, uint64_t resolve);
int zn_openat(int dirfd, const char *_Nonnull path, int flags, mode_t mode);
int zn_close(int fd);
int zn_close_range(unsigned int first, unsigned int last, unsigned int flags);
ssize_t zn_read(int fd, void *_Nonnull buffer, size_t count);
ssize_t zn_write(int fd, const void *_Nonnull buffer, size_t count);
int zn_fcntl(int fd, int command, long argument);
int zn_dup3(int from, int to, int flags);
int zn_mkdirat(int dirfd, const char *_Nonnull path, mode_t mode);
int zn_mknodat(int dirfd, const char *_Nonnull path, mode_t mode, unsigned int major, unsigned int minor);
int zn_symlinkat(const char *_Nonnull target, int dirfd, const char *_Nonnull path);
int zn_linkat(int fromfd, const char *_Nonnull from, int tofd, const char *_Nonnull to, int flags);
int zn_unlinkat(int dirfd, const char *_Nonnull path, int flags);
int zn_renameat2(int fromfd, const char *_Nonnull from, int tofd, const char *_Nonnull to, unsigned int flags);
ssize_t zn_readlinkat(int dirfd, const char *_Nonnull path, char *_Nonnull buffer, size_t size);
int zn_fstatat(int dirfd, const char *_Nonnull path, struct stat *_Nonnull result, int flags);
/// The magic number of the file system that holds the file.
int zn_fstatfs_magic(int fd, int64_t *_Nonnull magic);
int zn_fchownat(int dirfd, const char *_Nonnull path, uid_t uid, gid_t gid, int flags);
int zn_fchmodat(int dirfd, const char *_Nonnull path, mode_t mode);
int zn_fchmod(int fd, mode_t mode);
ssize_t zn_pwrite(int fd, const void *_Nonnull buffer, size_t count, off_t offset);
ssize_t zn_pread(int fd, void *_Nonnull buffer, size_t count, off_t offset);
int zn_ftruncate(int fd, off_t size);
int zn_utimensat(int dirfd, const char *_Nonnull path, int64_t seconds, int64_t nanoseconds, int flags);
int zn_fsetxattr(int fd, const char *_Nonnull name, const void *_Nullable value, size_t size);
int zn_lsetxattr(const char *_Nonnull path, const char *_Nonnull name, const void *_Nullable value, size_t size);
int zn_flock(int fd, int operation);
/* F_OFD_SETLK of F_RDLCK on the whole file, fcntl_locking(2); never waits. */
int zn_ofd_lock_shared(int fd);
int zn_fsync(int fd);
/// Waits until the file system that holds the file is on its disk.
int zn_syncfs(int fd);
int zn_pipe2(int fds[_Nonnull 2], int flags);
int zn_memfd_create(const char *_Nonnull name, unsigned int flags);
/// Reads raw `linux_dirent64` records.
ssize_t zn_getdents64(int fd, void *_Nonnull buffer, size_t size);

// Mounts (fsopen(2) and its family, Linux 5.2; mount_setattr(2), Linux 5.12).
int zn_fsopen(const char *_Nonnull type, unsigned int flags);
int zn_fsconfig_flag(int fd, const char *_Nonnull key);
int zn_fsconfig_string(int fd, const char *_Nonnull key, const char *_Nonnull value);
int zn_fsconfig_create(int fd);
int zn_fsmount(int fd, unsigned int attributes);
int zn_open_tree(int dirfd, const char *_Nonnull path, bool recursive);
/// Attaches the mount `fromfd` on the file that `tofd` refers to; no path is looked up.
int zn_move_mount(int fromfd, int tofd);
int zn_mount_setattr(int fd, bool recursive, uint64_t set, uint64_t clear, uint64_t propagation);
/// mount(2) of a new file system with all its options in one string.
int zn_mount(
    const char *_Nonnull source, const char *_Nonnull target, const char *_Nonnull type, unsigned long flags,
    const char *_Nonnull options);
/// Sets the propagation of the whole tree below `/`.
int zn_set_root_propagation(unsigned long propagation);
int zn_pivot_root(const char *_Nonnull new_root, const char *_Nonnull put_old);
int zn_umount_detach(const char *_Nonnull path);
int zn_fchdir(int fd);
int zn_chdir(const char *_Nonnull path);
int zn_chroot(const char *_Nonnull path);

// Processes.
/// clone3(2). In the child it returns 0 on a copy of the caller's memory, as fork(2) does.
/// `pidfd` is written in the parent; `cgroup_fd` below 0 means that CLONE_INTO_CGROUP is not asked for.
/// Where the call is missing, clone(2) does it: no flag may be one of those that only clone3(2) has.
int zn_clone3(uint64_t flags, int *_Nonnull pidfd, int cgroup_fd);
/// clone(2) as fork(2): for who already runs under a filter, as the default one refuses clone3(2), whose flags no
/// filter can see.
int zn_fork(void);
/// The same, but the child is the caller's sibling (CLONE_PARENT); its pidfd is written in the caller.
int zn_fork_sibling(int *_Nonnull pidfd);
int zn_pidfd_open(pid_t pid);
int zn_pidfd_send_signal(int pidfd, int signal);
/// waitid(P_PIDFD). 0: still runs (only with `no_hang`); 1: exited with `*status`; 2: killed by signal `*status`.
int zn_wait_pidfd(int pidfd, bool no_hang, int *_Nonnull status);
/// The end of a process that others wait for: as zn_wait_pidfd, for a pidfd that was open when it ended. 0: not known yet;
/// -ENOTTY, -EINVAL before Linux 6.15.
int zn_pidfd_exit(int pidfd, int *_Nonnull status);
int zn_setns(int fd, int flags);
int zn_unshare(int flags);
int zn_execve(const char *_Nonnull path, char *_Nullable const *_Nonnull argv, char *_Nullable const *_Nonnull envp);
int zn_setsid(void);
/// Whether the caller's effective user may execute the file.
int zn_may_execute(const char *_Nonnull path);
int zn_setresuid(uid_t uid);
int zn_setresgid(gid_t gid);
int zn_setgroups(size_t count, const gid_t *_Nonnull groups);
int zn_sethostname(const char *_Nonnull name, size_t length);
int zn_setdomainname(const char *_Nonnull name, size_t length);
int zn_getrlimit(int resource, uint64_t *_Nonnull soft, uint64_t *_Nonnull hard);
int zn_setrlimit(int resource, uint64_t soft, uint64_t hard);
int zn_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int zn_seccomp_filter(const void *_Nonnull instructions, unsigned short count, unsigned int flags);
/// Whether the kernel knows these SECCOMP_FILTER_FLAG bits. Nothing is filtered: it looks at the flags first, and then
/// finds no filter there.
bool zn_seccomp_knows_flags(unsigned int flags);
int zn_reset_signals(void);
/// Adds to a `posix_spawn_file_actions_t` that every descriptor from `first` on is closed (glibc 2.34).
int zn_spawn_close_from(void *_Nonnull actions, int first);
int zn_keyctl_join_session(const char *_Nonnull name);

// Waiting and terminals.
int zn_poll(void *_Nonnull pollfds, size_t count, int timeout_ms);
/// The same for a process that is about to sleep for long: gives back the memory that its code takes, and what else is as
/// it is in its file. What is needed again comes from the page cache.
int zn_poll_resting(void *_Nonnull pollfds, size_t count, int timeout_ms);
/// A signalfd for the set bits of `mask` (bit n-1 for signal n); blocks these signals in the caller.
int zn_signalfd(uint64_t mask);
int zn_sigmask(uint64_t mask);
int zn_ioctl(int fd, unsigned long request, uint64_t argument);
int zn_ioctl_pointer(int fd, unsigned long request, void *_Nonnull argument);
int zn_socketpair_seqpacket(int fds[_Nonnull 2]);
int zn_socketpair_stream(int fds[_Nonnull 2]);
ssize_t zn_send_fd(int socket, const void *_Nonnull data, size_t size, int fd);
/// Makes a listening unix socket of `type` (SOCK_SEQPACKET, SOCK_STREAM) at a path, of mode 0600.
int zn_unix_listen(const char *_Nonnull path, int type);
int zn_unix_connect(const char *_Nonnull path, int type);
int zn_accept(int socket);
/// epoll(7), level-triggered; an event is known by its tag.
int zn_epoll_create(void);
int zn_epoll_change(int queue, int operation, int fd, uint32_t events, uint64_t tag);
/// Returns how many there are; of each one its tag and its events.
int zn_epoll_wait(
    int queue, uint64_t *_Nonnull tags, uint32_t *_Nonnull events, size_t room, int timeout_ms);
/// The user at the other end of a connected unix socket, as the caller's user namespace shows it.
int zn_peer_uid(int socket, uid_t *_Nonnull uid);
/// Receives one message; `*fd` is -1 where none came with it.
ssize_t zn_receive_fd(int socket, void *_Nonnull buffer, size_t size, int *_Nonnull fd);

// eBPF device programs (bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE).
int zn_bpf_load_device(const void *_Nonnull instructions, uint32_t count);
/// Attaches a program beside the others of the group, or in place of the attached `replaced_fd` where that is not negative.
int zn_bpf_attach_device(int cgroup_fd, int program_fd, int replaced_fd);
int zn_bpf_detach_device(int cgroup_fd, int program_fd);
/// Returns how many device programs the group has itself, and the numbers of the first `count`.
int zn_bpf_device_programs(int cgroup_fd, uint32_t *_Nonnull ids, uint32_t count);
/// Opens a program; `*ours` says whether `zn_bpf_load_device` loaded it.
int zn_bpf_open_program(uint32_t id, bool *_Nonnull ours);

// Notifications.
int zn_eventfd(void);
int zn_inotify(void);
int zn_inotify_watch(int fd, const char *_Nonnull path, uint32_t events);

// Virtual machines (/dev/kvm, the kernel's Documentation/virt/kvm/api.rst).
// Requests whose numbers are computed by macros.
enum {
    ZN_KVM_GET_API_VERSION = KVM_GET_API_VERSION,
    ZN_KVM_CREATE_VM = KVM_CREATE_VM,
    ZN_KVM_GET_VCPU_MMAP_SIZE = KVM_GET_VCPU_MMAP_SIZE,
    ZN_KVM_CREATE_VCPU = KVM_CREATE_VCPU,
    ZN_KVM_SET_USER_MEMORY_REGION = KVM_SET_USER_MEMORY_REGION,
#if defined(__x86_64__)
    ZN_KVM_SET_TSS_ADDR = KVM_SET_TSS_ADDR,
    ZN_KVM_GET_SUPPORTED_CPUID = KVM_GET_SUPPORTED_CPUID,
    ZN_KVM_SET_CPUID2 = KVM_SET_CPUID2,
    ZN_KVM_GET_SREGS = KVM_GET_SREGS,
    ZN_KVM_SET_SREGS = KVM_SET_SREGS,
    ZN_KVM_SET_REGS = KVM_SET_REGS,
#endif
};
/// mmap(2), shared, readable and writable; anonymous memory where `fd` is below 0.
int zn_map_shared(int fd, size_t size, void *_Nullable *_Nonnull address);
int zn_unmap(void *_Nonnull address, size_t size);
/// Runs a virtual CPU until its next exit and returns the reason, KVM_EXIT_…; -ETIMEDOUT after `timeout_ms`. `page` is
/// the mapping of the virtual CPU; `*suberror` is set for KVM_EXIT_INTERNAL_ERROR.
int zn_kvm_run(int vcpu, const void *_Nonnull page, int timeout_ms, uint32_t *_Nonnull suberror);

// Macros of the headers as functions.
unsigned int zn_major(dev_t device);
unsigned int zn_minor(dev_t device);
uint64_t zn_tiocgptpeer(void);

/// The commit that the executable was built from; `make build` writes it into a section of the finished file.
const char *_Nonnull zn_commit(void);

/// The words that the program was called with, the last followed by NULL: argv. The standard library's own reads them from
/// /proc, and before main.
int zn_argument_count(void);
char *_Nullable *_Nonnull zn_arguments(void);

/// Overwrites the arguments and the environment that /proc shows of the calling process.
void zn_hide_arguments(const char *_Nonnull name);

/// Executes the program again, with the same words, through a read-only mount of its file, as CStart does it earlier for
/// the verbs that engines call often. Returns -errno.
int zn_execute_read_only(void);

/// Whether the running executable is reached through a read-only mount, as CStart arranges.
bool zn_executable_is_read_only(void);

#endif
