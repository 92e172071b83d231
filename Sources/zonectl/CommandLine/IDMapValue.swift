// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import ZoneRuntime

/// Parses `idmap=uids=0-1000-1;gids=0-1000-1` of a mount, as podman writes it: ids from the first number on, as they are in
/// the files, are those from the second on in the zone; the third is how many. `#` stands between ranges.
enum IDMapValue {
    static func apply(_ text: String, to mount: inout Spec.Mount, _ option: String) throws(ZoneError) {
        for field in text.split(separator: ";", omittingEmptySubsequences: false) {
            let (name, value) = String(field).halves("=")
            guard let value, let ranges = ranges(value) else { throw fault(text, option) }
            switch name {
            case "uids": mount.uidMappings = ranges
            case "gids": mount.gidMappings = ranges
            default: throw fault(text, option)
            }
        }
        guard !mount.uidMappings.isEmpty, !mount.gidMappings.isEmpty else { throw fault(text, option) }
    }

    private static func ranges(_ text: String) -> [Spec.IDMapping]? {
        var result: [Spec.IDMapping] = []
        for range in text.split(separator: "#", omittingEmptySubsequences: false) {
            let numbers = range.split(separator: "-", omittingEmptySubsequences: false).map { UInt32($0) }
            guard numbers.count == 3, let first = numbers[0], let second = numbers[1], let size = numbers[2], size > 0
            else { return nil }
            result.append(Spec.IDMapping(containerID: first, hostID: second, size: size))
        }
        return result
    }

    private static func fault(_ text: String, _ option: String) -> ZoneError {
        ZoneError(
            .invalid, "\(option): idmap \"\(text)\" is not uids=FROM-TO-COUNT;gids=FROM-TO-COUNT",
            hint: "such as idmap=uids=1000-0-1;gids=1000-0-1, by which files of the user 1000 are root's in the zone")
    }
}
