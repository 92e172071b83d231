// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import ZoneRuntime

/// `checkpoint` and `restore`, by an installed criu.
enum EngineCheckpoint {
    // MARK: Of both

    private static let images = Option.value("image-path", nil, "DIR", "The checkpoint's folder (default checkpoint)")
    private static let work = Option.value("work-path", nil, "DIR", "Folder for criu's log (default: the checkpoint's)")
    private static let tcp = Option.flag("tcp-established", nil, "Keep open TCP connections")
    private static let sockets = Option.flag("ext-unix-sk", nil, "Allow unix sockets to the outside")
    private static let shellJob = Option.flag("shell-job", nil, "Allow processes of a shell outside, on its terminal")
    private static let lazy = Option.flag("lazy-pages", nil, "Let memory follow when it is wanted")
    private static let locks = Option.flag("file-locks", nil, "Keep file locks")
    private static let groups = Option.value(
        "manage-cgroups-mode", nil, "soft|full|strict|ignore", "How groups inside the container's are restored")
    private static let empty = Option.list("empty-ns", nil, "network", "Leave the content of this namespace out")
    private static let deduplicate = Option.flag("auto-dedup", nil, "Remove what newer checkpoints replace")

    private static let common = [
        images, work, tcp, sockets, shellJob, lazy, locks, groups, empty, deduplicate,
    ]

    private static func settings(_ arguments: Arguments) throws(ZoneError) -> CriuSettings {
        var settings = CriuSettings()
        if let path = arguments.value(images) { settings.imagePath = path }
        settings.workPath = arguments.value(work)
        settings.keepsTCP = arguments.flag(tcp)
        settings.allowsExternalSockets = arguments.flag(sockets)
        settings.isShellJob = arguments.flag(shellJob)
        settings.isLazy = arguments.flag(lazy)
        settings.keepsFileLocks = arguments.flag(locks)
        settings.deduplicates = arguments.flag(deduplicate)
        if let text = arguments.value(groups) {
            guard let mode = CriuSettings.GroupMode(rawValue: text) else {
                throw ZoneError(
                    .invalid, "--manage-cgroups-mode \"\(text)\" is not one",
                    hint: "there is soft, full, strict and ignore")
            }
            settings.groups = mode
        }
        for name in arguments.list(empty) {
            guard name == "network" else {
                throw ZoneError(
                    .unsupported, "--empty-ns \"\(name)\" is not supported", hint: "only network can be left out")
            }
            settings.emptiesNetwork = true
        }
        return settings
    }

    // MARK: checkpoint

    private static let parent = Option.value("parent-path", nil, "DIR", "Folder of the earlier --pre-dump")
    private static let leaveRunning = Option.flag("leave-running", nil, "Let the container go on")
    private static let linkRemap = Option.flag("link-remap", nil, "Give open files that were removed a name again")
    private static let status = Option.value("status-fd", nil, "N", "Descriptor that hears when lazy pages are ready")
    private static let pageServer = Option.value("page-server", nil, "ADDRESS:PORT", "Who takes or gives the memory")
    private static let preDump = Option.flag("pre-dump", nil, "Only memory, and the container goes on")
    private static let skipInFlight = Option.flag("tcp-skip-in-flight", nil, "Leave out connections being made")

    static let checkpoint = EngineVerb(
        name: "checkpoint", operands: "ID", summary: "Write the processes of a container into files",
        options: common + [parent, leaveRunning, linkRemap, status, pageServer, preDump, skipInFlight]
    ) { (arguments, context) throws(ZoneError) in
        var request = CheckpointRequest()
        request.id = try context.id(arguments, "checkpoint")
        request.criu = try settings(arguments)
        request.parentPath = arguments.value(parent)
        request.leavesRunning = arguments.flag(leaveRunning)
        request.linksRemoved = arguments.flag(linkRemap)
        request.pageServer = arguments.value(pageServer)
        request.isPreDump = arguments.flag(preDump)
        request.skipsTCPInFlight = arguments.flag(skipInFlight)
        if let text = arguments.value(status) {
            guard let number = Int32(text), number >= 0 else {
                throw ZoneError(.invalid, "--status-fd \"\(text)\" is not a descriptor's number")
            }
            request.statusDescriptor = number
        }
        try context.runtime.checkpoint(request)
        return 0
    }

    // MARK: restore

    private static let profile = Option.value("lsm-profile", nil, "TYPE:NAME", "Another AppArmor or SELinux profile")

    static let restore = EngineVerb(
        name: "restore", operands: "ID", summary: "Make a container from a bundle and a checkpoint",
        options: common + [
            EngineOption.bundle, EngineOption.consoleSocket, EngineOption.pidfdSocket, EngineOption.pidFile,
            EngineOption.detach, EngineOption.keep, EngineOption.noSubreaper, EngineOption.noPivot, profile,
        ],
        entersZone: true
    ) { (arguments, context) throws(ZoneError) in
        var request = RestoreRequest()
        let id = try context.id(arguments, "restore")
        request.criu = try settings(arguments)
        request.securityProfile = arguments.value(profile)
        request.zone.id = id
        request.zone.bundle = arguments.value(EngineOption.bundle) ?? "."
        request.zone.pidFile = arguments.value(EngineOption.pidFile)
        request.zone.consoleSocket = arguments.value(EngineOption.consoleSocket)
        request.zone.pidfdSocket = arguments.value(EngineOption.pidfdSocket)
        request.zone.isDetached = arguments.flag(EngineOption.detach)
        request.zone.keeps = arguments.flag(EngineOption.keep)
        return try context.runtime.restore(request)
    }

    /// The descriptor that `checkpoint` is to leave open, known before anything is closed.
    static func statusDescriptor(_ words: [String]) -> UInt32? {
        guard words.contains("checkpoint") else { return nil }
        for (index, word) in words.enumerated() {
            for name in ["--status-fd", "-status-fd"] {
                if word == name, index + 1 < words.count { return UInt32(words[index + 1]) }
                if word.hasPrefix(name + "=") { return UInt32(word.dropFirst(name.utf8.count + 1)) }
            }
        }
        return nil
    }
}
