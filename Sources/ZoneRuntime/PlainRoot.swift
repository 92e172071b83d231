// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import LinuxSystem
import Namespaces

/// A zone's root where overlayfs cannot work (no overlayfs in the kernel, a store on NFS, FUSE or another overlay, layers
/// whose marks it does not know): a copy of the image's files with what the zone has changed, `root` beside `upper`, in the
/// place of both.
///
/// As long as it is there it is all of the zone; what the zone has changed is found by ``PlainComparison``. It is made by the
/// first start that needs it, and gets its name in one step; what is made for that and has none yet the next one removes.
enum PlainRoot {
    static let folder = "root"
    private static let unfinished = ".root.new"
    /// Made when the copy of the image is complete: a file that has changed before that is the image's still.
    private static let stamp = ".root.made"

    static func exists(in own: borrowing Descriptor) -> Bool {
        (try? own.status(folder)) != nil
    }

    /// Files that have changed before this moment, in nanoseconds since 1970, are as they were copied; `nil`: not known.
    static func madeAt(_ own: borrowing Descriptor) -> Int64? {
        guard let status = try? own.status(stamp) else { return nil }
        // Whoever copies or restores the store renews this time, and not the other one.
        return status.changed - status.modified < 2_000_000_000 ? status.changed : nil
    }

    /// Whether overlayfs cannot have its changes in a folder. Tried, as no table knows all kernels and file systems.
    static func isNeeded(in own: borrowing Descriptor, _ marks: LayerMarks) -> Bool {
        if case .names = marks { return true }
        let name = ".probe"
        defer { try? own.removeTree(name) }
        do throws(SystemError) {
            try own.removeTree(name)
            for folder in ["", "/lower", "/upper", "/work"] { try own.makeDirectory(name + folder, mode: 0o700) }
        } catch {
            return false
        }
        // Paths that every kernel takes.
        let path = "/proc/self/fd/\(own.raw)/\(name)"
        let probe = OverlayRoot(layers: ["\(path)/lower"], store: "", zone: path)
        do throws(SystemError) { drop(try probe.mountDetached(lower: probe.layers)) } catch {
            // No overlayfs; no right to mount it; a file system that it does not take.
            return [.noDevice, .notPermitted, .accessDenied, .invalid, .notSupported, .crossDevice].contains(
                error.errno)
        }
        return false
    }

    /// Copies a zone's layers, topmost first, and its `upper`, where it has one, into `root`.
    static func make(
        of layers: [String], _ marks: LayerMarks, in own: borrowing Descriptor, isVolatile: Bool
    ) throws(SystemError) {
        try own.removeTree(unfinished)
        do throws(SystemError) {
            for layer in try LayerEntry.open(layers, marks).reversed() { try add(layer.file, marks, to: own) }
            try own.replaceFile(stamp, [], mode: 0o600)
            // No room for the zone's changes twice is needed: they go when this has its name.
            if let upper = try own.openEntry("upper".utf8CString.map { $0 }) {
                try add(upper, marks, to: own, sharesFiles: true)
            }
            // The folder may be open for its path only.
            let copy = try own.open(unfinished, [.readOnly, .directory], resolve: .beneath)
            if !isVolatile { try copy.sync() }
            try own.rename(unfinished, to: folder, replace: false)
            // Before the changes go.
            if !isVolatile { try copy.sync() }
        } catch {
            // It takes room; the first error is the one to tell.
            try? own.removeTree(unfinished)
            throw error
        }
        tidy(own)
    }

    /// Removes what a root makes needless: the changes that are in it, and what a killed verb has left. Only while nobody
    /// else looks at the zone.
    static func tidy(_ own: borrowing Descriptor) {
        // What cannot be removed now, the next start removes.
        for name in ["upper", "work", changesFolder] { try? own.removeTree(name) }
    }

    private static func add(
        _ layer: borrowing Descriptor, _ marks: LayerMarks, to own: borrowing Descriptor, sharesFiles: Bool = false
    ) throws(SystemError) {
        var policy = CopyPolicy.layer(marks, flattens: true)
        policy.sharesFiles = sharesFiles
        var transfer = TreeTransfer(policy)
        try transfer.copy(layer, to: own, as: unfinished.utf8CString.map { $0 })
    }

    /// The root as a detached mount; `path`: that of the folder it is in.
    static func mount(at path: String, isReadOnly: Bool = false) throws(SystemError) -> Descriptor {
        var changes = MountChanges()
        // What holds for the store's file system does not for a zone: an overlay knows none of it, either.
        if !Rootless.isInside { changes.clear = [.noSuid, .noDevices, .noExecution] }
        if isReadOnly { changes.set = [.readOnly] }
        return try Descriptor.cloneTree("\(path)/\(folder)", recursive: false, changes: changes)
    }

    // MARK: What the zone has changed

    /// Where ``writeChanges(in:upon:_:)`` writes to.
    static let changesFolder = ".changes"

    /// Writes what the zone has changed as an upper layer, `upper` in ``changesFolder``: the files are second names of those
    /// in the root, so nothing may change them as long as they are used. `lower`: what it was copied from.
    static func writeChanges(
        in own: borrowing Descriptor, upon lower: LayerTree, _ marks: LayerMarks
    ) throws(SystemError) {
        try own.removeTree(changesFolder)
        try own.makeDirectory(changesFolder, mode: 0o700)
        let target = try own.open(changesFolder, [.readOnly, .directory], resolve: .beneath)
        var comparison = try PlainComparison(of: own, with: lower)
        try comparison.run()
        try comparison.write(to: target, as: "upper", marks)
    }

    static func removeChanges(in own: borrowing Descriptor) {
        // What cannot be removed now, the next one removes.
        try? own.removeTree(changesFolder)
    }
}
