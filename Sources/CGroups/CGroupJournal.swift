// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// What a change of limits has done so far, so that it can be taken back as a whole.
///
/// Taken back in reverse, each limit passes only through states that the kernel has accepted before: no order has to be
/// found anew between limits that bound one another.
public final class CGroupJournal {
    private enum Entry {
        case written(file: String, former: String)
        /// A version 1 group that was made, and where its processes were before.
        case made(path: String, former: String)
    }

    private var entries: [Entry] = []

    public init() {}

    /// Takes everything back. What cannot be is passed over: the rest is still worth it.
    public func undo() {
        while let entry = entries.popLast() {
            switch entry {
            case .written(let file, let former): try? CGroupJournal.write(former, to: file)
            case .made(let path, let former):
                let list = { () throws(SystemError) in try CGroupFiles.processes(path) }
                try? CGroupFiles.moveAll(list, into: former)
                try? CGroupFiles.remove(path)
            }
        }
    }

    func made(_ path: String, former: String) {
        entries.append(.made(path: path, former: former))
    }

    /// Notes what a file holds before `value` is written to it.
    func note(_ file: String, _ value: String, in group: borrowing CGroupFiles) {
        // What can only be written cannot be put back: the device filter, which no change of limits speaks of.
        guard !file.hasPrefix("cgroup."), !file.hasPrefix("devices."), let held = try? group.readIfThere(file) else {
            return
        }
        entries.append(
            .written(file: "\(group.path)/\(file)", former: CGroupJournal.former(held, of: file, before: value)))
    }

    /// What must be written to get back the state in which the file held `text`.
    static func former(_ text: String, of file: String, before value: String) -> String {
        if file == "memory.oom_control" { return text.halves("\n").0.halves(" ").1 ?? "0" }
        let (key, rest) = value.halves(" ")
        if rest != nil, file != "cpu.max" {
            // One line for each device or interface: only the one that changes.
            if let line = text.fields("\n").first(where: { $0.halves(" ").0 == key }) { return line }
            if file == "io.max" { return "\(key) rbps=max wbps=max riops=max wiops=max" }
            if key.utf8.contains(UInt8(ascii: ":")) { return "\(key) \(file.hasPrefix("io.") ? "default" : "0")" }
        }
        return text.halves("\n").0
    }

    private static func write(_ text: String, to file: String) throws(SystemError) {
        // An empty list has to be written as a line: nothing is no write.
        try Descriptor.open(file, [.writeOnly]).writeOnce(text.isEmpty ? "\n" : text, file)
    }
}
