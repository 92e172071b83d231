// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// What the child does between `clone3` and `execve`: an ordered list of steps.
///
/// The child is a copy of a process with one thread, so ordinary Swift may run here. It never returns.
enum ChildSetup {
    /// Follows the plan and executes the program; on failure reports the step and exits. It does not return, which its
    /// type cannot say: the compiler takes the destruction of a caller's noncopyable values after a `Never` for dead code.
    static func run(_ plan: borrowing LaunchPlan, channel: borrowing Channel, parentEnd: CInt) {
        // Held open here, the parent's end would never look closed when the parent dies.
        _ = zn_close(parentEnd)
        do throws(LaunchFailure) {
            try follow(plan, channel)
        } catch {
            report(error, channel)
        }
        _exit(127)
    }

    private static func report(_ failure: LaunchFailure, _ channel: borrowing Channel) {
        var message = Message(failure)
        // A parent that is gone needs no report.
        withUnsafeBytes(of: &message) { bytes in try? channel.send(bytes) }
    }

    /// The steps. Each comment says why its step is where it is.
    private static func follow(_ plan: borrowing LaunchPlan, _ channel: borrowing Channel) throws(LaunchFailure) {
        let namespaces = NamespaceSetup(plan)
        if !plan.needsParent { namespaces.hide() }
        // The arguments of the host's command, with values of -e among them, are nobody's business in the zone.
        zn_hide_arguments("zone-init")
        _ = zn_reset_signals()
        _ = umask(0)
        // The caller's keys are not the zone's. Without keys in the kernel, or room for one more, there are none to give.
        if plan.makesKeyring { _ = zn_keyctl_join_session("zone") }
        let attributes = try AttributeSetup(plan.process.attributes)
        // Groups before namespaces: the tasks files are the host's, and a new cgroup namespace is rooted where we are.
        try joinControlGroups(plan)
        try namespaces.enter(plan, channel)
        let root = try RootSetup.attach(plan)
        if !plan.needsHostRoot { try RootSetup.enter(plan, root) }
        try setHostname(plan)
        if plan.bringsUpLoopback { try Loopback.bringUp() }
        // From here on every path is looked up below the root's descriptor.
        var mounted = MountSetup(root: root.raw)
        try mounted.mountAll(plan.mounts)
        if plan.root != nil { try DeviceSetup(root: root.raw).makeAll(plan.devices) }
        // The pty before the streams; its node is bound on /dev/console, so after /dev is filled.
        let console = try ConsoleSetup.open(plan, root: root.raw, channel: channel)
        // Sysctls before /proc/sys becomes read-only.
        try mounted.writeSysctls(plan.sysctls)
        if plan.needsHostRoot {
            // Hooks may mount and write into the zone: so after its mounts, and before anything becomes read-only.
            if plan.hooks.callsParent { try ask(.hooks, channel) }
            try run(plan.hooks.createContainer, .createContainerHook, plan.hooks.creatingState)
            try RootSetup.enter(plan, root)
        }
        try MaskSetup(root: root.raw).maskAll(plan)
        try WorkingDirectory.makeIfWanted(plan.process, root: root.raw)
        // Last of the mounts: making mount points and directories needs a writable root.
        try mounted.sealAll(plan)
        // The program looks up its user in the zone's own files.
        let identity = try UserLookup.resolve(plan.process.user, root: root.raw)
        // Needs CAP_SYS_RESOURCE, so before the capabilities go.
        try Privileges.setLimits(plan.process)
        try attributes.apply(plan.process.attributes)
        try StandardStreams.install(plan.process, console: console, uid: identity.uid)
        // Children of this process are the zone's from here on. Needs CAP_SYS_ADMIN, so before the capabilities go too.
        if plan.entersRunningZone { try joinProcesses(plan) }
        try Privileges.drop(plan.process, identity)
        // As the user, so that a directory it may not enter is refused; verified to be inside (CVE-2024-21626).
        try WorkingDirectory.enter(plan.process, root: root.raw)
        _ = umask(mode_t(plan.process.umask))
        let program = Program(plan.process, home: identity.home)
        if plan.gate != nil, !plan.process.arguments.isEmpty { try program.find() }
        try ask(.ready, channel)
        if let gate = plan.gate {
            // It may wait for long, and holds among others the lock of the zone's folder.
            closeAll(
                but: [gate, channel.raw] + plan.process.inherited,
                from: 3 + CInt(clamping: plan.process.preservedDescriptors))
            try StartGate.wait(gate, channel)
        }
        try run(plan.hooks.startContainer, .startContainerHook, plan.hooks.createdState)
        var isSettled = false
        if plan.entersRunningZone {
            // The zone will see its successor: it has nothing of the host's but the channel, and no right too many.
            closeAll(but: [channel.raw], from: 3 + CInt(clamping: plan.process.preservedDescriptors))
            if !plan.process.setsNoNewPrivileges {
                try Privileges.settle(plan.process, identity, channel)
                isSettled = true
            }
            try handOver(channel)
        }
        // Of the process that stays, with the user that it stays: either change takes the wish back.
        if plan.process.diesWithLauncher { _ = zn_prctl(1 /* PR_SET_PDEATHSIG */, UInt(SIGKILL), 0, 0, 0) }
        // Of the process that stays: a session ends with its leader.
        try attempt(.session, zn_setsid())
        if plan.process.hasTerminal, plan.process.ownsTerminal {
            try attempt(.standardStreams, Terminal.takeControl(of: 0))
        }
        if plan.process.runsInit { try InitProcess.startProgramBelow(plan.process, identity, channel: channel) }
        // After the last message: a filter need not allow what the handshake does.
        if !isSettled { try Privileges.settle(plan.process, identity, channel) }
        // Last, as nothing can be opened below a small limit.
        try Privileges.setDescriptorLimit(plan.process)
        try program.execute()
    }

    /// Writes this process into v1 groups.
    ///
    /// `0` into `tasks`, by the task itself: for a single thread that moves itself the kernel skips the lock that
    /// stops every fork and exit on the machine (cgroup_threadgroup_rwsem), which costs an RCU grace period. The same
    /// from outside, or through `cgroup.procs`, measured 5 to 30 times slower.
    private static func joinControlGroups(_ plan: borrowing LaunchPlan) throws(LaunchFailure) {
        for (index, file) in plan.cgroup.tasks.enumerated() {
            let written = zn_write(file, "0", 1)
            if written < 0 { throw LaunchFailure(.controlGroups, Errno(rawValue: CInt(-written)), index) }
        }
    }

    /// The zone's pid namespace is the last one that `exec` joins: until then no process of the zone can see this one,
    /// which has the host's rights.
    private static func joinProcesses(_ plan: borrowing LaunchPlan) throws(LaunchFailure) {
        for join in plan.joins where join.kinds.contains(.pid) {
            try attempt(.enterProcesses, zn_setns(join.descriptor, NamespaceSet.pid.flags))
        }
    }

    private static func run(
        _ hooks: [HookPlan],
        _ step: LaunchStep,
        _ state: (head: String, tail: String)
    ) throws(LaunchFailure) {
        for (index, hook) in hooks.enumerated() {
            var failure = LaunchFailure(step, .invalid, index)
            do throws(SystemError) {
                switch try HookProcess.run(hook, state: state.head + String(getpid()) + state.tail).outcome {
                case .succeeded: continue
                case .failed(let status): failure.status = status.shellCode
                case .timedOut: failure = LaunchFailure(step, .timedOut, index)
                case .notStarted(let errno): failure = LaunchFailure(step, errno, index)
                }
            } catch {
                throw LaunchFailure(step, error.errno, index)
            }
            throw failure
        }
    }

    private static func setHostname(_ plan: borrowing LaunchPlan) throws(LaunchFailure) {
        if let name = plan.hostname { try attempt(.hostname, zn_sethostname(name, name.utf8.count)) }
        if let name = plan.domainname { try attempt(.hostname, zn_setdomainname(name, name.utf8.count)) }
    }

    /// Goes on in a child, the first that the zone can see. Returns in the child. With CLONE_PARENT it is a child of
    /// zonectl, which waits for it.
    ///
    /// For `exec` it is the last step: born earlier, it would be seen in the zone with all capabilities of the host's,
    /// and a zone that may trace processes (CAP_SYS_PTRACE) would take it over.
    static func handOver(_ channel: borrowing Channel) throws(LaunchFailure) {
        var pidfd: CInt = -1
        let pid = try attempt(.enterProcesses, zn_fork_sibling(&pidfd))
        if pid == 0 {
            _ = zn_prctl(4 /* PR_SET_DUMPABLE */, 0, 0, 0, 0)
            return
        }
        var message = Message(.replaced)
        message.index = pid
        withUnsafeBytes(of: &message) { bytes in try? channel.send(bytes, descriptor: pidfd) }
        _exit(0)
    }

    private static func closeAll(but kept: [CInt], from first: CInt) {
        var next = UInt32(first)
        for number in kept.sorted() where number >= first {
            if UInt32(number) > next { _ = zn_close_range(next, UInt32(number) - 1, 0) }
            next = UInt32(number) + 1
        }
        _ = zn_close_range(next, .max, 0)
    }

    /// Tells the parent how far this is and waits until it says to go on.
    static func ask(_ kind: Message.Kind, _ channel: borrowing Channel) throws(LaunchFailure) {
        var message = Message(kind)
        var none: Descriptor?
        let size: Int
        do throws(SystemError) {
            try withUnsafeBytes(of: &message) { (bytes) throws(SystemError) in try channel.send(bytes) }
            size = try withUnsafeMutableBytes(of: &message) { (bytes) throws(SystemError) in
                try channel.receive(into: bytes, descriptor: &none)
            }
        } catch {
            throw LaunchFailure(.parent, error.errno)
        }
        // The parent is gone: nobody would own the zone.
        if size == 0 { _exit(1) }
    }
}
