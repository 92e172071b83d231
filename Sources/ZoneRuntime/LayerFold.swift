// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import LinuxSystem

/// Puts an overlay's upper layer and the layer below it together, by renames: what the upper one has neither replaced nor
/// hidden moves up. What stays behind is hidden by the upper layer, whatever lies below the two.
///
/// The two show the same before and after each step, so that this may be interrupted anywhere, and done again.
enum LayerFold {
    private static let maximumDepth = 400

    /// Neither layer is part of a mounted overlay. `false`: overlayfs has noted places of the lower layer in the upper one,
    /// and they stay two.
    static func fold(_ lower: borrowing Descriptor, into upper: borrowing Descriptor) throws(SystemError) -> Bool {
        if try hasReferences(upper, depth: 0) { return false }
        return try merge(lower, upper, depth: 0)
    }

    /// Whether something in a layer has its content, or its directory's, elsewhere below: redirect_dir, metacopy.
    private static func hasReferences(_ folder: borrowing Descriptor, depth: Int) throws(SystemError) -> Bool {
        guard depth < maximumDepth else { throw SystemError("fold", "", .loop) }
        for name in try folder.rawEntries() {
            guard let entry = try folder.openEntry(name) else { continue }
            let kind = try entry.stat().kind
            guard kind == .directory || kind == .regular else { continue }
            if isReference(try entry.extendedAttributes()) { return true }
            if kind == .directory, try hasReferences(entry, depth: depth + 1) { return true }
        }
        return false
    }

    private static func isReference(_ attributes: [ExtendedAttribute]) -> Bool {
        OverlayMarks.value("redirect", in: attributes) != nil || OverlayMarks.value("metacopy", in: attributes) != nil
    }

    private static func merge(
        _ lower: borrowing Descriptor, _ upper: borrowing Descriptor, depth: Int
    ) throws(SystemError) -> Bool {
        guard depth < maximumDepth else { throw SystemError("fold", "", .loop) }
        let before = try FileAttributes(of: upper, try upper.stat())
        if LayerMarks.isOpaque(before.extended) { return true }
        let below = try lower.extendedAttributes()
        // Its place below the two is another one than the upper directory's would be.
        if isReference(below) { return false }
        var isChanged = false
        for name in try lower.rawEntries() {
            guard let entry = try lower.openEntry(name) else { continue }
            guard let above = try upper.openEntry(name) else {
                try check(renameToNew(lower.raw, name, upper.raw, name), "rename", name.shown)
                isChanged = true
                continue
            }
            // A file, or the mark that something is gone, hides all.
            guard try above.stat().kind == .directory else { continue }
            if try entry.stat().kind == .directory {
                if try !merge(entry, above, depth: depth + 1) { return false }
            } else if LayerMarks.isOpaque(try above.extendedAttributes()) == false {
                // What lay there hid the directory of this name further below.
                try LayerMarks.overlay.makeOpaque(above)
            }
        }
        // Only now, as it hides the rest of the lower directory, too.
        if LayerMarks.isOpaque(below) { try LayerMarks.overlay.makeOpaque(upper) }
        if isChanged {
            // What has moved up may show another file's number, and overlayfs looks for that only where this says so.
            if OverlayMarks.value("impure", in: below) != nil { try upper.set(OverlayMarks.mark("impure")) }
            try upper.setModified(before)
        }
        return true
    }
}
