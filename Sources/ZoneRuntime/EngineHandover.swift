// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Namespaces
import OCI

/// What an engine gets of a process: its terminal, a pidfd, its number. The sockets are connected before anything is
/// made, so that a wrong path costs nothing.
struct EngineHandover: ~Copyable {
    private let console: Descriptor?
    private let pidfd: Descriptor?
    private let pidFile: String?

    private init(console: consuming Descriptor?, pidfd: consuming Descriptor?, pidFile: String?) {
        self.console = console
        self.pidfd = pidfd
        self.pidFile = pidFile
    }

    static func prepare(
        console: String?, pidfd: String?, pidFile: String?, preserved: Int, _ process: Spec.Process, isForeground: Bool
    ) throws(ZoneError) -> EngineHandover {
        if console == nil, process.terminal, !isForeground {
            throw ZoneError(
                .invalid, "process.terminal is set, but there is nobody to get the terminal",
                hint: "give a socket for it with --console-socket, or leave out --detach")
        }
        if console != nil, !process.terminal {
            throw ZoneError(
                .invalid, "--console-socket is given, but process.terminal is not set",
                hint: "leave one out, or set the other")
        }
        try EngineHandover.checkPreserved(preserved)
        return EngineHandover(
            console: try connect(console, "--console-socket"), pidfd: try connect(pidfd, "--pidfd-socket"),
            pidFile: pidFile)
    }

    private static func connect(_ path: String?, _ option: String) throws(ZoneError) -> Descriptor? {
        guard let path else { return nil }
        return try EngineSockets.connect(path, option)
    }

    /// Every descriptor that is promised must be there: a free number would be taken by a file of ours.
    private static func checkPreserved(_ count: Int) throws(ZoneError) {
        for number in 0..<max(0, count) where !Descriptor.isOpen(CInt(clamping: number + 3)) {
            throw ZoneError(
                .invalid, "--preserve-fds \(count): descriptor \(number + 3) is not open",
                hint: "descriptors from 3 to \(count + 2) must be")
        }
    }

    /// Sends the terminal's master, before the program starts: its first words must find a reader.
    func sendConsole(_ launching: inout LaunchingProcess) throws(ZoneError) {
        guard console != nil, let master = launching.takeConsole() else { return }
        try sendConsole(master)
    }

    /// The same with a master that came another way.
    func sendConsole(_ master: borrowing Descriptor) throws(ZoneError) {
        guard let socket = Descriptor.number(of: console) else { return }
        try EngineSockets.send(master.raw, named: "/dev/ptmx", to: socket, "--console-socket")
    }

    /// Sends the pidfd and writes the pid file.
    func sendProcess(_ process: borrowing ProcessHandle) throws(ZoneError) {
        if let socket = Descriptor.number(of: pidfd) {
            try EngineSockets.send(process.raw, named: "pidfd", to: socket, "--pidfd-socket")
        }
        if let pidFile { try EngineSockets.write(pid: process.pid, to: pidFile) }
    }
}
