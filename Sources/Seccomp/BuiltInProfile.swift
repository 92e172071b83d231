// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// The default profile where the distribution has none: what podman's allows, so that images meet the same kernel.
///
/// It differs from Debian 12's file in ``recent`` and in what it gives for `CAP_BPF` and `CAP_PERFMON`, as docker does.
/// After a change here, raise ``SeccompCache/revision``: a test reminds of it.
extension SeccompProfile {
    /// The built-in profile, without the ``Hardening``.
    public static var builtIn: SeccompProfile {
        var profile = SeccompProfile()
        profile.defaultAction = "SCMP_ACT_ERRNO"
        // A call that nobody here has heard of: programs try an older one.
        profile.defaultErrnoRet = UInt32(Errno.notImplemented.rawValue)
        profile.archMap = families
        profile.syscalls =
            [.denied(words(obsolete)), .allowed(words(allowed)), .allowed(words(recent))]
            + personalities.map { .allowed(["personality"], [.compare(0, "SCMP_CMP_EQ", $0)]) }
            + byArchitecture.map { arches, names in .allowed(words(names), arches: arches) }
            + byCapability.flatMap { capabilities, names in
                var denied = Rule.denied(words(names))
                denied.excludes.caps = capabilities
                return capabilities.map { .allowed(words(names), caps: [$0]) } + [denied]
            }
            + audit
        return profile
    }

    private static func words(_ text: String) -> [String] {
        text.split(whereSeparator: \.isWhitespace).map(String.init)
    }

    /// Calls that any zone may make.
    private static let allowed = """
        _llseek _newselect accept accept4 access adjtimex alarm bind brk capget capset chdir chmod chown
        chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
        clock_nanosleep clock_nanosleep_time64 clone clone3 close close_range connect copy_file_range creat
        dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
        epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64
        fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchown fchown32 fchownat fcntl fcntl64
        fdatasync fgetxattr flistxattr flock fork fremovexattr fsconfig fsetxattr fsmount fsopen fspick fstat
        fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_time64 futimesat
        get_mempolicy get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32
        geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid
        getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid
        getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr inotify_add_watch inotify_init
        inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_setup io_submit ioctl ioprio_get
        ioprio_set ipc keyctl kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown
        lchown32 lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lstat lstat64
        madvise mbind membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2
        mlockall mmap mmap2 mount mount_setattr move_mount mprotect mq_getsetattr mq_notify mq_open
        mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap msgctl msgget
        msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open open_tree
        openat openat2 pause pidfd_getfd pidfd_open pidfd_send_signal pipe pipe2 pivot_root pkey_alloc
        pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64
        process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev
        pwritev2 read readahead readdir readlink readlinkat readv reboot recv recvfrom recvmmsg
        recvmmsg_time64 recvmsg remap_file_pages removexattr rename renameat renameat2 restart_syscall rmdir
        rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
        rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
        sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
        sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler
        sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64
        sendmmsg sendmsg sendto set_mempolicy set_robust_list set_thread_area set_tid_address setfsgid
        setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setns setpgid
        setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
        setrlimit setsid setsockopt setuid setuid32 setxattr shmat shmctl shmdt shmget shutdown sigaction
        sigaltstack signal signalfd signalfd4 sigpending sigprocmask sigreturn sigsuspend socketcall
        socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs
        syscall sysinfo syslog tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
        timer_gettime64 timer_settime timer_settime64 timerfd timerfd_create timerfd_gettime timerfd_gettime64
        timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask umount umount2
        uname unlink unlinkat unshare utime utimensat utimensat_time64 utimes vfork wait4 waitid waitpid write
        writev
        """

    /// Calls newer than the distribution's file, of the same kinds as those that it allows.
    private static let recent = """
        cachestat fchmodat2 futex_requeue futex_wait futex_waitv futex_wake getxattrat listmount listxattrat
        map_shadow_stack mseal removexattrat riscv_flush_icache riscv_hwprobe set_mempolicy_home_node setxattrat statmount
        uretprobe
        """

    /// Calls that are refused outright instead of said not to exist.
    private static let obsolete = """
        bdflush io_pgetevents kexec_file_load kexec_load migrate_pages move_pages nfsservctl nice oldfstat
        oldlstat oldolduname oldstat olduname pciconfig_iobase pciconfig_read pciconfig_write sgetmask
        ssetmask swapcontext swapoff swapon sysfs uselib userfaultfd ustat vm86 vm86old vmsplice
        """

    /// `PER_LINUX` and `PER_LINUX32`, both also with `UNAME26`, and the question which one is set.
    private static let personalities: [UInt64] = [0, 8, 0x20000, 0x20008, 0xFFFF_FFFF]

    private static let byArchitecture: [([String], String)] = [
        (["ppc64le"], "sync_file_range2"),
        (
            ["arm", "arm64"],
            "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2"
        ),
        (["amd64", "x32"], "arch_prctl"),
        (["amd64", "x32", "x86"], "modify_ldt"),
        (["s390", "s390x"], "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    ]

    /// Calls that a zone may make with any one of some capabilities; without, the kernel would refuse most of them too.
    private static let byCapability: [([String], String)] = [
        (["CAP_DAC_READ_SEARCH"], "open_by_handle_at"),
        (["CAP_SYS_ADMIN"], "fanotify_init lookup_dcookie quotactl setdomainname sethostname setns"),
        (["CAP_SYS_ADMIN", "CAP_BPF"], "bpf"),
        (["CAP_SYS_ADMIN", "CAP_PERFMON"], "perf_event_open"),
        (["CAP_SYS_CHROOT"], "chroot"),
        (["CAP_SYS_MODULE"], "delete_module finit_module init_module query_module"),
        (["CAP_SYS_PACCT"], "acct"),
        (["CAP_SYS_PTRACE"], "kcmp process_madvise"),
        (["CAP_SYS_RAWIO"], "ioperm iopl"),
        (["CAP_SYS_TIME"], "clock_settime clock_settime64 settimeofday stime"),
        (["CAP_SYS_TTY_CONFIG"], "vhangup"),
    ]

    /// Sockets: without `CAP_AUDIT_WRITE` every one but netlink's to the audit system, where programs take `EINVAL` for a
    /// kernel without audit and go on.
    private static var audit: [Rule] {
        let netlink: UInt64 = 16
        let auditProtocol: UInt64 = 9
        var denied = Rule.denied(
            ["socket"], [.compare(0, "SCMP_CMP_EQ", netlink), .compare(2, "SCMP_CMP_EQ", auditProtocol)])
        denied.errnoRet = UInt32(Errno.invalid.rawValue)
        var rules = [
            denied,
            .allowed(["socket"], [.compare(2, "SCMP_CMP_NE", auditProtocol)]),
            .allowed(["socket"], [.compare(0, "SCMP_CMP_NE", netlink)]),
        ]
        for index in rules.indices { rules[index].excludes.caps = ["CAP_AUDIT_WRITE"] }
        return rules + [.allowed(["socket"], caps: ["CAP_AUDIT_WRITE"])]
    }

    private static let families: [ArchitectureFamily] = [
        .init("SCMP_ARCH_X86_64", ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        .init("SCMP_ARCH_AARCH64", ["SCMP_ARCH_ARM"]),
        .init("SCMP_ARCH_S390X", ["SCMP_ARCH_S390"]),
    ]
}

extension SeccompProfile.Rule {
    fileprivate static func allowed(
        _ names: [String],
        _ args: [Spec.Seccomp.Argument] = [],
        arches: [String] = [],
        caps: [String] = []
    ) -> SeccompProfile.Rule {
        var rule = SeccompProfile.Rule()
        rule.names = names
        rule.action = "SCMP_ACT_ALLOW"
        rule.args = args
        rule.includes.arches = arches
        rule.includes.caps = caps
        return rule
    }

    fileprivate static func denied(
        _ names: [String],
        _ args: [Spec.Seccomp.Argument] = []
    ) -> SeccompProfile.Rule {
        var rule = SeccompProfile.Rule()
        rule.names = names
        rule.action = "SCMP_ACT_ERRNO"
        rule.errnoRet = UInt32(Errno.notPermitted.rawValue)
        rule.args = args
        return rule
    }
}

extension Spec.Seccomp.Argument {
    fileprivate static func compare(_ index: UInt32, _ op: String, _ value: UInt64) -> Spec.Seccomp.Argument {
        var argument = Spec.Seccomp.Argument()
        argument.index = index
        argument.op = op
        argument.value = value
        return argument
    }
}
