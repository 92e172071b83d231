// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

extension JSONError {
    static func mismatch(_ expected: String, _ json: JSON) -> JSONError {
        JSONError(place: "", reason: "expected \(expected), found \(json.kind)")
    }
}

extension JSON: JSONCodable {
    public init(json: JSON) { self = json }

    public func write(to writer: inout JSONWriter) {
        switch self {
        case .null: writer.literal("null")
        case .bool(let value): writer.literal(value ? "true" : "false")
        case .number(let text): writer.literal(text)
        case .string(let text): writer.string(text)
        case .array(let values): values.write(to: &writer)
        case .object(let members):
            writer.beginObject()
            for member in members {
                writer.name(member.name)
                member.value.write(to: &writer)
            }
            writer.endObject()
        }
    }
}

extension Bool: JSONCodable {
    public init(json: JSON) throws(JSONError) {
        guard case .bool(let value) = json else { throw .mismatch("a boolean", json) }
        self = value
    }

    public func write(to writer: inout JSONWriter) { writer.literal(self ? "true" : "false") }

    public var isOmitted: Bool { !self }
}

extension String: JSONCodable {
    public init(json: JSON) throws(JSONError) {
        guard case .string(let value) = json else { throw .mismatch("a string", json) }
        self = value
    }

    public func write(to writer: inout JSONWriter) { writer.string(self) }

    public var isOmitted: Bool { isEmpty }
}

extension JSONCodable where Self: FixedWidthInteger {
    public init(json: JSON) throws(JSONError) {
        guard case .number(let text) = json else { throw .mismatch("an integer", json) }
        guard let value = Self(text) else {
            throw JSONError(place: "", reason: "\(text) is not an integer from \(Self.min) to \(Self.max)")
        }
        self = value
    }

    public func write(to writer: inout JSONWriter) {
        // By the two widest types: each type's own conversion is code that a start would have to load.
        writer.literal(Self.isSigned ? String(Int64(self)) : String(UInt64(self)))
    }
}

extension Int: JSONCodable {}
extension Int32: JSONCodable {}
extension Int64: JSONCodable {}
extension UInt16: JSONCodable {}
extension UInt32: JSONCodable {}
extension UInt64: JSONCodable {}

extension Array: JSONCodable where Element: JSONCodable {
    public init(json: JSON) throws(JSONError) {
        guard case .array(let values) = json else { throw .mismatch("an array", json) }
        var result: [Element] = []
        result.reserveCapacity(values.count)
        for (index, value) in values.enumerated() {
            do throws(JSONError) { result.append(try Element(json: value)) } catch { throw error.inside("[\(index)]") }
        }
        self = result
    }

    public func write(to writer: inout JSONWriter) {
        writer.beginArray()
        for element in self { element.write(to: &writer) }
        writer.endArray()
    }

    public var isOmitted: Bool { isEmpty }
}

extension Dictionary: JSONCodable where Key == String, Value: JSONCodable {
    public init(json: JSON) throws(JSONError) {
        guard case .object(let members) = json else { throw .mismatch("an object", json) }
        self.init(minimumCapacity: members.count)
        for member in members {
            do throws(JSONError) { self[member.name] = try Value(json: member.value) } catch {
                throw error.inside(member.name)
            }
        }
    }

    public func write(to writer: inout JSONWriter) {
        writer.beginObject()
        for (name, value) in sorted(by: { $0.key < $1.key }) {
            writer.name(name)
            value.write(to: &writer)
        }
        writer.endObject()
    }

    public var isOmitted: Bool { isEmpty }
}

extension JSONCodable where Self: RawRepresentable, RawValue == String, Self: CaseIterable {
    public init(json: JSON) throws(JSONError) {
        let text = try String(json: json)
        guard let value = Self(rawValue: text) else {
            let known = Self.allCases.map(\.rawValue).joined(separator: ", ")
            throw JSONError(place: "", reason: "\"\(text)\" is not one of \(known)")
        }
        self = value
    }

    public func write(to writer: inout JSONWriter) { writer.string(rawValue) }
}
