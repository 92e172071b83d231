// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// Which of its two streams a zone wrote to; what comes from its terminal is output.
public enum LogStream: String, Sendable {
    case output = "stdout"
    case error = "stderr"
}

/// A line of a log: `2026-11-21T15:04:05.123456789Z stdout F message`, the format of Kubernetes' container runtime
/// interface (kubernetes/design-proposals-archive, node/kubelet-cri-logging.md). `P` marks a line that goes on in the
/// next one of its stream.
public struct LogLine {
    /// Nanoseconds since 1970; nil for a line that is damaged, whose whole text is the message.
    public var time: Int64?
    public var stream = LogStream.output
    public var isPartial = false
    /// Without the new line at the end.
    public var message: ArraySlice<UInt8>

    /// Takes a line apart. What is no line of a log is shown as it is.
    public init(_ bytes: ArraySlice<UInt8>) {
        message = bytes
        let space = UInt8(ascii: " ")
        guard let first = bytes.firstIndex(of: space), let time = PointInTime.nanoseconds(rfc3339: bytes[..<first]),
            let second = bytes[(first + 1)...].firstIndex(of: space),
            let stream = LogLine.stream(bytes[(first + 1)..<second])
        else { return }
        let rest = bytes[(second + 1)...]
        // There may be more tags behind the first, with ':' before each; and editors cut spaces off the ends of lines.
        let end = rest.firstIndex(of: space) ?? rest.endIndex
        let tag = rest[..<end].prefix { $0 != UInt8(ascii: ":") }
        guard tag.count == 1, tag.first == UInt8(ascii: "F") || tag.first == UInt8(ascii: "P") else { return }
        isPartial = tag.first == UInt8(ascii: "P")
        message = rest[end...].dropFirst()
        self.stream = stream
        self.time = time
    }

    private static func stream(_ word: ArraySlice<UInt8>) -> LogStream? {
        if word.elementsEqual("stdout".utf8) { return .output }
        return word.elementsEqual("stderr".utf8) ? .error : nil
    }
}

/// The head of lines that are written one after the other: most are of the same second.
struct LogStamp {
    private var second = Int64.min
    /// `2026-11-21T15:04:05`
    private var text: [UInt8] = []

    /// Appends `2026-11-21T15:04:05.123456789Z` of nanoseconds since 1970.
    mutating func append(_ time: Int64, to bytes: inout [UInt8]) {
        let (whole, rest) = time.floored(by: 1_000_000_000)
        if whole != second {
            second = whole
            text = Array(PointInTime.rfc3339(whole).utf8.dropLast())
        }
        bytes += text
        bytes.append(UInt8(ascii: "."))
        var unit: Int64 = 100_000_000
        while unit > 0 {
            bytes.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest / unit % 10))
            unit /= 10
        }
        bytes.append(UInt8(ascii: "Z"))
    }
}
