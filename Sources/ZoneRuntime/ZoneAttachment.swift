// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Joins the caller's terminal, or its streams, with those of a zone in the background.
public struct ZoneAttachment: Sendable {
    private let store: ZoneStore

    public init(_ folders: ZoneFolders) {
        store = ZoneStore(folders)
    }

    /// How an attachment ended.
    public enum Outcome: Sendable {
        /// The zone has ended, with a status as a shell shows it.
        case ended(Int32)
        /// The caller left it with the detach keys; the zone goes on.
        case detached
    }

    /// Stays until the zone has ended or the caller leaves.
    public func attach(_ name: String, passesInput: Bool) throws(ZoneError) -> Outcome {
        let entry = try store.find(name)
        let process = try entry.state.livingProcess(for: "attach", of: entry.name)
        let signals = try attempting("wait for signals") { () throws(SystemError) in try SignalQueue(.forwarded) }
        guard let connection = try connect(entry.name) else {
            throw ZoneError(
                .wrongState, "attach: zone \(entry.name) has no keeper that holds its streams",
                hint: entry.record?.isDetached ?? false
                    ? "its keeper was killed: 'zonectl start \(entry.name)' gives it another one"
                    : "it runs in the foreground of process \(entry.record?.keeper.pid ?? 0)")
        }
        let isMachine = (try? store.definition(of: entry.name))??.initSystem != nil
        var session = AttachSession(connection, passesInput: passesInput)
        do throws(SystemError) {
            return try session.run(signals) { (number) throws(SystemError) in
                // A machine would boot again: who leaves its console leaves it running.
                if isMachine, InitSystem.endSignals.contains(number) { return false }
                let handle = try ProcessHandle(pid: process.pid)
                if process.isAlive { try handle.signal(number) }
                return true
            }
        } catch {
            throw ZoneError(.system, "attach to zone \(entry.name): \(error)", hint: "the zone itself goes on")
        }
    }

    /// Waits until a zone has ended and is not started again. Returns its status, as a shell shows it, `nil` where nobody
    /// saw it.
    public func wait(_ name: String) throws(ZoneError) -> Int32? {
        let entry = try store.find(name)
        let zone = entry.name
        switch entry.state {
        case .stopped(let code): return code
        case .damaged: _ = try entry.state.runningProcess(for: "wait", of: zone)
        default: break
        }
        // Over the socket its status is known even if the zone is removed with its end.
        if let connection = try connect(zone) {
            var session = AttachSession(connection, passesInput: false)
            do throws(SystemError) {
                if let code = try session.observe() { return code < 0 ? nil : code }
            } catch {
                throw ZoneError("wait for zone \(zone)", error)
            }
        }
        return try waitWithoutKeeper(zone)
    }

    /// For zones in the foreground, and those whose keeper was killed.
    private func waitWithoutKeeper(_ zone: String) throws(ZoneError) -> Int32? {
        while true {
            let entry: ZoneStore.Entry
            do throws(ZoneError) { entry = try store.find(zone, exactly: true) } catch {
                if error.code == .notFound { return nil }
                throw error
            }
            guard
                let process = entry.state.process ?? (entry.record?.keeper.isAlive == true ? entry.record?.keeper : nil)
            else {
                guard case .stopped(let code) = entry.state else { return nil }
                return code
            }
            do throws(SystemError) {
                let handle = try ProcessHandle(pid: process.pid)
                if process.isAlive { _ = try handle.waitUntilEnded(milliseconds: -1) }
                // Its zonectl is about to record how it ended.
                if case .running = entry.state { pause(milliseconds: 20) }
            } catch {
                if error.errno != .noProcess { throw ZoneError("wait for zone \(zone)", error) }
            }
        }
    }

    /// Connects to the keeper; `nil` where there is none.
    private func connect(_ zone: String) throws(ZoneError) -> Descriptor? {
        do throws(SystemError) {
            let folder = try Descriptor.open(store.folders.volatile(zone), [.path, .directory, .noFollow])
            let path = "/proc/self/fd/\(folder.raw)/\(AttachServer.name)"
            return Descriptor(owning: try check(zn_unix_connect(path, AttachServer.type), "connect", zone))
        } catch {
            if [.noEntry, .connectionRefused].contains(error.errno) { return nil }
            throw ZoneError("reach the keeper of zone \(zone)", error)
        }
    }
}

/// The caller's side of an attachment.
private struct AttachSession: ~Copyable {
    private let connection: Descriptor
    private var passesInput: Bool
    private var hasTerminal = false
    /// A packet that the keeper has not taken yet.
    private var pending: [UInt8] = []
    private var keys = DetachKeys()
    private var packet = [UInt8](repeating: 0, count: AttachMessage.room + 1)

    init(_ connection: consuming Descriptor, passesInput: Bool) {
        Descriptor.setNonBlocking(connection.raw)
        self.connection = connection
        self.passesInput = passesInput
    }

    /// Waits for the last end; `nil` where the keeper is gone without a word.
    mutating func observe() throws(SystemError) -> Int32? {
        send(.observe)
        while true {
            var poller = Poller()
            _ = poller.add(connection.raw, write: !pending.isEmpty)
            guard try poller.wait() else { continue }
            flush()
            switch try receive() {
            case .message(.ended(let code, isLast: true)): return code
            case .closed: return nil
            default: continue
            }
        }
    }

    mutating func run(
        _ signals: borrowing SignalQueue, signal: (CInt) throws(SystemError) -> Bool
    ) throws(SystemError) -> ZoneAttachment.Outcome {
        var raw: RawMode?
        while true {
            var poller = Poller()
            let input = passesInput && pending.isEmpty ? poller.add(0) : nil
            let socket = poller.add(connection.raw, write: !pending.isEmpty)
            let pendingSignals = poller.add(signals.raw)
            guard try poller.wait() else { continue }
            if poller.isWritable(socket) { flush() }
            if poller.isReadable(socket) {
                switch try receive() {
                case .message(.hello(let terminal, let takesInput)):
                    hasTerminal = terminal
                    passesInput = passesInput && takesInput
                    sendWindow()
                    // Raw, so that Ctrl-C and Ctrl-Z are keys of the zone's terminal and not signals to us.
                    if terminal, passesInput, Terminal.isTerminal(0) { raw = try RawMode(0) }
                case .message(.output(let bytes)): try StandardStream.output.write(bytes)
                case .message(.error(let bytes)): try StandardStream.error.write(bytes)
                case .message(.ended(let code, _)):
                    drop(raw)
                    return .ended(code < 0 ? 125 : code)
                case .closed:
                    throw SystemError("receive", "its keeper has closed the connection", .connectionReset)
                default: break
                }
            }
            if let input, poller.isReadable(input), try !readInput() {
                drop(raw)
                return .detached
            }
            if poller.isReadable(pendingSignals), try !pass(signals, signal) {
                drop(raw)
                return .detached
            }
        }
    }

    /// `false` when the signal means that the caller leaves. `signal` sends one to the zone, or says so.
    private mutating func pass(
        _ signals: borrowing SignalQueue, _ signal: (CInt) throws(SystemError) -> Bool
    ) throws(SystemError) -> Bool {
        while let number = signals.next() {
            if number == SIGWINCH || number == SIGCONT {
                sendWindow()
            } else {
                do throws(SystemError) { if try !signal(number) { return false } } catch {
                    // It has ended this moment.
                    if error.errno != .noProcess { throw error }
                }
            }
        }
        return true
    }

    private mutating func sendWindow() {
        if hasTerminal, let size = Terminal.size(of: 0) ?? Terminal.size(of: 1) { send(.window(size)) }
    }

    /// `false` when the caller has typed the detach keys.
    private mutating func readInput() throws(SystemError) -> Bool {
        guard let bytes = try ConsoleIO.read(0, 4096) else { return true }
        if bytes.isEmpty {
            passesInput = false
            send(.inputEnd)
            return true
        }
        guard hasTerminal, Terminal.isTerminal(0) else {
            send(.input(bytes))
            return true
        }
        guard let rest = keys.filter(bytes) else { return false }
        if !rest.isEmpty { send(.input(rest)) }
        return true
    }

    // MARK: Packets

    private mutating func send(_ message: AttachMessage) {
        // A window's size may come while input waits: the next one counts.
        if !pending.isEmpty { return }
        pending = message.bytes
        flush()
    }

    private mutating func flush() {
        if pending.isEmpty { return }
        let result = pending.withUnsafeBytes { bytes in
            bytes.baseAddress.map { zn_write(connection.raw, $0, bytes.count) } ?? 0
        }
        // A keeper that is gone shows when it is read from.
        if result >= 0 || result != -Int(EAGAIN) { pending = [] }
    }

    private enum Received {
        case nothing, closed
        case message(AttachMessage)
    }

    private mutating func receive() throws(SystemError) -> Received {
        let raw = connection.raw
        var count = -Int(ECONNRESET)
        // A keeper that ends before it has read all that we sent resets the connection. That is told once, and first: what it
        // had sent follows.
        for _ in 0..<2 where count == -Int(ECONNRESET) {
            count = packet.withUnsafeMutableBytes { bytes in
                bytes.baseAddress.map { zn_read(raw, $0, bytes.count) } ?? 0
            }
        }
        switch count {
        case -Int(EAGAIN), -Int(EINTR): return .nothing
        case 0, -Int(ECONNRESET), -Int(EPIPE): return .closed
        default:
            try check(count, "receive")
            return AttachMessage(packet[..<count]).map { .message($0) } ?? .nothing
        }
    }
}

/// Ctrl-P Ctrl-Q, docker's keys for "leave it running".
struct DetachKeys {
    private var hasFirst = false

    /// Returns what is for the zone; `nil` once both keys were typed one after the other.
    mutating func filter(_ bytes: [UInt8]) -> [UInt8]? {
        var result: [UInt8] = []
        for byte in bytes {
            if hasFirst {
                hasFirst = false
                if byte == 0x11 { return nil }
                result.append(0x10)
            }
            if byte == 0x10 { hasFirst = true } else { result.append(byte) }
        }
        return result
    }
}
