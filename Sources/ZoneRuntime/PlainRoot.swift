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
    static func madeAt(_ own: borrowing Descriptor) -> Int64? { try? own.status(stamp).changed }

    /// Whether overlayfs cannot have its changes in a folder. Tried, as no table knows all kernels and file systems.
    static func isNeeded(in own: borrowing Descriptor, at path: String, _ marks: LayerMarks) -> Bool {
        if case .names = marks { return true }
        let name = ".probe"
        defer { try? own.removeTree(name) }
        do throws(SystemError) {
            try own.removeTree(name)
            for folder in ["", "/lower", "/upper", "/work"] { try own.makeDirectory(name + folder, mode: 0o700) }
            let probe = OverlayRoot(layers: ["\(path)/\(name)/lower"], store: "", zone: "\(path)/\(name)")
            drop(try probe.mountDetached(lower: probe.layers))
            return false
        } catch {
            // Which reasons there are is the kernel's to say; what concerns this process is no reason.
            return ![.noSpace, .quotaExceeded, .readOnly, .noMemory, .nameTooLong, .again].contains(error.errno)
        }
    }

    /// Copies a zone's layers, topmost first, and its `upper`, where it has one, into `root`.
    static func make(
        of layers: [String], _ marks: LayerMarks, in own: borrowing Descriptor, isVolatile: Bool
    ) throws(SystemError) {
        try own.removeTree(unfinished)
        for layer in try LayerEntry.open(layers, marks).reversed() { try add(layer.file, marks, to: own) }
        try own.replaceFile(stamp, [], mode: 0o600)
        if let upper = try own.openEntry("upper".utf8CString.map { $0 }) { try add(upper, marks, to: own) }
        if !isVolatile {
            // The folder may be open for its path only.
            try own.open(unfinished, [.readOnly, .directory], resolve: .beneath).sync()
        }
        try own.rename(unfinished, to: folder, replace: false)
        try forgetChanges(own)
    }

    private static func add(
        _ layer: borrowing Descriptor, _ marks: LayerMarks, to own: borrowing Descriptor
    ) throws(SystemError) {
        var transfer = TreeTransfer(.layer(marks, flattens: true))
        try transfer.copy(layer, to: own, as: unfinished.utf8CString.map { $0 })
    }

    /// Removes what the copy has made needless.
    static func forgetChanges(_ own: borrowing Descriptor) throws(SystemError) {
        try own.removeTree("upper")
        try own.removeTree("work")
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
