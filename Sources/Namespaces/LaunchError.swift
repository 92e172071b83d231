// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem

/// Why a zone's process could not be started: the step, the kernel's reason, and a sentence with the path or value.
public struct LaunchError: Error, Sendable, CustomStringConvertible {
    /// The child's step; `nil` where the parent failed.
    public let step: LaunchStep?
    public let errno: Errno
    /// What was attempted, on what.
    public let sentence: String

    init(step: LaunchStep?, errno: Errno, sentence: String) {
        self.step = step
        self.errno = errno
        self.sentence = sentence
    }

    init(_ error: SystemError) {
        self.init(step: nil, errno: error.errno, sentence: "\(error)")
    }

    public var description: String { sentence }
}

/// The parts of a plan that error sentences need, kept by the parent while the child works.
public struct LaunchDescription {
    private var joins: [String] = []
    private var mounts: [String] = []
    private var devices: [String] = []
    private var maskedPaths: [String] = []
    private var readonlyPaths: [String] = []
    private var sysctls: [String] = []
    private var limits: [String] = []
    private var createContainerHooks: [String] = []
    private var startContainerHooks: [String]
    private var workingDirectory = ""
    private let program: String
    private var user = ""
    private let searchPath: String

    /// What can fail when a zone that is set up starts its program.
    public init(arguments: [String], environment: [String], startContainerHooks: [String]) {
        program = arguments.first ?? ""
        searchPath = ProgramSearch.path(in: environment)
        self.startContainerHooks = startContainerHooks
    }

    init(_ plan: borrowing LaunchPlan) {
        self.init(
            arguments: plan.process.arguments, environment: plan.process.environment,
            startContainerHooks: plan.hooks.startContainer.map(\.path))
        joins = plan.joins.map(\.name)
        createContainerHooks = plan.hooks.createContainer.map(\.path)
        mounts = plan.mounts.map(\.description)
        devices = plan.devices.map(\.path)
        maskedPaths = plan.maskedPaths
        readonlyPaths = plan.readonlyPaths
        sysctls = plan.sysctls.map { "\($0.name)=\($0.value)" }
        limits = plan.process.limits.map { "\($0.name)=\($0.soft):\($0.hard)" }
        workingDirectory = plan.process.workingDirectory
        user =
            switch plan.process.user {
            case .ids(let uid, let gid, _): "\(Int(uid)):\(Int(gid))"
            case .named(let request): request.text
            }
    }

    /// Writes the sentence for a failure message.
    func error(_ message: Message) -> LaunchError {
        let errno = Errno(rawValue: message.errno)
        guard let step = LaunchStep(rawValue: message.step) else {
            return LaunchError(
                step: nil, errno: errno, sentence: "the first process sent a step \(message.step) unknown here")
        }
        let index = Int(message.index)
        let reason = errno.message
        let sentence: String
        switch step {
        case .execute: sentence = programSentence(errno)
        case .user: sentence = userSentence(errno)
        case .createContainerHook, .startContainerHook:
            sentence = "\(step.attempt) \(subject(step, index)): \(hookReason(message))"
        case .workingDirectory where errno == .loop:
            sentence = "working directory \(workingDirectory): leads through a link that could point out of the zone"
        case .mount where errno == .loop && index < mounts.count && index >= 0:
            sentence =
                "mount on \(mounts[index]): the path leads through a symbolic link of the image's, which could redirect it"
        case .mount where errno == .invalid && mounts.indices.contains(index) && mounts[index].hasSuffix(" (remount)"):
            sentence = "mount on \(mounts[index]): nothing is mounted there, or it does not take these options"
        case .limit where errno == .notPermitted:
            sentence =
                "\(step.attempt) \(subject(step, index)): \(reason.lowercased()): it is above the hard limit, which only "
                + "CAP_SYS_RESOURCE may raise"
        case .mount where errno == .notPermitted && ownedByNamespaces(index):
            sentence =
                "mount on \(mounts[index]): \(reason.lowercased()): the zone's user namespace must own the namespaces "
                + "that it shows: give the zone new ones, or bind-mount the host's"
        default:
            let subject = subject(step, index)
            sentence = "\(step.attempt)\(subject.isEmpty ? "" : " \(subject)"): \(reason)"
        }
        return LaunchError(step: step, errno: errno, sentence: sentence)
    }

    /// File systems that show a pid, network or ipc namespace, and are only for who is root over it.
    private func ownedByNamespaces(_ index: Int) -> Bool {
        mounts.indices.contains(index)
            && ["(proc)", "(sysfs)", "(mqueue)"].contains { mounts[index].hasSuffix($0) }
    }

    private func programSentence(_ errno: Errno) -> String {
        switch errno {
        case .noEntry where !program.contains("/"):
            "exec: \"\(program)\": executable file not found in $PATH (\(searchPath))"
        case .noEntry: "exec: \"\(program)\": no such file or directory (or its interpreter is missing)"
        case .accessDenied: "exec: \"\(program)\": permission denied (not an executable file, or a directory)"
        case .badExecutable:
            "exec: \"\(program)\": exec format error (built for another machine, or a script without #!)"
        default: "exec: \"\(program)\": \(errno.message)"
        }
    }

    private func hookReason(_ message: Message) -> String {
        if message.status != 0 { return "it ended with status \(message.status)" }
        let errno = Errno(rawValue: message.errno)
        return errno == .timedOut ? "it did not end in time and was killed" : errno.message
    }

    private func userSentence(_ errno: Errno) -> String {
        switch errno {
        case .noEntry: "user \"\(user)\": not found in the zone's /etc/passwd or /etc/group"
        default: "user \"\(user)\": \(errno.message)"
        }
    }

    private func subject(_ step: LaunchStep, _ index: Int) -> String {
        let list: [String]
        switch step {
        case .joinNamespace: list = joins
        case .createContainerHook: list = createContainerHooks
        case .startContainerHook: list = startContainerHooks
        case .mount, .sealMount, .copyUp: list = mounts
        case .device: list = devices
        case .deviceLink: list = DeviceSetup.links.map { "/dev/\($0.name)" }
        case .maskedPath: list = maskedPaths
        case .readonlyPath: list = readonlyPaths
        case .sysctl: list = sysctls
        case .limit: list = limits
        case .workingDirectory: return workingDirectory
        case .setIdentity: return user
        default: return ""
        }
        return list.indices.contains(index) ? list[index] : ""
    }
}

extension LaunchStep {
    /// What the step attempts, as the beginning of a sentence.
    var attempt: String {
        switch self {
        case .controlGroups: "enter the control groups"
        case .keyring: "make a session keyring"
        case .joinNamespace: "join the namespace"
        case .namespaces: "make the namespaces"
        case .becomeRoot: "become root in the user namespace"
        case .createContainerHook: "createContainer hook"
        case .startContainerHook: "startContainer hook"
        case .session: "start a session"
        case .propagation: "make the mounts private"
        case .attachRoot: "attach the root file system"
        case .enterRoot: "change into the root file system"
        case .hostname: "set the host name"
        case .loopback: "bring up the loopback interface"
        case .mount: "mount on"
        case .copyUp: "copy what is covered by the mount on"
        case .device: "make the device"
        case .deviceLink: "make the link"
        case .console: "open the terminal"
        case .sysctl: "set the sysctl"
        case .maskedPath: "mask"
        case .readonlyPath: "make read-only"
        case .sealMount: "make the mount read-only"
        case .rootPropagation: "set the propagation of the root"
        case .oomScore: "set oom_score_adj"
        case .limit: "set the resource limit"
        case .affinity: "choose the CPUs"
        case .scheduler: "set the scheduler"
        case .ioPriority: "set the priority of disk accesses"
        case .personality: "set the personality"
        case .securityLabel: "set the AppArmor profile or SELinux label"
        case .standardStreams: "set up stdin, stdout and stderr"
        case .user: "look up the user"
        case .groups: "set the groups"
        case .boundingSet: "reduce the capability bounding set"
        case .setIdentity: "change to the user"
        case .capabilities: "set the capabilities"
        case .workingDirectory: "change to the working directory"
        case .noNewPrivileges: "set no_new_privs"
        case .parent: "talk to zonectl"
        case .seccomp: "load the seccomp filter"
        case .enterProcesses: "enter the zone's processes"
        case .initProcess: "start the program below init"
        case .execute: "exec"
        }
    }
}
