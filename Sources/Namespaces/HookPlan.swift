// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// A program that is called at a point of a zone's life, runtime-spec config.md "POSIX-platform Hooks".
public struct HookPlan: Sendable {
    /// Absolute; resolved where the hook runs.
    public var path: String
    /// With the program's own name first.
    public var arguments: [String]
    public var environment: [String]
    /// After this it is killed and counts as failed; nil: no limit.
    public var timeoutMilliseconds: Int?

    public init(path: String, arguments: [String], environment: [String], timeoutMilliseconds: Int?) {
        self.path = path
        self.arguments = arguments
        self.environment = environment
        self.timeoutMilliseconds = timeoutMilliseconds
    }
}

/// The hooks that concern the child.
public struct HookPlans: Sendable {
    /// The parent calls hooks (`prestart`, `createRuntime`) before the root is changed.
    public var callsParent = false
    /// Run by the child, in the zone's namespaces but with the host's root.
    public var createContainer: [HookPlan] = []
    /// Run by the child in the zone, right before its program.
    public var startContainer: [HookPlan] = []
    /// The zone's state as JSON for stdin: with `creating` and `created`; the pid, which only the child knows, goes
    /// between the halves.
    public var creatingState: (head: String, tail: String) = ("", "")
    public var createdState: (head: String, tail: String) = ("", "")

    public init() {}

    /// Whether the zone is set up before its root is changed, so that hooks find it at the host's path.
    var needHostRoot: Bool { callsParent || !createContainer.isEmpty }
}
