// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
public import LinuxSystem

/// Two connected stream sockets, one of which a machine's process inherits as its monitor.
public struct QMPSocketPair: ~Copyable {
    public let ours: Descriptor
    public let theirs: Descriptor

    /// Makes the pair. The corresponding system call is `socketpair`.
    public init() throws(SystemError) {
        var ends: [CInt] = [-1, -1]
        let type = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
        let result = socketpair(AF_UNIX, type, 0, &ends) == 0 ? 0 : -errno
        try check(result, "socketpair")
        ours = Descriptor(owning: ends[0])
        theirs = Descriptor(owning: ends[1])
    }

    /// Gives up the other end, which somebody else has by now.
    public consuming func takeOurs() -> Descriptor { ours }
}

/// A stream socket that messages of one line each come from and go to; never waits but in ``wait(until:write:)``.
///
/// Whoever is at the other end can neither make it hold more than a message of ``limit`` bytes and one read, nor make a
/// call take longer than one read's content does. Descriptors that come with a message are closed by the kernel, as
/// nothing here takes them.
struct QMPLineSocket: ~Copyable {
    /// Bytes that are read at once.
    private static let portion = 1 << 16

    private let socket: Descriptor
    /// The longest message, in bytes.
    let limit: Int
    private var input: [UInt8] = []
    /// Where in the input the next line begins, and up to where there is no end of it.
    private var start = 0
    private var searched = 0
    /// What is left of a message that the socket did not take at once.
    private var unsent: ArraySlice<UInt8> = []
    /// Whether the other end is gone.
    private(set) var hasEnded = false

    init(_ socket: consuming Descriptor, limit: Int) {
        self.socket = socket
        self.limit = limit
        Descriptor.setNonBlocking(self.socket.raw)
    }

    var raw: CInt { socket.raw }
    var hasUnsent: Bool { !unsent.isEmpty }

    // MARK: Reading

    /// Reads once; `false` where nothing was there.
    mutating func fill() throws(QMPError) -> Bool {
        if hasEnded { return false }
        input.removeFirst(start)
        searched -= start
        start = 0
        let descriptor = raw
        var size = 0
        input += [UInt8](unsafeUninitializedCapacity: QMPLineSocket.portion) { bytes, count in
            guard let base = bytes.baseAddress else { return }
            size = zn_read(descriptor, base, bytes.count)
            count = max(size, 0)
        }
        if size == -Int(EAGAIN) { return false }
        // A peer that was killed with data unread resets the connection: the same as a close.
        if size == 0 || size == -Int(ECONNRESET) {
            hasEnded = true
            return true
        }
        do throws(SystemError) { try check(size, "read from the machine's control connection") } catch {
            throw .system(error)
        }
        return true
    }

    /// Takes the next line off the input, without its end; `nil` where there is no whole one.
    mutating func nextLine() throws(QMPError) -> [UInt8]? {
        guard let end = input[searched...].firstIndex(of: UInt8(ascii: "\n")) else {
            searched = input.count
            if input.count - start > limit { throw .tooLarge(limit: limit) }
            // One long message must not keep its room for the rest of a machine's life.
            if start == input.count, input.capacity > 2 * QMPLineSocket.portion {
                input = []
                start = 0
                searched = 0
            }
            return nil
        }
        guard end - start <= limit else { throw .tooLarge(limit: limit) }
        defer {
            start = end + 1
            searched = start
        }
        return Array(input[start..<end])
    }

    /// Drops the input up to and with the first `byte`, and all of it where there is none. Returns whether there was one.
    mutating func discard(through byte: UInt8) -> Bool {
        let end = input[start...].firstIndex(of: byte)
        start = end.map { $0 + 1 } ?? input.count
        searched = start
        return end != nil
    }

    // MARK: Writing

    /// Sends the beginning of a message, with a descriptor unless it is negative, and keeps the rest for ``flush()``.
    /// `false`: the socket takes nothing now, and nothing is kept.
    mutating func begin(_ message: [UInt8], descriptor: CInt) throws(QMPError) -> Bool {
        let count = try send(message[...], descriptor: descriptor)
        if count == 0 { return false }
        unsent = message[count...]
        return true
    }

    /// Sends what is left of a message, as far as the socket takes it.
    mutating func flush() throws(QMPError) {
        if unsent.isEmpty { return }
        unsent = unsent.dropFirst(try send(unsent, descriptor: -1))
    }

    private func send(_ bytes: ArraySlice<UInt8>, descriptor: CInt) throws(QMPError) -> Int {
        let size = bytes.withUnsafeBytes { content in
            content.baseAddress.map { zn_send_fd(raw, $0, content.count, descriptor) } ?? 0
        }
        if size == -Int(EAGAIN) { return 0 }
        if size == -Int(EPIPE) || size == -Int(ECONNRESET) { throw .closed }
        do throws(SystemError) { return try check(size, "send to the machine's control connection") } catch {
            throw .system(error)
        }
    }

    // MARK: Waiting

    /// Waits until something came, or the socket takes what waits to be sent, at most until `deadline`. Always also for
    /// input: an other end that cannot get rid of what it says may not listen.
    func wait(until deadline: Int64, write: Bool) throws(QMPError) {
        var poller = Poller()
        _ = poller.add(raw, read: true, write: write)
        let left = max(deadline - MonotonicClock.milliseconds, 0)
        do throws(SystemError) { _ = try poller.wait(milliseconds: CInt(clamping: left)) } catch {
            throw .system(error)
        }
    }

    /// Ends the connection from here, so that `poll(2)` reports it.
    func cutOff() {
        _ = shutdown(raw, CInt(SHUT_RDWR))
    }
}

/// The moment at which waiting ends: milliseconds of ``MonotonicClock``. More than a day is a day.
func deadline(in milliseconds: Int) -> Int64 {
    MonotonicClock.milliseconds + Int64(min(max(milliseconds, 0), 86_400_000))
}
