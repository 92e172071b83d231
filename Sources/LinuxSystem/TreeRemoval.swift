// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

/// Removal of trees that strangers filled: names may be any bytes, and directories may lie deeper in one another than
/// this process has descriptors or stack for.
extension Descriptor {
    /// Removes everything below the directory `name` and the directory itself. Symbolic links are removed, never
    /// followed, and mount points are not entered. Succeeds where nothing is there.
    public func removeTree(_ name: String) throws(SystemError) {
        try removeTree(rawName: name.utf8CString.map { $0 })
    }

    /// As ``removeTree(_:)``, for a name that need not be UTF-8; it ends with a NUL.
    public func removeTree(rawName name: [CChar]) throws(SystemError) {
        let quick = zn_unlinkat(raw, name, AT_REMOVEDIR)
        if quick >= 0 || quick == -ENOENT { return }
        if quick == -ENOTDIR {
            try check(zn_unlinkat(raw, name, 0), "unlink", shown(name))
            return
        }
        guard quick == -ENOTEMPTY || quick == -EEXIST else {
            try check(quick, "rmdir", shown(name))
            return
        }
        let top = try openListing(name)
        var moved = 0
        var patience = 100
        while true {
            let names = try top.rawEntries()
            if names.isEmpty { break }
            var progress = false
            for entry in names where try top.removeFlat(entry, into: top, &moved) {
                if !Descriptor.isHeldOpen(entry) { progress = true }
            }
            if progress { continue }
            // Somebody has a file open still, or another process fills the tree as fast as it is emptied.
            guard patience > 0 else { throw SystemError("rmdir", shown(name), .notEmpty) }
            patience -= 1
            pause(milliseconds: 20)
        }
        try check(zn_unlinkat(raw, name, AT_REMOVEDIR), "rmdir", shown(name))
    }

    /// Whether a file that is removed while somebody has it open may come back under such a name: NFS, file systems in user
    /// space.
    private static func isHeldOpen(_ name: [CChar]) -> Bool {
        let text = name.shown
        return text.hasPrefix(".nfs") || text.hasPrefix(".fuse_hidden")
    }

    /// Removes one entry of this directory. Of a directory in it, the files go and directories that are not empty move
    /// up to `top`, to have their turn in a later round: two descriptors do for any depth.
    private func removeFlat(_ name: [CChar], into top: borrowing Descriptor, _ moved: inout Int) throws(SystemError)
        -> Bool
    {
        // Most entries are files: try that first, it saves a look at each.
        let result = zn_unlinkat(raw, name, 0)
        if result >= 0 || result == -ENOENT { return true }
        guard result == -EISDIR else {
            if result == -EBUSY, Descriptor.isHeldOpen(name) { return false }
            try check(result, "unlink", shown(name))
            return false
        }
        var removal = zn_unlinkat(raw, name, AT_REMOVEDIR)
        if removal == -ENOTEMPTY || removal == -EEXIST {
            let directory = try openListing(name)
            for entry in try directory.rawEntries() {
                let result = zn_unlinkat(directory.raw, entry, 0)
                if result >= 0 || result == -ENOENT || result == -EBUSY && Descriptor.isHeldOpen(entry) { continue }
                if result != -EISDIR { try check(result, "unlink", "\(shown(name))/\(shown(entry))") }
                let empty = zn_unlinkat(directory.raw, entry, AT_REMOVEDIR)
                if empty >= 0 { continue }
                if empty != -ENOTEMPTY, empty != -EEXIST { try check(empty, "rmdir", "\(shown(name))/\(shown(entry))") }
                try directory.move(entry, to: top, &moved)
            }
            removal = zn_unlinkat(raw, name, AT_REMOVEDIR)
        }
        if removal == -ENOTEMPTY || removal == -EEXIST { return false }
        try check(removal, "rmdir", shown(name))
        return true
    }

    private func move(_ name: [CChar], to top: borrowing Descriptor, _ moved: inout Int) throws(SystemError) {
        while true {
            moved += 1
            // RENAME_NOREPLACE: the tree may hold this name already.
            let result = renameToNew(raw, name, top.raw, ".removed-\(moved)")
            if result == -EEXIST { continue }
            try check(result, "rename", shown(name))
            return
        }
    }

    private func openListing(_ name: [CChar]) throws(SystemError) -> Descriptor {
        let flags = OpenFlags([.readOnly, .directory, .noFollow, .closeOnExec])
        let resolve = ResolveFlags([.beneath, .noSymlinks, .noCrossing])
        return Descriptor(
            owning: try check(
                zn_openat2(raw, name, UInt64(flags.rawValue), 0, resolve.rawValue), "open", shown(name)))
    }

    private func shown(_ name: [CChar]) -> String {
        String(decoding: name.dropLast().lazy.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
