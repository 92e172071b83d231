// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

/// How a layer on the disk says that names of the layers below it are gone.
public enum LayerMarks: Sendable {
    /// As overlayfs reads it: character devices 0:0, and an attribute of directories through which nothing below shows.
    case overlay
    /// Where the file system can hold neither: as in an image's archive, by names (image specification, layer.md,
    /// "Whiteouts"). Only a plain copy can put such layers together.
    case names

    public static let prefix = Array(".wh.".utf8)
    public static let opaqueName = Array(".wh..wh..opq".utf8)
    private static let opaqueFile = opaqueName.map { CChar(bitPattern: $0) } + [0]

    // MARK: Reading

    /// Whether this is how overlayfs marks a name that is gone; no file of an image's or a zone's can be that.
    public static func isWhiteout(_ status: FileStatus) -> Bool {
        status.kind == .characterDevice && status.major == 0 && status.minor == 0
    }

    /// Whether an attribute of overlayfs's says that nothing below a directory shows. An ordinary user's are in user.*.
    public static func isOpaque(_ attributes: [ExtendedAttribute]) -> Bool {
        attributes.contains {
            ($0.name == "trusted.overlay.opaque" || $0.name == "user.overlay.opaque") && $0.value == Array("y".utf8)
        }
    }

    public static func isOverlayfs(_ attribute: ExtendedAttribute) -> Bool {
        attribute.name.hasPrefix("trusted.overlay.") || attribute.name.hasPrefix("user.overlay.")
    }

    /// Whether nothing of the layers below shows through a directory, which may be open for its path only.
    public func isOpaque(_ directory: borrowing Descriptor) throws(SystemError) -> Bool {
        if case .names = self, try directory.openEntry(LayerMarks.opaqueFile) != nil { return true }
        return LayerMarks.isOpaque(try directory.extendedAttributes())
    }

    /// Whether an attribute says that overlayfs has left what belongs here elsewhere: redirect_dir, metacopy.
    public static func isReference(_ attribute: ExtendedAttribute) -> Bool {
        isOverlayfs(attribute) && (attribute.name.hasSuffix(".redirect") || attribute.name.hasSuffix(".metacopy"))
    }

    /// What a name in a layer means besides itself. Names end with a NUL.
    public enum Meaning: Equatable {
        case itself, opaque
        case hides([CChar])
    }

    public func meaning(of name: [CChar]) -> Meaning {
        guard case .names = self, LayerMarks.isReserved(name) else { return .itself }
        return name == LayerMarks.opaqueFile ? .opaque : .hides(Array(name.dropFirst(LayerMarks.prefix.count)))
    }

    /// Whether a layer of an image cannot have a file of this name.
    public static func isReserved(_ name: [CChar]) -> Bool {
        name.count > prefix.count + 1 && zip(name, prefix).allSatisfy { UInt8(bitPattern: $0) == $1 }
    }

    /// The name that takes `name` away.
    public static func file(hiding name: [CChar]) -> [CChar] { prefix.map { CChar(bitPattern: $0) } + name }

    // MARK: Making

    /// Makes a name of the layers below disappear; the name ends with a NUL.
    public func hide(_ name: [CChar], in directory: borrowing Descriptor) throws(SystemError) {
        switch self {
        case .overlay: try check(zn_mknodat(directory.raw, name, S_IFCHR, 0, 0), "mknod", name.shown)
        case .names: try makeFile(LayerMarks.file(hiding: name), in: directory)
        }
    }

    /// Lets nothing of the layers below show through a directory.
    public func makeOpaque(_ directory: borrowing Descriptor) throws(SystemError) {
        switch self {
        case .overlay:
            let name = LayerMarks.opaqueAttribute
            try check(zn_setxattr(directory.procPath, name, "y", 1), "setxattr \(name)")
        case .names: try makeFile(LayerMarks.opaqueFile, in: directory)
        }
    }

    /// trusted.* is the host's root's; overlays of others are mounted with `userxattr`.
    private static var opaqueAttribute: String {
        UserNamespace.isInitial ? "trusted.overlay.opaque" : "user.overlay.opaque"
    }

    private func makeFile(_ name: [CChar], in directory: borrowing Descriptor) throws(SystemError) {
        let flags = OpenFlags([.writeOnly, .create, .noFollow, .closeOnExec])
        let raw = zn_openat2(
            directory.raw, name, UInt64(flags.rawValue), 0o600, ResolveFlags([.beneath, .noSymlinks]).rawValue)
        _ = Descriptor(owning: try check(raw, "create", name.shown))
    }

    /// Finds out which marks a directory's file system can hold, by making some. What this process may not do says nothing
    /// about that.
    public static func possible(in directory: borrowing Descriptor) throws(SystemError) -> LayerMarks {
        let name = "marks"
        try directory.removeTree(name)
        try directory.makeDirectory(name, mode: 0o700)
        let probe = try directory.open(name, [.readOnly, .directory], resolve: .beneath)
        let overlay = LayerMarks.overlay
        // On another overlay nobody may make one (EPERM); elsewhere everybody may, mknod(2).
        let canHide = try Descriptor.isPossible(unless: [.notPermitted, .invalid, .notSupported, .notImplemented]) {
            () throws(SystemError) in try overlay.hide("gone".utf8CString.map { $0 }, in: probe)
        }
        // Without CAP_SYS_ADMIN nobody may set trusted.*, whatever the file system.
        let canBeOpaque = try Descriptor.isPossible(unless: [.invalid, .notSupported, .notImplemented]) {
            () throws(SystemError) in
            do throws(SystemError) { try overlay.makeOpaque(probe) } catch {
                if error.errno != .notPermitted { throw error }
            }
        }
        try directory.removeTree(name)
        return canHide && canBeOpaque ? .overlay : .names
    }
}

extension Descriptor {
    /// Whether something can be done at all; other errors than those that say no are thrown.
    fileprivate static func isPossible(
        unless reasons: [Errno], _ body: () throws(SystemError) -> Void
    ) throws(SystemError) -> Bool {
        do throws(SystemError) {
            try body()
            return true
        } catch {
            guard reasons.contains(error.errno) else { throw error }
            return false
        }
    }
}
