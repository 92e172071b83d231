// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Namespaces

/// The streams of a process without a terminal: which of zonectl's own it gets as they are, and which through a pipe.
///
/// A process can open its streams again through /proc/self/fd, with other rights than it was given: a file that was
/// opened for reading could be written, and a terminal's keys could be read by a zone that has only its output. So
/// files and terminals stay here, and the zone gets pipes. A directory would be a way into the host's tree
/// (CVE-2024-21626) and is refused. Pipes and sockets cannot be widened so; nor can devices, which are opened again
/// under the zone's device rules.
struct ProcessStreams: ~Copyable {
    /// Copies that are to be made while the process runs.
    private(set) var relays: [StreamRelay] = []
    /// Our ends of the pipes, which close with this value.
    private var ends = DescriptorBag()

    /// None: for a process with a terminal.
    init() {}

    /// Prepares the streams and puts the process's ends into the plan.
    init(_ plan: inout LaunchPlan, passesInput: Bool) throws(ZoneError) {
        do throws(SystemError) {
            if !passesInput {
                let null = try Descriptor.open("/dev/null", [.readOnly])
                plan.process.standard.input = plan.descriptors.adopt(null)
            } else if try ProcessStreams.needsPipe(0) {
                let pipe = try Pipe()
                plan.process.standard.input = plan.descriptors.adopt(try pipe.reader.duplicate())
                relays.append(StreamRelay(from: 0, to: ends.adopt(try pipe.writer.duplicate())))
            }
            let output = try FileStatus.of(descriptor: 1)
            let error = try FileStatus.of(descriptor: 2)
            if try ProcessStreams.needsPipe(1) {
                plan.process.standard.output = try makeOutput(to: 1, &plan)
            }
            if try ProcessStreams.needsPipe(2) {
                // Of one terminal or file for both, what is written to each must stay in order.
                let isSame = output.device == error.device && output.inode == error.inode
                plan.process.standard.error =
                    isSame ? plan.process.standard.output : try makeOutput(to: 2, &plan)
            }
        } catch {
            throw ZoneError("set up stdin, stdout and stderr", error)
        }
    }

    private mutating func makeOutput(to destination: CInt, _ plan: inout LaunchPlan) throws(SystemError) -> CInt {
        let pipe = try Pipe()
        relays.append(StreamRelay(from: ends.adopt(try pipe.reader.duplicate()), to: destination))
        return plan.descriptors.adopt(try pipe.writer.duplicate())
    }

    private static func needsPipe(_ descriptor: CInt) throws(SystemError) -> Bool {
        switch try FileStatus.of(descriptor: descriptor).kind {
        case .directory: throw SystemError("use as stream \(descriptor)", "a directory", .isDirectory)
        case .regular, .blockDevice, .symlink: return true
        case .characterDevice: return Terminal.isTerminal(descriptor)
        case .fifo, .socket: return false
        }
    }

    /// Closes our end of a stream, so that the process sees its end.
    mutating func close(_ raw: CInt) {
        ends.close(raw)
    }

    mutating func takeRelays() -> [StreamRelay] {
        defer { relays = [] }
        return relays
    }
}
