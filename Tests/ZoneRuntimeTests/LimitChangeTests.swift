// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import OCI
import Testing

@testable import ZoneRuntime

/// What a change makes of older limits, and which rules it has to keep.
@Suite struct LimitChangeTests {
    private func change(_ body: (inout LimitChange) -> Void) -> LimitChange {
        var change = LimitChange()
        body(&change)
        return change
    }

    private func limits(_ body: (inout LimitChange) -> Void) throws -> Spec.Resources {
        try change(body).applied(to: Spec.Resources())
    }

    private func refusal(_ former: Spec.Resources = .init(), _ body: (inout LimitChange) -> Void) -> ZoneError? {
        #expect(throws: ZoneError.self) { try change(body).applied(to: former) }
    }

    @Test func nothingChangesNothing() throws {
        var former = Spec.Resources()
        former.unified = ["a.b": "c"]
        former.devices = [.init(allow: true)]
        #expect(try LimitChange().applied(to: former) == former)
        let former2 = try limits {
            $0.memory = 64 << 20
            $0.quota = 50_000
            $0.pids = 5
        }
        #expect(try LimitChange().applied(to: former2) == former2)
        let (update, reset) = LimitChange().update(from: former2, to: former2)
        #expect(update == Spec.Resources() && reset == [])
    }

    @Test func theWayFromSomeLimitsToOthers() throws {
        let some = try limits {
            $0.memory = 64 << 20
            $0.quota = 50_000
            $0.burst = 10_000
            $0.cpus = "0"
            $0.rates = [
                .init(.readBytes, major: 8, minor: 0, rate: 5), .init(.readBytes, major: 8, minor: 16, rate: 6),
            ]
        }
        let others = try limits {
            $0.memory = 32 << 20
            $0.swap = -1
            $0.shares = 7
            $0.pids = 9
            $0.rates = [.init(.readBytes, major: 8, minor: 16, rate: 7)]
        }
        for (former, wanted) in [(some, others), (others, some), (some, .init()), (.init(), some), (some, some)] {
            let change = try #require(LimitChange(from: former, to: wanted))
            #expect(try change.applied(to: former) == wanted)
        }
        #expect(LimitChange(from: some, to: some) == LimitChange())
        // Nothing that `set` has an option for.
        var more = some
        more.unified = ["memory.high": "1"]
        #expect(LimitChange(from: some, to: more) == nil)
    }

    @Test func zerosTakeEverythingAway() throws {
        let full = try limits {
            $0.memory = 64 << 20
            $0.reservation = 32 << 20
            $0.swap = -1
            $0.disablesOOMKiller = true
            $0.quota = 50_000
            $0.burst = 50_000
            $0.shares = 5
            $0.cpus = "0"
            $0.memoryNodes = "0"
            $0.pids = 5
            $0.blockIOWeight = 10
            $0.rates = [.init(.readBytes, major: 8, minor: 0, rate: 5)]
        }
        #expect(full.memory?.swap == -1 && full.cpu?.burst == 50_000 && full.cpu?.period == 100_000)
        #expect(full.blockIO?.throttleReadBpsDevice.map(\.rate) == [5])
        let none = change {
            $0.memory = 0
            $0.reservation = 0
            $0.swap = 0
            $0.disablesOOMKiller = false
            $0.quota = 0
            $0.burst = 0
            $0.shares = 0
            $0.cpus = ""
            $0.memoryNodes = ""
            $0.pids = 0
            $0.blockIOWeight = 0
            $0.rates = [
                .init(.readBytes, major: 8, minor: 0, rate: 0), .init(.writeBytes, major: 8, minor: 0, rate: 0),
            ]
        }
        let empty = try none.applied(to: full)
        #expect(empty == Spec.Resources())
        let (update, reset) = none.update(from: full, to: empty)
        #expect(update.memory?.limit == -1 && update.memory?.swap == -1 && update.memory?.reservation == -1)
        #expect(update.memory?.disableOOMKiller == false)
        #expect(update.cpu?.quota == -1 && update.cpu?.burst == 0 && update.cpu?.shares == 1024)
        #expect(update.pids?.limit == -1)
        #expect(update.blockIO?.throttleReadBpsDevice.map(\.rate) == [0])
        #expect(update.blockIO?.throttleWriteBpsDevice == [], "there was none")
        #expect(reset == [.cpus, .memoryNodes, .blockIOWeight])
    }

    // MARK: Memory and swap

    @Test func swapGoesWithTheMemoryUnlessItWasChosen() throws {
        let former = try limits { $0.memory = 64 }
        #expect(former.memory?.swap == 128)
        #expect(try change { $0.memory = 100 }.applied(to: former).memory?.swap == 200)
        #expect(try limits { $0.memory = .max }.memory?.swap == -1)
        let chosen = try limits {
            $0.memory = 64
            $0.swap = 70
        }
        #expect(try change { $0.memory = 65 }.applied(to: chosen).memory?.swap == 70)
        #expect(refusal(chosen) { $0.memory = 71 }?.detail.contains("--memory-swap") == true)
        #expect(try change { $0.swap = 0 }.applied(to: chosen).memory?.swap == 128)
        let free = try change { $0.swap = -1 }.applied(to: chosen)
        #expect(try change { $0.memory = 1000 }.applied(to: free).memory?.swap == -1)
        // Both are written, as they bound one another.
        let more = change { $0.memory = 100 }
        let (update, _) = more.update(from: former, to: try more.applied(to: former))
        #expect(update.memory?.limit == 100 && update.memory?.swap == 200)
    }

    @Test func memoryRules() throws {
        #expect(refusal { $0.swap = 5 }?.hint?.contains("--memory") == true)
        #expect(try limits { $0.swap = -1 } == Spec.Resources())
        #expect(
            refusal {
                $0.memory = 64
                $0.reservation = 65
            }?.detail.contains("--memory-reservation") == true)
        #expect(try limits { $0.reservation = 65 }.memory?.reservation == 65)
        let soft = try limits { $0.reservation = 65 }
        #expect(refusal(soft) { $0.memory = 64 } != nil)
    }

    // MARK: CPU time

    @Test func aBurstIsAtMostTheQuota() throws {
        let fine = try limits {
            $0.quota = 50_000
            $0.burst = 50_000
        }
        #expect(fine.cpu?.burst == 50_000)
        let above = refusal {
            $0.quota = 50_000
            $0.burst = 50_001
        }
        #expect(above?.detail == "--burst 50.001 ms is above the quota of 50 ms")
        #expect(above?.hint?.contains("--cpus × 100 ms") == true)
        #expect(refusal { $0.burst = 1 }?.detail == "--burst 1 µs without --cpus")
        #expect(refusal(fine) { $0.quota = 40_000 } != nil)
        #expect(refusal(fine) { $0.burst = 60_000 } != nil)
        let both = try change {
            $0.quota = 60_000
            $0.burst = 60_000
        }.applied(to: fine)
        #expect(both.cpu?.burst == 60_000)
        // A burst goes with its quota.
        #expect(try change { $0.quota = 0 }.applied(to: fine) == Spec.Resources())
        #expect(
            refusal(fine) {
                $0.quota = 0
                $0.burst = 5
            } != nil)
    }

    /// Kernels before 5.14 have no file for it.
    @Test func aBurstIsWrittenOnlyWhereOneIsSpokenOf() throws {
        let former = try limits { $0.quota = 50_000 }
        let more = change { $0.quota = 70_000 }
        #expect(more.update(from: former, to: try more.applied(to: former)).0.cpu?.burst == nil)
        #expect(more.update(from: former, to: try more.applied(to: former)).0.cpu?.quota == 70_000)
        let none = change { $0.quota = 0 }
        let burst = try change { $0.burst = 5000 }.applied(to: former)
        #expect(none.update(from: burst, to: try none.applied(to: burst)).0.cpu?.burst == 0)
    }

    @Test func aRateIsOfItsDisk() throws {
        let former = try limits {
            $0.rates = [
                .init(.readBytes, major: 8, minor: 0, rate: 5), .init(.readBytes, major: 8, minor: 16, rate: 6),
            ]
        }
        let after = try change { $0.rates = [.init(.readBytes, major: 8, minor: 0, rate: 7)] }.applied(to: former)
        #expect(after.blockIO?.throttleReadBpsDevice.map(\.rate) == [6, 7])
    }

    @Test(
        arguments: [(500, "500 µs"), (50_000, "50 ms"), (1500, "1.5 ms"), (1_500_000, "1.5 s"), (2_000_000, "2 s")]
            as [(UInt64, String)])
    func times(_ microseconds: UInt64, _ text: String) {
        #expect(CPUTime.text(microseconds: microseconds) == text)
    }

    @Test func whoAnswersInProc() {
        #expect(ProcView.name(of: DefaultProfile.mounts) == "kernel")
        let bound = Spec.Mount(
            destination: "/proc/meminfo", type: "bind", source: "/var/lib/lxcfs/proc/meminfo", options: ["bind"])
        #expect(ProcView.name(of: DefaultProfile.mounts + [bound]) == "lxcfs")
    }
}
