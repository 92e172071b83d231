// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import Images
import LinuxSystem
import Namespaces

/// A zone's root: an overlay of its own changes over the image's shared, once unpacked layers. Where overlayfs cannot work it
/// is a copy of both, see ``PlainRoot``.
struct OverlayRoot {
    /// Absolute directories, topmost first.
    let layers: [String]
    /// STORE: holds the skeleton.
    let store: String
    /// What gets `upper` and `work`: STORE/zones/NAME, or another path of ``OwnFiles``.
    let zone: String

    /// The same where the zone's own files are at another path.
    func with(own path: String) -> OverlayRoot { OverlayRoot(layers: layers, store: store, zone: path) }

    /// Longest value that fsconfig(2) takes.
    private static let longestOption = 255

    /// Prepares the overlay. The mount is made here, detached, so that the kernel's reasons reach the user in full and
    /// nothing is left when this process dies.
    ///
    /// `isVolatile`: nothing needs to reach the disk, as the zone goes with its end. Otherwise the last unmount of an
    /// overlay waits for everything on its upper file system to be written, 4 ms on an idle machine.
    func prepare(
        anchor: String,
        isReadOnly: Bool,
        isVolatile: Bool,
        in folder: borrowing Descriptor,
        _ descriptors: inout DescriptorBag,
        report: (String) -> Void
    ) throws(ZoneError) -> RootPlan {
        if let mount = try mountOrCopy(isVolatile, in: folder, report) {
            return RootPlan(.tree(descriptors.adopt(mount)), anchor: anchor, isReadOnly: isReadOnly)
        }
        let options = try attempting("mount the zone's overlay file system") { () throws(SystemError) in
            try legacyOptions(isVolatile)
        }
        return RootPlan(.overlay(options: options, directory: store), anchor: anchor, isReadOnly: isReadOnly)
    }

    /// Mounts the zone's root, detached, to be written to; `nil`: this kernel can only mount it for a child. Where overlayfs
    /// cannot work, a copy is made first, which is told to `report`.
    func mountOrCopy(
        _ isVolatile: Bool = false, in folder: borrowing Descriptor, _ report: (String) -> Void
    ) throws(ZoneError) -> Descriptor? {
        if PlainRoot.exists(in: folder) {
            PlainRoot.tidy(folder)
            return try mountCopy()
        }
        do throws(SystemError) { try makeFolders(in: folder) } catch {
            throw ZoneError("make the folders of the zone's changes", error)
        }
        var failure: SystemError?
        do throws(SystemError) {
            if let mount = try mountOrMakeSkeleton(isVolatile, in: folder) { return mount }
            // A child will mount it, which cannot tell why that fails. Where overlayfs has worked here it has left this.
            if (try? folder.status("work/work")) != nil { return nil }
        } catch {
            failure = error
        }
        let marks = ImageStore(path: store).marks
        guard PlainRoot.isNeeded(in: folder, marks) else {
            if let failure { throw ZoneError("mount the zone's overlay file system", failure) }
            return nil
        }
        let reason = marks == .names ? nil : failure.map { "\($0)" }
        report(
            "overlayfs cannot work here (\(reason ?? "the store's file system does not take its marks")): the zone gets a copy of all files of its image"
        )
        try attempting("copy the image's files") { () throws(SystemError) in
            try Skeleton.make(in: store, marks)
            try PlainRoot.make(
                of: layers + ["\(store)/\(Skeleton.name(marks))"], marks, in: folder, isVolatile: isVolatile)
        }
        return try mountCopy()
    }

    private func mountCopy(isReadOnly: Bool = false) throws(ZoneError) -> Descriptor {
        try attempting("mount the copy of the image's files") { () throws(SystemError) in
            try PlainRoot.mount(at: zone, isReadOnly: isReadOnly)
        }
    }

    /// There already where the zone ran before. The owner and mode of `upper` are those of the zone's root: they are the
    /// image's at first.
    private func makeFolders(in folder: borrowing Descriptor) throws(SystemError) {
        let mode: mode_t = 0o755
        let result = zn_mkdirat(folder.raw, "upper", mode)
        if result != -EEXIST {
            try check(result, "mkdir", "upper")
            if let layer = layers.first {
                let root = try FileStatus.of(layer)
                if root.uid != 0 || root.gid != 0 {
                    try check(zn_fchownat(folder.raw, "upper", root.uid, root.gid, 0), "chown", "upper")
                }
                if root.mode != mode { try check(zn_fchmodat(folder.raw, "upper", root.mode), "chmod", "upper") }
            }
        }
        try folder.ensureDirectory("work", mode: 0o700)
    }

    /// Mounts what the zone sees, detached and with nothing to write to: the zone's own changes are one more layer. Where
    /// overlayfs cannot work, the copy that a start would make is made first.
    func mountForReading(in folder: borrowing Descriptor, _ report: (String) -> Void) throws(ZoneError) -> Descriptor {
        if PlainRoot.exists(in: folder) { return try mountCopy(isReadOnly: true) }
        let upper = "\(zone)/upper"
        let hasChanges = (try? FileStatus.of(upper, followLinks: false))?.kind == .directory
        let all = (hasChanges ? [upper] : []) + lower
        do throws(SystemError) {
            do throws(SystemError) { return try mountLayers(all) } catch {
                guard error.errno == .noEntry else { throw error }
                try makeSkeleton()
                return try mountLayers(all)
            }
        } catch {
            guard PlainRoot.isNeeded(in: folder, ImageStore(path: store).marks) else {
                throw ZoneError("mount the zone's overlay file system", error)
            }
            drop(try mountOrCopy(in: folder, report))
            return try mountCopy(isReadOnly: true)
        }
    }

    private func makeSkeleton() throws(SystemError) {
        if case .names = ImageStore(path: store).marks {
            throw SystemError("mount overlay", "the layers' marks are not those of overlayfs", .notSupported)
        }
        try Skeleton.make(in: store, .overlay)
    }

    private func mountLayers(_ layers: [String]) throws(SystemError) -> Descriptor {
        // overlayfs wants two at least.
        if layers.count == 1 { return try Descriptor.open(layers[0], [.path, .directory]) }
        let options =
            KernelVersion.running >= KernelVersion(6, 8)
            ? layers.map { ("lowerdir+", $0) }
            : [("lowerdir", layers.map(OverlayRoot.escaped).joined(separator: ":"))]
        let context = try FileSystemContext("overlay")
        for (key, value) in options {
            guard value.utf8.count <= OverlayRoot.longestOption else {
                throw SystemError("mount overlay", "these layers are more than this kernel takes", .tooBig)
            }
            try context.set(key, value)
        }
        for option in flags(false) { try context.set(option) }
        return try context.mount([.readOnly])
    }

    private func mountOrMakeSkeleton(
        _ isVolatile: Bool, in folder: borrowing Descriptor
    ) throws(SystemError) -> Descriptor? {
        do throws(SystemError) { return try mountDetached(isVolatile) } catch {
            // Made on first use, so that a start costs no look at it.
            guard error.errno == .noEntry else { throw error }
            try makeSkeleton()
            // The failed mount has left its marks there.
            try folder.removeTree("work")
            try folder.makeDirectory("work", mode: 0o700)
            return try mountDetached(isVolatile)
        }
    }

    private var lower: [String] { layers + ["\(store)/\(Skeleton.name(.overlay))"] }

    private func mountDetached(_ isVolatile: Bool) throws(SystemError) -> Descriptor? {
        try mountDetached(isVolatile, lower: lower)
    }

    /// Mounts through the new calls; `nil` where the kernel takes only one `lowerdir` string and ours is too long.
    func mountDetached(_ isVolatile: Bool = false, lower: [String]) throws(SystemError) -> Descriptor? {
        // One option a layer since Linux 6.8.
        if KernelVersion.running >= KernelVersion(6, 8),
            lower.allSatisfy({ $0.utf8.count <= OverlayRoot.longestOption })
        {
            return try mount(lower.map { ("lowerdir+", $0) }, isVolatile)
        }
        // One string before that, in which ':' separates and '\\' escapes.
        let joined = lower.map(OverlayRoot.escaped).joined(separator: ":")
        return joined.utf8.count <= OverlayRoot.longestOption ? try mount([("lowerdir", joined)], isVolatile) : nil
    }

    private func mount(_ layers: [(String, String)], _ isVolatile: Bool) throws(SystemError) -> Descriptor {
        let context = try FileSystemContext("overlay")
        for (key, value) in layers { try context.set(key, value) }
        // Unlike lowerdir+, these two are unescaped by the kernel.
        try context.set("upperdir", OverlayRoot.escaped("\(zone)/upper"))
        try context.set("workdir", OverlayRoot.escaped("\(zone)/work"))
        for option in flags(isVolatile) { try context.set(option) }
        return try context.mount()
    }

    /// Only the host's root may use the attributes of trusted.*: others mark what they hide in user.* (Linux 5.11).
    private func flags(_ isVolatile: Bool) -> [String] {
        (isVolatile ? ["volatile"] : []) + (Rootless.isInside ? ["userxattr"] : [])
    }

    /// The same for mount(2), which takes a page of options: names relative to the store leave room for 50 layers.
    func legacyOptions(_ isVolatile: Bool) throws(SystemError) -> String {
        let names = lower.map { path in
            path.hasPrefix(store + "/") ? String(path.dropFirst(store.utf8.count + 1)) : path
        }
        let folder = OverlayRoot.escaped(zone)
        let options =
            "lowerdir=\(names.map(OverlayRoot.escaped).joined(separator: ":"))"
            + ",upperdir=\(folder)/upper,workdir=\(folder)/work"
            + flags(isVolatile).map { ",\($0)" }.joined()
        if options.utf8.count > 4095 {
            throw SystemError(
                "mount overlay", "\(layers.count) layers are more than this kernel takes in one page", .tooBig)
        }
        return options
    }

    private static func escaped(_ path: String) -> String {
        let isSpecial = { (byte: UInt8) in [UInt8(ascii: ":"), UInt8(ascii: "\\"), UInt8(ascii: ",")].contains(byte) }
        guard path.utf8.contains(where: isSpecial) else { return path }
        return String(decoding: path.utf8.flatMap { isSpecial($0) ? [UInt8(ascii: "\\"), $0] : [$0] }, as: UTF8.self)
    }
}

/// The lowest layer of every zone: the mount points that each needs, so that none is made in the zone's own changes.
enum Skeleton {
    /// Where overlayfs cannot read the layers there must not be one that it could be mounted with.
    static func name(_ marks: LayerMarks) -> String {
        switch marks {
        case .overlay: ImageStore.overlaySkeleton
        case .names: "mountpoints"
        }
    }

    static func make(in store: String, _ marks: LayerMarks) throws(SystemError) {
        let name = Skeleton.name(marks)
        if (try? FileStatus.of("\(store)/\(name)", followLinks: false)) != nil { return }
        let folder = try Descriptor.makePath(store, mode: 0o711)
        // One at a time, so that what a killed one left is the next one's to remove.
        let lock = try Descriptor.open(store, [.readOnly, .directory])
        _ = try lock.lock()
        let temporary = ".\(name).new"
        try folder.removeTree(temporary)
        try folder.makeDirectory(temporary, mode: 0o755)
        let root = try folder.open(temporary, [.readOnly, .directory], resolve: .beneath)
        for directory in ["proc", "sys", "dev", "etc"] { try root.makeDirectory(directory, mode: 0o755) }
        for file in NetworkFiles.names {
            _ = try root.open("etc/\(file)", [.writeOnly, .create, .exclusive], mode: 0o644, resolve: .beneath)
        }
        do throws(SystemError) { try folder.rename(temporary, to: name, replace: false) } catch {
            // Another zonectl was faster: the result is the same.
            try folder.removeTree(temporary)
            if error.errno != .exists && error.errno != .notEmpty { throw error }
        }
    }
}
