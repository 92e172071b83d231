// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI
import Testing

@testable import ZoneRuntime

@Suite struct VolumeTests {
    /// Two folders of their own for a test, removed afterwards.
    private func withStore(_ body: (VolumeStore) throws -> Void) throws {
        var template = Array("/tmp/zonectl-volumes-XXXXXX".utf8CString)
        let path = try #require(mkdtemp(&template).map { String(cString: $0) })
        defer { try? Descriptor.open("/tmp", [.path, .directory]).removeTree(String(path.dropFirst(5))) }
        try body(VolumeStore(try ZoneFolders(root: "\(path)/root", store: "\(path)/store")))
    }

    @Test func comesAndGoes() throws {
        try withStore { store in
            #expect(try store.list().isEmpty)
            #expect(try store.create("b", labels: ["k": "v"]) == "b")
            #expect(try store.create("b", labels: [:]) == "b")
            let anonymous = try store.create(nil, labels: [:])
            #expect(ZoneName.isValid(anonymous) && anonymous.utf8.count == 32)
            let names = try store.list().map(\.name)
            #expect(names == ["b", anonymous].sorted())
            let volume = try store.find("b")
            #expect(volume.labels == ["k": "v"] && !volume.isAnonymous && !volume.isUsed)
            #expect(try FileStatus.of(store.path(of: volume)).kind == .directory)
            #expect(try store.prune(all: false) == [anonymous])
            try store.remove("b", force: false)
            #expect(throws: ZoneError.self) { try store.remove("b", force: false) }
            try store.remove("b", force: true)
            #expect(try Descriptor.open(store.folders.volumes, [.readOnly, .directory]).entries().isEmpty)
        }
    }

    @Test(arguments: ["", "..", "a/b", ".new-x", "-a", "a\u{0}"])
    func badNamesAreRefused(_ name: String) throws {
        try withStore { store in
            #expect(throws: ZoneError.self) { _ = try store.create(name, labels: [:]) }
            #expect(throws: ZoneError.self) { _ = try store.find(name) }
            #expect(throws: ZoneError.self) { try store.remove(name, force: true) }
        }
    }

    /// What a killed zonectl has left is no volume, and goes with the next change; what another one is making stays.
    @Test func whatIsHalfMadeIsRemoved() throws {
        try withStore { store in
            _ = try store.create("a", labels: [:])
            let folder = try Descriptor.open(store.folders.volumes, [.readOnly, .directory])
            for name in [".new-1", ".gone-a", ".new-2"] {
                try folder.makeDirectory(name)
                try folder.makeDirectory("\(name)/data")
            }
            let busy = try folder.open(".new-2", [.readOnly, .directory], resolve: .beneath)
            #expect(try busy.lock())
            #expect(try store.list().map(\.name) == ["a"])
            _ = try store.create("b", labels: [:])
            #expect(try folder.entries().sorted() == [".new-2", "a", "b"])
        }
    }

    @Test func aDraftIsListedWhenItIsFinished() throws {
        try withStore { store in
            let draft = try store.draft(try store.lock())
            #expect(try store.list().isEmpty)
            // The maker lives.
            _ = try store.create("other", labels: [:])
            var volume = Volume()
            volume.name = "v"
            try store.finish(draft, as: volume, try store.lock())
            #expect(try store.list().map(\.name) == ["other", "v"])
            let second = try store.draft(try store.lock())
            let error = #expect(throws: ZoneError.self) { try store.finish(second, as: volume, try store.lock()) }
            #expect(error?.code == .exists)
            store.discard(second)
            #expect(
                try Descriptor.open(store.folders.volumes, [.readOnly, .directory]).entries().sorted() == [
                    "other", "v",
                ])
        }
    }

    @Test func anonymousVolumesKeepTheirNames() throws {
        var wanted = ZoneDefinition()
        wanted.mounts = [
            .init(destination: "/a", type: "volume", source: nil, options: ["ro"]),
            .init(destination: "/b", type: "volume", source: "b", options: []),
            .init(destination: "/c", type: "bind", source: "/c", options: []),
        ]
        var made = wanted
        made.nameVolumes()
        let name = try #require(made.mounts[0].source)
        #expect(made.anonymousVolumes == [name])
        #expect(made.mounts[1...] == wanted.mounts[1...])
        #expect(made.asWritten.mounts == wanted.mounts)
        #expect(made.differences(from: wanted).isEmpty)
        var next = wanted
        next.nameVolumes(after: made)
        #expect(next == made)
        var clone = made
        clone.forgetAnonymousVolumes()
        clone.nameVolumes()
        #expect(clone.mounts[0].source != name)
    }

    @Test(arguments: [(nil, []), ("data", ["ro"]), ("data", ["nocopy", "anonymous"])] as [(String?, [String])])
    func definitionsMayName(_ name: String?, _ options: [String]) throws {
        try definition(name, options).verify()
    }

    @Test(arguments: [("a/b", []), ("..", []), ("data", ["rbind"]), ("data", ["size=1"])] as [(String?, [String])])
    func definitionsMayNotName(_ name: String?, _ options: [String]) {
        let error = #expect(throws: DefinitionFault.self) { try definition(name, options).verify() }
        #expect(error?.path == [.name("mounts"), .index(0)])
    }

    private func definition(_ name: String?, _ options: [String]) -> ZoneDefinition {
        var definition = ZoneDefinition()
        (definition.name, definition.image) = ("web", "busybox")
        definition.mounts = [.init(destination: "/data", type: "volume", source: name, options: options)]
        return definition
    }
}
