// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// What a keeper and those who attach to its zone say to each other: packets on a SOCK_SEQPACKET socket, the first byte
/// says which.
enum AttachMessage: Sendable, Equatable {
    // From who attaches.
    case input([UInt8])
    case inputEnd
    case window(WindowSize)
    /// Wants to know of the end only.
    case observe
    // From the keeper.
    /// The first packet.
    case hello(hasTerminal: Bool, takesInput: Bool)
    case output([UInt8])
    case error([UInt8])
    /// The zone has ended, with a status as a shell shows it, -1 where nobody saw it. `isLast`: it is not started again.
    case ended(Int32, isLast: Bool)

    /// Bytes of a stream that one packet holds.
    static let room = 16_384

    private enum Kind: UInt8 {
        case input = 1, inputEnd, window, observe
        case hello = 16, output, error, ended
    }

    var bytes: [UInt8] {
        switch self {
        case .input(let data): [Kind.input.rawValue] + data
        case .inputEnd: [Kind.inputEnd.rawValue]
        case .window(let size): [Kind.window.rawValue] + AttachMessage.bytes(size.rows, size.columns)
        case .observe: [Kind.observe.rawValue]
        case .hello(let terminal, let input): [Kind.hello.rawValue, terminal ? 1 : 0, input ? 1 : 0]
        case .output(let data): [Kind.output.rawValue] + data
        case .error(let data): [Kind.error.rawValue] + data
        case .ended(let code, let isLast):
            [Kind.ended.rawValue, isLast ? 1 : 0]
                + AttachMessage.bytes(
                    UInt16(truncatingIfNeeded: code >> 16), UInt16(truncatingIfNeeded: code))
        }
    }

    /// `nil` for a packet that makes no sense.
    init?(_ packet: ArraySlice<UInt8>) {
        guard let kind = packet.first.flatMap(Kind.init) else { return nil }
        let rest = packet.dropFirst()
        let start = rest.startIndex
        switch (kind, rest.count) {
        case (.input, _): self = .input(Array(rest))
        case (.inputEnd, 0): self = .inputEnd
        case (.window, 4):
            self = .window(
                WindowSize(rows: AttachMessage.number(rest, start), columns: AttachMessage.number(rest, start + 2)))
        case (.observe, 0): self = .observe
        case (.hello, 2): self = .hello(hasTerminal: rest[start] != 0, takesInput: rest[start + 1] != 0)
        case (.output, _): self = .output(Array(rest))
        case (.error, _): self = .error(Array(rest))
        case (.ended, 5):
            let code =
                UInt32(AttachMessage.number(rest, start + 1)) << 16 | UInt32(AttachMessage.number(rest, start + 3))
            self = .ended(Int32(bitPattern: code), isLast: rest[start] != 0)
        default: return nil
        }
    }

    private static func bytes(_ numbers: UInt16...) -> [UInt8] {
        numbers.flatMap { [UInt8($0 >> 8), UInt8(truncatingIfNeeded: $0)] }
    }

    private static func number(_ bytes: ArraySlice<UInt8>, _ index: Int) -> UInt16 {
        UInt16(bytes[index]) << 8 | UInt16(bytes[index + 1])
    }
}
