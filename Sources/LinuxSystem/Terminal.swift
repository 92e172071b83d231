// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc

/// A window's size in characters.
public struct WindowSize: Sendable, Equatable {
    public var rows: UInt16
    public var columns: UInt16

    public init(rows: UInt16, columns: UInt16) {
        self.rows = rows
        self.columns = columns
    }
}

/// Terminal operations on a descriptor.
public enum Terminal {
    /// Whether the descriptor is a terminal.
    public static func isTerminal(_ descriptor: CInt) -> Bool {
        isatty(descriptor) == 1
    }

    /// Returns the window size, `nil` where the descriptor is no terminal.
    public static func size(of descriptor: CInt) -> WindowSize? {
        var size = winsize()
        guard zn_ioctl_pointer(descriptor, UInt(TIOCGWINSZ), &size) >= 0 else { return nil }
        return WindowSize(rows: size.ws_row, columns: size.ws_col)
    }

    /// Sets the window size; the kernel sends `SIGWINCH` to the foreground group.
    public static func setSize(_ size: WindowSize, of descriptor: CInt) {
        var value = winsize(ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0)
        // A terminal that just went away needs no size.
        _ = zn_ioctl_pointer(descriptor, UInt(TIOCSWINSZ), &value)
    }

    /// Lets the other end of a new terminal be opened. The request is `TIOCSPTLCK`, a macro with a type.
    public static func unlock(_ master: CInt) -> CInt {
        var unlocked: CInt = 0
        return zn_ioctl_pointer(master, 0x4004_5431, &unlocked)
    }

    /// Makes a terminal pass on keys and output as they are, for good. See termios(3), `cfmakeraw`.
    public static func makeRaw(_ descriptor: CInt) {
        var settings = termios()
        guard tcgetattr(descriptor, &settings) == 0 else { return }
        cfmakeraw(&settings)
        _ = tcsetattr(descriptor, TCSANOW, &settings)
    }

    /// Opens the other end of a terminal by its master, `nil` where that fails. The request is `TIOCGPTPEER`.
    public static func peer(of master: CInt) -> Descriptor? {
        let flags = UInt64(O_RDWR | O_NOCTTY | OpenFlags.closeOnExec.rawValue)
        let raw = zn_ioctl(master, UInt(zn_tiocgptpeer()), flags)
        return raw < 0 ? nil : Descriptor(owning: raw)
    }

    /// Makes `descriptor` the controlling terminal of the calling session leader. The request is `TIOCSCTTY`.
    public static func takeControl(of descriptor: CInt) -> CInt {
        zn_ioctl(descriptor, UInt(TIOCSCTTY), 0)
    }
}

/// A new terminal of the caller's own devpts, with both ends.
public struct TerminalPair: ~Copyable {
    public let master: Descriptor
    public let peer: Descriptor

    private init(master: consuming Descriptor, peer: consuming Descriptor) {
        self.master = master
        self.peer = peer
    }

    /// `passes`: keys and output go through it as they are, for somebody else's terminal behind it.
    public static func open(size: WindowSize?, passes: Bool) throws(SystemError) -> TerminalPair {
        let master = try Descriptor.open("/dev/ptmx", [.readWrite, .noControllingTerminal])
        try check(Terminal.unlock(master.raw), "unlock the terminal")
        guard let peer = Terminal.peer(of: master.raw) else {
            throw SystemError("open the terminal's other end", "", .invalid)
        }
        if let size { Terminal.setSize(size, of: master.raw) }
        if passes { Terminal.makeRaw(peer.raw) }
        return TerminalPair(master: master, peer: peer)
    }

    /// Gives up the master, and returns the other end.
    public consuming func takePeer() -> Descriptor { peer }
}

/// Raw mode on a terminal, undone when this value goes out of scope.
public struct RawMode: ~Copyable {
    private let descriptor: CInt
    private var saved: termios

    /// Switches to raw mode: every key reaches the reader at once and unchanged. See termios(3), `cfmakeraw`.
    public init(_ descriptor: CInt) throws(SystemError) {
        var settings = termios()
        guard tcgetattr(descriptor, &settings) == 0 else { throw SystemError("tcgetattr", "", Errno(rawValue: ENOTTY)) }
        saved = settings
        self.descriptor = descriptor
        cfmakeraw(&settings)
        _ = tcsetattr(descriptor, TCSADRAIN, &settings)
    }

    deinit {
        // SIGTTOU cannot stop us here: who restores a terminal is in its foreground or has it no more.
        var settings = saved
        _ = tcsetattr(descriptor, TCSADRAIN, &settings)
    }
}

/// Reads and writes on streams that other programs share: they may be closed, full, not blocking, or gone.
public enum ConsoleIO {
    /// Reads what is there, up to `count` bytes; empty at the end, `nil` when there is nothing now.
    public static func read(_ descriptor: CInt, _ count: Int) throws(SystemError) -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: count)
        let size = buffer.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map { zn_read(descriptor, $0, count) } ?? 0
        }
        switch size {
        case 0...:
            buffer.removeLast(count - size)
            return buffer
        case -Int(EAGAIN): return nil
        // The terminal's other end is closed, or nothing can be read here at all: the same as an end.
        case -Int(EIO), -Int(EBADF): return []
        default: throw SystemError("read from stream", "\(descriptor)", Errno(rawValue: CInt(-size)))
        }
    }

    /// Writes what fits now and returns how many bytes that were; `nil` when nobody reads any more.
    public static func write(_ descriptor: CInt, _ bytes: ArraySlice<UInt8>) throws(SystemError) -> Int? {
        let size = bytes.withUnsafeBytes { buffer in
            buffer.baseAddress.map { zn_write(descriptor, $0, buffer.count) } ?? 0
        }
        switch size {
        case 0...: return size
        case -Int(EAGAIN): return 0
        case -Int(EIO), -Int(EPIPE): return nil
        default: throw SystemError("write to stream", "\(descriptor)", Errno(rawValue: CInt(-size)))
        }
    }
}
