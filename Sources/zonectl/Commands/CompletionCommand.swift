// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import ZoneRuntime

/// `zonectl completion bash|zsh|fish`
enum CompletionCommand {
    static let command = Command(
        names: ["completion"], group: .other, operands: "bash|zsh|fish",
        summary: "Print the script that completes zonectl's command line in a shell",
        details: """
            Verbs, options, their values, and the names of zones and images are completed. The Debian package brings the
            scripts along; elsewhere each shell wants its own in a place of its own.
            """,
        examples: """
            # For this shell only
            source <(zonectl completion bash)
            # For good: bash (with the package bash-completion), zsh, fish
            zonectl completion bash > ~/.local/share/bash-completion/completions/zonectl
            zonectl completion zsh > "${fpath[1]}/_zonectl"
            zonectl completion fish > ~/.config/fish/completions/zonectl.fish
            """,
        options: [], needsRoot: false
    ) { (arguments, _) throws(ZoneError) in
        guard let name = arguments.operands.first, arguments.operands.count == 1,
            let script = CompletionScript.text(for: name)
        else {
            let what = arguments.operands.isEmpty ? "no shell was given" : "\(arguments.operands) is no shell"
            throw ZoneError(.invalid, "completion: \(what)", hint: "there is bash, zsh and fish")
        }
        try Output.write(script)
        return 0
    }
}

/// `zonectl __complete -- WORD… CURRENT`: what the shells' scripts ask. It never fails: at a prompt nobody wants errors.
enum CompleteCommand {
    static let command = Command(
        names: ["__complete"], group: .other, operands: "-- [WORD…] CURRENT",
        summary: "Tell a shell's script what may stand there", options: [], endsOptionsAtOperand: true,
        needsRoot: false, isHidden: true
    ) { (arguments, _) throws(ZoneError) in
        let words = arguments.operands
        let names = Completion.Names(zones: zones, images: images, volumes: volumes, networks: networks)
        try Output.write(Completion(before: words.dropLast(), current: words.last ?? "", names: names).text)
        return 0
    }

    private static func networks(_ root: String?, _ store: String?) -> [Completion.Candidate] {
        guard let folders = try? Main.folders(root: root, store: store),
            let networks = try? NetworkStore(folders).list()
        else { return [] }
        return networks.map { .init(word: $0.name, help: $0.subnets.joined(separator: ", ")) }
    }

    private static func zones(_ root: String?, _ store: String?) -> [Completion.Candidate] {
        // Folders that cannot be read have no names for this user.
        guard let folders = try? Main.folders(root: root, store: store),
            let entries = try? ZoneStore(folders).list()
        else { return [] }
        return entries.map { entry in
            let image = entry.record.map { $0.image.isEmpty ? "" : ", \($0.image)" } ?? ""
            return Completion.Candidate(word: entry.name, help: entry.state.word + image)
        }
    }

    private static func images(_ root: String?, _ store: String?) -> [Completion.Candidate] {
        guard let folders = try? Main.folders(root: root, store: store), let images = try? folders.images.list()
        else { return [] }
        return images.map { Completion.Candidate(word: $0.name, help: ByteSize.text($0.size)) }
    }

    private static func volumes(_ root: String?, _ store: String?) -> [Completion.Candidate] {
        guard let folders = try? Main.folders(root: root, store: store),
            let volumes = try? VolumeStore(folders).list()
        else { return [] }
        return volumes.map { volume in
            Completion.Candidate(word: volume.name, help: volume.snapshotOf.map { "snapshot of \($0)" } ?? "")
        }
    }
}
