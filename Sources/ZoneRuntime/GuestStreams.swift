// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Namespaces

/// The agent's ends of a program's streams: pipes, or the master of its terminal. None of them blocks.
struct GuestStreams: ~Copyable {
    var input: Descriptor?
    var output: Descriptor?
    /// Nil with a terminal.
    var error: Descriptor?
    /// The other end of the terminal, held open until the end of the program: one that closes its terminal may open it
    /// again.
    var peer: Descriptor?

    private init(input: consuming Descriptor?, output: consuming Descriptor?, error: consuming Descriptor?) {
        self.input = input
        self.output = output
        self.error = error
    }

    /// Pipes, whose other ends are put into the plan; a terminal is there when the program runs, ``adopt(_:)``.
    init(_ plan: inout LaunchPlan, isInteractive: Bool) throws(ZoneError) {
        if plan.process.hasTerminal {
            self.init(input: nil, output: nil, error: nil)
            return
        }
        do throws(SystemError) {
            let output = try Pipe()
            let error = try Pipe()
            var writer: Descriptor?
            if isInteractive {
                let input = try Pipe()
                plan.process.standard.input = plan.descriptors.adopt(try input.reader.duplicate())
                writer = try input.writer.duplicate()
            } else {
                plan.process.standard.input = plan.descriptors.adopt(try Descriptor.open("/dev/null", [.readOnly]))
            }
            plan.process.standard.output = plan.descriptors.adopt(try output.writer.duplicate())
            plan.process.standard.error = plan.descriptors.adopt(try error.writer.duplicate())
            self.init(input: writer, output: output.takeReader(), error: error.takeReader())
        } catch {
            throw ZoneError("set up stdin, stdout and stderr", error)
        }
        setNonBlocking()
    }

    /// Of a process of the agent's own.
    init(own input: consuming Descriptor?, output: consuming Descriptor?, error: consuming Descriptor?) {
        self.init(input: input, output: output, error: error)
        setNonBlocking()
    }

    /// Takes the master of the program's terminal.
    mutating func adopt(_ master: consuming Descriptor) throws(SystemError) {
        peer = Terminal.peer(of: master.raw)
        input = try master.duplicate()
        output = consume master
        setNonBlocking()
    }

    private func setNonBlocking() {
        for raw in [Descriptor.number(of: input), Descriptor.number(of: output), Descriptor.number(of: error)] {
            if let raw { Descriptor.setNonBlocking(raw) }
        }
    }
}
