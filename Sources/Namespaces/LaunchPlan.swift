// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem

/// Everything that a zone's process needs to start, as flat values with every host path already opened.
///
/// The parent makes it; the child only follows it, step by step (``ChildSetup``). Descriptors in it are numbers owned
/// by `descriptors`, which keeps them open until the child has its own copy.
public struct LaunchPlan: ~Copyable {
    /// Namespaces to make.
    public var newNamespaces: NamespaceSet = []
    /// Namespaces that exist already.
    public var joins: [NamespaceJoin] = []
    /// For `exec`: the process belongs to a zone that runs, and becomes visible in it last of all.
    public var entersRunningZone = false
    /// The parent has something to do once the namespaces are there: id maps, clock offsets, a systemd scope.
    public var needsParent = false
    /// The caller is in a user namespace that is not the host's.
    public var isInUserNamespace = false
    /// Whether the process gets a session keyring of its own, keyrings(7).
    public var makesKeyring = true
    public var cgroup = CGroupEntry()
    public var hostname: String?
    public var domainname: String?
    /// The new root, nil to keep the one of the joined mount namespace.
    public var root: RootPlan?
    public var mounts: [MountPlan] = []
    /// How mounts below the zone's `/` spread to namespaces that the zone makes; nil: not at all.
    public var rootPropagation: MountPropagation?
    public var devices: [DevicePlan] = []
    public var maskedPaths: [String] = []
    public var readonlyPaths: [String] = []
    /// Names with dots or slashes below /proc/sys, and values.
    public var sysctls: [(name: String, value: String)] = []
    public var bringsUpLoopback = false
    public var hooks = HookPlans()
    /// A listening socket: the program waits for a connection to it, ``StartGate``.
    public var gate: CInt?
    public var process = ProcessPlan()
    public var descriptors = DescriptorBag()

    public init() {}

    /// Whether the zone is set up before its root is changed: for hooks, for copies of trees, and because in a user namespace procfs and
    /// sysfs can only be mounted where another one can be seen as a whole (mount_too_revealing() in the kernel).
    var needsHostRoot: Bool {
        hooks.needHostRoot || mounts.contains { $0.keepsOrder } || isInUserNamespace || newNamespaces.contains(.user)
            || !entersRunningZone && joins.contains { $0.kinds.contains(.user) }
    }
}

/// Namespaces that are joined, see setns(2).
public struct NamespaceJoin: Sendable {
    /// A namespace's file, or a pidfd of a process in it.
    public let descriptor: CInt
    public let kinds: NamespaceSet
    /// For errors: a path or a zone.
    public let name: String

    public init(descriptor: CInt, kinds: NamespaceSet, name: String) {
        self.descriptor = descriptor
        self.kinds = kinds
        self.name = name
    }
}

/// Where the process is put into control groups.
public struct CGroupEntry: Sendable {
    /// A v2 directory for `CLONE_INTO_CGROUP`.
    public var unified: CInt?
    /// Open v1 `tasks` files. The child writes itself into them, see ``ChildSetup/joinControlGroups``.
    public var tasks: [CInt] = []

    public init() {}
}

/// The zone's root directory.
public struct RootPlan: Sendable {
    public enum Source: Sendable {
        /// A detached mount, from `fsmount(2)` or `open_tree(2)`.
        case tree(CInt)
        /// A directory of the mount namespace that the zone shares or joins: the child only changes its root to it, by
        /// chroot(2). What would be mounted there is somebody else's.
        case directory(String)
        /// An overlay to be mounted by the child with mount(2): kernels before 6.8 take no more than 256 bytes of
        /// `lowerdir` through fsconfig(2). Relative layer names are below `directory`.
        case overlay(options: String, directory: String)
    }

    public var source: Source
    /// A host directory on which the root is attached for the moment before it becomes `/`, in the zone's own mount
    /// namespace only.
    public var anchor: String
    public var isReadOnly: Bool
    /// Changes root by pivot_root(2); else by chroot(2), for root file systems that cannot be pivoted from (ramfs).
    public var pivots = true

    public init(_ source: Source, anchor: String, isReadOnly: Bool) {
        self.source = source
        self.anchor = anchor
        self.isReadOnly = isReadOnly
    }
}

/// The program and its rights.
public struct ProcessPlan: Sendable {
    public enum User: Sendable, Equatable {
        case ids(uid: UInt32, gid: UInt32, groups: [UInt32])
        /// Looked up in the zone's own /etc/passwd and /etc/group.
        case named(UserRequest)
    }

    public var arguments: [String] = []
    public var environment: [String] = []
    /// Absolute inside the zone.
    public var workingDirectory = "/"
    /// Makes the working directory where the image names one that it does not hold, as docker does.
    public var createsWorkingDirectory = false
    public var user = User.ids(uid: 0, gid: 0, groups: [])
    public var umask: UInt32 = 0o022
    /// A pty of the zone's own becomes stdin, stdout, stderr and controlling terminal; its master is sent to the parent.
    public var terminal: WindowSize?
    public var hasTerminal = false
    /// Whether it becomes the process's controlling terminal. An init leaves that to who logs in, as the kernel does.
    public var ownsTerminal = true
    /// Descriptors that become 0, 1 and 2 where there is no terminal.
    public var standard: (input: CInt, output: CInt, error: CInt) = (0, 1, 2)
    public var capabilities: CapabilityPlan?
    public var limits: [LimitPlan] = []
    public var setsNoNewPrivileges = false
    /// Written by the parent, which has the right to.
    public var oomScoreAdjustment: Int?
    public var attributes = ProcessAttributes()
    /// A compiled filter (`struct sock_filter[]`), and flags for `seccomp(2)`.
    public var seccomp: (instructions: [UInt8], flags: UInt32)?
    /// Who answers for system calls that the filter notifies about.
    public var seccompListener: SeccompListener?
    /// How many descriptors from 3 on the program inherits.
    public var preservedDescriptors = 0
    /// Further descriptors of the plan's that the program inherits, under the numbers that they have.
    public var inherited: [CInt] = []
    /// Whether the program is killed when the process that launched it ends: PR_SET_PDEATHSIG.
    public var diesWithLauncher = false
    /// Keeps a small init as the zone's pid 1, which reaps orphans and passes signals on to the program.
    public var runsInit = false

    public init() {}
}

/// A resource limit, see setrlimit(2).
public struct LimitPlan: Sendable {
    /// As it was asked for, for errors.
    public var name: String
    public var resource: CInt
    public var soft: UInt64
    public var hard: UInt64

    public init(name: String, resource: CInt, soft: UInt64, hard: UInt64) {
        self.name = name
        self.resource = resource
        self.soft = soft
        self.hard = hard
    }
}
