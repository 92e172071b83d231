// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// A value that can be read from and written to JSON.
public protocol JSONCodable {
    init(json: JSON) throws(JSONError)
    func write(to writer: inout JSONWriter)
    /// Whether a record leaves the value out because it says nothing, as an empty list does.
    var isOmitted: Bool { get }
}

extension JSONCodable {
    public var isOmitted: Bool { false }
}

/// A structure whose fields are named once, for reading and for writing alike.
///
/// Why not `Codable`: FoundationEssentials' decoder costs a static executable 12 MB, 4 MB of resident memory and
/// 0.7 ms a call, as much as a zone's whole start; see ARCHITECTURE.md.
public protocol JSONRecord: JSONCodable {
    init()
    /// Visits every field: `visitor.field("name", &name)`.
    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError)
}

/// Reads or writes the fields of a ``JSONRecord``.
public protocol FieldVisitor {
    /// A field that may be missing and is left out when `nil`.
    mutating func field<Value: JSONCodable>(_ name: String, _ value: inout Value?) throws(JSONError)
    /// A field that keeps its default when missing or null; left out when it is an empty array or object, or false.
    mutating func field<Value: JSONCodable>(_ name: String, _ value: inout Value) throws(JSONError)
    /// A field that must be there.
    mutating func required<Value: JSONCodable>(_ name: String, _ value: inout Value) throws(JSONError)
}

extension JSONRecord {
    public init(json: JSON) throws(JSONError) {
        guard case .object(let members) = json else {
            throw JSONError(place: "", reason: "expected an object, found \(json.kind)")
        }
        self.init()
        var reader = FieldReader(members: members)
        try visit(&reader)
    }

    public func write(to writer: inout JSONWriter) {
        var copy = self
        // The writer is moved, an empty one being there meanwhile: of two that share their text, each record would copy it.
        var fields = FieldWriter(writer: JSONWriter(capacity: 0))
        swap(&fields.writer, &writer)
        fields.writer.beginObject()
        // A writer never throws; the protocol's `throws` is for readers.
        do throws(JSONError) { try copy.visit(&fields) } catch { preconditionFailure("\(error)") }
        fields.writer.endObject()
        swap(&fields.writer, &writer)
    }

    /// Parses a text that holds one record; fields that are left out keep their defaults.
    public init(parsing bytes: [UInt8], leavingOut unread: [String] = []) throws(JSONError) {
        self = try Self(json: try JSON(parsing: bytes, leavingOut: unread))
    }

    /// The record as JSON text, ended by a new line.
    public func serialized(pretty: Bool = false) -> [UInt8] {
        var writer = JSONWriter(pretty: pretty)
        write(to: &writer)
        writer.endText()
        return writer.bytes
    }
}

private struct FieldReader: FieldVisitor {
    let members: [JSON.Member]
    /// Where the next field is, in a text that was written by the same visit.
    private var expected = 0

    init(members: [JSON.Member]) {
        self.members = members
    }

    mutating func value(_ name: String) -> JSON? {
        if expected == members.count || members[expected].name != name {
            guard let found = members.firstIndex(where: { $0.name == name }) else { return nil }
            expected = found
        }
        defer { expected += 1 }
        if case .null = members[expected].value { return nil }
        return members[expected].value
    }

    mutating func field<Value: JSONCodable>(_ name: String, _ value: inout Value?) throws(JSONError) {
        guard let json = self.value(name) else { return }
        do throws(JSONError) { value = try Value(json: json) } catch { throw error.inside(name) }
    }

    mutating func field<Value: JSONCodable>(_ name: String, _ value: inout Value) throws(JSONError) {
        guard let json = self.value(name) else { return }
        do throws(JSONError) { value = try Value(json: json) } catch { throw error.inside(name) }
    }

    mutating func required<Value: JSONCodable>(_ name: String, _ value: inout Value) throws(JSONError) {
        guard let json = self.value(name) else { throw JSONError(place: name, reason: "is missing") }
        do throws(JSONError) { value = try Value(json: json) } catch { throw error.inside(name) }
    }
}

private struct FieldWriter: FieldVisitor {
    var writer: JSONWriter

    mutating func field<Value: JSONCodable>(_ name: String, _ value: inout Value?) {
        guard let value else { return }
        writer.name(name)
        value.write(to: &writer)
    }

    mutating func field<Value: JSONCodable>(_ name: String, _ value: inout Value) {
        if !value.isOmitted { required(name, &value) }
    }

    mutating func required<Value: JSONCodable>(_ name: String, _ value: inout Value) {
        writer.name(name)
        value.write(to: &writer)
    }
}
