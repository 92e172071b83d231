// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc

/// What libFuzzer calls for each input: one parser with what must hold of whatever it takes.
struct FuzzTarget: Sendable {
    let name: String
    let run: @Sendable (Input) -> Void

    static let all = configurationTargets + valueTargets + commandTargets + imageTargets + machineTargets
}

/// What a target parses.
struct Input {
    let bytes: [UInt8]
    /// As words and texts reach the parsers: valid UTF-8 without U+0000; nil for anything else.
    let text: String?

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        text = bytes.contains(0) ? nil : String(validating: bytes, as: UTF8.self)
    }

    /// An input `0x01 HEAD 0x02 UNIT 0x03 TAIL` stands for the unit many times between the two others: no small input is
    /// deep or long enough otherwise, and large ones make a fuzzer slow. With `0x01 0x01` at its beginning it becomes
    /// 128 KiB long, which shows what takes quadratic time or a stack frame for each byte; with one only 8 KiB, so that
    /// most runs stay short.
    init(fuzzed data: UnsafeBufferPointer<UInt8>) {
        guard data.first == 1 else {
            self.init(Array(data))
            return
        }
        let isLong = data.count > 1 && data[1] == 1
        let length = isLong ? 1 << 17 : 1 << 13
        let parts = Array(data.dropFirst(isLong ? 2 : 1)).split(
            separator: 2, maxSplits: 1, omittingEmptySubsequences: false)
        let repeated = parts.count == 2 ? parts[1] : []
        let ends = repeated.split(separator: 3, maxSplits: 1, omittingEmptySubsequences: false)
        var bytes = Array(parts[0])
        if let unit = ends.first, !unit.isEmpty {
            bytes.reserveCapacity(length + data.count)
            while bytes.count < length { bytes.append(contentsOf: unit) }
        }
        if ends.count == 2 { bytes.append(contentsOf: ends[1]) }
        self.init(bytes)
    }
}

/// Ends the process where something does not hold: a finding.
func expect(_ holds: @autoclosure () -> Bool, _ what: @autoclosure () -> String) {
    if holds() { return }
    let line = "does not hold: \(what())\n"
    _ = line.withCString { write(2, $0, strlen($0)) }
    abort()
}

/// The target that the program's own name says: `.build/fuzz/size` is a link to the one executable.
nonisolated(unsafe) private var chosen: FuzzTarget?

@c(LLVMFuzzerInitialize)
public func initialize(
    _ count: UnsafeMutablePointer<CInt>,
    _ words: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>>>
) -> CInt {
    let path = String(cString: words.pointee.pointee)
    let name = String(path.split(separator: "/").last ?? "")
    chosen = FuzzTarget.all.first { $0.name == name }
    guard chosen != nil else {
        for target in FuzzTarget.all { print(target.name) }
        exit(name == "targets" ? 0 : 2)
    }
    return 0
}

@c(LLVMFuzzerTestOneInput)
public func testOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
    chosen?.run(Input(fuzzed: UnsafeBufferPointer(start: data, count: size)))
    return 0
}
