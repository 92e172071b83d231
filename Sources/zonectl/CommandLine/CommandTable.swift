// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import ZoneRuntime

/// All verbs.
enum CommandTable {
    static let all: [Command] = [
        RunCommand.command, CreateCommand.command, StartCommand.command, StopCommand.command, RestartCommand.command,
        KillCommand.command, PauseCommand.pause, PauseCommand.resume, ExecCommand.command, ShellCommand.command,
        CopyCommand.command,
        AttachCommand.command,
        WaitCommand.command, RenameCommand.command, RemoveCommand.command,
        ListCommand.command, PsCommand.command, InspectCommand.command, DiffCommand.command, SetCommand.command,
        UsageCommand.command, LogsCommand.command,
        ScreenshotCommand.command, SendKeyCommand.command, ResetCommand.command,
        EventsCommand.command, StatsCommand.command, TopCommand.command, MetricsCommand.command,
        SnapshotCreateCommand.command, SnapshotListCommand.command, SnapshotRestoreCommand.command,
        SnapshotRemoveCommand.command, CloneCommand.command, CommitCommand.command,
        ExportCommand.command, ImportCommand.command,
        UnitCommand.command, EnableCommand.enable, EnableCommand.disable, ApplyCommand.command,
        ImageListCommand.command, ImagePullCommand.command, ImageUpdateCommand.command, ImagePushCommand.command,
        ImageInspectCommand.command, ImageTagCommand.command, ImageSaveCommand.command, ImageLoadCommand.command,
        ImageImportCommand.command,
        ImageRemoveCommand.command, ImagePruneCommand.command, ImageVerifyCommand.command,
        ImageUsageCommand.command,
        VolumeCreateCommand.command, VolumeListCommand.command, VolumeInspectCommand.command,
        VolumeRemoveCommand.command, VolumePruneCommand.command, VolumeCloneCommand.command,
        VolumeSnapshotCommand.command, VolumeExportCommand.command, VolumeImportCommand.command,
        NetworkCreateCommand.command, NetworkListCommand.command, NetworkInspectCommand.command,
        NetworkRemoveCommand.command, NetworkConnectCommand.command, NetworkDisconnectCommand.command,
        DoctorCommand.command, SchemaCommand.command, VersionCommand.command, HelpCommand.command,
        CompletionCommand.command, CompleteCommand.command,
    ]

    /// All verbs that people see.
    static var shown: [Command] { all.filter { !$0.isHidden } }

    /// Finds the verb at the beginning of some words, two words before one.
    static func find(_ words: ArraySlice<String>) -> (command: Command, rest: ArraySlice<String>)? {
        for count in [2, 1] where words.count >= count {
            var name = words[words.startIndex]
            if count == 2 { name += " " + words[words.startIndex + 1] }
            if let command = all.first(where: { $0.names.contains(name) }) { return (command, words.dropFirst(count)) }
        }
        return nil
    }

    /// The verbs of two words that begin with this one.
    static func family(_ word: String) -> [Command] {
        all.filter { $0.name.hasPrefix(word + " ") }
    }

    static func unknown(_ word: String, next: String?) -> ZoneError {
        let verbs = family(word).map { "'zonectl \($0.name)'" }
        if !verbs.isEmpty {
            let what = next.map { "unknown verb \"\(word) \($0)\"" } ?? "\(word) needs a verb"
            return ZoneError(.invalid, what, hint: "there is \(verbs.joined(separator: ", "))")
        }
        let names = shown.flatMap(\.names)
        let hint = Suggestion.nearest(to: word, among: names).map { "did you mean '\($0)'? " } ?? ""
        return ZoneError(.invalid, "unknown verb \"\(word)\"", hint: hint + "'zonectl help' lists the verbs")
    }
}

/// Options before the verb.
enum GlobalOption {
    static let root = Option.value(
        "root", nil, "DIR", "Folder of volatile state (default \(ZoneFolders.defaultRoot), or $ZONECTL_ROOT)")
    static let store = Option.value(
        "store", nil, "DIR", "Folder of images and zones (default \(ZoneFolders.defaultStore), or $ZONECTL_STORE)")
    static let help = Option.flag("help", "h", "Show help")
    static let version = Option.flag("version", "v", "Show the version")

    static let all = [root, store, help, version]
}
