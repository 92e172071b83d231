// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import ZoneRuntime

/// Manual pages, made from the same tables as the help: zonectl(1), one for each verb, and zonectl-oci(1).
enum Manual {
    /// `zonectl-image-ls` for `image ls`.
    static func name(of verb: String) -> String {
        "zonectl-" + verb.map { $0 == " " ? "-" : String($0) }.joined()
    }

    private static func page(_ name: String) -> ManualText {
        ManualText(name: name, date: Version.date, source: "zonectl \(Version.number)")
    }

    // MARK: zonectl(1)

    static func overview() -> String {
        var page = page("zonectl")
        page.section("NAME")
        page.raw("zonectl \\- run isolated machines from images")
        page.section("SYNOPSIS")
        page.raw(
            "\(ManualText.bold("zonectl")) [\(ManualText.bold("--root")) \(ManualText.italic("DIR"))] "
                + "[\(ManualText.bold("--store")) \(ManualText.italic("DIR"))] \(ManualText.italic("VERB")) "
                + "[\(ManualText.italic("OPTIONS"))] ...")
        page.raw("\(ManualText.bold("zonectl")) \(ManualText.bold("oci")) \(ManualText.italic("VERB")) ...")
        page.section("DESCRIPTION")
        page.paragraphs(
            """
            zonectl makes zones: named, isolated machines made from images. A zone shares the host's kernel and nothing
            else: it has its own processes, files, users, network and limits. There is no daemon; a zone is a process and
            a few files.

            A name may be cut short as long as it is one zone's only. Without a name of yours one is made up.

            Ordinary users have zones of their own, in folders of their own, in which they are root; subuid(5) and
            subgid(5) say which users those zones may have besides.

            zonectl is an OCI runtime too, as podman, docker, containerd and Kubernetes call one: zonectl-oci(1).
            """)
        for group in Command.Group.allCases {
            let commands = CommandTable.shown.filter { $0.group == group }
            if commands.isEmpty { continue }
            page.section("VERBS: \(group.rawValue.uppercased())")
            for command in commands {
                page.item(
                    "\(ManualText.bold(Manual.name(of: command.name)))(1)", command.summary + ".")
            }
        }
        page.section("OPTIONS")
        options(GlobalOption.all, &page)
        page.section("EXIT STATUS")
        statuses("", entersZone: true, &page)
        environment(&page)
        files(&page)
        page.section("EXAMPLES")
        page.example(
            """
            # Take an image from a root file system, and run a shell in a zone made from it
            zonectl image import --name=alpine alpine-minirootfs.tar.gz
            zonectl run -it --name first alpine
            # What is there, and away with it
            zonectl ls
            zonectl rm -f first
            """)
        seeAlso(
            CommandTable.shown.map { Manual.name(of: $0.name) + "(1)" }
                + ["zonectl-oci(1)", "subuid(5)", "namespaces(7)", "cgroups(7)"], &page)
        return page.text
    }

    // MARK: One verb

    static func text(_ command: Command) -> String {
        let name = Manual.name(of: command.name)
        var page = page(name)
        page.section("NAME")
        page.raw("\(ManualText.escaped(name)) \\- \(ManualText.escaped(lowered(command.summary)))")
        page.section("SYNOPSIS")
        for word in command.names { synopsis("zonectl \(word)", command.options, command.operands, &page) }
        page.section("DESCRIPTION")
        page.paragraph(command.summary + ".")
        page.paragraphs(command.details)
        page.section("OPTIONS")
        options(command.options + [GlobalOption.help], &page)
        page.paragraph("Options before the verb, such as --root and --store, are in zonectl(1).")
        page.section("EXIT STATUS")
        statuses(command.statuses, entersZone: command.entersZone, &page)
        environment(&page)
        files(&page)
        if !command.examples.isEmpty {
            page.section("EXAMPLES")
            page.example(command.examples)
        }
        let others = CommandTable.shown.filter { $0.group == command.group && $0.name != command.name }
        seeAlso(["zonectl(1)"] + others.map { Manual.name(of: $0.name) + "(1)" }, &page)
        return page.text
    }

    // MARK: zonectl-oci(1)

    static func engine() -> String {
        var page = page("zonectl-oci")
        page.section("NAME")
        page.raw("zonectl\\-oci \\- zonectl as container engines call it: an OCI runtime")
        page.section("SYNOPSIS")
        synopsis("zonectl [GLOBAL OPTIONS] oci VERB", [GlobalOption.help], "", &page)
        page.section("DESCRIPTION")
        page.paragraphs(
            """
            The command line of the OCI runtimes, as podman, docker, containerd, CRI-O and Kubernetes call it. A container
            is made from a bundle: a folder with a config.json and a root file system.

            This face is meant after the word oci, when the program is called by the name runc, crun or zonectl-oci, for
            verbs and options that only it has, and for containers that were made from bundles.
            """)
        page.section("GLOBAL OPTIONS")
        options(EngineOption.globals, &page)
        for verb in EngineVerbs.all {
            page.section("VERB: \(verb.name.uppercased())")
            synopsis("zonectl oci \(verb.name)", verb.options, verb.operands, &page)
            page.paragraph(verb.summary + ".")
            options(verb.options, &page)
        }
        page.section("EXIT STATUS")
        page.item("0", "Success. run and exec end with the status of the container's program.")
        page.item("1", "zonectl failed; what and why is on the error stream, and in the file of --log.")
        page.item("255", "exec failed before its program ran.")
        environment(&page)
        files(&page)
        page.section("EXAMPLES")
        page.example(
            """
            # Once, with podman
            podman --runtime /usr/bin/zonectl run --rm docker.io/library/busybox true
            # By hand: a bundle whose config.json is an example, to be edited
            mkdir -p bundle/rootfs
            zonectl oci spec --bundle bundle
            zonectl oci run --bundle bundle first
            """)
        seeAlso(["zonectl(1)", "zonectl-run(1)", "podman(1)"], &page)
        return page.text
    }

    // MARK: Parts

    /// A sentence's beginning as the middle of one; names such as JSON stay.
    private static func lowered(_ text: String) -> String {
        guard let second = text.dropFirst().first, second.isLowercase || second == " " else { return text }
        return text.prefix(1).lowercased() + text.dropFirst()
    }

    private static func synopsis(_ words: String, _ options: [Option], _ operands: String, _ page: inout ManualText) {
        var line = ManualText.bold(words)
        if !options.isEmpty { line += " [\(ManualText.italic("OPTIONS"))]" }
        if !operands.isEmpty { line += " \(ManualText.italic(operands))" }
        page.raw(line)
    }

    private static func options(_ options: [Option], _ page: inout ManualText) {
        for option in options {
            var term = option.short.map { ManualText.bold("-\($0)") + ", " } ?? ""
            term += ManualText.bold("--\(option.name)")
            if case .value(let name) = option.kind { term += " \(ManualText.italic(name))" }
            if case .optional(let name, _) = option.kind { term += "[=\(ManualText.italic(name))]" }
            page.item(term, option.help + "." + (option.repeats ? " May be repeated." : ""))
        }
    }

    private static func statuses(_ own: String, entersZone: Bool, _ page: inout ManualText) {
        page.item("0", entersZone ? "Success, or the command's own status." : "Success.")
        for line in own.split(separator: "\n").map(String.init) {
            let (status, meaning) = line.halves("\t")
            page.item(status, meaning ?? "")
        }
        page.item("125", "zonectl failed; what, why and what to do is on the error stream.")
        guard entersZone else { return }
        page.item("126", "The command was found and could not be executed.")
        page.item("127", "The command was not found.")
        page.item("128+n", "The command was killed by signal n.")
    }

    private static func environment(_ page: inout ManualText) {
        page.section("ENVIRONMENT")
        page.item(ManualText.bold("ZONECTL_ROOT"), "Folder of volatile state, unless --root is given.")
        page.item(ManualText.bold("ZONECTL_STORE"), "Folder of images and zones, unless --store is given.")
        page.item(
            ManualText.bold("ZONECTL_NETWORK"),
            "The network of a zone that is made without --network, instead of zone0.")
        page.item(
            ManualText.bold("XDG_RUNTIME_DIR") + ", " + ManualText.bold("XDG_DATA_HOME"),
            "Where the folders of ordinary users are, see FILES.")
    }

    private static func files(_ page: inout ManualText) {
        page.section("FILES")
        page.item(ManualText.italic(ZoneFolders.defaultStore), "Images and zones of root.")
        page.item(ManualText.italic(ZoneFolders.defaultRoot), "What zones of root do now; empty after a reboot.")
        page.item(
            ManualText.italic("$XDG_DATA_HOME/zonectl") + ", " + ManualText.italic("$XDG_RUNTIME_DIR/zonectl"),
            "The same of an ordinary user; ~/.local/share/zonectl where the former is not set.")
    }

    private static func seeAlso(_ pages: [String], _ page: inout ManualText) {
        page.section("SEE ALSO")
        let references = pages.map { text in
            let (name, rest) = text.halves("(")
            return ManualText.bold(name) + "(" + (rest ?? "")
        }
        page.raw(references.joined(separator: ",\n"))
    }
}
