// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Foundation

/// Writes tar archives byte by byte, so that tests can write what no tool would.
struct TarFixture {
    private(set) var bytes: [UInt8] = []

    /// Appends a member. Owners are the test's own unless given, so that no root rights are needed.
    mutating func add(
        _ name: String,
        _ type: Character = "0",
        _ text: String = "",
        link: String = "",
        mode: Int = 0o755,
        uid: Int = Int(getuid()),
        gid: Int = Int(getgid()),
        time: Int = 1_000_000,
        device: (Int, Int) = (0, 0),
        pax: [(String, [UInt8])] = []
    ) {
        if !pax.isEmpty {
            var records: [UInt8] = []
            for (key, value) in pax { records += TarFixture.record(key, value) }
            append("pax", "x", records, link: "", mode: 0o644, uid: 0, gid: 0, time: 0, device: (0, 0))
        }
        append(
            Array(name.utf8), type, Array(text.utf8), link: link, mode: mode, uid: uid, gid: gid, time: time,
            device: device)
    }

    mutating func add(rawName: [UInt8], _ text: String = "") {
        append(
            rawName, "0", Array(text.utf8), link: "", mode: 0o644, uid: Int(getuid()), gid: Int(getgid()), time: 0,
            device: (0, 0))
    }

    /// The archive with its end.
    var finished: [UInt8] { bytes + [UInt8](repeating: 0, count: 1024) }

    mutating func appendRaw(_ more: [UInt8]) { bytes += more }

    private mutating func append(
        _ name: String, _ type: Character, _ data: [UInt8], link: String, mode: Int, uid: Int, gid: Int, time: Int,
        device: (Int, Int)
    ) {
        append(Array(name.utf8), type, data, link: link, mode: mode, uid: uid, gid: gid, time: time, device: device)
    }

    private mutating func append(
        _ name: [UInt8], _ type: Character, _ data: [UInt8], link: String, mode: Int, uid: Int, gid: Int, time: Int,
        device: (Int, Int)
    ) {
        if name.count > 100 {
            append("././@LongLink", "L", name + [0], link: "", mode: 0, uid: 0, gid: 0, time: 0, device: (0, 0))
        }
        var header = [UInt8](repeating: 0, count: 512)
        func put(_ bytes: [UInt8], _ offset: Int, _ width: Int) {
            for (index, byte) in bytes.prefix(width).enumerated() { header[offset + index] = byte }
        }
        func octal(_ value: Int, _ offset: Int, _ width: Int) {
            let digits = String(value, radix: 8)
            put(Array((String(repeating: "0", count: max(0, width - 1 - digits.count)) + digits).utf8), offset, width)
        }
        put(name, 0, 100)
        octal(mode, 100, 8)
        octal(uid, 108, 8)
        octal(gid, 116, 8)
        octal(data.count, 124, 12)
        octal(time, 136, 12)
        put([UInt8](repeating: 32, count: 8), 148, 8)
        put(Array(String(type).utf8), 156, 1)
        put(Array(link.utf8), 157, 100)
        put(Array("ustar  ".utf8), 257, 8)
        octal(device.0, 329, 8)
        octal(device.1, 337, 8)
        octal(header.reduce(0) { $0 + Int($1) }, 148, 7)
        bytes += header + data + [UInt8](repeating: 0, count: (512 - data.count % 512) % 512)
    }

    /// A pax record: its own length in decimal, key and value.
    private static func record(_ key: String, _ value: [UInt8]) -> [UInt8] {
        let rest = Array(" \(key)=".utf8) + value + [10]
        var length = rest.count + 1
        while String(length).utf8.count + rest.count != length { length = String(length).utf8.count + rest.count }
        return Array(String(length).utf8) + rest
    }

    static func make(_ fill: (inout TarFixture) -> Void) -> [UInt8] {
        var tar = TarFixture()
        fill(&tar)
        return tar.finished
    }

    /// Runs the bytes through a program such as gzip.
    static func filtered(_ bytes: [UInt8], _ program: String, _ arguments: [String] = ["-c"]) throws -> [UInt8] {
        let folder = try TemporaryFolder()
        try folder.write("in", bytes)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [program] + arguments
        process.standardInput = try FileHandle(forReadingFrom: URL(fileURLWithPath: folder.path("in")))
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return Array(data)
    }
}

/// A folder that goes with this value.
final class TemporaryFolder {
    let root: String

    init() throws {
        var template = Array("/tmp/zonectl-images-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw POSIXError(.EIO) }
        root = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        try? FileManager.default.removeItem(atPath: root)
    }

    func path(_ name: String) -> String { "\(root)/\(name)" }

    func write(_ name: String, _ bytes: [UInt8]) throws {
        let path = path(name)
        try FileManager.default.createDirectory(
            atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try Data(bytes).write(to: URL(fileURLWithPath: path))
    }

    func text(_ name: String) -> String? { try? String(contentsOfFile: path(name), encoding: .utf8) }

    /// All paths below a folder, sorted.
    func tree(_ name: String = "") -> [String] {
        ((try? FileManager.default.subpathsOfDirectory(atPath: path(name))) ?? []).sorted()
    }
}

/// Reads an extended attribute; `nil` where there is none. Swift's module of the C library leaves the call out.
func attribute(_ name: String, of path: String) -> [UInt8]? {
    typealias Call = @convention(c) (UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafeMutableRawPointer, Int) -> Int
    guard let symbol = dlsym(nil, "getxattr") else { return nil }
    var value = [UInt8](repeating: 0, count: 256)
    let size = unsafeBitCast(symbol, to: Call.self)(path, name, &value, value.count)
    return size < 0 ? nil : Array(value.prefix(size))
}
