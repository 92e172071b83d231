// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import ZoneRuntime

/// Options of the engine face that several verbs share.
enum EngineOption {
    // MARK: Before the verb

    static let debug = Option.flag("debug", nil, "Log what is done, too")
    static let log = Option.value("log", nil, "FILE", "Append errors and warnings to a file")
    static let logFormat = Option.value("log-format", nil, "text|json", "Form of the lines in it")
    static let systemd = Option.flag("systemd-cgroup", nil, "Let systemd make the control groups")
    static let manager = Option.value(
        "cgroup-manager", nil, "cgroupfs|systemd|disabled", "Who makes the control groups (default cgroupfs)")
    static let rootless = Option.value("rootless", nil, "auto|true|false", "Accepted; found out by itself")
    static let criu = Option.value("criu", nil, "PATH", "The program for checkpoint and restore (default criu)")

    private static let own = [debug, log, logFormat, systemd, manager, rootless, criu]

    static let globals = GlobalOption.all + own

    /// Whether there are options before the verb that only engines give.
    static func areIn(_ globals: Arguments) -> Bool { own.contains { globals.value($0) != nil } }

    /// The same for words that cannot be parsed.
    static func areMentioned(in words: some Collection<String>) -> Bool {
        let words = beforeVerb(words)
        return words.contains { word in own.contains { word == "--\($0.name)" || word.hasPrefix("--\($0.name)=") } }
    }

    /// Words up to a verb: what is behind it may be another program's.
    static func beforeVerb(_ words: some Collection<String>) -> [String] {
        Array(words.prefix { EngineVerbs.find($0) == nil && CommandTable.find([$0]) == nil })
    }

    static func folders(_ globals: Arguments) throws(ZoneError) -> ZoneFolders {
        try Main.folders(root: globals.value(GlobalOption.root), store: globals.value(GlobalOption.store))
    }

    static func runtime(_ globals: Arguments) throws(ZoneError) -> RuntimeOptions {
        var options = RuntimeOptions()
        options.criu = globals.value(criu)
        if globals.flag(systemd) { options.cgroups = .systemd }
        switch globals.value(manager) {
        case nil: break
        case "cgroupfs": options.cgroups = .cgroupfs
        case "systemd": options.cgroups = .systemd
        case "disabled": options.cgroups = .disabled
        case .some(let other):
            throw ZoneError(
                .invalid, "--cgroup-manager \"\(other)\" is not one", hint: "there is cgroupfs, systemd and disabled")
        }
        return options
    }

    // MARK: Of verbs

    static let bundle = Option.value("bundle", "b", "DIR", "The bundle (default: the working directory)")
    static let consoleSocket = Option.value("console-socket", nil, "SOCKET", "Send the terminal's master there")
    static let pidfdSocket = Option.value("pidfd-socket", nil, "SOCKET", "Send a pidfd of the first process there")
    static let pidFile = Option.value("pid-file", nil, "FILE", "Write the first process's pid there")
    static let noPivot = Option.flag("no-pivot", nil, "Use chroot instead of pivot_root")
    static let noKeyring = Option.flag("no-new-keyring", nil, "Keep the caller's session keyring")
    static let preserve = Option.value("preserve-fds", nil, "N", "Descriptors from 3 on that the program inherits")
    static let detach = Option.flag("detach", "d", "Do not stay with the process")
    static let noSubreaper = Option.flag("no-subreaper", nil, "Accepted; there is none")
    static let keep = Option.flag("keep", nil, "Do not delete the container when it has ended")

    static let creation = [
        bundle, consoleSocket, pidfdSocket, pidFile, noPivot, noKeyring, preserve, noSubreaper,
    ]

    static func number(_ text: String?, _ option: Option) throws(ZoneError) -> Int {
        guard let text else { return 0 }
        guard let number = Int(text), (0...65_536).contains(number) else {
            throw ZoneError(.invalid, "--\(option.name) \"\(text)\" is not a number from 0 to 65536")
        }
        return number
    }

    static func request(_ arguments: Arguments, _ id: String) throws(ZoneError) -> CreateRequest {
        var request = CreateRequest()
        request.id = id
        request.bundle = arguments.value(bundle) ?? "."
        request.pidFile = arguments.value(pidFile)
        request.consoleSocket = arguments.value(consoleSocket)
        request.pidfdSocket = arguments.value(pidfdSocket)
        request.preservedDescriptors = try number(arguments.value(preserve), preserve)
        request.pivots = !arguments.flag(noPivot)
        request.makesKeyring = !arguments.flag(noKeyring)
        request.isDetached = arguments.flag(detach)
        request.keeps = arguments.flag(keep)
        return request
    }

    /// How many descriptors the words ask to preserve, known before anything is opened or closed.
    static func preserved(_ words: [String]) -> UInt32 {
        if let number = EngineCheckpoint.statusDescriptor(words) { return number > 2 ? number - 2 : 0 }
        return mentioned(preserve, words).flatMap { UInt32($0) } ?? 0
    }

    /// The value of an option in words that are not parsed yet, or cannot be.
    static func mentioned(_ option: Option, _ words: some Collection<String>) -> String? {
        let forms = ["--\(option.name)", "-\(option.name)"]
        var rest = Array(words)[...]
        while let word = rest.popFirst() {
            if forms.contains(word) { return rest.first }
            for form in forms { if let value = word.after(form + "=") { return value } }
        }
        return nil
    }
}
