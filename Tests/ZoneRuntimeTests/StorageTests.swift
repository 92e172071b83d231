// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import TestSupport
import Testing

@testable import ZoneRuntime

@Suite struct StorageTests {
    @Test func aLimitIsKeptAndReadBack() throws {
        var definition = ZoneDefinition()
        definition.name = "a"
        definition.image = "busybox"
        #expect(definition.storageLimit == nil)
        definition.storageLimit = StorageLimit(size: 1 << 30, kind: .project, project: 0x7fff_ffff)
        let read = try ZoneDefinition(parsing: definition.serialized())
        #expect(read.storageLimit == StorageLimit(size: 1 << 30, kind: .project, project: 0x7fff_ffff))
        #expect(read.asWritten.storage == 1 << 30)
        #expect(read.asWritten.storageKind == nil && read.asWritten.storageProject == nil)
        definition.storageLimit = nil
        #expect(definition.storage == nil && definition.storageKind == nil && definition.storageProject == nil)
    }

    @Test(arguments: [Int64.min, -1, 0, 1, (16 << 20) - 1, (16 << 40) + 1, Int64.max] as [Int64])
    func sizesThatCannotBe(_ size: Int64) {
        #expect(throws: DefinitionFault.self) { try StorageLimit.verify(size) }
        #expect(throws: ZoneError.self) { try StorageLimit.verify(size, "--storage") }
    }

    @Test(arguments: [16 << 20, 1 << 30, 16 << 40] as [Int64]) func sizesThatCan(_ size: Int64) throws {
        try StorageLimit.verify(size)
    }

    @Test func aDefinitionWithAnImpossibleSizeIsRefused() {
        var definition = ZoneDefinition()
        definition.name = "a"
        definition.image = "busybox"
        definition.storage = 5
        #expect(throws: DefinitionFault.self) { try definition.verify() }
    }

    @Test func storageOnlyGrows() throws {
        var former = ZoneDefinition()
        former.storage = 64 << 20
        var next = former
        try StorageChange.verify(former, next)
        next.storage = 128 << 20
        try StorageChange.verify(former, next)
        next.storage = 32 << 20
        #expect(throws: ZoneError.self) { try StorageChange.verify(former, next) }
        next.storage = nil
        try StorageChange.verify(former, next)
        former.storage = nil
        next.storage = 32 << 20
        try StorageChange.verify(former, next)
    }

    @Test func filesAreWhereTheirKindHasThem() throws {
        let folder = try TemporaryFolder()
        let place = try Descriptor.open(folder.path, [.path, .directory])
        #expect(try OwnFiles(nil, in: place, at: folder.path).path == folder.path)
        try place.makeDirectory(OwnFiles.projectFolder)
        let limit = StorageLimit(size: 1 << 30, kind: .project, project: 1)
        #expect(try OwnFiles(limit, in: place, at: folder.path).path == "\(folder.path)/storage")
    }
}
