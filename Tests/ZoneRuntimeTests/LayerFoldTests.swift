// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport
import Testing

@testable import ZoneRuntime

/// Two layers put together show what they showed as two, over whatever lies below them.
@Suite struct LayerFoldTests {
    private func whiteout(_ path: String) -> Bool { mknod(path, S_IFCHR | 0o600, 0) == 0 }

    private func mark(_ path: String, _ name: String = "opaque", _ value: String = "y") throws {
        let folder = try Descriptor.open(path, [.path, .directory])
        try folder.set(ExtendedAttribute(name: "user.overlay.\(name)", value: Array(value.utf8)))
    }

    private func open(_ path: String) throws -> Descriptor { try Descriptor.open(path, [.path, .directory]) }

    /// What the layers change in what is below, as a zone has it.
    private func changes(_ folder: TemporaryFolder, _ names: String...) throws -> [String] {
        var comparison = LayerComparison(lower: try LayerTree(["\(folder.path)/image"], .overlay))
        try comparison.add(try LayerEntry.open(names.map { "\(folder.path)/\($0)" }, .overlay))
        return comparison.changes.map { "\($0.change.letter) \($0.path)" }.sorted()
    }

    /// Layers as overlayfs leaves them; `nil` for users who cannot make its marks: those of trusted.* are root's.
    private func layers() throws -> TemporaryFolder? {
        guard geteuid() == 0 else { return nil }
        let folder = try TemporaryFolder()
        for name in ["a", "b", "d/x", "d/y", "e/x", "file", "gone", "h/x", "same/i", "was/x", "opaque/i"] {
            try folder.write("image/\(name)", "i")
        }
        for name in ["a", "d/x", "d/l", "e/l", "e/deep/l", "only/l", "same/l", "opaque/l", "h/l", "twice/l"] {
            try folder.write("lower/\(name)", "l")
        }
        for name in ["a", "d/x", "e/deep/u", "same/u", "opaque/u", "h/u", "was/u", "twice/u"] {
            try folder.write("upper/\(name)", "u")
        }
        // Removed in the lower layer, then a directory in the upper one; removed in the upper one; never there.
        guard whiteout("\(folder.path)/lower/was"), whiteout("\(folder.path)/lower/gone"),
            whiteout("\(folder.path)/upper/only"), whiteout("\(folder.path)/upper/b"),
            whiteout("\(folder.path)/lower/never")
        else { return nil }
        // The one hides the image, the other the lower layer, too.
        try mark("\(folder.path)/lower/opaque")
        try mark("\(folder.path)/upper/h")
        #expect(link("\(folder.path)/lower/d/l", "\(folder.path)/lower/same/second") == 0)
        return folder
    }

    @Test func showsTheSame() throws {
        guard let folder = try layers() else { return }
        let before = try changes(folder, "upper", "lower")
        #expect(before.contains("D /opaque/i") && before.contains("D /h/x") && before.contains("D /was/x"))
        #expect(before.contains("D /b") && before.contains("D /gone") && !before.contains { $0.hasSuffix("/only") })
        let number = try FileStatus.of("\(folder.path)/lower/d/l").inode
        // The second finds nothing to do.
        for _ in 0..<2 {
            #expect(try LayerFold.fold(try open("\(folder.path)/lower"), into: try open("\(folder.path)/upper")))
            #expect(try changes(folder, "upper") == before)
            #expect(try changes(folder, "upper", "lower") == before)
        }
        #expect(try folder.read("upper/a") == "u" && folder.read("upper/d/x") == "u" && folder.read("upper/e/l") == "l")
        #expect(folder.has("upper/twice/l") && folder.has("upper/twice/u") && !folder.has("upper/h/l"))
        // Moved, with all its names.
        let moved = try FileStatus.of("\(folder.path)/upper/d/l")
        #expect(try FileStatus.of("\(folder.path)/upper/same/second").inode == moved.inode)
        #expect(moved.inode == number && moved.links == 2)
    }

    @Test func keepsTimesOfDirectories() throws {
        let folder = try TemporaryFolder()
        for name in ["lower/d/l", "upper/d/u"] { try folder.write(name) }
        let path = "\(folder.path)/upper/d"
        var attributes = try FileAttributes(of: try open(path), try FileStatus.of(path))
        attributes.seconds = 1_000_000_000
        try open(path).setModified(attributes)
        #expect(try LayerFold.fold(try open("\(folder.path)/lower"), into: try open("\(folder.path)/upper")))
        #expect(folder.has("upper/d/l") && !folder.has("lower/d/l"))
        #expect(try FileStatus.of(path).modified / 1_000_000_000 == 1_000_000_000)
    }

    @Test func wasInterruptedAnywhere() throws {
        guard let folder = try layers() else { return }
        let before = try changes(folder, "upper", "lower")
        // Some of what is to be moved has been.
        for name in ["d/l", "e/deep/l", "twice/l"] {
            #expect(rename("\(folder.path)/lower/\(name)", "\(folder.path)/upper/\(name)") == 0)
            #expect(try changes(folder, "upper", "lower") == before)
        }
        #expect(try LayerFold.fold(try open("\(folder.path)/lower"), into: try open("\(folder.path)/upper")))
        #expect(try changes(folder, "upper") == before)
    }

    /// A renamed directory says where in the lower layers it was (redirect_dir).
    @Test(arguments: ["upper/e/deep", "lower/same"]) func staysTwoWhereOneNamesTheOther(_ place: String) throws {
        guard let folder = try layers() else { return }
        try mark("\(folder.path)/\(place)", "redirect", "/elsewhere")
        let before = try changes(folder, "upper", "lower")
        #expect(try !LayerFold.fold(try open("\(folder.path)/lower"), into: try open("\(folder.path)/upper")))
        #expect(try changes(folder, "upper", "lower") == before)
    }

    @Test(
        arguments: [
            ("/1", ZoneBase.layer("1")), ("a/b", .snapshot(zone: "a", name: "b")), ("", nil), ("a", nil), ("/", nil),
            ("a/", nil), ("//1", nil), ("/../x", nil), ("../x", nil), ("a/b/c", nil), ("/.new", nil),
        ] as [(String, ZoneBase?)])
    func basesAreNamed(_ text: String, _ expected: ZoneBase?) {
        #expect(ZoneBase(text) == expected)
    }
}
