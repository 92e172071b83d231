// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import TestSupport
import Testing

@Suite struct TerminalTests {
    /// A pty's two ends, which the caller owns.
    private func pair() throws -> (master: CInt, terminal: CInt) {
        let raw = open("/dev/ptmx", O_RDWR | O_NOCTTY)
        try #require(raw >= 0)
        var unlocked: CInt = 0
        try #require(zn_ioctl_pointer(raw, 0x4004_5431 /* TIOCSPTLCK */, &unlocked) >= 0)
        let terminal = zn_ioctl(raw, UInt(zn_tiocgptpeer()), UInt64(O_RDWR | O_NOCTTY))
        try #require(terminal >= 0)
        return (raw, terminal)
    }

    @Test func tellsTerminalsFromOthers() throws {
        let ends = try pair()
        let master = Descriptor(owning: ends.0)
        let terminal = Descriptor(owning: ends.1)
        #expect(Terminal.isTerminal(terminal.raw))
        #expect(Terminal.size(of: terminal.raw) != nil)
        let file = try Descriptor.inMemory("test")
        #expect(!Terminal.isTerminal(file.raw))
        #expect(Terminal.size(of: file.raw) == nil)
        #expect(throws: SystemError.self) { _ = try RawMode(file.raw) }
        _ = master.raw
    }

    @Test func setsTheSizeThatTheOtherEndSees() throws {
        let ends = try pair()
        let master = Descriptor(owning: ends.0)
        let terminal = Descriptor(owning: ends.1)
        Terminal.setSize(WindowSize(rows: 37, columns: 211), of: master.raw)
        #expect(Terminal.size(of: terminal.raw) == WindowSize(rows: 37, columns: 211))
    }

    @Test func rawModeEndsWithItsValue() throws {
        let ends = try pair()
        let master = Descriptor(owning: ends.0)
        let terminal = Descriptor(owning: ends.1)
        let flags = { () -> tcflag_t in
            var settings = termios()
            tcgetattr(terminal.raw, &settings)
            return settings.c_lflag
        }
        let cooked = flags()
        #expect(cooked & tcflag_t(ICANON | ECHO | ISIG) == tcflag_t(ICANON | ECHO | ISIG))
        do {
            let raw = try RawMode(terminal.raw)
            #expect(flags() & tcflag_t(ICANON | ECHO | ISIG) == 0)
            _ = raw
        }
        #expect(flags() == cooked)
        _ = master.raw
    }

    @Test func theEndOfATerminalIsNoError() throws {
        let ends = try pair()
        let master = Descriptor(owning: ends.0)
        let terminal = Descriptor(owning: ends.1)
        try terminal.writeAll("x")
        #expect(try ConsoleIO.read(master.raw, 16) == Array("x".utf8))
        Descriptor.setNonBlocking(master.raw)
        #expect(try ConsoleIO.read(master.raw, 16) == nil)
        do { _ = consume terminal }
        #expect(try ConsoleIO.read(master.raw, 16) == [])
    }

    @Test func pollTellsWhatIsReady() throws {
        let ends = try pipeEnds()
        let reading = Descriptor(owning: ends.0)
        let writing = Descriptor(owning: ends.1)
        var poller = Poller()
        let input = poller.add(reading.raw)
        let output = poller.add(writing.raw, read: false, write: true)
        #expect(try poller.wait(milliseconds: 0))
        #expect(!poller.isReadable(input))
        #expect(poller.isWritable(output))
        try writing.writeAll("x")
        poller.removeAll()
        let again = poller.add(reading.raw)
        #expect(again == 0)
        #expect(try poller.wait(milliseconds: 0))
        #expect(poller.isReadable(again))
        #expect(try reading.read(upTo: 10) == Array("x".utf8))
        #expect(try poller.wait(milliseconds: 0) == false)
        // A hang-up is readable: reading it tells the end.
        do { _ = consume writing }
        #expect(try poller.wait(milliseconds: 0))
        #expect(poller.isReadable(again))
    }
}
