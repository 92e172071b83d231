// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import ZoneRuntime

/// Shows `top` on a terminal until somebody quits. One loop of poll(2): keys, signals, time.
struct TopSession: ~Copyable {
    private var view: TopView
    private var sampler: ZoneSampler
    private let interval: Int64
    private let hasAttributes: Bool
    private let signals: SignalQueue

    init(_ view: TopView, _ folders: ZoneFolders, milliseconds: Int) throws(ZoneError) {
        self.view = view
        sampler = ZoneSampler(folders)
        interval = Int64(milliseconds)
        // https://no-color.org: whoever sets it wants plain text.
        hasAttributes = getenv("NO_COLOR").map { $0.pointee == 0 } ?? true
        do throws(SystemError) {
            // Whatever would end or stop us otherwise finds the terminal as it was.
            signals = try SignalQueue(SignalSet([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH, SIGCONT]))
        } catch {
            throw ZoneError("wait for signals", error)
        }
    }

    /// Returns the exit status: 0 where somebody quit, 128 and the number of the signal that ended it otherwise.
    mutating func run() throws(ZoneError) -> Int32 {
        do throws(SystemError) {
            let screen = try FullScreen()
            let status = try loop()
            _ = consume screen
            return status
        } catch {
            // The terminal is gone: nobody can be told.
            if error.errno == .ioError || error.errno == .brokenPipe { return 128 + SIGHUP }
            throw ZoneError("top", error)
        }
    }

    private mutating func loop() throws(SystemError) -> Int32 {
        var due = MonotonicClock.milliseconds
        while !view.isOver {
            let now = MonotonicClock.milliseconds
            if now >= due {
                look()
                due = now + interval
            }
            try draw()
            var poller = Poller()
            let keys = poller.add(0)
            let pending = poller.add(signals.raw)
            let rest = max(0, due - MonotonicClock.milliseconds)
            guard try poller.wait(milliseconds: CInt(clamping: rest)) else { continue }
            if poller.isReadable(pending), let status = ending() { return status }
            if poller.isReadable(keys), let typed = try ConsoleIO.read(0, 256) {
                // Nobody will ever type again.
                if typed.isEmpty { return 128 + SIGHUP }
                let hadAll = view.showsAll
                view.type(typed)
                if view.showsAll != hadAll { due = 0 }
            }
        }
        return 0
    }

    /// The status to end with, if a signal says so.
    private func ending() -> Int32? {
        while let number = signals.next() {
            if number == SIGINT { return 0 }
            // A new size is asked for with each screen; a stop would leave the terminal in our mode.
            if number != SIGWINCH, number != SIGCONT, number != SIGTSTP { return 128 + number }
        }
        return nil
    }

    private mutating func look() {
        // What cannot be read now may be readable at the next look: the last one stays on the screen.
        guard let next = try? TopSession.look(&sampler, view) else { return }
        view = next
    }

    /// The view with what there is now.
    static func look(_ sampler: inout ZoneSampler, _ view: TopView) throws(ZoneError) -> TopView {
        var view = view
        var (all, running) = (0, 0)
        let usages = try sampler.sample { entry in
            all += 1
            if entry.state.process != nil { running += 1 }
            return view.showsAll || entry.state.process != nil
        }
        let host = HostUsage()
        view.hostPercent = host.cpuPercent(since: view.host)
        (view.host, view.usages, view.all, view.running) = (host, usages, all, running)
        return view
    }

    private mutating func draw() throws(SystemError) {
        let size = Terminal.size(of: 1)
        // A terminal that does not know its size says 0.
        let rows = size.map { $0.rows == 0 ? 24 : Int($0.rows) } ?? 24
        let columns = size.map { $0.columns == 0 ? 80 : Int($0.columns) } ?? 80
        let text = view.screen(rows: rows, columns: columns, hasAttributes: hasAttributes)
        try StandardStream.output.write(Array(text.utf8))
    }
}

/// The terminal in raw mode, and its second screen without a cursor; what was there before comes back when this value
/// goes out of scope, on whatever way.
private struct FullScreen: ~Copyable {
    private let raw: RawMode

    init() throws(SystemError) {
        raw = try RawMode(0)
        FullScreen.write("\u{1B}[?1049h\u{1B}[?25l")
    }

    deinit { FullScreen.write("\u{1B}[?25h\u{1B}[?1049l") }

    private static func write(_ text: String) {
        // A terminal that is gone needs nothing.
        try? StandardStream.output.write(Array(text.utf8))
    }
}
