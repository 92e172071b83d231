// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// The groups of a process, /proc/PID/cgroup; see cgroups(7).
struct CGroupMembership: Equatable {
    /// Controllers and path of each hierarchy; no controllers for version 2.
    private let lines: [Line]

    private struct Line: Equatable {
        let controllers: [String]
        let path: String
    }

    /// Throws `ENOENT` or `ESRCH` where there is no such process.
    init(of pid: Int32) throws(SystemError) {
        self.init(text: String(decoding: try readHostFile("/proc/\(pid)/cgroup"), as: UTF8.self))
    }

    init(text: String) {
        lines = text.fields("\n").compactMap { line in
            let (controllers, path) = (line.halves(":").1 ?? "").halves(":")
            guard let path, path.isAbsolutePath else { return nil }
            return Line(controllers: controllers.fields(","), path: path)
        }
    }

    /// The path in the hierarchy that has these controllers; of version 2 for none.
    func path(in controllers: [String]) -> String? {
        lines.first { Set($0.controllers) == Set(controllers) }?.path
    }
}
