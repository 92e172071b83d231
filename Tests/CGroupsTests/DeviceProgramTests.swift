// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import TestSupport
import Testing

@testable import CGroups

@Suite struct DeviceProgramTests {
    @Test(
        arguments: [
            (.init(allow: true), ["a"]), (.init(allow: false, access: "rwm"), ["a"]),
            (.init(allow: true, type: "a", major: -1, minor: -1), ["a"]),
            (.init(allow: true, type: "c", major: 1, minor: 3, access: "rw"), ["c 1:3 rw"]),
            (.init(allow: true, type: "u", major: 1, minor: 3, access: "rw"), ["c 1:3 rw"]),
            (.init(allow: true, type: "c", major: 136, minor: -1, access: "rwm"), ["c 136:* rwm"]),
            (.init(allow: true, type: "b", access: "m"), ["b *:* m"]),
            (.init(allow: true, type: "b", minor: 5), ["b *:5 rwm"]),
            // Version 1 would take these for all devices if they began with `a`.
            (.init(allow: true, access: "m"), ["b *:* m", "c *:* m"]),
            (.init(allow: false, major: 8), ["b 8:* rwm", "c 8:* rwm"]),
            (.init(allow: true, type: "a", major: 1, minor: 3), ["b 1:3 rwm", "c 1:3 rwm"]),
        ] as [(Spec.DeviceRule, [String])])
    func version1TakesLines(_ rule: Spec.DeviceRule, _ lines: [String]) throws {
        #expect(try DeviceLines([.init(allow: !rule.allow), rule]).lines.dropFirst().map(\.text) == lines)
    }

    @Test(
        arguments: [
            .init(allow: true, type: "p"), .init(allow: true, type: ""), .init(allow: true, access: ""),
            .init(allow: true, access: "rx"), .init(allow: true, major: -2),
            // Cut to 32 bits this would be /dev/null.
            .init(allow: true, type: "c", major: 0x1_0000_0001, minor: 3),
        ] as [Spec.DeviceRule])
    func rulesThatMeanNothingAreRefused(_ rule: Spec.DeviceRule) {
        #expect(throws: SystemError.self) { try DeviceController.verify(rule) }
        #expect(throws: SystemError.self) { try DeviceLines([rule]) }
    }

    /// The kernel takes only whole exceptions back, and says nothing where there is none.
    @Test func version1CannotCutARule() throws {
        let all = Spec.DeviceRule(allow: false)
        let wide = Spec.DeviceRule(allow: true, type: "c", access: "rw")
        let part = Spec.DeviceRule(allow: false, type: "c", major: 1, minor: 3, access: "w")
        let error = #expect(throws: SystemError.self) { try DeviceLines([all, wide, part]) }
        #expect(error?.errno == .notSupported)
        #expect(throws: SystemError.self) {
            try DeviceLines([
                .init(allow: true), .init(allow: false, type: "b", major: 8), .init(allow: true, type: "b", minor: 1),
            ])
        }
        // The same place, another type, a rule taken back before: nothing to cut.
        let exact = Spec.DeviceRule(allow: false, type: "c", access: "rw")
        #expect(try DeviceLines([all, wide, exact, part]).lines.map(\.text) == ["a", "c *:* rw", "c *:* rw"])
        #expect(try DeviceLines([all, wide, .init(allow: false, type: "b", major: 1)]).lines.count == 2)
    }

    /// A wider rule takes back the narrower ones within it, each by its own numbers.
    @Test func version1TakesBackByName() throws {
        let rules: [Spec.DeviceRule] = [
            .init(allow: false), .init(allow: true, type: "c", major: 1, minor: 3, access: "rw"),
            .init(allow: true, type: "c", major: 5, access: "rwm"), .init(allow: true, type: "b", major: 5),
            .init(allow: false, type: "c", access: "wm"),
        ]
        let lines = try DeviceLines(rules).lines
        #expect(lines.filter { $0.allow }.map(\.text) == ["c 1:3 rw", "c 5:* rwm", "b 5:* rwm"])
        #expect(lines.filter { !$0.allow }.map(\.text) == ["a", "c 1:3 w", "c 5:* wm"])
    }

    /// Without a rule for everything the group's default is not known here: each rule is passed on.
    @Test func version1GetsRulesOfAnUpdate() throws {
        let rules: [Spec.DeviceRule] = [
            .init(allow: true, type: "c", major: 1, minor: 5), .init(allow: false, type: "c", major: 1, minor: 7),
        ]
        #expect(
            try DeviceLines(rules).lines
                == [.init(allow: true, text: "c 1:5 rwm"), .init(allow: false, text: "c 1:7 rwm")])
    }

    @Test func version1GetsEachRuleInItsFile() throws {
        let folder = try TemporaryFolder()
        try folder.write("devices.allow")
        try folder.write("devices.deny")
        var resources = Spec.Resources()
        resources.devices = [.init(allow: false), .init(allow: true, type: "c", major: 1, minor: 3, access: "r")]
        try DeviceController().applyLegacy(resources, to: try CGroupFiles(folder.path))
        #expect(try folder.read("devices.deny") == "a")
        #expect(try folder.read("devices.allow") == "c 1:3 r")
    }

    // MARK: Version 2: what the program decides

    /// What a zone gets by default.
    private static let defaults: [Spec.DeviceRule] =
        [
            .init(allow: false, access: "rwm"), .init(allow: true, type: "c", access: "m"),
            .init(allow: true, type: "b", access: "m"),
        ]
        + [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, -1)].map {
            (major: Int64, minor: Int64) in
            .init(allow: true, type: "c", major: major, minor: minor, access: "rwm")
        }

    private static let block: UInt32 = 1
    private static let character: UInt32 = 2
    private static let make: UInt32 = 1
    private static let read: UInt32 = 2
    private static let write: UInt32 = 4

    @Test(
        arguments: [
            (character, read | write, 1, 3, true), (character, read, 1, 9, true),
            (character, make | read | write, 5, 2, true),
            (character, read | write, 136, 0, true), (character, read, 136, 4_000_000, true),
            // Nodes may be made, but not used.
            (character, make, 10, 229, true), (block, make, 8, 0, true), (character, read, 10, 229, false),
            (character, make | read, 10, 229, false),
            (block, read, 8, 0, false), (block, read | write, 1, 3, false), (block, make | write, 8, 0, false),
            // /dev/mem, /dev/kmsg, /dev/port.
            (character, read, 1, 1, false), (character, write, 1, 11, false), (character, read, 1, 4, false),
            (character, read, 5, 3, false), (character, read, 137, 0, false), (character, read, 1, 0x1_0003, false),
        ] as [(UInt32, UInt32, UInt32, UInt32, Bool)])
    func defaultsAllowOnlyTheHarmless(
        _ type: UInt32, _ access: UInt32, _ major: UInt32, _ minor: UInt32, _ allowed: Bool
    ) throws {
        #expect(try run(DeviceProgram(Self.defaults), type, access, major, minor) == allowed)
    }

    /// The same decisions as by the rules read one by one, over every kind of access and many numbers.
    @Test(
        arguments: [
            defaults, [], [.init(allow: false)], [.init(allow: true)],
            [.init(allow: false), .init(allow: true, type: "b", major: 7)],
            [.init(allow: true), .init(allow: false, type: "c", major: 1, minor: 3, access: "w")],
            [
                .init(allow: false), .init(allow: true, type: "c", access: "r"),
                .init(allow: false, major: 1, access: "m"),
            ],
            [.init(allow: false, type: "c", major: 1), .init(allow: true, type: "u", minor: 3, access: "rw")],
        ] as [[Spec.DeviceRule]])
    func decidesAsTheRulesRead(_ rules: [Spec.DeviceRule]) throws {
        let program = DeviceProgram(rules)
        for type in [Self.block, Self.character] {
            for access in UInt32(1)...7 {
                for major in [0, 1, 5, 7, 8, 136] as [UInt32] {
                    for minor in [0, 2, 3, 9, 255] as [UInt32] {
                        let expected = Self.decide(rules, type, access, major, minor)
                        #expect(
                            try run(program, type, access, major, minor) == expected,
                            "type \(type) access \(access) \(major):\(minor)")
                    }
                }
            }
        }
    }

    /// The verifier refuses jumps past the end and instructions that nothing reaches.
    @Test(
        arguments: [
            defaults, [], [.init(allow: true)],
            [.init(allow: false), .init(allow: true, type: "c", major: 1, minor: 3, access: "r")],
            [.init(allow: true, type: "c"), .init(allow: false), .init(allow: true, type: "b")],
        ] as [[Spec.DeviceRule]])
    func everyInstructionIsReached(_ rules: [Spec.DeviceRule]) throws {
        let program = DeviceProgram(rules).instructions
        var reached: Set<Int> = []
        var waiting = [0]
        while let index = waiting.popLast() {
            try #require(program.indices.contains(index), "a jump to \(index) of \(program.count)")
            guard reached.insert(index).inserted else { continue }
            let instruction = Instruction(program[index])
            if instruction.code == 0x95 { continue }
            waiting.append(index + 1)
            if instruction.code == 0x55 || instruction.code == 0x15 { waiting.append(index + 1 + instruction.offset) }
        }
        #expect(reached.count == program.count)
    }

    /// Last match wins. An allowing rule must allow all that is wanted, a denying one denies if any of it is meant.
    private static func decide(
        _ rules: [Spec.DeviceRule], _ type: UInt32, _ access: UInt32, _ major: UInt32, _ minor: UInt32
    )
        -> Bool
    {
        for rule in rules.reversed() {
            let types: [String: UInt32] = ["b": block, "c": character, "u": character]
            if let wanted = rule.type.flatMap({ types[$0] }), wanted != type { continue }
            if let number = rule.major, number >= 0, number != major { continue }
            if let number = rule.minor, number >= 0, number != minor { continue }
            let letters = rule.access ?? "rwm"
            let mask: UInt32 =
                (letters.contains("m") ? 1 : 0) | (letters.contains("r") ? 2 : 0) | (letters.contains("w") ? 4 : 0)
            if rule.allow ? access & ~mask == 0 : access & mask != 0 { return rule.allow }
        }
        return true
    }

    // MARK: An interpreter of the instructions that the program uses, see the kernel's Documentation/bpf

    private struct Instruction {
        let code: UInt8
        let destination: Int
        let source: Int
        let offset: Int
        let immediate: Int32

        init(_ raw: UInt64) {
            code = UInt8(truncatingIfNeeded: raw)
            destination = Int(raw >> 8 & 0xF)
            source = Int(raw >> 12 & 0xF)
            offset = Int(Int16(truncatingIfNeeded: raw >> 16))
            immediate = Int32(truncatingIfNeeded: raw >> 32)
        }
    }

    private struct Fault: Error {
        let reason: String
    }

    private func run(_ program: DeviceProgram, _ type: UInt32, _ access: UInt32, _ major: UInt32, _ minor: UInt32)
        throws
        -> Bool
    {
        // struct bpf_cgroup_dev_ctx
        let context: [UInt32] = [access << 16 | type, major, minor]
        var registers = [UInt64?](repeating: nil, count: 11)
        registers[1] = 0
        func value(_ register: Int) throws -> UInt64 {
            guard let value = registers[register] else { throw Fault(reason: "r\(register) was never set") }
            return value
        }
        var index = 0
        for _ in 0..<10_000 {
            guard program.instructions.indices.contains(index) else { throw Fault(reason: "fell off at \(index)") }
            let instruction = Instruction(program.instructions[index])
            let immediate = UInt64(bitPattern: Int64(instruction.immediate))
            index += 1
            switch instruction.code {
            case 0x61:
                guard instruction.source == 1, instruction.offset % 4 == 0,
                    context.indices.contains(instruction.offset / 4)
                else {
                    throw Fault(reason: "load outside the context")
                }
                registers[instruction.destination] = UInt64(context[instruction.offset / 4])
            case 0xBF: registers[instruction.destination] = try value(instruction.source)
            case 0xB7: registers[instruction.destination] = immediate
            case 0x57: registers[instruction.destination] = try value(instruction.destination) & immediate
            case 0x77: registers[instruction.destination] = try value(instruction.destination) >> immediate
            case 0x55: if try value(instruction.destination) != immediate { index += instruction.offset }
            case 0x15: if try value(instruction.destination) == immediate { index += instruction.offset }
            case 0x95: return try value(0) == 1
            default: throw Fault(reason: "instruction \(instruction.code) is not known")
            }
        }
        throw Fault(reason: "does not end")
    }
}
