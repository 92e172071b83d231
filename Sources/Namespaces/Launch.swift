// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
public import LinuxSystem

/// A process that was cloned from a plan. Dropped before ``release()`` it is killed and reaped; afterwards this value
/// is only a handle on it.
public struct LaunchingProcess: ~Copyable {
    public let process: ProcessHandle
    private let channel: Channel
    private let description: LaunchDescription
    private var terminal: Descriptor?
    private var isReleased = false

    private init(process: consuming ProcessHandle, channel: consuming Channel, description: LaunchDescription) {
        self.process = process
        self.channel = channel
        self.description = description
    }

    /// Clones the child, which begins its setup at once.
    public static func start(_ plan: borrowing LaunchPlan) throws(LaunchError) -> LaunchingProcess {
        do throws(SystemError) {
            let description = LaunchDescription(plan)
            var childEnd: CInt = -1
            let channel = try Channel(other: &childEnd)
            let childChannel = Channel(owning: childEnd)
            // Only children made after this are in the joined pid namespace; this process itself stays where it is.
            if let joined = plan.joined, joined.kinds.contains(.pid) {
                try check(zn_setns(joined.pidfd, NamespaceSet.pid.flags), "join the zone's pid namespace")
            }
            // A new cgroup namespace takes the caller's groups as its root, so the child makes it after joining them.
            let flags = plan.newNamespaces.subtracting(.cgroup).rawValue
            var pidfd: CInt = -1
            let pid = try check(zn_clone3(flags, &pidfd, plan.cgroup.unified ?? -1), "clone3")
            if pid == 0 { ChildSetup.run(plan, channel: childChannel, parentEnd: channel.raw) }
            let handle = ProcessHandle(pid: pid, pidfd: Descriptor(owning: pidfd))
            return LaunchingProcess(process: handle, channel: channel, description: description)
        } catch {
            throw LaunchError(error)
        }
    }

    /// The number of the master of the zone's terminal, there after ``waitUntilReady()`` if the plan asked for one.
    public var console: CInt? {
        switch terminal {
        case .some(let descriptor): descriptor.raw
        case .none: nil
        }
    }

    /// Waits until the child has done everything but the last two steps.
    public mutating func waitUntilReady() throws(LaunchError) {
        while let message = try receive() {
            if message == .ready { return }
        }
        throw LaunchError(step: .parent, errno: .noChild, sentence: "the first process died while it was being set up")
    }

    /// Lets the program start, and returns once it runs.
    public mutating func release() throws(LaunchError) {
        var go = Message(.go)
        do throws(SystemError) {
            try withUnsafeBytes(of: &go) { (bytes) throws(SystemError) in try channel.send(bytes) }
        } catch {
            throw LaunchError(error)
        }
        while try receive() != nil {}
        isReleased = true
    }

    /// Returns the next message's kind, `nil` when the child closed its end.
    private mutating func receive() throws(LaunchError) -> Message.Kind? {
        var message = Message(.ready)
        let size: Int
        do throws(SystemError) {
            size = try withUnsafeMutableBytes(of: &message) { (bytes) throws(SystemError) in
                try channel.receive(into: bytes, descriptor: &terminal)
            }
        } catch {
            throw LaunchError(error)
        }
        guard size == MemoryLayout<Message>.size else { return nil }
        let kind = Message.Kind(rawValue: message.kind)
        if kind == .failed { throw description.error(message) }
        return kind
    }

    deinit {
        guard !isReleased else { return }
        // ESRCH where it has ended already; reaping is what matters.
        try? process.signal(SIGKILL)
        _ = try? process.wait()
    }
}
