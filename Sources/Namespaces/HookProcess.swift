// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
public import LinuxSystem

/// One call of a hook, in whatever namespaces the caller is in.
public enum HookProcess {
    /// How a hook ended.
    public enum Outcome: Sendable, Equatable {
        case succeeded
        case failed(ExitStatus)
        /// It was killed when its time was over.
        case timedOut
        case notStarted(Errno)
    }

    /// Longest output that is kept for an error.
    private static let outputLimit = 4096

    /// Runs the hook to its end with `state` on its stdin, and returns the beginning of what it wrote. Its output goes
    /// nowhere else: stdout and stderr belong to the zone's program.
    public static func run(_ hook: HookPlan, state: String) throws(SystemError) -> (outcome: Outcome, output: String) {
        // Files in memory instead of pipes: a hook that does not read, or writes without end, blocks nobody.
        let input = try Descriptor.inMemory("hook-state")
        try input.writeAll(state)
        input.rewind()
        let output = try Descriptor.inMemory("hook-output")
        let program = HookProgram(hook)
        let pipe = try Pipe()
        let pid = try check(zn_fork(), "fork", hook.path)
        if pid == 0 {
            let result = execute(program, input: input.raw, output: output.raw)
            var number = CInt(-result)
            _ = withUnsafeBytes(of: &number) { bytes in
                bytes.baseAddress.map { zn_write(pipe.writer.raw, $0, bytes.count) }
            }
            _exit(127)
        }
        let reader = try pipe.reader.duplicate()
        drop(pipe)
        let process = try ProcessHandle(pid: pid)
        // Empty once execve has closed the pipe, else the reason why it failed.
        let failure = try reader.read(upTo: 4)
        if failure.count == 4 {
            _ = try process.wait()
            return (.notStarted(Errno(rawValue: CInt(failure[0]) | CInt(failure[1]) << 8)), "")
        }
        let outcome = try wait(process, hook.timeoutMilliseconds)
        output.rewind()
        let text = String(decoding: (try? output.read(upTo: outputLimit)) ?? [], as: UTF8.self)
        return (outcome, text)
    }

    private static func wait(_ process: borrowing ProcessHandle, _ milliseconds: Int?) throws(SystemError) -> Outcome {
        if let milliseconds, try !process.waitUntilEnded(milliseconds: milliseconds) {
            try process.signal(SIGKILL)
            _ = try process.wait()
            return .timedOut
        }
        let status = try process.wait()
        return status == .exited(0) ? .succeeded : .failed(status)
    }

    /// In the child; returns only with the reason why it failed.
    private static func execute(_ program: borrowing HookProgram, input: CInt, output: CInt) -> CInt {
        _ = zn_reset_signals()
        for (from, to) in [(input, CInt(0)), (output, 1), (output, 2)] {
            let result = zn_dup3(from, to, 0)
            if result < 0 { return result }
        }
        // All but what says why it failed is closed by the execution.
        _ = zn_close_range(3, .max, 4 /* CLOSE_RANGE_CLOEXEC */)
        return program.execute()
    }
}

/// Ends a value's life here.
private func drop<T: ~Copyable>(_ value: consuming T) {
    _ = consume value
}

/// The words of a hook as C wants them, made before the fork.
private struct HookProgram: ~Copyable {
    private let path: String
    private let arguments: CStringVector
    private let environment: CStringVector

    init(_ hook: HookPlan) {
        path = hook.path
        arguments = CStringVector(hook.arguments.isEmpty ? [hook.path] : hook.arguments)
        environment = CStringVector(hook.environment)
    }

    func execute() -> CInt {
        zn_execve(path, arguments.pointer, environment.pointer)
    }
}
