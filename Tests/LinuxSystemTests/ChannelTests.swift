// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import TestSupport
import Testing

@Suite struct ChannelTests {
    private func send(_ text: String, over channel: borrowing Channel, descriptor: CInt = -1) throws {
        let bytes = Array(text.utf8)
        try bytes.withUnsafeBytes { try channel.send($0, descriptor: descriptor) }
    }

    private func receive(_ channel: borrowing Channel, _ descriptor: inout Descriptor?) throws
        -> String
    {
        var buffer = [UInt8](repeating: 0, count: 64)
        let size = try buffer.withUnsafeMutableBytes {
            try channel.receive(into: $0, descriptor: &descriptor)
        }
        return String(decoding: buffer[..<size], as: UTF8.self)
    }

    @Test func keepsMessagesApart() throws {
        var raw: CInt = -1
        let near = try Channel(other: &raw)
        let far = Channel(owning: raw)
        try send("one", over: near)
        try send("two", over: near)
        var none: Descriptor?
        #expect(try receive(far, &none) == "one")
        #expect(try receive(far, &none) == "two")
        try send("back", over: far)
        #expect(try receive(near, &none) == "back")
        let isMissing = none == nil
        #expect(isMissing)
    }

    @Test func passesADescriptor() throws {
        var raw: CInt = -1
        let near = try Channel(other: &raw)
        let far = Channel(owning: raw)
        let file = try Descriptor.inMemory("test")
        try file.writeAll("content")
        file.rewind()
        try send("take this", over: near, descriptor: file.raw)
        var taken: Descriptor?
        #expect(try receive(far, &taken) == "take this")
        guard let received = taken.take() else {
            Issue.record("no descriptor came")
            return
        }
        #expect(received.raw != file.raw)
        #expect(fcntl(received.raw, F_GETFD) & FD_CLOEXEC == FD_CLOEXEC)
        #expect(try received.readAll(limit: 100) == Array("content".utf8))
    }

    @Test func aClosedEndReadsAsZero() throws {
        var raw: CInt = -1
        let near = try Channel(other: &raw)
        do { _ = Channel(owning: raw) }
        var none: Descriptor?
        #expect(try receive(near, &none).isEmpty)
        let error = #expect(throws: SystemError.self) { try send("x", over: near) }
        #expect(error?.errno == .brokenPipe)
    }

    /// The kernel resets the connection when an end is closed with messages unread.
    @Test func aPeerThatDiedWithDataUnreadReadsAsZero() throws {
        var raw: CInt = -1
        let near = try Channel(other: &raw)
        do {
            let far = Channel(owning: raw)
            try send("unread", over: near)
            _ = far.raw
        }
        var none: Descriptor?
        #expect(try receive(near, &none).isEmpty)
    }

    @Test func bothEndsAreCloseOnExec() throws {
        var raw: CInt = -1
        let near = try Channel(other: &raw)
        #expect(fcntl(near.raw, F_GETFD) & FD_CLOEXEC == FD_CLOEXEC)
        #expect(fcntl(raw, F_GETFD) & FD_CLOEXEC == FD_CLOEXEC)
        _ = Channel(owning: raw)
    }
}
