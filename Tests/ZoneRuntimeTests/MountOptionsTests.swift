// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Namespaces
import Testing

@testable import ZoneRuntime

/// The options of config-linux.md "Linux mount options".
@Suite struct MountOptionsTests {
    @Test func optionsBecomeAttributes() throws {
        let options = try MountOptions([
            "rbind", "ro", "nosuid", "nodev", "noexec", "nodiratime", "nosymfollow", "rprivate",
        ])
        #expect(options.isBind && options.isRecursive)
        #expect(
            options.attributes
                == [.readOnly, .noSuid, .noDevices, .noExecution, .noDirectoryAccessTime, .noSymlinks])
        #expect(options.changes.propagation == MountPropagation(.private, isRecursive: true))
        #expect(options.data.isEmpty && options.superblock.isEmpty)
        #expect(try !MountOptions(["bind"]).isRecursive)
    }

    @Test(
        arguments: [
            (["ro", "rw"], []), (["rw", "ro"], .readOnly), (["nosuid", "suid"], []), (["nodev", "dev"], []),
            (["noexec", "exec"], []), (["nosymfollow", "symfollow"], []), (["nodiratime", "diratime"], []),
            (["noatime", "strictatime"], .strictAccessTime), (["strictatime", "noatime"], .noAccessTime),
            (["noatime", "relatime"], []), (["noatime", "norelatime"], .noAccessTime),
            (["noatime", "atime"], []), (["noatime", "nostrictatime"], .noAccessTime), (["defaults", "async"], []),
            (["rro"], .readOnly), (["rro", "rw"], []), (["ro", "rrw"], []),
            (["rnoatime", "strictatime"], .strictAccessTime),
            (["rnoatime", "ratime"], []), (["rnosuid", "rsuid", "rnodev", "rnoexec"], [.noDevices, .noExecution]),
        ] as [([String], MountAttributes)])
    func ofOpposedOptionsTheLastCounts(_ texts: [String], _ attributes: MountAttributes) throws {
        let options = try MountOptions(texts)
        #expect(options.attributes == attributes)
        #expect(options.data.isEmpty)
    }

    /// What a bind mount, which has attributes already, is asked to change: set, clear, and both for the whole tree.
    @Test(
        arguments: [
            (["rw"], [], .readOnly, [], []), (["suid"], [], .noSuid, [], []), (["dev"], [], .noDevices, [], []),
            (["exec"], [], .noExecution, [], []), (["ro"], .readOnly, [], [], []),
            (["ro", "rw"], [], .readOnly, [], []), (["rw", "ro"], .readOnly, [], [], []),
            (["noatime"], .noAccessTime, .accessTimeField, [], []), (["relatime"], [], .accessTimeField, [], []),
            (["atime"], [], .accessTimeField, [], []), (["symfollow"], [], .noSymlinks, [], []),
            (["rro"], [], [], .readOnly, []), (["rrw"], [], [], [], .readOnly), (["rdev"], [], [], [], .noDevices),
            (["rexec"], [], [], [], .noExecution), (["rdiratime"], [], [], [], .noDirectoryAccessTime),
            (["rnodiratime"], [], [], .noDirectoryAccessTime, []), (["rnosymfollow"], [], [], .noSymlinks, []),
            (["rsymfollow"], [], [], [], .noSymlinks),
            (["rnoatime"], [], [], .noAccessTime, .accessTimeField),
            (["rstrictatime"], [], [], .strictAccessTime, .accessTimeField),
            (["rrelatime"], [], [], [], .accessTimeField), (["ratime"], [], [], [], .accessTimeField),
            (["rnostrictatime"], [], [], [], .accessTimeField), (["rnorelatime"], [], [], [], .accessTimeField),
            (["ro", "rrw"], [], [], [], .readOnly), (["rro", "rw"], [], .readOnly, .readOnly, []),
        ]
            as [([String], MountAttributes, MountAttributes, MountAttributes, MountAttributes)])
    func whatIsChanged(
        _ texts: [String],
        _ set: MountAttributes,
        _ clear: MountAttributes,
        _ setAll: MountAttributes,
        _ clearAll: MountAttributes
    ) throws {
        let changes = try MountOptions(texts).changes
        #expect(changes.set == set)
        #expect(changes.clear == clear)
        #expect(changes.recursiveSet == setAll)
        #expect(changes.recursiveClear == clearAll)
    }

    /// The kernel takes a mode of access times only together with a cleared field: mount_setattr(2).
    @Test(arguments: ["noatime", "atime", "strictatime", "nostrictatime", "relatime", "norelatime"], ["", "r"])
    func accessTimesAreClearedAsAWhole(_ option: String, _ prefix: String) throws {
        let changes = try MountOptions([prefix + option]).changes
        let (set, clear) =
            prefix.isEmpty ? (changes.set, changes.clear) : (changes.recursiveSet, changes.recursiveClear)
        #expect(clear == .accessTimeField)
        #expect(set.isSubset(of: .accessTimeField))
    }

    @Test(
        arguments: [("private", .private), ("shared", .shared), ("slave", .slave), ("unbindable", .unbindable)]
            as [(String, MountPropagation.Kind)])
    func propagation(_ option: String, _ kind: MountPropagation.Kind) throws {
        #expect(try MountOptions(["rbind", option]).changes.propagation == MountPropagation(kind))
        #expect(
            try MountOptions(["rprivate", "r" + option]).changes.propagation
                == MountPropagation(kind, isRecursive: true))
        #expect(try MountPropagation(rootfs: option) == MountPropagation(kind))
        #expect(try MountPropagation(rootfs: "r" + option) == MountPropagation(kind, isRecursive: true))
    }

    @Test(arguments: ["", "Shared", "ro", "rrshared", "private=1"])
    func refusesRootPropagation(_ text: String) {
        #expect(throws: ZoneError.self) { _ = try MountPropagation(rootfs: text) }
    }

    @Test(arguments: ["sync", "async", "dirsync", "mand", "nomand", "lazytime", "nolazytime"])
    func flagsOfTheFileSystem(_ option: String) throws {
        let options = try MountOptions([option])
        #expect(options.superblock == [option])
        #expect(options.data.isEmpty)
        // There is no such thing for a tree of mounts.
        #expect(try MountOptions(["r" + option]).data == [.init(key: "r" + option, value: nil)])
    }

    @Test func whatElseIsGivenIsTheFileSystems() throws {
        let options = try MountOptions(["mode=1777", "newinstance", "context=a=b", "empty=", "iversion", "ro=1"])
        #expect(
            options.data == [
                .init(key: "mode", value: "1777"), .init(key: "newinstance", value: nil),
                .init(key: "context", value: "a=b"),
                .init(key: "empty", value: ""), .init(key: "iversion", value: nil), .init(key: "ro", value: "1"),
            ])
        #expect(options.attributes.isEmpty)
    }

    /// To Swift a `=` with a combining mark after it is another character.
    @Test func namesEndAtTheFirstEqualsSign() throws {
        #expect(try MountOptions(["x=\u{301}y=z"]).data == [.init(key: "x", value: "\u{301}y=z")])
    }

    @Test func whatIsKnownIsUnderstood() throws {
        #expect(Set(MountOptions.known).count == MountOptions.known.count)
        #expect(["rro", "rnosymfollow", "rslave", "nostrictatime", "ridmap"].allSatisfy(MountOptions.known.contains))
        for name in MountOptions.known { #expect(try MountOptions([name]).data.isEmpty, "\(name)") }
    }

    @Test func whatIsNotForTheKernel() throws {
        let options = try MountOptions(["tmpcopyup", "remount", "copy-symlink", "silent", "loud", "noiversion"])
        #expect(options.copiesUp && options.isRemount && options.copiesSymlink)
        #expect(options.data.isEmpty && options.superblock.isEmpty && options.changes == MountChanges())
        #expect(try MountOptions(["bind", "idmap"]).idMapping == .mount)
        #expect(try MountOptions(["bind", "ridmap"]).idMapping == .tree)
        #expect(throws: ZoneError.self) { _ = try MountOptions(["ro", ""]) }
    }
}
