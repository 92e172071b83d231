// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// A JSON text as a tree, RFC 8259. Numbers keep their digits, so that a 64-bit value loses nothing.
public enum JSON: Sendable, Equatable {
    case null
    case bool(Bool)
    case number(String)
    case string(String)
    case array([JSON])
    case object([Member])

    /// One name and its value; names may come in any order and the first of equal names is refused as a duplicate.
    public struct Member: Sendable, Equatable {
        public let name: String
        public let value: JSON

        public init(_ name: String, _ value: JSON) {
            self.name = name
            self.value = value
        }
    }

    /// Returns the member of this name, `nil` where there is none or this is no object.
    public subscript(name: String) -> JSON? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.name == name }?.value
    }

    var kind: String {
        switch self {
        case .null: "null"
        case .bool: "a boolean"
        case .number: "a number"
        case .string: "a string"
        case .array: "an array"
        case .object: "an object"
        }
    }
}

/// Why a JSON text, or a value in it, is not what was expected.
public struct JSONError: Error, Sendable, CustomStringConvertible, Equatable {
    /// `line 3, column 14` for a text that is no JSON, `process.args[0]` for a value of the wrong kind.
    public let place: String
    public let reason: String

    public init(place: String, reason: String) {
        self.place = place
        self.reason = reason
    }

    public var description: String {
        place.isEmpty ? reason : "\(place): \(reason)"
    }

    /// The same error, seen from the value that holds the one with the error.
    public func inside(_ outer: String) -> JSONError {
        let separator = place.isEmpty || place.hasPrefix("[") ? "" : "."
        return JSONError(place: outer + separator + place, reason: reason)
    }
}
