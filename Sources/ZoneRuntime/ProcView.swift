// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
public import OCI

/// Whose figures /proc/meminfo, cpuinfo, stat, uptime, loadavg and their like show in a zone.
///
/// The kernel has no namespace for them: without more they are the host's, and only what asks the scheduler (nproc) sees
/// a zone's CPUs. LXCFS is a file system that answers by the limits of the group of who reads.
public enum ProcView: String, JSONCodable, CaseIterable, Sendable {
    /// The zone's where LXCFS is mounted, else the host's.
    case auto
    /// The zone's, or no start.
    case zone
    case host

    /// As `inspect` says it: who answers in a zone that has these mounts.
    public static func name(of mounts: [Spec.Mount]) -> String {
        mounts.contains { $0.source?.after(LXCFS.folder + "/") != nil } ? "lxcfs" : "kernel"
    }
}

/// LXCFS as its package mounts it; lxcfs(1).
struct LXCFS {
    static let folder = "/var/lib/lxcfs"

    /// Files, no folders: those would be mounted in another, slower way, see ``MountPlan/keepsOrder``.
    private static let files = [
        "proc/cpuinfo", "proc/diskstats", "proc/loadavg", "proc/meminfo", "proc/slabinfo", "proc/stat", "proc/swaps",
        "proc/uptime", "sys/devices/system/cpu/online",
    ]

    /// Gets warnings.
    let report: (String) -> Void

    /// Mounts for a zone; none where the host's figures will do, or nothing better is to be had.
    func mounts(for view: ProcView) throws(ZoneError) -> [Spec.Mount] {
        if view == .host { return [] }
        // An ordinary user's zone has no groups that could be asked.
        if view == .auto, Rootless.isInside { return [] }
        if let reason = reasonForNone() {
            if view == .zone {
                throw ZoneError(
                    .unsupported, "--proc zone: LXCFS \(reason)",
                    hint: "install the package lxcfs and start it: 'systemctl start lxcfs'; or leave out --proc")
            }
            if reason != LXCFS.absence { report("LXCFS \(reason): /proc shows the host's figures in this zone") }
            return []
        }
        return LXCFS.files.filter { (try? FileStatus.of("\(LXCFS.folder)/\($0)"))?.kind == .regular }.map { file in
            .init(
                destination: "/\(file)", type: "bind", source: "\(LXCFS.folder)/\(file)",
                options: ["bind", "ro", "nosuid", "nodev", "noexec"])
        }
    }

    private static let absence = "is not mounted at \(folder)"

    /// Why it cannot be used; `nil` where it answers.
    private func reasonForNone() -> String? {
        // Opened as a path, because to stat(2) the file system itself would have to answer.
        guard (try? Descriptor.open(LXCFS.folder, [.path, .directory, .noFollow])) != nil, LXCFS.isMounted else {
            return LXCFS.absence
        }
        // By a process of its own: one that reads from a file system that hangs cannot even be killed.
        do throws(SystemError) {
            var reader = try HostProgram("cat", ["\(LXCFS.folder)/proc/uptime"])
            reader.environment = []
            let null = try Descriptor.open("/dev/null", [.writeOnly])
            let process = try reader.start(output: null.raw, errors: null.raw)
            if try process.waitUntilEnded(milliseconds: 1000) {
                return try process.wait() == .exited(0) ? nil : "at \(LXCFS.folder) has ended or fails"
            }
            try process.signal(SIGKILL)
            // Where it ends after all it is reaped; else it stays with whoever is the parent of orphans.
            if try process.waitUntilEnded(milliseconds: 10) { _ = try process.wait() }
            return "at \(LXCFS.folder) does not answer"
        } catch {
            return "at \(LXCFS.folder) could not be tried: \(error)"
        }
    }

    private static var isMounted: Bool {
        // Unreadable: then nothing can be said for it.
        guard let text = try? readHostFile("/proc/self/mountinfo") else { return false }
        return text.split(separator: UInt8(ascii: "\n")).contains { line in
            let fields = line.split(separator: UInt8(ascii: " "))
            guard fields.count > 6, MountInfo.decode(fields[4]) == folder,
                let dash = fields.firstIndex(where: { $0.elementsEqual([UInt8(ascii: "-")]) }), dash + 1 < fields.count
            else { return false }
            return fields[dash + 1].elementsEqual("fuse.lxcfs".utf8)
        }
    }
}
