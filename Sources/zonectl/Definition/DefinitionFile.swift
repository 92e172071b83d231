// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI
import ZoneRuntime

/// A file with the definition of one zone, or with a list of them: as `inspect --as-definition` prints them, with shorter
/// forms of some values for people. Read strictly: what is not understood is an error with its line.
struct DefinitionFile {
    /// A zone as a file describes it.
    struct Zone {
        let definition: ZoneDefinition
        /// Whether systemd's generator starts it with the host.
        let startsWithHost: Bool
    }

    /// The file's name, for errors.
    let name: String
    private let bytes: [UInt8]
    private let json: JSON

    /// Reads a file, or standard input for `-`.
    init(_ path: String) throws(ZoneError) {
        name = path == "-" ? "standard input" : path
        do throws(SystemError) {
            // Larger than any list of zones that a person or a program writes.
            bytes = path == "-" ? try DefinitionFile.input() : try readHostFile(path, limit: 4 << 20)
        } catch {
            throw ZoneError("read definitions", error)
        }
        do throws(JSONError) { json = try JSON(parsing: bytes) } catch {
            throw ZoneError(.invalid, "\(name): \(error)")
        }
    }

    private static func input() throws(SystemError) -> [UInt8] {
        try Descriptor.open("/proc/self/fd/0", [.readOnly]).readAll(limit: 4 << 20, "standard input")
    }

    /// All zones in the file. `expected`: the only name that may be in it, which then may be missing.
    /// `looksAtHost`: whether paths of the host's must be there, which they need not before its disks are mounted.
    func zones(named expected: String? = nil, looksAtHost: Bool = true) throws(ZoneError) -> [Zone] {
        guard case .array(let values) = json, expected == nil else {
            return [try zone(json, at: [], expected, looksAtHost)]
        }
        var zones: [Zone] = []
        for (index, value) in values.enumerated() {
            let zone = try zone(value, at: [.index(index)], nil, looksAtHost)
            if zones.contains(where: { $0.definition.name == zone.definition.name }) {
                throw error(
                    DefinitionFault([.index(index), .name("name")], "zone \(zone.definition.name) is defined twice"))
            }
            zones.append(zone)
        }
        return zones
    }

    private func zone(
        _ json: JSON, at place: [JSONStep], _ expected: String?, _ looksAtHost: Bool
    ) throws(ZoneError) -> Zone {
        do throws(DefinitionFault) {
            return try DefinitionReader.zone(json, expected, looksAtHost: looksAtHost)
        } catch {
            throw self.error(DefinitionFault(place + error.path, error.detail, hint: error.hint))
        }
    }

    private func error(_ fault: DefinitionFault) -> ZoneError {
        let line = JSON.line(of: fault.path, in: bytes)
        let key = fault.path.reduce(into: "") { text, step in
            switch step {
            case .name(let name): text += (text.isEmpty ? "" : ".") + name
            case .index(let index): text += text.isEmpty ? "" : "[\(index)]"
            }
        }
        return ZoneError(
            .invalid, "\(name): line \(line): \(key.isEmpty ? "" : "\"\(key)\": ")\(fault.detail)", hint: fault.hint)
    }
}

/// The folder of definitions that systemd's generator reads, NAME.json each.
enum DefinitionFolder {
    static var path: String {
        guard let value = getenv("ZONECTL_DEFINITIONS") else { return ZoneDefinition.folder }
        return String(cString: value)
    }

    /// What the administrator has written of a zone; nil where there is nothing. Only zones of the default folders are
    /// meant, unless the folder is named.
    static func zone(_ name: String, _ folders: ZoneFolders) throws(ZoneError) -> DefinitionFile.Zone? {
        let isDefault = folders.root == ZoneFolders.defaultRoot && folders.store == ZoneFolders.defaultStore
        guard isDefault || getenv("ZONECTL_DEFINITIONS") != nil, ZoneName.isValid(name) else { return nil }
        let file = "\(path)/\(name).json"
        do throws(SystemError) { _ = try FileStatus.of(file) } catch {
            if error.errno == .noEntry || error.errno == .notDirectory { return nil }
            throw ZoneError("read the definition of zone \(name)", error)
        }
        return try DefinitionFile(file).zones(named: name).first
    }
}
