// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

extension ProcessHandle {
    /// How a process ended that is another's child and was open when it ended; `nil` where that is not known, or not yet.
    /// It is known before its parent has waited for it, which some parents do late, and after that from Linux 6.15 on.
    public func exitStatusOfOther() -> ExitStatus? {
        if let status = reapedStatus() { return status }
        guard let text = try? readHostFile("/proc/\(Int(pid))/stat", limit: 4096),
            let status = ExitStatus(unreaped: text)
        else { return nil }
        // Reaped since: the number may have been another's by then.
        return reapedStatus() ?? status
    }
}

extension ExitStatus {
    /// Reads how a process ended from its `/proc/PID/stat`, proc_pid_stat(5); `nil` unless it waits to be reaped.
    init?(unreaped stat: [UInt8]) {
        // The second field is the command in parentheses and may hold anything; the last `)` ends it.
        guard let close = stat.lastIndex(of: UInt8(ascii: ")")) else { return nil }
        let fields = stat[(close + 1)...].split { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\n") }
        // The third field is the state, the 52nd what wait(2) would give.
        guard fields.count > 49, fields[0].elementsEqual([UInt8(ascii: "Z")]),
            let word = CInt(String(decoding: fields[49], as: UTF8.self))
        else { return nil }
        let signal = word & 0x7F
        self = signal == 0 ? .exited(word >> 8 & 0xFF) : .signalled(signal)
    }
}
