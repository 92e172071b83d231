// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Where a program without a slash in its name is looked for.
enum ProgramSearch {
    /// The value of PATH in an environment, or what execvp(3) takes without one.
    static func path(in environment: [String]) -> String {
        let name = "PATH="
        guard let entry = environment.last(where: { $0.hasPrefix(name) }) else { return "/bin:/usr/bin" }
        return String(entry.dropFirst(name.count))
    }
}

/// The program as C wants it, made before the filter is loaded so that nothing is allocated afterwards.
struct Program: ~Copyable {
    private let candidates: [[CChar]]
    private let arguments: CStringVector
    private let environment: CStringVector

    init(_ process: ProcessPlan, home: String?) {
        var variables = process.environment
        if !variables.contains(where: { $0.hasPrefix("HOME=") }) { variables.append("HOME=\(home ?? "/")") }
        let name = process.arguments.first ?? ""
        if name.contains("/") || name.isEmpty {
            candidates = [Array(name.utf8CString)]
        } else {
            let path = ProgramSearch.path(in: process.environment)
            candidates = path.split(separator: ":", omittingEmptySubsequences: false).map { directory in
                // An empty entry is the working directory: execvp(3).
                Array((directory.isEmpty ? "./\(name)" : "\(directory)/\(name)").utf8CString)
            }
        }
        arguments = CStringVector(process.arguments)
        environment = CStringVector(variables)
    }

    /// Makes sure that there is something to execute, so that `create` fails where `start` would.
    func find() throws(LaunchFailure) {
        var denied: Errno?
        for candidate in candidates {
            let result = zn_may_execute(candidate)
            switch -result {
            case ENOENT, ENOTDIR: continue
            case EACCES: denied = .accessDenied
            // Whatever else there is to say, execve says it.
            default: return
            }
        }
        throw LaunchFailure(.execute, denied ?? .noEntry)
    }

    /// Executes the first candidate that exists; returns only by throwing.
    func execute() throws(LaunchFailure) {
        var denied = false
        for candidate in candidates {
            let result = zn_execve(candidate, arguments.pointer, environment.pointer)
            switch -result {
            case ENOENT, ENOTDIR: continue
            // A later directory may hold one that can be executed: execvp(3).
            case EACCES: denied = true
            default: throw LaunchFailure(.execute, Errno(rawValue: -result))
            }
        }
        throw LaunchFailure(.execute, denied ? .accessDenied : .noEntry)
    }
}
