// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// What parent and child say to each other over a ``Channel``.
///
///     parent                               child
///     ------                               -----
///     clone3 ----------------------------> starts
///     records the zone's pid               joins and makes namespaces
///     id maps, clock offsets <- unshared - (only where the plan needs it)
///                            --- goOn --->
///                          <- replaced --- (a child of it that is in the right pid namespace goes on in its place)
///                                          root, mounts, devices …
///                          <-- console --- (with the pty's master, where there is a terminal)
///     runtime hooks        <--- hooks ---- (only where there are some)
///                            --- goOn --->
///     waits for ready      <--- ready ---- everything is done but seccomp and execve
///     checks, records
///     release              ---- goOn ----> (exec: a child inside the zone's pid namespace takes over,
///                          <- replaced --   and this one ends)
///                                          (create: waits for `start`, whose connection takes the channel's place)
///                                          startContainer hooks, seccomp, execve
///     sees the channel end <-------------- close-on-exec: the program runs
///
/// Instead of any message the child may send `failed` with the step, the error number and an index into the plan; the
/// parent, which has the plan, writes the sentence. When the parent dies, the child reads the end of the channel
/// instead of `goOn`, and exits: a zone is never started by nobody.
struct Message {
    enum Kind: UInt32 {
        case console = 1
        case ready = 2
        case failed = 3
        case goOn = 4
        /// The process that takes over, by pid (`index`) and pidfd.
        case replaced = 5
        case unshared = 6
        case hooks = 7
        /// The descriptor of the seccomp filter's notifications.
        case notifications = 8
    }

    var kind: UInt32
    var step: UInt32 = 0
    var errno: Int32 = 0
    var index: Int32 = -1
    /// How a hook ended, as a shell shows it.
    var status: Int32 = 0

    init(_ kind: Kind) {
        self.kind = kind.rawValue
    }

    init(_ failure: LaunchFailure) {
        kind = Kind.failed.rawValue
        step = failure.step.rawValue
        errno = failure.errno.rawValue
        index = failure.index
        status = failure.status
    }
}

/// The child's steps, in their order.
public enum LaunchStep: UInt32, Sendable, CaseIterable {
    case controlGroups = 1
    case keyring
    case joinNamespace
    case namespaces
    case becomeRoot
    case propagation
    case attachRoot
    case enterRoot
    case hostname
    case loopback
    case mount
    case copyUp
    case device
    case deviceLink
    case console
    case sysctl
    case createContainerHook
    case maskedPath
    case readonlyPath
    case sealMount
    case rootPropagation
    case oomScore
    case limit
    case affinity
    case scheduler
    case ioPriority
    case personality
    case securityLabel
    case standardStreams
    case user
    case groups
    case boundingSet
    case setIdentity
    case capabilities
    case workingDirectory
    case noNewPrivileges
    case parent
    case enterProcesses
    case session
    case seccomp
    case initProcess
    case startContainerHook
    case execute
}

/// A step that failed in the child.
struct LaunchFailure: Error {
    let step: LaunchStep
    let errno: Errno
    /// Index into the plan's list that the step works on, -1 where there is none.
    let index: Int32
    var status: Int32 = 0

    init(_ step: LaunchStep, _ errno: Errno, _ index: Int = -1) {
        self.step = step
        self.errno = errno
        self.index = Int32(truncatingIfNeeded: index)
    }
}

/// Turns a `zn_` result into a value or a ``LaunchFailure``.
@inline(__always) @discardableResult
func attempt(_ step: LaunchStep, _ result: CInt, index: Int = -1) throws(LaunchFailure) -> CInt {
    if result >= 0 { return result }
    throw LaunchFailure(step, Errno(rawValue: -result), index)
}
