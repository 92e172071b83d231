// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

@testable import Seccomp

/// Runs a compiled filter as the kernel does, over a `struct seccomp_data` of the test's choice.
struct FilterInterpreter {
    /// The kernel's view of an instruction set; x32 is x86_64 with a bit in the call's number.
    enum ABI: UInt32 {
        case amd64 = 0xC000_003E
        case i386 = 0x4000_0003
        case arm64 = 0xC000_00B7
    }

    static let x32Bit: UInt32 = 0x4000_0000

    struct Failure: Error {
        let reason: String
    }

    private struct Instruction {
        let code: UInt16
        let jumpTrue: UInt8
        let jumpFalse: UInt8
        let operand: UInt32
    }

    private let instructions: [Instruction]

    init(_ program: SeccompProgram) {
        let bytes = program.instructions
        instructions = bytes.withUnsafeBytes { buffer in
            stride(from: 0, to: buffer.count, by: 8).map { start in
                Instruction(
                    code: buffer.loadUnaligned(fromByteOffset: start, as: UInt16.self),
                    jumpTrue: buffer[start + 2], jumpFalse: buffer[start + 3],
                    operand: buffer.loadUnaligned(fromByteOffset: start + 4, as: UInt32.self))
            }
        }
    }

    /// Returns the action and how many instructions it took.
    func run(_ abi: ABI, _ number: UInt32, _ arguments: [UInt64] = []) throws -> (action: UInt32, steps: Int) {
        var data = [number, abi.rawValue, 0, 0]
        for index in 0..<6 {
            let argument = index < arguments.count ? arguments[index] : 0
            data.append(UInt32(truncatingIfNeeded: argument))
            data.append(UInt32(truncatingIfNeeded: argument >> 32))
        }
        var accumulator: UInt32 = 0
        var position = 0
        var steps = 0
        while position < instructions.count {
            let instruction = instructions[position]
            let operand = instruction.operand
            position += 1
            steps += 1
            switch instruction.code {
            case 0x20:  // ld [k]
                guard operand % 4 == 0, operand / 4 < data.count else { throw Failure(reason: "load from \(operand)") }
                accumulator = data[Int(operand / 4)]
            case 0x54: accumulator &= operand
            case 0x05: position += Int(operand)
            case 0x15: position += Int(accumulator == operand ? instruction.jumpTrue : instruction.jumpFalse)
            case 0x25: position += Int(accumulator > operand ? instruction.jumpTrue : instruction.jumpFalse)
            case 0x35: position += Int(accumulator >= operand ? instruction.jumpTrue : instruction.jumpFalse)
            case 0x45: position += Int(accumulator & operand != 0 ? instruction.jumpTrue : instruction.jumpFalse)
            case 0x06: return (operand, steps)
            default: throw Failure(reason: "unknown instruction \(instruction.code)")
            }
        }
        throw Failure(reason: "ran off the end")
    }

    /// The action alone.
    func action(_ abi: ABI, _ number: UInt32, _ arguments: [UInt64] = []) throws -> UInt32 {
        try run(abi, number, arguments).action
    }
}

/// Actions as the kernel returns them.
enum Answer {
    static let allow: UInt32 = 0x7FFF_0000
    static let log: UInt32 = 0x7FFC_0000
    static let trap: UInt32 = 0x0003_0000
    static let killThread: UInt32 = 0
    static let killProcess: UInt32 = 0x8000_0000
    static func errno(_ number: UInt32) -> UInt32 { 0x0005_0000 | number }
    static func trace(_ number: UInt32) -> UInt32 { 0x7FF0_0000 | number }
    static let notPermitted = errno(1)
    static let accessDenied = errno(13)
    static let notImplemented = errno(38)
}

/// The capabilities that docker gives.
let dockerCapabilities: Set<String> = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
]

let amd64 = FilterTarget(architecture: "amd64", token: "SCMP_ARCH_X86_64", kernel: KernelVersion(6, 1))

/// The default profile for a zone, before compilation.
func defaultRules(
    _ capabilities: Set<String> = dockerCapabilities, _ exceptions: Hardening.Exceptions = []
) throws -> Spec.Seccomp {
    Hardening.applied(
        to: try SeccompProfile.builtIn.resolve(capabilities: capabilities, target: amd64),
        capabilities: capabilities, exceptions: exceptions)
}

/// A rule of the test's.
func rule(
    _ names: [String], _ action: String, _ errno: UInt32? = nil,
    _ args: [(index: UInt32, op: String, value: UInt64, valueTwo: UInt64)] = []
) -> Spec.Seccomp.Rule {
    var rule = Spec.Seccomp.Rule()
    rule.names = names
    rule.action = action
    rule.errnoRet = errno
    rule.args = args.map { given in
        var argument = Spec.Seccomp.Argument()
        argument.index = given.index
        argument.op = given.op
        argument.value = given.value
        argument.valueTwo = given.valueTwo
        return argument
    }
    return rule
}

func rules(
    _ defaultAction: String, _ list: [Spec.Seccomp.Rule] = [], architectures: [String] = [], flags: [String] = []
) -> Spec.Seccomp {
    var spec = Spec.Seccomp()
    spec.defaultAction = defaultAction
    spec.syscalls = list
    spec.architectures = architectures
    spec.flags = flags
    return spec
}
