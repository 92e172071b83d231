// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import ZoneRuntime

/// `zonectl clone ZONE [NEW]`
enum CloneCommand {
    static let full = Option.flag(
        "full", nil, "Copy what the zone has changed; the default where files can share blocks")
    static let linked = Option.flag(
        "linked", nil, "Copy nothing: stand on a snapshot of the zone, which must stay; the default elsewhere")
    static let snapshot = Option.value("snapshot", nil, "SNAPSHOT", "Clone the zone as it was at this snapshot")

    static let command = Command(
        names: ["clone"], group: .keep, operands: "ZONE [NEW]",
        summary: "Make a new zone that begins as another one is",
        details: """
            The new zone is stopped; its settings are the other's. A full clone is independent of the other zone, as virsh's
            and incus's copies are. A linked clone stands on a snapshot, which is made if none is named. As long as it is there,
            neither that snapshot nor the zone can be removed or renamed. Unless one is asked for, it is the one that takes
            as long for a large zone as for a small one: full where the store's file system can share blocks (btrfs, xfs), else
            linked. The new zone's name is printed.
            """,
        examples: """
            zonectl clone web web-test
            # Whatever the file system
            zonectl clone --full web web-copy
            # A hundred of one, at the cost of one
            zonectl clone --linked --snapshot golden template student-1
            """,
        options: [full, linked, snapshot]
    ) { (arguments, context) throws(ZoneError) in
        guard let zone = arguments.operands.first, arguments.operands.count <= 2 else {
            throw ZoneError(
                .invalid, "clone takes a zone, and the name of the new one if that is wanted",
                hint: "zonectl clone web web-test")
        }
        if arguments.flag(full), arguments.flag(linked) {
            throw ZoneError(.invalid, "--full and --linked contradict each other")
        }
        let isChosen = arguments.flag(full) || arguments.flag(linked)
        let name = try ZoneClone(context.folders).clone(
            zone, to: arguments.operands.dropFirst().first, isLinked: isChosen ? arguments.flag(linked) : nil,
            snapshot: arguments.value(snapshot))
        try Output.write(name + "\n")
        return 0
    }
}
