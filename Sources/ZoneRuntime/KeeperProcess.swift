// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Puts a keeper into the background: a process of its own, in a session of its own, which nobody waits for.
enum KeeperProcess {
    /// Forks. In the child `body` starts the zone, says so, and stays with it; what it returns is the exit status. Returns
    /// in the parent once the child has said that the zone runs, and throws what kept it from that; `report` gets what it says
    /// before.
    static func start(
        named name: String, report: (String) -> Void, _ body: (consuming StartReport) -> Int32
    ) throws(ZoneError) {
        var other: CInt = -1
        let channel = try attempting("start the keeper of zone \(name)") { () throws(SystemError) in
            try Channel(other: &other)
        }
        let childEnd = Channel(owning: other)
        // There is no other thread: the child is a whole process.
        let pid = zn_fork()
        if pid == 0 {
            drop(channel)
            detach(name)
            _exit(body(StartReport(childEnd)))
        }
        drop(childEnd)
        _ = try attempting("start the keeper of zone \(name)") { () throws(SystemError) in try check(pid, "fork") }
        do throws(ZoneError) { try StartReport.wait(channel, zone: name, report) } catch {
            // It ends by itself, after it has undone what it did.
            _ = waitpid(pid, nil, 0)
            throw error
        }
    }

    /// Leaves everything of the caller's behind: terminal, streams, working directory, and the words of the command, which
    /// may hold passwords.
    private static func detach(_ name: String) {
        _ = zn_setsid()
        _ = zn_chdir("/")
        let null = zn_openat(AT_FDCWD, "/dev/null", O_RDWR, 0)
        for number in CInt(0)...2 where null >= 0 { _ = zn_dup3(null, number, 0) }
        if null > 2 { _ = zn_close(null) }
        zn_hide_arguments("zonectl: \(name)")
    }
}

/// How a start in the background went, told by the keeper to who waits for it.
struct StartReport: ~Copyable {
    private enum Kind: UInt8 {
        case started = 1
        case failed, note
    }

    /// Sends lines to who waits, as long as the report has not been made.
    struct Notes: Sendable {
        fileprivate let raw: CInt

        func add(_ line: String) {
            let bytes = [Kind.note.rawValue] + line.utf8.prefix(16_384)
            // Who does not wait any more needs no word.
            bytes.withUnsafeBytes { bytes in
                if let base = bytes.baseAddress { _ = zn_send_fd(raw, base, bytes.count, -1) }
            }
        }
    }

    var notes: Notes { Notes(raw: channel.raw) }

    private let channel: Channel

    fileprivate init(_ channel: consuming Channel) {
        self.channel = channel
    }

    /// The zone's program runs.
    consuming func started() {
        send([Kind.started.rawValue])
    }

    consuming func failed(_ error: ZoneError) {
        // Far below what one packet holds.
        let words = [error.detail, error.hint ?? ""].map { Array($0.utf8.prefix(16_384)) }
        send([Kind.failed.rawValue, error.code.rawValue] + words[0] + [0] + words[1])
    }

    private func send(_ bytes: [UInt8]) {
        // Who does not wait any more needs no word.
        bytes.withUnsafeBytes { _ = try? channel.send($0) }
    }

    fileprivate static func wait(
        _ channel: borrowing Channel, zone: String, _ report: (String) -> Void
    ) throws(ZoneError) {
        var buffer: [UInt8]
        repeat {
            do throws(SystemError) { buffer = try channel.receive(upTo: 40_000) } catch {
                throw ZoneError("wait for the keeper of zone \(zone)", error)
            }
            if buffer.first == Kind.note.rawValue { report(String(decoding: buffer.dropFirst(), as: UTF8.self)) }
        } while buffer.first == Kind.note.rawValue
        switch buffer.first.flatMap(Kind.init) {
        case .started: return
        case .failed where buffer.count > 2:
            let words = buffer[2...].split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
                .map { String(decoding: $0, as: UTF8.self) }
            let hint = words.count > 1 && !words[1].isEmpty ? words[1] : nil
            throw ZoneError(ZoneError.Code(rawValue: buffer[1]) ?? .system, words[0], hint: hint)
        default:
            throw ZoneError(
                .system, "the keeper of zone \(zone) died while it started the zone",
                hint: "'zonectl start \(zone)' tries again")
        }
    }
}
