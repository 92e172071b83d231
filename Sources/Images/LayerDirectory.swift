// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// The corresponding C constant is `AT_EMPTY_PATH`, which glibc shows only to GNU sources.
let atEmptyPath: CInt = 0x1000

/// A layer's own directory, in which every path is resolved.
///
/// First without any symbolic link. Where the layer itself has one in the path, it is followed as the zone will see it:
/// with the layer as root, so that neither `/etc` nor `../../etc` is the host's.
final class LayerDirectory {
    private let root: Descriptor
    /// The last directory used: archives list a directory's members together.
    private var last: (whole: [CChar], handle: Handle)?

    /// An open directory of the layer.
    final class Handle {
        let descriptor: Descriptor
        var raw: CInt { descriptor.raw }

        init(_ descriptor: consuming Descriptor) {
            self.descriptor = descriptor
        }
    }

    init(_ root: consuming Descriptor) {
        self.root = root
    }

    /// The layer's file system, for `syncfs`.
    var raw: CInt { root.raw }

    /// Must be called when a name was removed that may be a directory.
    func forget() {
        last = nil
    }

    /// Opens a directory; `nil` where there is none, or a link in its path leads to none.
    func existing(_ whole: [CChar]) throws(ImageError) -> Handle? {
        if let last, last.whole == whole { return last.handle }
        let raw = openRaw(whole)
        switch -raw {
        case ENOENT, ENOTDIR, ELOOP, EXDEV: return nil
        default: return remember(whole, try verify(raw, "open", LayerPath(splitting: whole)))
        }
    }

    /// Opens a directory that must be there; `subject` begins the sentence about its absence.
    func open(_ whole: [CChar], for subject: String? = nil) throws(ImageError) -> Handle {
        if let handle = try existing(whole) { return handle }
        let subject = subject ?? "\(LayerPath(splitting: whole).shown):"
        throw ImageError(.invalid, "\(subject) leads through what is no directory of this layer")
    }

    private func remember(_ whole: [CChar], _ raw: CInt) -> Handle {
        let handle = Handle(Descriptor(owning: raw))
        last = (whole, handle)
        return handle
    }

    private func openRaw(_ whole: [CChar]) -> CInt {
        let flags = UInt64(OpenFlags([.readOnly, .directory, .closeOnExec]).rawValue)
        let strict = ResolveFlags([.beneath, .noSymlinks, .noMagicLinks, .noCrossing])
        let raw = zn_openat2(root.raw, whole, flags, 0, strict.rawValue)
        if raw != -ELOOP { return raw }
        return zn_openat2(root.raw, whole, flags, 0, ResolveFlags.zone.union(.noCrossing).rawValue)
    }
}

/// The directories of the layers that a layer lies on, topmost first.
final class LowerLayers {
    private let layers: [LayerDirectory.Handle]

    init(_ layers: [LayerDirectory.Handle]) {
        self.layers = layers
    }

    /// Whether a whiteout of this name would hide anything. A needless one would be listed as an odd file.
    func contains(_ path: LayerPath) -> Bool {
        look(path).map { !LayerMarks.isWhiteout($0) } ?? false
    }

    /// The root of the topmost of them.
    var root: FileStatus? { layers.first.flatMap { try? $0.descriptor.stat() } }

    /// The directory's owner and mode as the layers below show it, `nil` where they show none.
    func directory(_ path: LayerPath) -> FileStatus? {
        look(path).flatMap { $0.kind == .directory ? $0 : nil }
    }

    /// What the topmost layer that has this name has there. Opaque directories in between, and marks that are names, are not
    /// looked for: at worst a whiteout is made that hides nothing.
    private func look(_ path: LayerPath) -> FileStatus? {
        let flags = UInt64(OpenFlags([.path, .noFollow, .closeOnExec]).rawValue)
        let resolve = ResolveFlags([.beneath, .noMagicLinks])
        for layer in layers {
            let raw = zn_openat2(layer.raw, path.whole, flags, 0, resolve.rawValue)
            guard raw >= 0 else { continue }
            // An open descriptor has a status.
            return try? Descriptor(owning: raw).stat()
        }
        return nil
    }
}
