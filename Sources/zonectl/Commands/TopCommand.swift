// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import ZoneRuntime

/// `zonectl top`
enum TopCommand {
    static let all = Option.flag("all", "a", "Also zones that do not run")
    static let batch = Option.flag("batch", "b", "Print lines for scripts instead of a screen")
    static let count = Option.value("iterations", "n", "NUMBER", "End after so many looks; implies -b")
    static let once = Option.flag("once", nil, "The same as -b -n 1")
    static let interval = Option.value("interval", "d", "TIME", "Time between two looks (default 1s)")
    static let sort = Option.value(
        "sort", nil, TopView.Order.allCases.map(\.rawValue).joined(separator: "|"), "Order (default cpu)")
    static let reverse = Option.flag("reverse", "r", "The other way round")

    static let command = Command(
        names: ["top"], group: .look, operands: "", summary: "Watch what zones use, on the whole screen",
        details: """
            Keys: q, Ctrl-C or Ctrl-D quits; c, m, i, n, p and N sort by CPU, memory, I/O, network, processes and name; r
            reverses; a shows stopped zones too; arrows, page up and page down scroll. Narrow windows have fewer columns.
            """,
        options: [all, batch, count, once, interval, sort, reverse], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        try ListCommand.refuseOperands(arguments)
        var view = TopView()
        view.showsAll = arguments.flag(all)
        view.isReversed = arguments.flag(reverse)
        if let text = arguments.value(sort) {
            guard let order = TopView.Order(rawValue: text) else {
                let known = TopView.Order.allCases.map(\.rawValue).joined(separator: ", ")
                throw ZoneError(.invalid, "--sort \"\(text)\" is no order", hint: "there is \(known)")
            }
            view.order = order
        }
        let milliseconds = try StatsCommand.milliseconds(arguments.value(interval))
        if let looks = try looks(arguments) { return try print(view, context, milliseconds, looks) }
        guard Terminal.isTerminal(0), Terminal.isTerminal(1) else {
            throw ZoneError(
                .invalid, "top: stdin or stdout is no terminal",
                hint: "'zonectl top --once' prints, as does -b -n NUMBER")
        }
        var session = try TopSession(view, context.folders, milliseconds: milliseconds)
        return try session.run()
    }

    /// How often to look in batch mode; nil on a screen.
    private static func looks(_ arguments: Arguments) throws(ZoneError) -> Int? {
        if arguments.flag(once) { return 1 }
        guard let text = arguments.value(count) else { return arguments.flag(batch) ? .max : nil }
        guard let number = Int(text), number > 0 else {
            throw ZoneError(.invalid, "--iterations \"\(text)\" is not a number from 1 on")
        }
        return number
    }

    private static func print(
        _ first: TopView, _ context: Context, _ milliseconds: Int, _ looks: Int
    ) throws(ZoneError) -> Int32 {
        var sampler = ZoneSampler(context.folders)
        var view = try TopSession.look(&sampler, first)
        for number in 0..<looks {
            pause(milliseconds: CInt(clamping: milliseconds))
            view = try TopSession.look(&sampler, view)
            try Output.write((number == 0 ? "" : "\n") + view.text())
        }
        return 0
    }
}
