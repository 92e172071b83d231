// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Namespaces

/// Makes what keeps the files of a zone or a volume within a size: a project quota where the store's file system has that
/// switched on, an image file elsewhere.
struct StorageMaker {
    /// Numbers of projects: far from those that administrators give by hand (projid(5)).
    private static let projects: Range<UInt32> = 0x4000_0000..<0x8000_0000

    private let folders: ZoneFolders

    init(_ store: ZoneStore) {
        folders = store.folders
    }

    /// Makes the storage that a definition asks for, in the folder of a zone that is being made, and notes its kind there.
    func make(_ definition: inout ZoneDefinition, in folder: borrowing Descriptor) throws(ZoneError) {
        guard let size = definition.storage else { return definition.storageLimit = nil }
        definition.storageLimit = try make(size, in: folder, option: "--storage")
    }

    /// Makes storage of a size, in bytes, where there is none yet; `option` asked for it.
    func make(
        _ size: Int64, in folder: borrowing Descriptor, option: String
    ) throws(ZoneError) -> StorageLimit {
        try StorageLimit.verify(size, option)
        if Rootless.isInside {
            throw ZoneError(
                .notPermitted, "\(option): an ordinary user can neither limit files by a quota nor mount an image file",
                hint: "leave it out, or run zonectl as root")
        }
        let quota = try attempting("look at the quota of \(folders.store)") { () throws(SystemError) in
            try ProjectQuota(of: folder)
        }
        if let quota { return try makeProject(size, quota, in: folder) }
        try StorageImage.make(size, in: folder)
        try probe(folder)
        return StorageLimit(size: size, kind: .image)
    }

    private func makeProject(
        _ size: Int64, _ quota: borrowing ProjectQuota, in folder: borrowing Descriptor
    ) throws(ZoneError) -> StorageLimit {
        do throws(SystemError) {
            // Who has found a number free has it in use when the next one looks: the folder counts.
            _ = try Descriptor.makePath(folders.zones, mode: 0o700)
            let lock = try Descriptor.open(folders.zones, [.readOnly, .directory])
            _ = try lock.lock()
            let project = try StorageMaker.freeProject(quota)
            try folder.makeDirectory(OwnFiles.projectFolder, mode: 0o700)
            let own = try folder.open(
                OwnFiles.projectFolder, [.path, .directory, .noFollow], resolve: .beneath)
            try quota.assign(project, to: own)
            try quota.limit(project, to: size)
            return StorageLimit(size: size, kind: .project, project: project)
        } catch {
            throw ZoneError("limit files to \(ByteSize.text(size))", error)
        }
    }

    /// A number that no file has. What is left of limits that nobody needs any more does not matter: it is replaced.
    private static func freeProject(_ quota: borrowing ProjectQuota) throws(SystemError) -> UInt32 {
        while true {
            let project = UInt32.random(in: projects)
            if try quota.use(of: project).inodes == 0 { return project }
        }
    }

    /// Makes sure that the image can be mounted here: better said now than at the start.
    private func probe(_ folder: borrowing Descriptor) throws(ZoneError) {
        do throws(SystemError) { drop(try StorageImage.mount(in: folder, at: folders.store)) } catch {
            throw StorageMaker.unmountable(error)
        }
    }

    private static func unmountable(_ error: SystemError) -> ZoneError {
        switch error.errno {
        case .noEntry, .noDevice:
            ZoneError(
                .unsupported, "mount the storage: \(error)",
                hint: "image files need loop devices and ext4: 'modprobe loop', and /dev/loop-control")
        case .notPermitted, .accessDenied:
            ZoneError(
                .notPermitted, "mount the storage: \(error)",
                hint: "image files need the right to mount file systems, which containers seldom have")
        default: ZoneError("mount the storage", error)
        }
    }
}
