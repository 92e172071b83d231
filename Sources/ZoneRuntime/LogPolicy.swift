// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import OCI

/// How much of what a zone in the background writes is kept.
public struct LogPolicy: JSONRecord, Sendable, Equatable {
    public enum Driver: String, JSONCodable, CaseIterable, Sendable {
        /// In STORE/zones/NAME/log.
        case file
        /// Nowhere.
        case none
    }

    public var driver = Driver.file
    /// Bytes of one file, after which a new one is begun.
    public var maximumSize: Int64 = 10 << 20
    /// Files in all, the one that is written among them.
    public var files: Int32 = 3

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("driver", &driver)
        try visitor.required("maximumSize", &maximumSize)
        try visitor.required("files", &files)
        if maximumSize < LogPolicy.smallestSize || !LogPolicy.fileCounts.contains(files) {
            throw JSONError(place: "", reason: "maximumSize is at least 1024, files from 1 to 1000")
        }
    }

    /// `LogWriter` looks no smaller than a line's own head.
    static let smallestSize: Int64 = 1024
    static let fileCounts: ClosedRange<Int32> = 1...1000

    /// Takes `max-size=10m` and `max-file=3`, as docker's `--log-opt`; -1 is no limit of size.
    public mutating func apply(option text: String) throws(ZoneError) {
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let value = parts.count == 2 ? parts[1] : ""
        switch parts[0] {
        case "max-size":
            guard let size = value == "-1" ? .max : ByteSize.parse(value), size >= LogPolicy.smallestSize else {
                throw ZoneError(
                    .invalid, "--log-opt \"\(text)\": \"\(value)\" is not a size of at least 1k",
                    hint: "such as max-size=10m; -1 is no limit")
            }
            maximumSize = size
        case "max-file":
            guard let count = Int32(value), LogPolicy.fileCounts.contains(count) else {
                throw ZoneError(.invalid, "--log-opt \"\(text)\": \"\(value)\" is not a number from 1 to 1000")
            }
            files = count
        default:
            throw ZoneError(
                .invalid, "--log-opt \"\(text)\" is not known", hint: "there is max-size=SIZE and max-file=NUMBER")
        }
    }
}
