// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// What `checkpoint` and `restore` have in common: where criu's files are and what it may do; see criu(8).
public struct CriuSettings: Sendable {
    /// Who restores the control groups of the zone's own below its group: criu(8), `--manage-cgroups`.
    public enum GroupMode: String, CaseIterable, Sendable {
        /// criu does not touch groups: the zone's processes are put into its group as they are.
        case ignore
        /// Groups that do not exist are made with the limits that they had.
        case soft
        /// All groups get the limits that they had.
        case full
        /// As full, and a group that exists is an error.
        case strict

        /// The number in criu's requests.
        var number: Int32 {
            switch self {
            case .ignore: 0
            case .soft: 3
            case .full: 4
            case .strict: 5
            }
        }
    }

    /// The folder of the checkpoint.
    public var imagePath = "checkpoint"
    /// Where criu writes its log; nil: beside the checkpoint.
    public var workPath: String?
    public var keepsTCP = false
    /// Unix sockets whose other end is outside.
    public var allowsExternalSockets = false
    /// The zone belongs to a shell's session, on a terminal of the host's.
    public var isShellJob = false
    public var keepsFileLocks = false
    /// Memory follows later, from another machine for example.
    public var isLazy = false
    /// Removes from older checkpoints what the newer ones replace.
    public var deduplicates = false
    public var groups = GroupMode.soft
    /// Network namespaces are saved and restored without their content, which others make again.
    public var emptiesNetwork = false

    public init() {}
}

/// `checkpoint`: writes a zone's processes into files.
public struct CheckpointRequest: Sendable {
    public var id = ""
    public var criu = CriuSettings()
    /// The folder of an earlier `preDump`, absolute or relative to the checkpoint's.
    public var parentPath: String?
    public var leavesRunning = false
    /// Only memory, and the zone goes on: the checkpoint that follows is shorter.
    public var isPreDump = false
    /// Files that were deleted but are open get a name again.
    public var linksRemoved = false
    /// `ADDRESS:PORT` of who takes the memory instead of a file.
    public var pageServer: String?
    /// An open descriptor of the caller's that gets a zero byte once a lazy checkpoint can be read.
    public var statusDescriptor: Int32?
    /// Leaves out connections that are just being made.
    public var skipsTCPInFlight = false

    public init() {}
}

/// `restore`: makes a zone from a bundle whose processes come out of a checkpoint.
public struct RestoreRequest: Sendable {
    /// `pivots`, `makesKeyring` and `preservedDescriptors` mean nothing here: those are in the checkpoint.
    public var zone = CreateRequest()
    public var criu = CriuSettings()
    /// `apparmor:PROFILE` or `selinux:LABEL`, in place of what the processes had.
    public var securityProfile: String?

    public init() {}
}
