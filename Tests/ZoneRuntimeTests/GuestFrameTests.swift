// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import Testing

@testable import ZoneRuntime

@Suite struct GuestFrameTests {
    private let frames = [
        GuestFrame(.hello, 0, Array(#"{"version":1}"#.utf8)),
        GuestFrame(.configured),
        GuestFrame.data(7, .output, Array("text".utf8)),
        GuestFrame(.credit, .max, stream: .input, numbers: [UInt32.max]),
        GuestFrame(.resize, 1, numbers: [UInt16(40), UInt16(120)]),
        GuestFrame(.exited, 1, numbers: [Int32(-1)]),
    ]

    private func read(_ pieces: [ArraySlice<UInt8>]) throws -> [GuestFrame] {
        var reader = GuestFrameReader()
        var found: [GuestFrame] = []
        for piece in pieces {
            reader.append(piece)
            while let frame = try reader.next() { found.append(frame) }
        }
        return found
    }

    @Test func comesBackAsItWasSent() throws {
        let bytes = frames.flatMap(\.bytes)
        #expect(try read([bytes[...]]) == frames)
    }

    @Test func isFoundWhereverItWasSplit() throws {
        let bytes = frames.flatMap(\.bytes)
        for place in 0...bytes.count {
            #expect(try read([bytes[..<place], bytes[place...]]) == frames)
        }
        #expect(try read(bytes.indices.map { bytes[$0...$0] }) == frames)
    }

    @Test func isLaidOutAsIsWritten() {
        let frame = GuestFrame(.signal, 0x0102_0304, numbers: [UInt32(15)])
        #expect(frame.bytes == [6, 0, 0, 0, 4, 3, 2, 1, 4, 0, 0, 0, 15, 0, 0, 0])
    }

    @Test func tellsItsNumbersAndItsStream() {
        #expect(frames[4].number(UInt16.self) == 40)
        #expect(frames[4].number(UInt16.self, at: 2) == 120)
        #expect(frames[3].stream == .input)
        #expect(frames[3].number(UInt32.self, at: 1) == .max)
        #expect(frames[5].number(Int32.self) == -1)
    }

    @Test(arguments: [
        LinuxSystem.ExitStatus.exited(0), .exited(137), .exited(255), .signalled(1), .signalled(9), .signalled(64),
    ])
    func tellsHowAProgramEnded(_ status: LinuxSystem.ExitStatus) {
        let frame = GuestFrame.exited(1, status)
        #expect(frame.exitStatus == status)
        // Who knows nothing of signals finds what a shell shows.
        #expect(frame.number(Int32.self) == status.shellCode)
    }

    @Test func takesNoEndThatThereIsNot() {
        #expect(GuestFrame(.exited, 1, [1, 2, 3]).exitStatus == nil)
        #expect(GuestFrame(.exited, 1, numbers: [Int32(7)]).exitStatus == .exited(7))
        #expect(GuestFrame(.exited, 1, numbers: [Int32(7), Int32(65)]).exitStatus == .exited(7))
        #expect(GuestFrame(.exited, 1, numbers: [Int32.min, Int32.min]).exitStatus == .exited(0))
        #expect(GuestFrame(.exited, 1, numbers: [Int32.max, Int32.max]).exitStatus == .exited(255))
    }

    @Test(arguments: [-1, 1, 3, 4, Int.max, Int.min]) func hasNoNumberBeyondItsEnd(_ offset: Int) {
        #expect(GuestFrame(.signal, 1, [1, 2, 3, 4]).number(UInt32.self, at: offset) == nil)
        #expect(GuestFrame(.signal, 1).number(UInt32.self, at: offset) == nil)
    }

    @Test func hasNoStreamWithoutOne() {
        #expect(GuestFrame(.data, 1).stream == nil)
        #expect(GuestFrame(.data, 1, [3]).stream == nil)
        #expect(GuestFrame(.data, 1, [255]).stream == nil)
    }

    @Test func refusesAKindThatThereIsNot() {
        for kind in UInt8.min...UInt8.max where GuestFrame.Kind(rawValue: kind) == nil {
            #expect(throws: GuestFrameError.kind(kind)) {
                try read([[kind] + [UInt8](repeating: 0, count: 11)][...].map { $0[...] })
            }
        }
    }

    @Test func refusesALengthThatIsTooLarge() {
        let header: [UInt8] = [3, 0, 0, 0, 1, 0, 0, 0]
        #expect(throws: GuestFrameError.length(.max)) { try read([(header + [255, 255, 255, 255])[...]]) }
        let most = UInt32(GuestFrame.longest + 2)
        let length = (0..<4).map { UInt8(truncatingIfNeeded: most >> (8 * UInt32($0))) }
        #expect(throws: GuestFrameError.length(most)) { try read([(header + length)[...]]) }
    }

    @Test func takesTheLongestData() throws {
        let frame = GuestFrame.data(1, .input, [UInt8](repeating: 9, count: GuestFrame.longest))
        #expect(try read([frame.bytes[...]]) == [frame])
    }

    @Test func survivesWhateverComes() {
        var state: UInt64 = 1
        for _ in 0..<2000 {
            var reader = GuestFrameReader()
            for _ in 0..<8 {
                let bytes = (0..<13).map { _ in
                    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                    return UInt8(truncatingIfNeeded: state >> 59)
                }
                reader.append(bytes)
            }
            while let frame = try? reader.next() { #expect(frame.payload.count <= GuestFrame.longest + 1) }
        }
    }

    // MARK: The queue

    @Test func isWrittenAsFarAsSomebodyTakesIt() throws {
        let pipe = try Pipe()
        Descriptor.setNonBlocking(pipe.writer.raw)
        Descriptor.setNonBlocking(pipe.reader.raw)
        var queue = GuestFrameQueue()
        var reader = GuestFrameReader()
        var sent: [GuestFrame] = []
        var found: [GuestFrame] = []
        // Never empty, and so much of it that a queue that keeps what is sent would be found out by its size.
        for round in 0..<64 {
            let content = [UInt8](repeating: UInt8(round), count: 30_000)
            queue.add(7, .error, content[100...])
            queue.add(GuestFrame(.end, UInt32(round)))
            sent += [.data(7, .error, content[100...]), GuestFrame(.end, UInt32(round))]
            try queue.flush(to: pipe.writer.raw)
            reader.append(try pipe.reader.read(upTo: 32 << 10))
            while let frame = try reader.next() { found.append(frame) }
        }
        while found.count < sent.count {
            try queue.flush(to: pipe.writer.raw)
            reader.append(try pipe.reader.read(upTo: 64 << 10))
            while let frame = try reader.next() { found.append(frame) }
        }
        #expect(found == sent)
        #expect(queue.isEmpty)
        #expect(queue.count == 0)
    }

    @Test func saysThatNobodyReads() throws {
        signal(SIGPIPE, SIG_IGN)
        let pipe = try Pipe()
        let writer = try pipe.writer.duplicate()
        drop(pipe)
        var queue = GuestFrameQueue()
        queue.add(GuestFrame(.configured))
        #expect(throws: SystemError.self) { try queue.flush(to: writer.raw) }
    }
}
