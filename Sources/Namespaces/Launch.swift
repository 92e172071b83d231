// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
public import LinuxSystem

/// A process that was cloned from a plan. Dropped before ``release()`` it is killed and reaped; afterwards this value
/// is only a handle on it.
public struct LaunchingProcess: ~Copyable {
    public private(set) var process: ProcessHandle
    private let channel: Channel
    private let description: LaunchDescription
    private let duties: ParentDuties
    private let listener: SeccompListener?
    /// For `exec` a filter that needs rights is loaded by the predecessor of the process that the listener is told of.
    private let filtersBeforeReplacement: Bool
    private var notifications: Descriptor?
    private var terminal: Descriptor?
    private var isReleased = false

    private init(
        process: consuming ProcessHandle,
        channel: consuming Channel,
        description: LaunchDescription,
        _ plan: borrowing LaunchPlan
    ) {
        self.process = process
        self.channel = channel
        self.description = description
        duties = ParentDuties(plan)
        listener = plan.process.seccompListener
        filtersBeforeReplacement = plan.entersRunningZone && !plan.process.setsNoNewPrivileges
    }

    /// Clones the child, which begins its setup at once.
    public static func start(_ plan: borrowing LaunchPlan) throws(LaunchError) -> LaunchingProcess {
        do throws(SystemError) {
            let description = LaunchDescription(plan)
            var childEnd: CInt = -1
            let channel = try Channel(other: &childEnd)
            let childChannel = Channel(owning: childEnd)
            let flags = NamespaceSetup(plan).forClone.rawValue
            var pidfd: CInt = -1
            let cpus = try CPUSet.replace(by: plan.process.attributes.initialAffinity)
            let pid = try check(zn_clone3(flags, &pidfd, plan.cgroup.unified ?? -1), "clone3")
            if pid == 0 { ChildSetup.run(plan, channel: childChannel, parentEnd: channel.raw) }
            let handle = ProcessHandle(pid: pid, pidfd: Descriptor(owning: pidfd))
            _ = try CPUSet.replace(by: cpus)
            return LaunchingProcess(process: handle, channel: channel, description: description, plan)
        } catch {
            throw LaunchError(error)
        }
    }

    /// Gives away the master of the zone's terminal, there after ``waitUntilReady(interruptedBy:)`` if the plan asked
    /// for one.
    public mutating func takeConsole() -> Descriptor? {
        terminal.take()
    }

    /// What the child waits for.
    public enum Request: Sendable {
        /// It is in its namespaces: the parent writes id maps and clock offsets, and whatever the plan needed it for.
        case prepare
        /// `prestart` and `createRuntime` hooks are due.
        case runHooks
        /// Everything but the last steps is done.
        case release
    }

    /// Waits until the child needs something. A signal that means "end" ends the wait.
    public mutating func nextRequest(interruptedBy signals: borrowing SignalQueue) throws(LaunchError) -> Request {
        while let message = try receive(signals) {
            switch message {
            case .unshared:
                try duties.raiseLimits(of: process.pid)
                return .prepare
            case .hooks: return .runHooks
            case .ready:
                try duties.adjustOOMScore(of: process.pid)
                return .release
            default: continue
            }
        }
        throw LaunchError(step: .parent, errno: .noChild, sentence: "the first process died while it was being set up")
    }

    /// Lets the child go on after a request.
    public mutating func goOn() throws(LaunchError) {
        var message = Message(.goOn)
        do throws(SystemError) {
            try withUnsafeBytes(of: &message) { (bytes) throws(SystemError) in try channel.send(bytes) }
        } catch {
            throw LaunchError(error)
        }
    }

    /// Waits until the child has done everything but the last steps, for plans that need nothing else of the parent.
    public mutating func waitUntilReady(interruptedBy signals: borrowing SignalQueue) throws(LaunchError) {
        while true {
            if case .release = try nextRequest(interruptedBy: signals) { return }
            try goOn()
        }
    }

    /// Lets the program start, and returns once it runs.
    public mutating func release(interruptedBy signals: borrowing SignalQueue) throws(LaunchError) {
        try goOn()
        while try receive(signals) != nil {}
        isReleased = true
    }

    /// Leaves the child to wait for its start at the plan's gate.
    public mutating func leaveAtGate() throws(LaunchError) {
        try goOn()
        isReleased = true
    }

    /// Returns the next message's kind, `nil` when the child closed its end.
    private mutating func receive(_ signals: borrowing SignalQueue) throws(LaunchError) -> Message.Kind? {
        var message = Message(.ready)
        var descriptor: Descriptor?
        let size: Int
        do throws(SystemError) {
            try waitForMessage(signals)
            size = try withUnsafeMutableBytes(of: &message) { (bytes) throws(SystemError) in
                try channel.receive(into: bytes, descriptor: &descriptor)
            }
        } catch {
            throw LaunchError(error)
        }
        guard size == MemoryLayout<Message>.size else { return nil }
        let kind = Message.Kind(rawValue: message.kind)
        switch kind {
        case .failed: throw description.error(message)
        case .console: terminal = descriptor.take()
        case .notifications:
            notifications = descriptor.take()
            // Else at once: the program may not get far without an answer.
            if !filtersBeforeReplacement { try forwardNotifications() }
        case .replaced:
            if let pidfd = descriptor.take() { replaceProcess(pid: message.index, pidfd: pidfd) }
            try forwardNotifications()
        default: break
        }
        return kind
    }

    private mutating func forwardNotifications() throws(LaunchError) {
        guard let listener, let descriptor = notifications.take() else { return }
        try listener.forward(descriptor, pid: process.pid)
    }

    /// The child hands over to one of its own, which is our child too; it has ended or is about to.
    private mutating func replaceProcess(pid: Int32, pidfd: consuming Descriptor) {
        // It only exits after this message; a failure leaves a zombie until we end.
        _ = try? process.wait()
        process = ProcessHandle(pid: pid, pidfd: pidfd)
    }

    /// A zone that stops its newborn processes would otherwise hold us for ever.
    private func waitForMessage(_ signals: borrowing SignalQueue) throws(SystemError) {
        while true {
            var poller = Poller()
            let message = poller.add(channel.raw)
            let pending = poller.add(signals.raw)
            guard try poller.wait() else { continue }
            if poller.isReadable(message) { return }
            guard poller.isReadable(pending), let number = signals.next() else { continue }
            if [SIGHUP, SIGINT, SIGQUIT, SIGTERM].contains(number) {
                throw SystemError("start the program", "stopped by signal \(number)", .interrupted)
            }
        }
    }

    deinit {
        guard !isReleased else { return }
        // ESRCH where it has ended already; reaping is what matters.
        try? process.signal(SIGKILL)
        _ = try? process.wait()
    }
}
