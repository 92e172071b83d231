// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// JSON Schema (draft 2020-12) of what a ``JSONRecord`` is written as: made from the same visit of its fields, so that the
/// two cannot differ.
public enum JSONSchema {
    /// A whole schema. `isList`: the text is an array of such records. `descriptions`: of fields, by `name` or
    /// `outer.name`.
    public static func of<Record: JSONRecord>(
        _ type: Record.Type, title: String, isList: Bool, descriptions: [String: String] = [:]
    ) -> JSON {
        var members = [
            JSON.Member("$schema", .string("https://json-schema.org/draft/2020-12/schema")),
            JSON.Member("title", .string(title)),
        ]
        let item = record(type, Place(path: "", depth: 0, descriptions: descriptions))
        if isList {
            members += [JSON.Member("type", .string("array")), JSON.Member("items", .object(item))]
        } else {
            members += item
        }
        return .object(members)
    }

    /// Where in the text a value stands.
    struct Place {
        let path: String
        let depth: Int
        let descriptions: [String: String]

        func inside(_ name: String) -> Place {
            Place(path: path.isEmpty ? name : "\(path).\(name)", depth: depth + 1, descriptions: descriptions)
        }
    }

    /// No record of ours is nested so deeply: what holds itself ends here.
    private static let deepest = 16

    static func record<Record: JSONRecord>(_ type: Record.Type, _ place: Place) -> [JSON.Member] {
        var visitor = SchemaVisitor(place: place)
        var empty = Record()
        // Some records refuse their own empty values; their fields were visited by then.
        try? empty.visit(&visitor)
        var members = [
            JSON.Member("type", .string("object")), JSON.Member("properties", .object(visitor.properties)),
        ]
        if !visitor.required.isEmpty {
            members.append(JSON.Member("required", .array(visitor.required.map { .string($0) })))
        }
        return members
    }

    /// The schema of a value of any type; what is not known may be anything.
    static func value(_ type: any JSONCodable.Type, _ place: Place) -> [JSON.Member] {
        if place.depth > deepest { return [] }
        if let known = type as? any SchemaDescribed.Type { return known.schema(place) }
        if let nested = type as? any JSONRecord.Type { return record(nested, place) }
        if let choices = type as? any CaseIterable.Type {
            return [
                JSON.Member("type", .string("string")),
                JSON.Member("enum", .array(names(of: choices).map { .string($0) })),
            ]
        }
        return []
    }

    private static func names<Choice: CaseIterable>(of type: Choice.Type) -> [String] {
        Choice.allCases.compactMap { ($0 as? any RawRepresentable<String>)?.rawValue }
    }
}

/// A value that is no record and has a schema of its own.
public protocol SchemaDescribed {
    /// The JSON Schema type: `string`, `number` …
    static var schemaType: String { get }
}

extension SchemaDescribed {
    fileprivate static func schema(_ place: JSONSchema.Place) -> [JSON.Member] {
        if let nested = self as? any NestedSchema.Type { return nested.nested(place) }
        return [JSON.Member("type", .string(schemaType))]
    }
}

private protocol NestedSchema {
    static func nested(_ place: JSONSchema.Place) -> [JSON.Member]
}

extension String: SchemaDescribed {
    public static var schemaType: String { "string" }
}

extension Bool: SchemaDescribed {
    public static var schemaType: String { "boolean" }
}

extension SchemaDescribed where Self: FixedWidthInteger {
    public static var schemaType: String { "integer" }
}

extension Int: SchemaDescribed {}
extension Int32: SchemaDescribed {}
extension Int64: SchemaDescribed {}
extension UInt16: SchemaDescribed {}
extension UInt32: SchemaDescribed {}
extension UInt64: SchemaDescribed {}

extension Array: SchemaDescribed, NestedSchema where Element: JSONCodable {
    public static var schemaType: String { "array" }

    fileprivate static func nested(_ place: JSONSchema.Place) -> [JSON.Member] {
        [
            JSON.Member("type", .string(schemaType)),
            JSON.Member("items", .object(JSONSchema.value(Element.self, place))),
        ]
    }
}

extension Dictionary: SchemaDescribed, NestedSchema where Key == String, Value: JSONCodable {
    public static var schemaType: String { "object" }

    fileprivate static func nested(_ place: JSONSchema.Place) -> [JSON.Member] {
        [
            JSON.Member("type", .string(schemaType)),
            JSON.Member("additionalProperties", .object(JSONSchema.value(Value.self, place))),
        ]
    }
}

private struct SchemaVisitor: FieldVisitor {
    let place: JSONSchema.Place
    var properties: [JSON.Member] = []
    var required: [String] = []

    mutating func field<Value: JSONCodable>(_ name: String, _ value: inout Value?) {
        add(name, Value.self)
    }

    mutating func field<Value: JSONCodable>(_ name: String, _ value: inout Value) {
        add(name, Value.self)
    }

    mutating func required<Value: JSONCodable>(_ name: String, _ value: inout Value) {
        add(name, Value.self)
        required.append(name)
    }

    private mutating func add(_ name: String, _ type: any JSONCodable.Type) {
        let inner = place.inside(name)
        var members = JSONSchema.value(type, inner)
        if let text = place.descriptions[inner.path] { members.append(JSON.Member("description", .string(text))) }
        properties.append(JSON.Member(name, .object(members)))
    }
}

extension Digest: SchemaDescribed {
    public static var schemaType: String { "string" }
}
