// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import OCI

/// The first process of a micro machine, which does in it what its monitor on the host wants: it starts programs by the code
/// that starts those of containers, and attends to their streams. One `poll` loop, which waits for nobody else.
///
///     kernel → /init          drivers for the port, then `hello`: what follows is made while the host reads it
///     configure               network, files, the zone's root
///     open, data, …           sessions, until the host has enough
///     powerOff, or hung up    everything is ended and written
///
/// It never ends: that would be a panic of the kernel's. Whatever goes wrong with it switches the machine off.
public struct GuestAgent: ~Copyable {
    private let port: Descriptor
    /// Children that end; and a start that takes too long, see ``open(_:_:in:)``.
    private let signals: SignalQueue
    private var modules: GuestModules
    private var reader = GuestFrameReader()
    private var queue = GuestFrameQueue()
    private var sessions: [UInt32: GuestSession] = [:]
    private var zone: GuestZone?
    /// Drivers that nobody waits for are loaded once the zone's program runs.
    private var hasAllDrivers = false
    private var buffer = [UInt8](repeating: 0, count: GuestFrame.longest)

    /// More than this waits to be sent: programs' output waits where it is.
    private static let mostWaiting = 512 << 10
    private static let mostSessions = 1024
    /// How long a program's start may take, in milliseconds; the signal that says that it is over is one by which a start is
    /// given up.
    private static let longestStart: CInt = 15_000
    private static let tooLate = SIGHUP

    /// Whether this process is the first one of a machine, which has not even a /proc yet.
    public static func isCalled(by program: String) -> Bool {
        guard getpid() == 1, program == "init" || program.hasSuffix("/init") else { return false }
        var status = stat()
        return zn_fstatat(AT_FDCWD, "/proc/self", &status, 0) < 0
    }

    /// Serves until the machine is switched off.
    public static func run() -> Never {
        do throws(SystemError) {
            var agent = try start()
            try agent.serve()
        } catch {
            report("\(error)")
        }
        switchOff()
    }

    private init(port: consuming Descriptor, signals: consuming SignalQueue, modules: GuestModules) {
        self.port = port
        self.signals = signals
        self.modules = modules
    }

    /// Does what must be done before the host can be talked to, and no more.
    private static func start() throws(SystemError) -> GuestAgent {
        let signals = try SignalQueue(SignalSet([SIGCHLD, tooLate]))
        try GuestBoot.mountDevices()
        var modules = GuestModules()
        try modules.load("base", through: "virtio_console.ko")
        return GuestAgent(port: try GuestBoot.openPort(), signals: signals, modules: modules)
    }

    // MARK: The loop

    private mutating func serve() throws(SystemError) {
        try greet()
        // While the host prepares what it wants.
        try GuestBoot.mountRest()
        try modules.load("base")
        while try serveRound() {}
    }

    private mutating func greet() throws(SystemError) {
        var hello = GuestHello()
        hello.version = GuestConfiguration.version
        hello.kernel = GuestAgent.kernel
        queue.add(GuestFrame(.hello, 0, hello.serialized()))
        try queue.flush(to: port.raw)
    }

    private static var kernel: String {
        var name = utsname()
        guard uname(&name) == 0 else { return "" }
        return withUnsafeBytes(of: &name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    /// Waits for something to do, and does it; `false` when the machine is to be switched off.
    private mutating func serveRound() throws(SystemError) -> Bool {
        var poller = Poller()
        let host = poller.add(port.raw, write: !queue.isEmpty)
        let ended = poller.add(signals.raw)
        var places: [(place: Int, session: GuestSession, output: GuestOutput?)] = []
        let hasRoom = queue.count < GuestAgent.mostWaiting
        for session in sessions.values {
            if let raw = session.input.waiting {
                places.append((poller.add(raw, read: false, write: true), session, nil))
            }
            for output in session.outputs where hasRoom && output.isWanted {
                if let raw = output.raw { places.append((poller.add(raw), session, output)) }
            }
        }
        guard try poller.wait() else { return true }
        if poller.isReadable(host), try !listen() { return false }
        if poller.isReadable(ended) { drainSignals() }
        // Also where nothing was said: the start of a program has taken the word of all that ended meanwhile.
        try reap()
        for (place, session, output) in places {
            if let output {
                if poller.isReadable(place) { _ = output.pass(session.number, &queue, &buffer) }
            } else if poller.isWritable(place) {
                session.writeInput(&queue)
            }
        }
        finishSessions()
        try queue.flush(to: port.raw)
        if !sessions.isEmpty, !hasAllDrivers {
            hasAllDrivers = true
            do throws(SystemError) { try modules.loadForDevices() } catch { GuestAgent.report("\(error)") }
        }
        return true
    }

    /// They only say that there is something to look at.
    private func drainSignals() {
        while signals.next() != nil {}
    }

    /// What ended programs have said last is passed on as far as the host takes it.
    private mutating func finishSessions() {
        for session in sessions.values where session.isEnding {
            for output in session.outputs {
                while queue.count < GuestAgent.mostWaiting, output.pass(session.number, &queue, &buffer) {}
            }
            if session.finish(&queue) { sessions[session.number] = nil }
        }
    }

    /// Reaps every child that has ended: programs, what was started for them, and orphans.
    private mutating func reap() throws(SystemError) {
        while true {
            let pid = zn_ended_child()
            if pid <= 0 { return }
            if let session = sessions.values.first(where: { $0.process.pid == pid }) {
                guard let status = try session.process.poll() else { return }
                session.ended(status)
            } else {
                _ = zn_reap(pid)
            }
        }
    }

    // MARK: The host's words

    /// Reads what the host has sent, and follows it.
    private mutating func listen() throws(SystemError) -> Bool {
        let size = buffer.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map { zn_read(port.raw, $0, bytes.count) } ?? 0
        }
        if size == -Int(EAGAIN) || size == -Int(EINTR) { return true }
        // The monitor is gone.
        guard size > 0 else { return false }
        reader.append(buffer[..<size])
        while let frame = try nextFrame() {
            guard try follow(frame) else { return false }
        }
        return true
    }

    private mutating func nextFrame() throws(SystemError) -> GuestFrame? {
        do throws(GuestFrameError) { return try reader.next() } catch {
            throw SystemError("read from the host", "\(error)", .invalid)
        }
    }

    private mutating func follow(_ frame: GuestFrame) throws(SystemError) -> Bool {
        let session = sessions[frame.session]
        do throws(GuestWindowError) {
            switch frame.kind {
            case .configure: configure(frame)
            case .open: open(frame)
            case .data:
                if let session, frame.stream == .input { try session.accept(frame.payload[1...], &queue) }
            case .end:
                if let session, let stream = frame.stream { session.end(stream, &queue) }
            case .resize:
                if let rows = frame.number(UInt16.self), let columns = frame.number(UInt16.self, at: 2) {
                    session?.resize(WindowSize(rows: rows, columns: columns))
                }
            case .signal: session?.signal(CInt(truncatingIfNeeded: frame.number(UInt32.self) ?? 0))
            case .credit:
                if let session, let stream = frame.stream, let count = frame.number(UInt32.self, at: 1) {
                    try session.grant(stream, count)
                }
            case .close: session?.close()
            case .powerOff: return false
            // For the monitor, or the guest's own words.
            case .control, .hello, .configured, .started, .exited, .failed, .answer: return false
            }
        } catch {
            throw SystemError("read from the host", "session \(frame.session), its window: \(error)", .invalid)
        }
        return true
    }

    private mutating func configure(_ frame: GuestFrame) {
        do throws(ZoneError) {
            if zone != nil { throw ZoneError(.wrongState, "the machine is configured already") }
            let configuration: GuestConfiguration
            do throws(JSONError) { configuration = try GuestConfiguration(parsing: frame.payload) } catch {
                throw ZoneError(file: "the machine's configuration", error)
            }
            zone = try GuestZone(configuration, &modules)
            queue.add(GuestFrame(.configured))
        } catch {
            queue.add(.failure(0, error))
        }
    }

    private mutating func open(_ frame: GuestFrame) {
        do throws(ZoneError) {
            guard let zone else { throw ZoneError(.wrongState, "the machine is not configured") }
            guard frame.session != 0, sessions[frame.session] == nil else {
                throw ZoneError(.exists, "session \(frame.session) is there already")
            }
            guard sessions.count < GuestAgent.mostSessions else {
                throw ZoneError(.unsupported, "\(sessions.count) programs are attended to: no more fit")
            }
            let request: GuestRequest
            do throws(JSONError) { request = try GuestRequest(parsing: frame.payload) } catch {
                throw ZoneError(file: "the request", error)
            }
            try open(frame.session, request, in: zone)
        } catch {
            queue.add(.failure(frame.session, error))
        }
    }

    private mutating func open(_ number: UInt32, _ request: GuestRequest, in zone: GuestZone) throws(ZoneError) {
        let session: GuestSession
        // A zone may stop what is born in it: nobody else would be attended to.
        drainSignals()
        _ = zn_signal_after(GuestAgent.tooLate, GuestAgent.longestStart)
        defer { _ = zn_signal_after(GuestAgent.tooLate, 0) }
        switch request.action {
        case .run: session = GuestSession(number, try zone.run(isInteractive: request.isInteractive, signals))
        case .exec:
            guard let process = request.process else { throw ZoneError(.invalid, "the request: process: is missing") }
            session = GuestSession(
                number, try zone.execute(process, isInteractive: request.isInteractive, signals))
        case .archive, .extract, .look:
            session = GuestSession(number, try GuestCopy.start(request, in: try zone.openRoot(for: "cp")))
        case .statistics:
            let statistics = try attempting("read the guest's statistics") { () throws(SystemError) in
                try GuestStatistics.read()
            }
            queue.add(GuestFrame(.answer, number, statistics.serialized()))
            queue.add(GuestFrame(.exited, number, numbers: [CInt(0)]))
            return
        }
        sessions[number] = session
        queue.add(GuestFrame(.started, number, numbers: [UInt32(bitPattern: session.process.pid)]))
    }

    // MARK: The end

    /// How long programs get to end when they are asked to, and when they are killed, in milliseconds.
    private static let grace: Int64 = 300
    private static let patience: Int64 = 3000

    /// Ends everything, brings it to the disks and switches the machine off.
    private static func switchOff() -> Never {
        _ = zn_kill(-1, SIGTERM)
        if !waitForAll(grace) {
            _ = zn_kill(-1, SIGKILL)
            _ = waitForAll(patience)
        }
        GuestRootMount.close()
        while true {
            zn_switch_off()
            pause(milliseconds: 1000)
        }
    }

    private static func waitForAll(_ milliseconds: Int64) -> Bool {
        let end = MonotonicClock.milliseconds + milliseconds
        while true {
            let pid = zn_ended_child()
            if pid < 0 { return true }
            if pid > 0 {
                _ = zn_reap(pid)
                continue
            }
            if MonotonicClock.milliseconds > end { return false }
            LinuxSystem.pause(milliseconds: 5)
        }
    }

    /// To the machine's console, which its monitor keeps.
    private static func report(_ text: String) {
        try? StandardStream.error.write(Array("zonectl: \(text)\n".utf8))
    }
}
