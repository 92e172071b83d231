// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem

/// The files of one group's directory.
struct CGroupFiles: ~Copyable {
    let directory: Descriptor
    let path: String
    /// The group was just made, so that every limit is the kernel's default: what says the same need not be written.
    let isNew: Bool
    /// Remembers what files held before they are written.
    private let journal: CGroupJournal?

    init(_ path: String, isNew: Bool = false, journal: CGroupJournal? = nil) throws(SystemError) {
        directory = try Descriptor.open(path, [.path, .directory])
        self.path = path
        self.isNew = isNew
        self.journal = journal
    }

    /// Writes one value; errors name the file and the value.
    func write(_ file: String, _ value: String) throws(SystemError) {
        journal?.note(file, value, in: self)
        let descriptor: Descriptor
        do throws(SystemError) {
            descriptor = try directory.open(file, [.writeOnly], resolve: .beneath)
        } catch {
            throw error.during("open", "\(path)/\(file)")
        }
        do throws(SystemError) {
            try descriptor.writeOnce(value, "\(path)/\(file)")
        } catch {
            // ENOTSUPP, which no library has a sentence for: files that the kernel has given up but still shows.
            if error.errno.rawValue == 524 { throw SystemError(error.operation, error.subject, .notSupported) }
            throw error
        }
    }

    /// The error for a limit that this kernel, or this version of control groups, cannot set.
    func unsupported(_ what: String) -> SystemError {
        SystemError("limit", "\(what) (control group \(path))", .notSupported)
    }

    /// As ``write(_:_:)``; a missing file means that the kernel has no such limit, which is what the error says.
    func write(_ file: String, _ value: String, for what: String) throws(SystemError) {
        do throws(SystemError) { try write(file, value) } catch {
            if error.errno != .noEntry { throw error }
            throw unsupported("\(what): this kernel has no \(file)")
        }
    }

    /// Reads a small file, `nil` where there is none.
    func readIfThere(_ file: String) throws(SystemError) -> String? {
        do throws(SystemError) { return try read(file) } catch {
            if error.errno == .noEntry || error.errno == .notSupported || error.errno == .noDevice { return nil }
            throw error
        }
    }

    /// Reads a small file as text without the last new line.
    func read(_ file: String) throws(SystemError) -> String {
        do throws(SystemError) {
            let text = String(decoding: try directory.readFile(file), as: UTF8.self)
            return text.hasSuffix("\n") ? String(text.dropLast()) : text
        } catch {
            throw error.during("read", "\(path)/\(file)")
        }
    }

    func exists(_ file: String) -> Bool {
        (try? directory.status(file)) != nil
    }

    /// Returns the value of a line `key value` in a flat-keyed file, 0 where there is none.
    func counter(_ key: String, in file: String) throws(SystemError) -> Int {
        for line in try read(file).split(separator: "\n") {
            let parts = line.split(separator: " ")
            if parts.count == 2, parts[0] == key { return Int(parts[1]) ?? 0 }
        }
        return 0
    }

    /// Makes a group's directory and the ones above it below the hierarchy's root; one that exists is kept, and the
    /// result is `false`.
    @discardableResult
    static func make(_ path: String) throws(SystemError) -> Bool {
        if mkdir(path, 0o755) == 0 { return true }
        let reason = Errno(rawValue: errno)
        if reason == .exists { return false }
        guard reason == .noEntry, let slash = path.lastIndex(of: "/"), slash != path.startIndex else {
            throw SystemError("mkdir", path, reason)
        }
        try make(String(path[..<slash]))
        if mkdir(path, 0o755) == 0 { return true }
        let second = Errno(rawValue: errno)
        if second == .exists { return false }
        throw SystemError("mkdir", path, second)
    }

    /// Moves every process that is in `groups` into `target`, and returns when none is left outside: processes that are
    /// forked meanwhile are found in the next round.
    static func moveAll(
        _ processes: () throws(SystemError) -> [Int32], into target: String
    ) throws(SystemError) {
        let file = try Descriptor.open("\(target)/cgroup.procs", [.writeOnly])
        for round in 0..<1000 {
            let inside = Set(try CGroupFiles.processes(target))
            let outside = try processes().filter { $0 > 0 && !inside.contains($0) }
            if outside.isEmpty { return }
            // Those left after two rounds are most likely ending.
            if round > 1 { pause(milliseconds: 1) }
            for pid in outside {
                do throws(SystemError) { try file.writeOnce(String(pid), "\(target)/cgroup.procs") } catch {
                    if error.errno != .noProcess { throw error }
                }
            }
        }
        throw SystemError("move processes", target, .timedOut)
    }

    /// Kills processes: all at once where the kernel can (`cgroup.kill`, Linux 5.14), else one by one.
    static func killAll(_ pids: [Int32], unified: CGroupDirectory?) throws(SystemError) {
        if let unified {
            do throws(SystemError) {
                let group = try CGroupFiles(unified.path)
                if group.exists("cgroup.kill") { return try group.write("cgroup.kill", "1") }
            } catch {
                // Gone since the processes were listed, and they with it.
                if error.errno == .noEntry || error.errno == .noDevice { return }
                throw error
            }
        }
        for pid in pids where pid > 0 {
            // Between reading the list and this call the process may have ended.
            guard let process = try? ProcessHandle(pid: pid) else { continue }
            try? process.signal(SIGKILL)
        }
    }
}
