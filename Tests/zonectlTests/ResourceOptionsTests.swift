// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import Testing
import ZoneRuntime

@testable import zonectl

/// What the words of `run` and `set` ask for.
@Suite struct ResourceOptionsTests {
    private func change(_ words: String...) throws -> LimitChange {
        try ResourceOptions.change(
            ArgumentParser(command: "set", options: ResourceOptions.all, endsOptionsAtOperand: false).parse(words))
    }

    private func refusal(_ words: String...) {
        do throws(ZoneError) {
            let parser = ArgumentParser(command: "set", options: ResourceOptions.all, endsOptionsAtOperand: false)
            _ = try ResourceOptions.change(parser.parse(words))
            Issue.record("was taken: \(words)")
        } catch {
            #expect(error.code == .invalid)
            let start = words.count > 1 ? "\(words[0]) \"\(words[1])\"" : words[0]
            #expect(error.detail.hasPrefix(start), "\(error.detail)")
        }
    }

    @Test func nothingIsNothing() throws {
        #expect(try change() == LimitChange())
    }

    @Test(
        arguments: [("1", 1), ("512M", 536_870_912), ("1.5g", 1_610_612_736), ("0", 0), ("-1", 0)] as [(String, Int64)])
    func sizes(_ text: String, _ bytes: Int64) throws {
        #expect(try change("--memory", text).memory == bytes)
        #expect(try change("-m", text).memory == bytes)
        #expect(try change("--memory-reservation", text).reservation == bytes)
        #expect(try change("--memory-swap", text).swap == (text == "-1" ? -1 : bytes))
    }

    @Test(arguments: ["", "-2", "much", "1X"]) func badSizes(_ text: String) {
        for option in ["--memory", "--memory-reservation", "--memory-swap"] { refusal(option, text) }
    }

    @Test(
        arguments: [
            ("1", 100_000), ("1.5", 150_000), ("0.01", 1000), ("8192", 819_200_000), (".5", 50_000), ("0", 0),
            ("-1", 0),
        ] as [(String, Int64)])
    func cpus(_ text: String, _ quota: Int64) throws {
        let wanted = try change("--cpus", text)
        #expect(wanted.quota == quota)
        #expect(wanted.shares == nil && wanted.cpus == nil && wanted.burst == nil)
    }

    @Test(arguments: ["", "0.001", "-2", "nan", "inf", "8193", "1e300", "two", "1,5", "0x1p1024"])
    func badCPUs(_ text: String) { refusal("--cpus", text) }

    @Test(
        arguments: [
            ("50ms", 50_000), ("500us", 500), ("1.5s", 1_500_000), ("0", 0), ("0.5ms", 500), ("1m", 60_000_000),
        ]
            as [(String, UInt64)])
    func bursts(_ text: String, _ time: UInt64) throws {
        #expect(try change("--burst", text).burst == time)
    }

    @Test(arguments: ["", "50", "ms", "-5ms", "1e3ms", "5 ms", "99999999999999999999h", "5msx", "٣ms"])
    func badBursts(_ text: String) { refusal("--burst", text) }

    @Test(arguments: ["", "1", "262145", "-5", "1.5", "99999999999999999999"])
    func badShares(_ text: String) { refusal("--cpu-shares", text) }

    @Test(arguments: ["", "a", "0;1", "0 1", "0\n", "٣", "-1 "])
    func badSets(_ text: String) {
        refusal("--cpuset-cpus", text)
        refusal("--cpuset-mems", text)
    }

    @Test func sets() throws {
        #expect(try change("--cpuset-cpus", "0-3,7").cpus == "0-3,7")
        #expect(try change("--cpuset-cpus", "all", "--cpuset-mems", "0").cpus == "")
    }

    @Test(arguments: [("-1", 0), ("0", 0), ("1", 1), ("4194304", 4_194_304)] as [(String, Int64)])
    func pids(_ text: String, _ limit: Int64) throws {
        #expect(try change("--pids-limit", text).pids == limit)
    }

    @Test(arguments: ["", "-2", "4194305", "many", "1.0"])
    func badPids(_ text: String) { refusal("--pids-limit", text) }

    @Test(arguments: ["", "9", "1001", "-10", "x"])
    func badWeights(_ text: String) { refusal("--blkio-weight", text) }

    @Test(
        arguments: [
            "", ":", "/dev/null", "dev/null:5", ":5", "/dev/null:", "/dev/null:x", "/dev/null:-1", "/dev/null:1Q",
        ])
    func badRates(_ text: String) {
        for kind in LimitChange.Rate.Kind.allCases { refusal("--\(kind.rawValue)", text) }
    }

    @Test func whatIsNoDiskIsNamed() {
        let error = #expect(throws: ZoneError.self) { try change("--device-read-bps", "/dev/null:1M") }
        #expect(error?.detail == "--device-read-bps: /dev/null is not a disk")
        let missing = #expect(throws: ZoneError.self) { try change("--device-read-iops", "/dev/none/such:5") }
        #expect(missing?.detail.contains("/dev/none/such") == true)
    }

    @Test func operationsAreNumbers() { refusal("--device-write-iops", "/dev/null:1M") }

    @Test func theRatesAreInOrder() {
        #expect(ResourceOptions.rates.map(\.name) == LimitChange.Rate.Kind.allCases.map(\.rawValue))
    }

    /// docker's names, and the same for both verbs.
    @Test func runAndSetHaveTheSame() {
        for option in ResourceOptions.all {
            #expect(RunCommand.command.options.contains { $0.name == option.name }, "\(option.name)")
            #expect(SetCommand.command.options.contains { $0.name == option.name }, "\(option.name)")
            #expect(!SetCommand.command.refused().contains { $0.name == option.name }, "\(option.name)")
        }
    }

    @Test func everyOtherOptionOfRunIsExplained() {
        let known = SetCommand.command.options + SetCommand.command.refused()
        for option in RunCommand.command.options {
            #expect(known.contains { $0.name == option.name }, "\(option.name)")
        }
        #expect(Set(known.map(\.name)).count == known.count)
        let letters = known.compactMap(\.short)
        #expect(Set(letters).count == letters.count)
    }
}
