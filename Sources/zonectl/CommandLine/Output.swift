// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import ZoneRuntime

/// Where results and errors go.
enum Output {
    /// Writes to stdout. A stdout that is closed, full or gone is an error like any other.
    static func write(_ text: String) throws(ZoneError) {
        try write(Array(text.utf8))
    }

    static func write(_ bytes: [UInt8]) throws(ZoneError) {
        do throws(SystemError) { try StandardStream.output.write(bytes) } catch {
            throw ZoneError(.system, "write to stdout: \(error.errno.message)")
        }
    }

    /// Writes an error for people.
    static func report(_ error: ZoneError) {
        report(error.detail)
        // Nobody can be told when that fails.
        if let hint = error.hint { try? StandardStream.error.write(Array("  hint: \(printable(hint))\n".utf8)) }
    }

    static func report(_ line: String) {
        try? StandardStream.error.write(Array("zonectl: \(printable(line))\n".utf8))
    }

    /// The text without what a terminal would obey: control characters, and marks that turn the direction of writing.
    /// Names and commands come from images.
    static func printable(_ text: String) -> String {
        // Nearly every text; looked at as bytes, which is what makes a table of a thousand zones fast.
        if text.isPlain { return text }
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0..<0x20, 0x7F..<0xA0, 0x200E, 0x200F, 0x2028...0x202E, 0x2066...0x2069: result.append("?")
            default: result.append(scalar)
            }
        }
        return String(result)
    }

    /// Writes rows as columns, padded to the widest entry; the last column is not padded.
    static func table(_ header: [String], _ rows: [[String]]) throws(ZoneError) {
        let all = [header] + rows.map { $0.map(printable) }
        let widths = header.indices.map { column in all.map { $0[column].width }.max() ?? 0 }
        var text = ""
        for row in all {
            for (column, cell) in row.enumerated() {
                text += cell
                if column < row.count - 1 { text += String(repeating: " ", count: widths[column] - cell.width + 3) }
            }
            text += "\n"
        }
        try write(text)
    }

    /// Writes values as a JSON array.
    static func json(_ values: [some JSONCodable]) throws(ZoneError) {
        var writer = JSONWriter(pretty: true)
        values.write(to: &writer)
        writer.endText()
        try write(writer.bytes)
    }
}

extension String {
    /// Whether it is printable ASCII alone.
    fileprivate var isPlain: Bool { utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7F } }

    /// Characters.
    fileprivate var width: Int { isPlain ? utf8.count : count }

    /// At most so many characters on one line.
    func shortened(to most: Int) -> String {
        if isPlain, utf8.count <= most { return self }
        let line = String(prefix(most + 1).map { $0.isNewline ? " " : $0 })
        return line.count > most ? line.prefix(most - 1) + "…" : line
    }
}
