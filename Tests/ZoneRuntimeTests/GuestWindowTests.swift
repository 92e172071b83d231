// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Testing

@testable import ZoneRuntime

@Suite struct GuestWindowTests {
    @Test func creditIsSpentAndGrantedAnew() throws {
        var credit = GuestCredit()
        #expect(credit.left == GuestFrame.window)
        credit.spend(1000)
        #expect(credit.left == GuestFrame.window - 1000)
        try credit.grant(400)
        #expect(credit.left == GuestFrame.window - 600)
        credit.spend(.max)
        #expect(credit.left == 0)
        try credit.grant(UInt32(GuestFrame.window))
        #expect(credit.left == GuestFrame.window)
    }

    @Test func creditIsNeverMoreThanWasSent() {
        var credit = GuestCredit()
        #expect(throws: GuestWindowError.overgranted) { try credit.grant(1) }
        credit.spend(10)
        #expect(throws: GuestWindowError.overgranted) { try credit.grant(11) }
        #expect(throws: GuestWindowError.overgranted) { try credit.grant(.max) }
        #expect(credit.left == GuestFrame.window - 10)
    }

    @Test func inflowTakesAWindowAndNoMore() throws {
        var inflow = GuestInflow()
        let part = [UInt8](repeating: 1, count: GuestFrame.window / 2)
        try inflow.accept(part[...])
        try inflow.accept(part[...])
        #expect(throws: GuestWindowError.exceeded) { try inflow.accept([1][...]) }
        #expect(inflow.waiting.count == GuestFrame.window)
        #expect(inflow.grant() == nil)
    }

    @Test func inflowGrantsWhatWasTaken() throws {
        var inflow = GuestInflow()
        try inflow.accept([UInt8](repeating: 1, count: GuestInflow.part + 5)[...])
        inflow.take(GuestInflow.part - 1)
        #expect(inflow.grant() == nil)
        inflow.take(1)
        #expect(inflow.grant() == UInt32(GuestInflow.part))
        #expect(inflow.grant() == nil)
        #expect(inflow.waiting.count == 5)
    }

    @Test func inflowGrantsNothingForWhatTheAgentAdded() throws {
        var inflow = GuestInflow()
        inflow.add([UInt8](repeating: 4, count: GuestInflow.part)[...])
        inflow.drop()
        #expect(inflow.grant() == nil)
        try inflow.accept([UInt8](repeating: 1, count: GuestFrame.window)[...])
        #expect(throws: GuestWindowError.exceeded) { try inflow.accept([1][...]) }
    }

    @Test func inflowKeepsItsOrder() throws {
        var inflow = GuestInflow()
        var sent: [UInt8] = []
        var taken: [UInt8] = []
        for round in 0..<300 {
            let bytes = (0..<(round * 7 % 23)).map { UInt8(truncatingIfNeeded: round + $0) }
            sent += bytes
            try inflow.accept(bytes[...])
            let count = min(round % 13, inflow.waiting.count)
            taken += inflow.waiting.prefix(count)
            inflow.take(count)
        }
        taken += inflow.waiting
        inflow.take(.max)
        #expect(taken == sent)
        #expect(inflow.waiting.isEmpty)
    }

    /// Whoever keeps to the rules is never stuck: however slowly the other side takes things, all of it gets through.
    @Test func senderAndReceiverComeToTheEnd() throws {
        var credit = GuestCredit()
        var inflow = GuestInflow()
        var left = 5 << 20
        var got = 0
        var rounds = 0
        while got < 5 << 20 {
            rounds += 1
            try #require(rounds < 10_000)
            let count = min(left, credit.left, 32 << 10)
            try inflow.accept([UInt8](repeating: 0, count: count)[...])
            credit.spend(count)
            left -= count
            let taken = min(inflow.waiting.count, 4096)
            inflow.take(taken)
            got += taken
            if let grant = inflow.grant() { try credit.grant(grant) }
        }
    }
}
