// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

private import CLinux
import Glibc

/// Work for several CPUs at once.
public enum Threads {
    /// How many CPUs this process may use, sched_getaffinity(2); at least 1.
    public static var available: Int {
        var mask = [UInt64](repeating: 0, count: 128)
        let size = mask.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map { Int(zn_sched_getaffinity($0, bytes.count)) } ?? 0
        }
        return max(1, size <= 0 ? 1 : mask.reduce(0) { $0 + $1.nonzeroBitCount })
    }

    /// Whether this process has no second thread, so that a child that it forks is a whole process: proc_pid_task(5).
    public static var isSingle: Bool {
        guard let tasks = try? Descriptor.open("/proc/self/task", [.readOnly, .directory]) else { return false }
        return (try? tasks.entries().count) == 1
    }

    /// Returns `body` of each element, in their order, worked out by at most `count` threads, this one among them. What no
    /// thread could be made for, at a limit of tasks for example, this one does itself.
    public static func map<Input: Sendable, Output: Sendable>(
        _ inputs: [Input], on count: Int, _ body: @escaping @Sendable (Input) -> Output
    ) -> [Output] {
        let size = max(1, (inputs.count + count - 1) / max(1, count))
        let parts = stride(from: 0, to: inputs.count, by: size).map { start in
            Part(inputs[start..<min(start + size, inputs.count)], body)
        }
        let others = parts.dropFirst().map { ($0, $0.begin()) }
        parts.first?.work()
        for (part, thread) in others {
            if let thread { pthread_join(thread, nil) } else { part.work() }
        }
        var outputs: [Output] = []
        outputs.reserveCapacity(inputs.count)
        for part in parts { outputs += part.outputs }
        return outputs
    }

    /// One thread's share. It is written by its thread only, and read when that has been joined.
    private final class Part<Input: Sendable, Output: Sendable>: PartOfWork, @unchecked Sendable {
        let inputs: ArraySlice<Input>
        let body: @Sendable (Input) -> Output
        var outputs: [Output] = []

        init(_ inputs: ArraySlice<Input>, _ body: @escaping @Sendable (Input) -> Output) {
            self.inputs = inputs
            self.body = body
        }

        override func work() { outputs = inputs.map(body) }
    }
}

/// What a thread can be given, whatever it works out: a C function knows no types.
private class PartOfWork {
    func work() {}

    /// Starts a thread that does the work; `nil` where there can be none.
    func begin() -> pthread_t? {
        var thread = pthread_t()
        let context = Unmanaged.passRetained(self)
        let error = pthread_create(
            &thread, nil,
            { context in
                context.map { Unmanaged<PartOfWork>.fromOpaque($0).takeRetainedValue().work() }
                return nil
            }, context.toOpaque())
        if error == 0 { return thread }
        context.release()
        return nil
    }
}
