// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// A member that a record does not have, which reading passes over: a newer version's, or a mistake.
public struct UnknownMember: Sendable, Equatable {
    public var path: [JSONStep]
    /// What the record has.
    public let known: [String]

    public var name: String {
        if case .name(let name)? = path.last { return name }
        return ""
    }
}

extension JSONRecord {
    /// The first member, at any depth, that this record and those in it do not have.
    public static func unknownMember(in json: JSON) -> UnknownMember? {
        guard case .object(let members) = json else { return nil }
        var shape = Shape(members: members)
        var record = Self()
        // What visits and reads nothing finds no mistake.
        try? record.visit(&shape)
        for member in members {
            if !shape.names.contains(member.name) {
                return UnknownMember(path: [.name(member.name)], known: shape.names)
            }
            if let inner = shape.inner.first(where: { $0.name == member.name }) {
                return UnknownMember(path: [.name(member.name)] + inner.member.path, known: inner.member.known)
            }
        }
        return nil
    }

    /// The names of all members that the record may have.
    public static var memberNames: [String] {
        var shape = Shape(members: [])
        var record = Self()
        try? record.visit(&shape)
        return shape.names
    }
}

/// Lists that may hold records.
private protocol JSONList {
    static func unknownMember(in json: JSON) -> UnknownMember?
}

extension Array: JSONList where Element: JSONCodable {
    fileprivate static func unknownMember(in json: JSON) -> UnknownMember? {
        guard case .array(let values) = json, let record = Element.self as? any JSONRecord.Type else { return nil }
        for (index, value) in values.enumerated() {
            if let inner = record.unknownMember(in: value) {
                return UnknownMember(path: [.index(index)] + inner.path, known: inner.known)
            }
        }
        return nil
    }
}

private struct Shape: FieldVisitor {
    let members: [JSON.Member]
    var names: [String] = []
    var inner: [(name: String, member: UnknownMember)] = []

    private mutating func note<Value: JSONCodable>(_ name: String, _ type: Value.Type) {
        names.append(name)
        guard let json = members.first(where: { $0.name == name })?.value else { return }
        let found =
            (type as? any JSONRecord.Type)?.unknownMember(in: json)
            ?? (type as? any JSONList.Type)?.unknownMember(in: json)
        if let found { inner.append((name, found)) }
    }

    mutating func field<Value: JSONCodable>(_ name: String, _ value: inout Value?) { note(name, Value.self) }

    mutating func field<Value: JSONCodable>(_ name: String, _ value: inout Value) { note(name, Value.self) }

    mutating func required<Value: JSONCodable>(_ name: String, _ value: inout Value) { note(name, Value.self) }
}
