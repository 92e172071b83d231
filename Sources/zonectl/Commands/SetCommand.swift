// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import ZoneRuntime

/// `zonectl set NAME --cpus 2 …`
enum SetCommand {
    static let force = Option.flag("force", nil, "Set a limit below what is in use, too")
    static let json = Option.flag("json", nil, "Print JSON")

    static let command = Command(
        names: ["set"], group: .run, operands: "NAME…",
        summary: "Change limits, networks and ports of zones, also while they run; without options, show limits",
        details: """
            What is not named stays as it is; 0 takes a limit away. All of a change is made, or nothing. A stopped zone gets
            it with its next start.

            What a zone's own files may take only grows. Where it has a project quota that is so at once; an image file grows while
            the zone runs only with CAP_SYS_RESOURCE. A first limit, or none any more, a zone gets only while it is stopped.
            """,
        options: ours + [force, json],
        refused: { refused }
    ) { (arguments, context) throws(ZoneError) in
        try refuse(arguments)
        var change = ZoneSettings.Change()
        change.limits = try ResourceOptions.change(arguments)
        change.labels = try RunCommand.labels(arguments)
        change.restart = try arguments.value(SupervisionOptions.restart).map(SupervisionOptions.policy)
        change.storage = try arguments.value(RunCommand.storage).map { (text) throws(ZoneError) in
            try RunCommand.size(text, "--storage")
        }
        change.network = try NetworkOptions.change(arguments)
        change.isForced = arguments.flag(force)
        let settings = ZoneSettings(context.folders)
        if change.limits == LimitChange(), change.labels.isEmpty, change.restart == nil, change.storage == nil,
            change.network.isEmpty
        {
            return try show(settings, arguments)
        }
        if arguments.flag(json) {
            throw ZoneError(.invalid, "--json is for showing limits", hint: "leave out the options that change some")
        }
        return try InspectCommand.forEach(arguments.operands) { (name) throws(ZoneError) in
            try Output.write(try settings.apply(change, to: name) + "\n")
        }.exitCode
    }

    /// What it shares with `run`.
    private static let ours =
        ResourceOptions.all + [RunCommand.label, SupervisionOptions.restart, RunCommand.storage]
        + NetworkOptions.forSet

    private static let refused = RunCommand.command.options.filter { option in
        !ours.contains { $0.name == option.name }
    }

    /// Says of the options of `run` that a zone is made with for good why they are none of ours.
    private static func refuse(_ arguments: Arguments) throws(ZoneError) {
        guard let option = refused.first(where: { arguments.value($0) != nil }) else { return }
        throw ZoneError(
            .invalid, "set: --\(option.name) takes effect only when a zone is made",
            hint:
                "limits, labels, --storage, networks, ports and the restart policy can be changed; for another --\(option.name) make a new zone with 'zonectl run'"
        )
    }

    // MARK: Showing

    /// The limits of one zone, as `--json` gives them.
    private struct View: JSONRecord {
        var name = ""
        var resources = Spec.Resources()

        mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
            try visitor.required("name", &name)
            try visitor.required("resources", &resources)
        }
    }

    private static func show(_ settings: ZoneSettings, _ arguments: Arguments) throws(ZoneError) -> Int32 {
        let (views, exitCode) = try InspectCommand.forEach(arguments.operands) { (name) throws(ZoneError) in
            let current = try settings.current(name)
            var view = View()
            view.name = current.name
            view.resources = current.resources
            // What a zone may do with devices is no limit.
            view.resources.devices = []
            return view
        }
        if arguments.flag(json) {
            try Output.json(views)
        } else if !views.isEmpty {
            try Output.table(["ZONE", "LIMIT", "VALUE"], views.flatMap { view in rows(view) })
        }
        return exitCode
    }

    private static func number(_ value: Double) -> String {
        value == value.rounded() && value < 1e9 ? "\(Int(value))" : "\(value)"
    }

    /// By the options that set them.
    private static func rows(_ view: View) -> [[String]] {
        let (memory, cpu, io) = (view.resources.memory, view.resources.cpu, view.resources.blockIO)
        let size = { (bytes: Int64?) in bytes.map { $0 < 0 ? "unlimited" : ByteSize.text($0) } }
        let cpus = cpu?.quota.flatMap { quota in
            quota > 0 ? Double(quota) / Double(cpu?.period ?? LimitChange.period) : nil
        }
        var rows: [(Option, String?)] = [
            (ResourceOptions.memory, size(memory?.limit)), (ResourceOptions.reservation, size(memory?.reservation)),
            (ResourceOptions.swap, size(memory?.swap)), (ResourceOptions.cpus, cpus.map(number)),
            (ResourceOptions.burst, cpu?.burst.map { CPUTime.text(microseconds: $0) }),
            (ResourceOptions.cpuShares, cpu?.shares.map { "\($0)" }), (ResourceOptions.cpuSet, cpu?.cpus),
            (ResourceOptions.memorySet, cpu?.mems),
            (ResourceOptions.pidsLimit, view.resources.pids.map { "\($0.limit)" }),
            (ResourceOptions.weight, io?.weight.map { "\($0)" }),
        ]
        for (option, kind) in zip(ResourceOptions.rates, LimitChange.Rate.Kind.allCases) {
            let isBytes = kind == .readBytes || kind == .writeBytes
            for rate in io?[keyPath: kind.field] ?? [] {
                let text = isBytes ? ByteSize.text(Int64(clamping: rate.rate)) : "\(rate.rate)"
                rows.append((option, "\(rate.disk) \(text)/s"))
            }
        }
        return rows.map { [view.name, $0.0.name, $0.1 ?? "-"] }
    }
}
