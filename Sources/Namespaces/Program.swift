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
        return environment.last { $0.after(name) != nil }?.after(name) ?? "/bin:/usr/bin"
    }
}

/// The program as C wants it, made before the filter is loaded so that nothing is allocated afterwards.
struct Program: ~Copyable {
    private let candidates: [[CChar]]
    private let arguments: CStringVector
    private let environment: CStringVector

    init(_ process: ProcessPlan, home: String?) {
        var variables = process.environment
        if !variables.contains(where: { $0.after("HOME=") != nil }) { variables.append("HOME=\(home ?? "/")") }
        let name = process.arguments.first ?? ""
        if name.contains("/") || name.isEmpty {
            candidates = [Array(name.utf8CString)]
        } else {
            let path = ProgramSearch.path(in: process.environment)
            var found: [[CChar]] = []
            var rest: String? = path
            while let left = rest {
                let directory: String
                (directory, rest) = left.halves(":")
                // An empty entry is the working directory: execvp(3).
                found.append(Array((directory.isEmpty ? "./\(name)" : "\(directory)/\(name)").utf8CString))
            }
            candidates = found
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
