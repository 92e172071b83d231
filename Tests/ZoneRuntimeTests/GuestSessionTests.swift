// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import Testing

@testable import ZoneRuntime

@Suite struct GuestSessionTests {
    private func outputs(_ pipe: borrowing Pipe) throws -> [GuestOutput] {
        var streams = GuestStreams(own: nil, output: try pipe.reader.duplicate(), error: nil)
        return GuestOutput.all(&streams, isTerminal: false)
    }

    private func frames(_ queue: inout GuestFrameQueue) throws -> [GuestFrame] {
        let pipe = try Pipe()
        Descriptor.setNonBlocking(pipe.reader.raw)
        Descriptor.setNonBlocking(pipe.writer.raw)
        var reader = GuestFrameReader()
        var found: [GuestFrame] = []
        while !queue.isEmpty {
            try queue.flush(to: pipe.writer.raw)
            reader.append(try pipe.reader.read(upTo: 64 << 10))
            while let frame = try reader.next() { found.append(frame) }
        }
        return found
    }

    @Test func outputStopsWhereTheCreditEnds() throws {
        let pipe = try Pipe()
        Descriptor.setNonBlocking(pipe.writer.raw)
        let output = try #require(try outputs(pipe).first)
        var queue = GuestFrameQueue()
        var buffer = [UInt8](repeating: 0, count: GuestFrame.longest)
        let part = [UInt8](repeating: 7, count: 4096)
        var sent = 0
        for _ in 0..<1000 {
            _ = part.withUnsafeBytes { write(pipe.writer.raw, $0.baseAddress, $0.count) }
            while output.pass(5, &queue, &buffer) {}
        }
        for frame in try frames(&queue) {
            #expect(frame.kind == .data)
            #expect(frame.session == 5)
            #expect(frame.stream == .output)
            sent += frame.payload.count - 1
        }
        #expect(sent == GuestFrame.window)
        #expect(!output.isWanted)
        try output.credit.grant(1)
        #expect(output.isWanted)
        #expect(output.pass(5, &queue, &buffer))
        #expect(try frames(&queue) == [.data(5, .output, [7])])
    }

    @Test func outputSaysThatItHasEnded() throws {
        let pipe = try Pipe()
        let output = try #require(try outputs(pipe).first)
        drop(pipe)
        var queue = GuestFrameQueue()
        var buffer = [UInt8](repeating: 0, count: GuestFrame.longest)
        #expect(!output.pass(5, &queue, &buffer))
        #expect(output.isDone)
        #expect(try frames(&queue) == [GuestFrame(.end, 5, [GuestFrame.Stream.output.rawValue])])
    }

    /// What is written after the end of the program, by children that still have the pipe, is not waited for.
    @Test func outputOfAnEndedProgramIsWhatItHasSaid() throws {
        let pipe = try Pipe()
        let output = try #require(try outputs(pipe).first)
        try pipe.writer.writeAll("last words")
        output.limit()
        try pipe.writer.writeAll(" of another")
        var queue = GuestFrameQueue()
        var buffer = [UInt8](repeating: 0, count: GuestFrame.longest)
        while output.pass(5, &queue, &buffer) {}
        #expect(output.isDone)
        #expect(try frames(&queue) == [.data(5, .output, Array("last words".utf8))])
    }

    @Test func outputOfASilentProgramIsDoneAtOnce() throws {
        let pipe = try Pipe()
        let output = try #require(try outputs(pipe).first)
        output.limit()
        #expect(output.isDone)
    }

    @Test func inputWaitsForItsReader() throws {
        let pipe = try Pipe()
        Descriptor.setNonBlocking(pipe.writer.raw)
        var input = GuestInput(try pipe.writer.duplicate(), isTerminal: false)
        let bytes = (0..<GuestFrame.window).map { UInt8(truncatingIfNeeded: $0 >> 8) }
        try input.accept(bytes[...])
        input.end()
        // After the end nothing counts.
        try input.accept([1, 2, 3])
        input.write()
        #expect(input.waiting != nil)
        var got: [UInt8] = []
        while got.count < bytes.count {
            got += try pipe.reader.read(upTo: 16 << 10)
            input.write()
        }
        #expect(got == bytes)
        #expect(input.waiting == nil)
        #expect(input.inflow.grant() == UInt32(GuestFrame.window))
    }

    @Test func inputThatNobodyReadsIsDropped() throws {
        signal(SIGPIPE, SIG_IGN)
        let pipe = try Pipe()
        var input = GuestInput(try pipe.writer.duplicate(), isTerminal: false)
        drop(pipe)
        try input.accept([UInt8](repeating: 0, count: GuestFrame.window)[...])
        input.write()
        #expect(input.waiting == nil)
        #expect(input.inflow.grant() == UInt32(GuestFrame.window))
    }

    @Test func aTerminalGetsTheKeysThatMeanTheEnd() throws {
        for (sent, keys) in [("", [4]), ("a\n", [4]), ("a", [4, 4])] as [(String, [UInt8])] {
            let pipe = try Pipe()
            var input = GuestInput(try pipe.writer.duplicate(), isTerminal: true)
            try input.accept(Array(sent.utf8)[...])
            input.end()
            input.write()
            #expect(try pipe.reader.read(upTo: 100) == Array(sent.utf8) + keys)
        }
    }
}
