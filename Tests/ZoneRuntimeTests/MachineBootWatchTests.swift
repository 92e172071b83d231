// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Testing

@testable import ZoneRuntime

struct MachineBootWatchTests {
    private func isHung(_ watch: inout MachineBootWatch, processor: Int64, time: Int64) -> Bool {
        watch.isHung(processor: processor, time: time)
    }

    @Test func aBootTakesItsTimeOnABusyHost() {
        var watch = MachineBootWatch(processors: 2)
        // A twentieth of two processors.
        for second in 0..<59 {
            #expect(!isHung(&watch, processor: Int64(second) * 100, time: Int64(second) * 1000))
        }
    }

    @Test func aKernelThatSpinsIsFoundByItsCPUTime() {
        var watch = MachineBootWatch(processors: 2)
        #expect(!isHung(&watch, processor: 0, time: 0))
        #expect(!isHung(&watch, processor: 24_990, time: 12_500))
        #expect(isHung(&watch, processor: 25_000, time: 12_510))
        // The next one counts from there.
        #expect(!isHung(&watch, processor: 49_000, time: 24_000))
        #expect(isHung(&watch, processor: 50_000, time: 25_000))
        // More virtual processors wait for each other longer.
        var many = MachineBootWatch(processors: 16)
        #expect(!isHung(&many, processor: 0, time: 0))
        #expect(!isHung(&many, processor: 90_000, time: 10_000))
    }

    @Test func oneThatWaitsForEverIsFoundByTheClockAndGivenUpInTheEnd() {
        var watch = MachineBootWatch(processors: 1)
        var pressed = 0
        for time in stride(from: Int64(0), to: 1_000_000, by: 2000) where isHung(&watch, processor: 50, time: time) {
            pressed += 1
            #expect(time % 60_000 == 0)
        }
        #expect(pressed == 3)
    }
}
