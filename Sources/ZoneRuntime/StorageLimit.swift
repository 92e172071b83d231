// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
public import OCI

/// What keeps the files of a zone or a volume within a size; found out when that is made.
public enum StorageKind: String, JSONCodable, CaseIterable, Sendable {
    /// A project quota of the file system that the store is on.
    case project
    /// A file system of its own, in a sparse file.
    case image
}

/// The size of a zone's own files, or of a volume's.
struct StorageLimit: Sendable, Equatable {
    /// A smaller ext4 has hardly room for more than its journal.
    static let least: Int64 = 16 << 20
    /// What ext4 can have with blocks of 4 KiB: 2^32 of them, without the feature 64bit.
    static let most: Int64 = 16 << 40

    /// Bytes.
    var size: Int64
    var kind: StorageKind
    /// The number that the files have, of a project quota.
    var project: UInt32?

    /// Makes sure that a size is one that can be had.
    static func verify(_ size: Int64) throws(DefinitionFault) {
        if size < least {
            throw DefinitionFault(
                "storage", "\(ByteSize.text(size)) is less than \(ByteSize.text(least)), the least that can be used")
        }
        if size > most {
            throw DefinitionFault("storage", "\(ByteSize.text(size)) is more than \(ByteSize.text(most))")
        }
    }

    /// The same for words of a command line.
    static func verify(_ size: Int64, _ option: String) throws(ZoneError) {
        do throws(DefinitionFault) { try verify(size) } catch {
            throw ZoneError(.invalid, "\(option): \(error.detail)", hint: "such as 2G")
        }
    }
}

/// What notes the limit of its files: members of a document.
protocol StorageLimited {
    var storage: Int64? { get set }
    var storageKind: StorageKind? { get set }
    var storageProject: Int64? { get set }
}

extension ZoneDefinition: StorageLimited {}
extension Volume: StorageLimited {}

extension StorageLimited {
    var storageLimit: StorageLimit? {
        get {
            guard let storage, let storageKind else { return nil }
            return StorageLimit(
                size: storage, kind: storageKind, project: storageProject.flatMap { UInt32(exactly: $0) })
        }
        set {
            storage = newValue?.size
            storageKind = newValue?.kind
            storageProject = newValue?.project.map { Int64($0) }
        }
    }
}
