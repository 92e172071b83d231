// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Does pieces of work in processes of their own, as many at a time as there are processors. Each piece has a second part,
/// which begins when all pieces before it have ended well.
///
/// A worker says only whether it did its work: who wants to know why one failed does that piece again by itself.
struct OrderedWorkers: ~Copyable {
    /// What a worker has of the process that it works for.
    struct Line: ~Copyable {
        fileprivate let number: Int
        fileprivate let reports: CInt
        fileprivate let turn: CInt

        /// Says how far the first part is, in units of the work's own.
        func report(_ done: Int64) {
            // Who listens has no other way to fail than to end, and then this process ends with it.
            withUnsafeBytes(of: (Int64(number), done)) { bytes in
                if let base = bytes.baseAddress { _ = zn_write(reports, base, bytes.count) }
            }
        }

        /// Ends the first part, and waits until all pieces before this one have ended.
        func awaitTurn() {
            report(OrderedWorkers.firstPartDone)
            var byte: UInt8 = 0
            guard zn_read(turn, &byte, 1) == 1 else { _exit(1) }
        }
    }

    private struct Worker: ~Copyable {
        let process: ProcessHandle
        let turn: Pipe
    }

    private static let firstPartDone: Int64 = -1
    /// How many processes there may be, also such as only wait for their turn.
    private static let most = 64

    private let reports: Pipe
    /// Those that were started and have not been seen to end, by number; the first of them has its turn.
    private var workers: [OwnedWorker] = []
    private var ended = 0
    /// How many are at their first part.
    private var busy = 0

    /// Arrays cannot hold what cannot be copied.
    private final class OwnedWorker {
        let worker: Worker
        init(_ worker: consuming Worker) { self.worker = worker }
    }

    private init() throws(SystemError) {
        reports = try Pipe()
    }

    /// Does `count` pieces and returns how many, from the first on, were done. `work` runs in a child, with the piece's
    /// number; `progress` here, with a number and what was reported of it. Does nothing where it would be of no use, and where
    /// a child would be less than a whole process.
    static func run(
        _ count: Int, _ work: (Int, borrowing Line) -> Bool, progress: (Int, Int64) -> Void
    ) -> Int {
        let processors = Threads.available
        guard count > 1, processors > 1, Threads.isSingle, var all = try? OrderedWorkers() else { return 0 }
        // What cannot be started or waited for is as good as a piece that failed.
        do throws(SystemError) {
            while all.ended < count {
                while all.started < count, all.busy < processors, all.workers.count < most { try all.start(work) }
                guard try all.wait(progress) else { break }
            }
        } catch {}
        all.stop()
        return all.ended
    }

    private var started: Int { ended + workers.count }

    private mutating func start(_ work: (Int, borrowing Line) -> Bool) throws(SystemError) {
        let turn = try Pipe()
        let parent = getpid()
        let number = started
        // There is no other thread: the child is a whole process.
        let pid = try check(zn_fork(), "fork")
        if pid == 0 {
            _ = zn_prctl(1 /* PR_SET_PDEATHSIG */, UInt(SIGKILL), 0, 0, 0)
            guard getppid() == parent else { _exit(1) }
            _exit(work(number, Line(number: number, reports: reports.writer.raw, turn: turn.reader.raw)) ? 0 : 1)
        }
        do throws(SystemError) {
            workers.append(OwnedWorker(Worker(process: try ProcessHandle(pid: pid), turn: turn)))
        } catch {
            // It must not go on writing while its piece is done again.
            _ = kill(pid, SIGKILL)
            _ = waitpid(pid, nil, 0)
            throw error
        }
        busy += 1
        if workers.count == 1 { giveTurn() }
    }

    /// Waits for a report or an end; `false` where a piece has failed.
    private mutating func wait(_ progress: (Int, Int64) -> Void) throws(SystemError) -> Bool {
        guard let first = workers.first else { return false }
        var poller = Poller()
        let report = poller.add(reports.reader.raw)
        let end = poller.add(first.worker.process.raw)
        guard try poller.wait() else { return true }
        // Reports first: a worker's last one was written before its end.
        if poller.isReadable(report) {
            try takeReports(progress)
            return true
        }
        guard poller.isReadable(end) else { return true }
        guard try first.worker.process.wait() == .exited(0) else {
            workers.removeFirst()
            return false
        }
        workers.removeFirst()
        ended += 1
        if !workers.isEmpty { giveTurn() }
        return true
    }

    private mutating func takeReports(_ progress: (Int, Int64) -> Void) throws(SystemError) {
        // Each is written at once, pipe(7), so that only whole ones are read.
        let bytes = try reports.reader.read(upTo: 4096)
        bytes.withUnsafeBytes { bytes in
            for offset in stride(from: 0, to: bytes.count & ~15, by: 16) {
                let number = Int(bytes.loadUnaligned(fromByteOffset: offset, as: Int64.self))
                let done = bytes.loadUnaligned(fromByteOffset: offset + 8, as: Int64.self)
                if done == OrderedWorkers.firstPartDone { busy -= 1 } else { progress(number, done) }
            }
        }
    }

    private func giveTurn() {
        var byte: UInt8 = 1
        if let first = workers.first { _ = zn_write(first.worker.turn.writer.raw, &byte, 1) }
    }

    /// Ends what has not ended.
    private mutating func stop() {
        for owned in workers {
            try? owned.worker.process.signal(SIGKILL)
            _ = try? owned.worker.process.wait()
        }
        workers = []
    }
}
