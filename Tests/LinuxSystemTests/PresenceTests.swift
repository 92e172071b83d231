// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport
import Testing

@Suite struct PresenceTests {
    @Test func aLockIsSeenAsLongAsItsOwnerHasIt() throws {
        let folder = try TemporaryFolder()
        let path = "\(folder.path)/zone"
        try #require(mkdir(path, 0o700) == 0)
        let status = try FileStatus.of(path)
        let isSeen = { try PresenceLock.inodes(on: status.device).contains(status.inode) }
        #expect(try !isSeen())
        do {
            let first = try PresenceLock(try Descriptor.open(path, [.readOnly, .directory]))
            // Nobody is kept from anything.
            let second = try PresenceLock(try Descriptor.open(path, [.readOnly, .directory]))
            #expect(try Descriptor.open(path, [.readOnly, .directory]).lock(wait: false))
            #expect(try isSeen())
            _ = consume first
            _ = consume second
        }
        #expect(try !isSeen())
    }

    @Test(arguments: [0, 1, 2, 7, 100, 1000], [1, 2, 3, 8])
    func threadsKeepTheOrder(_ count: Int, _ threads: Int) {
        #expect(Threads.map(Array(0..<count), on: threads) { "\($0)" } == (0..<count).map { "\($0)" })
    }

    @Test func atLeastOneCPU() {
        #expect(Threads.available >= 1)
    }
}
