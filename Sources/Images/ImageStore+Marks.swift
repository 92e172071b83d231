// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem

/// How the layers of a store say what is gone: overlayfs's way, or, where the store's file system cannot hold that, by
/// names. It is decided when there are no layers yet, and stays: the latter is noted in STORE/marks.
extension ImageStore {
    private static let marksFile = "marks"
    /// STORE/skeleton, without which no overlay is mounted: a start looks for the note only when it is missing.
    public static let overlaySkeleton = "skeleton"

    public var marks: LayerMarks {
        (try? FileStatus.of("\(path)/\(ImageStore.marksFile)", followLinks: false)) == nil ? .overlay : .names
    }

    /// Decides it in a transaction, where it is not decided yet; `layers`: STORE/layers.
    func settleMarks(_ layers: borrowing Descriptor) throws(SystemError) -> LayerMarks {
        if case .names = marks { return .names }
        let store = try Descriptor.open(path, [.readOnly, .directory])
        let isDecided =
            try layers.entries().contains { $0 != StoreTransaction.staging }
            || (try? store.status(ImageStore.overlaySkeleton)) != nil
        if isDecided { return .overlay }
        let staging = try layers.open(StoreTransaction.staging, [.readOnly, .directory], resolve: .beneath)
        guard case .names = try LayerMarks.possible(in: staging) else { return .overlay }
        try store.replaceFile(ImageStore.marksFile, Array("names\n".utf8), mode: 0o644)
        return .names
    }
}
