// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// A program of the classic packet filter that looks at an Ethernet frame, Documentation/networking/filter.rst. It is put
/// together front to back; a jump leads to the next place of its label. A load from behind the frame's end ends the program
/// with 0, which traffic control takes for a pass: lengths are to be looked at before.
struct PacketProgram {
    /// `struct sock_filter`
    struct Instruction: Equatable {
        var code: UInt16
        var jumpTrue: UInt8 = 0
        var jumpFalse: UInt8 = 0
        var value: UInt32

        /// In the host's order, as all of them are given to the kernel.
        var bytes: [UInt8] {
            withUnsafeBytes(of: code) { Array($0) } + [jumpTrue, jumpFalse] + withUnsafeBytes(of: value) { Array($0) }
        }
    }

    /// Where a jump leads: to the first place of that name behind it; without a name, to what follows.
    struct Label: Equatable, ExpressibleByStringLiteral {
        let name: String

        init(stringLiteral name: String) { self.name = name }

        static let next: Label = ""
    }

    private enum Part {
        case plain(Instruction)
        case jump(UInt16, UInt32, ifTrue: Label, ifFalse: Label)
        case label(Label)
    }

    private var parts: [Part] = []

    // MARK: Loads

    /// BPF_LD | BPF_ABS with BPF_B, BPF_H, BPF_W.
    mutating func load8(_ offset: UInt32) { plain(0x30, offset) }
    mutating func load16(_ offset: UInt32) { plain(0x28, offset) }
    mutating func load32(_ offset: UInt32) { plain(0x20, offset) }
    /// What the kernel knows beside the frame's bytes: SKF_AD_OFF and one of SKF_AD_….
    mutating func load(ancillary number: UInt32) { plain(0x20, 0xFFFF_F000 + number) }
    /// BPF_LD | BPF_LEN
    mutating func loadLength() { plain(0x80, 0) }
    /// BPF_LDX | BPF_MSH: four times the low half of a byte, the length of an IPv4 header (RFC 791, 3.1).
    mutating func loadHeaderLength(_ offset: UInt32) { plain(0xB1, offset) }
    /// BPF_LD | BPF_H | BPF_IND: behind that header.
    mutating func load16(behindHeader offset: UInt32) { plain(0x48, offset) }

    /// BPF_LD | BPF_B | BPF_IND
    mutating func load8(behindHeader offset: UInt32) { plain(0x50, offset) }

    private mutating func plain(_ code: UInt16, _ value: UInt32) {
        parts.append(.plain(Instruction(code: code, value: value)))
    }

    // MARK: Jumps

    /// BPF_JMP | BPF_JEQ | BPF_K
    mutating func isEqual(_ value: UInt32, then: Label = .next, otherwise: Label = .next) {
        parts.append(.jump(0x15, value, ifTrue: then, ifFalse: otherwise))
    }

    /// BPF_JMP | BPF_JGE | BPF_K
    mutating func isAtLeast(_ value: UInt32, then: Label = .next, otherwise: Label = .next) {
        parts.append(.jump(0x35, value, ifTrue: then, ifFalse: otherwise))
    }

    /// Whether the frame goes on for some bytes behind the header whose length was loaded: that is in X, and goes to A (BPF_TXA),
    /// more is added (BPF_ADD), and all is in X again (BPF_TAX) when the length is compared with it (BPF_JGE | BPF_X).
    mutating func reachesBehindHeader(_ bytes: UInt32, otherwise: Label) {
        plain(0x87, 0)
        plain(0x04, bytes)
        plain(0x07, 0)
        loadLength()
        parts.append(.jump(0x3D, 0, ifTrue: .next, ifFalse: otherwise))
    }

    /// BPF_JMP | BPF_JSET | BPF_K
    mutating func has(_ bits: UInt32, then: Label = .next, otherwise: Label = .next) {
        parts.append(.jump(0x45, bits, ifTrue: then, ifFalse: otherwise))
    }

    mutating func jump(_ label: Label) { isEqual(0, then: label, otherwise: label) }

    mutating func place(_ label: Label) { parts.append(.label(label)) }

    /// BPF_RET | BPF_K
    mutating func end(_ result: UInt32) { plain(0x06, result) }

    /// Jumps over as many instructions as fit one byte; who puts a program together sees to labels that are near.
    /// `nil`: there is no such label, or it is too far.
    func assembled() -> [Instruction]? {
        var places: [(label: Label, index: Int)] = []
        var count = 0
        for part in parts {
            if case .label(let label) = part { places.append((label, count)) } else { count += 1 }
        }
        var result: [Instruction] = []
        func distance(_ label: Label) -> UInt8? {
            let from = result.count + 1
            if label == .next { return 0 }
            return places.first { $0.label == label && $0.index >= from }.flatMap { UInt8(exactly: $0.index - from) }
        }
        for part in parts {
            switch part {
            case .plain(let instruction): result.append(instruction)
            case .label: break
            case .jump(let code, let value, let ifTrue, let ifFalse):
                guard let yes = distance(ifTrue), let no = distance(ifFalse) else { return nil }
                result.append(Instruction(code: code, jumpTrue: yes, jumpFalse: no, value: value))
            }
        }
        return result
    }
}
