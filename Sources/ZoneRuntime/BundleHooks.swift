// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Namespaces
import OCI

/// Calls the hooks of a zone in the runtime's namespaces, and prepares those that the child calls.
struct BundleHooks {
    let hooks: Spec.Hooks
    let state: BundleState

    /// Those that are called while the zone is made; the first failure ends that (runtime.md "Lifecycle" 3 and 4).
    func runBeforeRootChanges(pid: Int32) throws(ZoneError) {
        // What was there before createRuntime was told "created", and hooks of that time look for it.
        for (name, list, status) in [
            ("prestart", hooks.prestart, "created"), ("createRuntime", hooks.createRuntime, "creating"),
        ] {
            for hook in list {
                if let failure = try run(hook, name, status, pid) { throw ZoneError(.system, failure) }
            }
        }
    }

    /// Those after the program's start or the zone's end: a failure is reported and changes nothing.
    func runAfterStart(pid: Int32, report: (String) -> Void) {
        runAll(hooks.poststart, "poststart", "running", pid, report)
    }

    func runAfterStop(report: (String) -> Void) {
        runAll(hooks.poststop, "poststop", "stopped", 0, report)
    }

    private func runAll(
        _ list: [Spec.Hook], _ name: String, _ status: String, _ pid: Int32, _ report: (String) -> Void
    ) {
        for hook in list {
            do throws(ZoneError) {
                if let failure = try run(hook, name, status, pid) { report(failure) }
            } catch {
                report("\(error)")
            }
        }
    }

    /// Runs one hook; returns what is wrong with it.
    private func run(_ hook: Spec.Hook, _ name: String, _ status: String, _ pid: Int32) throws(ZoneError) -> String? {
        let (head, tail) = text(status)
        let place = "\(name) hook \(hook.path)"
        let (outcome, output) = try attempting(place) { () throws(SystemError) in
            try HookProcess.run(BundleHooks.plan(hook), state: head + (pid > 0 ? String(pid) : "0") + tail)
        }
        let said = output.split(separator: "\n").last.map { ": \($0)" } ?? ""
        switch outcome {
        case .succeeded: return nil
        case .failed(let status): return "\(place): it ended with status \(status.shellCode)\(said)"
        case .timedOut: return "\(place): it did not end within \(hook.timeout ?? 0) s and was killed\(said)"
        case .notStarted(let errno): return "\(place): exec: \(errno.message)"
        }
    }

    /// Puts the child's hooks into its plan.
    func fill(_ plan: inout LaunchPlan) {
        plan.hooks.callsParent = !hooks.prestart.isEmpty || !hooks.createRuntime.isEmpty
        plan.hooks.createContainer = hooks.createContainer.map(BundleHooks.plan)
        plan.hooks.startContainer = hooks.startContainer.map(BundleHooks.plan)
        if !hooks.createContainer.isEmpty { plan.hooks.creatingState = text("creating") }
        if !hooks.startContainer.isEmpty { plan.hooks.createdState = text("created") }
    }

    /// The state as JSON in two halves: the pid, which may not be known yet, goes between them.
    private func text(_ status: String) -> (head: String, tail: String) {
        var writer = JSONWriter()
        writer.beginObject()
        for (name, value) in [
            ("ociVersion", state.ociVersion), ("id", state.id), ("status", status), ("bundle", state.bundle),
        ] {
            writer.name(name)
            writer.string(value)
        }
        writer.name("annotations")
        state.annotations.write(to: &writer)
        return (String(decoding: writer.bytes, as: UTF8.self) + ",\"pid\":", "}\n")
    }

    private static func plan(_ hook: Spec.Hook) -> HookPlan {
        HookPlan(
            path: hook.path, arguments: hook.args, environment: hook.env,
            timeoutMilliseconds: hook.timeout.map { Int($0) * 1000 })
    }
}
