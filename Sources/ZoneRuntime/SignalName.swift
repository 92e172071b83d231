// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc

/// Names and numbers of signals, see signal(7).
public enum SignalName {
    private static let numbers: [String: Int32] = [
        "HUP": SIGHUP, "INT": SIGINT, "QUIT": SIGQUIT, "ILL": SIGILL, "TRAP": SIGTRAP, "ABRT": SIGABRT, "IOT": SIGABRT,
        "BUS": SIGBUS, "FPE": SIGFPE, "KILL": SIGKILL, "USR1": SIGUSR1, "SEGV": SIGSEGV, "USR2": SIGUSR2,
        "PIPE": SIGPIPE, "ALRM": SIGALRM, "TERM": SIGTERM, "STKFLT": 16, "CHLD": SIGCHLD, "CLD": SIGCHLD,
        "CONT": SIGCONT, "STOP": SIGSTOP, "TSTP": SIGTSTP, "TTIN": SIGTTIN, "TTOU": SIGTTOU, "URG": SIGURG,
        "XCPU": SIGXCPU, "XFSZ": SIGXFSZ, "VTALRM": SIGVTALRM, "PROF": SIGPROF, "WINCH": SIGWINCH, "IO": SIGIO,
        "POLL": SIGIO, "PWR": 30, "SYS": SIGSYS,
    ]

    /// Those that people send.
    public static let common = [
        "TERM", "KILL", "HUP", "INT", "QUIT", "USR1", "USR2", "STOP", "CONT", "WINCH", "ABRT", "ALRM",
    ]

    /// Parses `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3` or `RTMAX-1`; `nil` for what is no signal. 0 is none.
    public static func number(of text: String) -> Int32? {
        if let number = Int32(text) { return (1...64).contains(number) && !text.hasPrefix("+") ? number : nil }
        // Only ASCII: other letters, such as the long s, have capitals that are in it.
        guard text.utf8.count <= 16, text.utf8.allSatisfy({ $0 < 0x80 }) else { return nil }
        var name = text.uppercased()
        if name.hasPrefix("SIG") { name.removeFirst(3) }
        if let number = numbers[name] { return number }
        // glibc keeps 32 and 33 for itself: the first real-time signal that programs see is 34.
        for (prefix, base, sign) in [("RTMIN", Int32(34), Int32(1)), ("RTMAX", 64, -1)] where name.hasPrefix(prefix) {
            let rest = name.dropFirst(prefix.count)
            if rest.isEmpty { return base }
            guard rest.first == (sign > 0 ? "+" : "-"), let offset = UInt8(rest.dropFirst()), offset <= 30,
                rest.dropFirst().first?.isNumber == true
            else { return nil }
            return base + sign * Int32(offset)
        }
        return nil
    }
}
