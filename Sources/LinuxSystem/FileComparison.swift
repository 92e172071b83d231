// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

extension Descriptor {
    /// The names in this directory, which may be open for its path only; none where it was removed meanwhile.
    public func entriesIfThere() throws(SystemError) -> [[CChar]] {
        do throws(SystemError) { return try rawEntries() } catch {
            guard error.errno == .noEntry else { throw error }
            return []
        }
    }

    /// Whether a file has the extended attributes of another one; overlayfs's own do not count. Both may be open for their
    /// path only.
    public func hasAttributes(of other: borrowing Descriptor) throws(SystemError) -> Bool {
        try Descriptor.ownAttributes(of: self) == Descriptor.ownAttributes(of: other)
    }

    private static func ownAttributes(of file: borrowing Descriptor) throws(SystemError) -> [String: [UInt8]] {
        var values: [String: [UInt8]] = [:]
        for attribute in try file.extendedAttributes() where !LayerMarks.isOverlayfs(attribute) {
            values[attribute.name] = attribute.value
        }
        return values
    }

    /// Whether two regular files, which may be open for their path only, hold the same bytes.
    public func hasContent(of other: borrowing Descriptor) throws(SystemError) -> Bool {
        let first = try reopen([.readOnly])
        let second = try other.reopen([.readOnly])
        while true {
            let bytes = try first.read(upTo: 1 << 17)
            if try bytes != second.read(upTo: 1 << 17) { return false }
            if bytes.isEmpty { return true }
        }
    }
}
