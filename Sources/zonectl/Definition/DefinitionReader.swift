// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import ZoneRuntime

/// Reads a definition as people write it: first the short forms, then everything else, strictly.
struct DefinitionReader {
    /// Members of the form that ``ZoneDefinition`` has.
    private var plain: [JSON.Member] = []
    private var definition = ZoneDefinition()
    private var limits = LimitReader()
    private var startsWithHost = true

    static func zone(
        _ json: JSON, _ expected: String?, looksAtHost: Bool
    ) throws(DefinitionFault) -> DefinitionFile.Zone {
        guard case .object(let members) = json else {
            throw DefinitionFault([], "a definition is an object, such as {\"name\": \"web\", \"image\": \"busybox\"}")
        }
        var reader = DefinitionReader()
        // Mounts and devices as texts are looked up on the host.
        for member in members where looksAtHost || !["mounts", "devices"].contains(member.name) {
            try reader.take(member)
        }
        if let expected, json["name"] == nil { reader.plain.append(JSON.Member("name", .string(expected))) }
        let definition = try reader.finish()
        if let expected, definition.name != expected {
            throw DefinitionFault([.name("name")], "\"\(definition.name)\" is not the file's name, \"\(expected)\"")
        }
        return DefinitionFile.Zone(definition: definition, startsWithHost: reader.startsWithHost)
    }

    /// Members that only files have.
    private static let ownMembers = ["boot", "tmpfs"] + LimitReader.members

    private mutating func take(_ member: JSON.Member) throws(DefinitionFault) {
        let (name, value) = (member.name, member.value)
        switch name {
        case "boot": startsWithHost = try DefinitionReader.value(value, [.name(name)])
        case "resources": try takeResources(value)
        case _ where LimitReader.members.contains(name): try limits.take(name, value, at: [.name(name)])
        case "environment": plain.append(JSON.Member(name, try DefinitionReader.environment(value)))
        case "mounts": try takeMounts(value)
        case "tmpfs": try takeTmpfs(value)
        case "devices": plain.append(JSON.Member(name, try DefinitionReader.devices(value)))
        case "limits": plain.append(JSON.Member(name, try DefinitionReader.limits(value)))
        case "health": plain.append(JSON.Member(name, try DefinitionReader.health(value)))
        case "addedCapabilities", "droppedCapabilities":
            plain.append(JSON.Member(name, try DefinitionReader.capabilities(value, name)))
        case "stopTimeout":
            plain.append(JSON.Member(name, try DefinitionReader.time(value, [.name(name)], thousandths: 1000)))
        case "storage":
            plain.append(JSON.Member(name, try DefinitionReader.size(value, name)))
        default: plain.append(member)
        }
    }

    private mutating func finish() throws(DefinitionFault) -> ZoneDefinition {
        // What may be left out.
        if !plain.contains(where: { $0.name == "type" }) {
            let isMachine = plain.contains { $0.name == "machine" }
            plain.append(JSON.Member("type", .string(isMachine ? "vm" : "container")))
        }
        let json = JSON.object(plain)
        if let unknown = ZoneDefinition.unknownMember(in: json) { throw DefinitionReader.fault(unknown) }
        if let made = plain.first(where: { ZoneDefinition.madeMembers.contains($0.name) }) {
            throw DefinitionFault([.name(made.name)], "is noted by zonectl itself", hint: "leave it out")
        }
        let mounts = definition.mounts
        do throws(JSONError) { definition = try ZoneDefinition(json: json) } catch {
            throw DefinitionFault(
                json.steps(to: error.place), error.reason == "is missing" ? "\(error.place) is missing" : error.reason)
        }
        definition.mounts += mounts
        try limits.apply(to: &definition.resources)
        do throws(DefinitionFault) { try definition.verify() } catch { throw limits.located(error) }
        return definition
    }

    private static func fault(_ unknown: UnknownMember) -> DefinitionFault {
        let isOutermost = unknown.path.count == 1
        let known =
            isOutermost ? unknown.known.filter { !ZoneDefinition.madeMembers.contains($0) } + ownMembers : unknown.known
        let nearest = Suggestion.nearest(to: unknown.name, among: known)
        return DefinitionFault(
            unknown.path, "unknown key" + (nearest.map { "; did you mean \"\($0)\"?" } ?? ""),
            hint: "there is \(known.joined(separator: ", "))")
    }

    // MARK: Short forms

    static func value<Value: JSONCodable>(_ json: JSON, _ place: [JSONStep]) throws(DefinitionFault) -> Value {
        do throws(JSONError) { return try Value(json: json) } catch {
            throw DefinitionFault(place + json.steps(to: error.place), error.reason)
        }
    }

    /// What a parser of the command line's makes of a text: its error without the option, which nobody gave.
    static func option<Value>(
        _ text: String, _ place: [JSONStep], _ parse: (String) throws(ZoneError) -> Value
    ) throws(DefinitionFault) -> Value {
        do throws(ZoneError) { return try parse(text) } catch {
            var detail = error.detail
            if detail.hasPrefix("--") { detail = detail.halves(" ").1 ?? detail }
            throw DefinitionFault(place, detail, hint: error.hint)
        }
    }

    private mutating func takeResources(_ value: JSON) throws(DefinitionFault) {
        guard case .object(let members) = value else {
            throw DefinitionFault([.name("resources")], "expected an object, such as {\"memory\": \"512M\"}")
        }
        var rest: [JSON.Member] = []
        for member in members {
            // "memory" is both: a size, and the object of the OCI configuration.
            if case .object = member.value {
                rest.append(member)
            } else if LimitReader.members.contains(member.name) {
                try limits.take(member.name, member.value, at: [.name("resources"), .name(member.name)])
            } else {
                rest.append(member)
            }
        }
        if !rest.isEmpty { plain.append(JSON.Member("resources", .object(rest))) }
    }

    private static func elements(_ value: JSON, _ name: String) throws(DefinitionFault) -> [JSON] {
        guard case .array(let values) = value else { throw DefinitionFault([.name(name)], "expected an array") }
        return values
    }

    private mutating func takeMounts(_ value: JSON) throws(DefinitionFault) {
        var all: [JSON] = []
        for (index, element) in try DefinitionReader.elements(value, "mounts").enumerated() {
            guard case .string(let text) = element else {
                all.append(element)
                continue
            }
            let mount = try DefinitionReader.option(text, [.name("mounts"), .index(index)]) {
                (text) throws(ZoneError) in
                text.holds("type=") || text.holds("dst=") ? try MountValue.mount(text) : try MountValue.volume(text)
            }
            all.append(mount.json)
        }
        plain.append(JSON.Member("mounts", .array(all)))
    }

    private mutating func takeTmpfs(_ value: JSON) throws(DefinitionFault) {
        for (index, element) in try DefinitionReader.elements(value, "tmpfs").enumerated() {
            let place: [JSONStep] = [.name("tmpfs"), .index(index)]
            let text: String = try DefinitionReader.value(element, place)
            definition.mounts.append(try DefinitionReader.option(text, place, MountValue.tmpfs))
        }
    }

    /// A size as a text, in bytes.
    private static func size(_ value: JSON, _ name: String) throws(DefinitionFault) -> JSON {
        guard case .string(let text) = value else { return value }
        guard let bytes = ByteSize.parse(text) else {
            throw DefinitionFault([.name(name)], "\"\(text)\" is not a size", hint: "such as \"2G\"")
        }
        return .number(String(bytes))
    }

    /// A list of `NAME=VALUE`, or an object.
    private static func environment(_ value: JSON) throws(DefinitionFault) -> JSON {
        guard case .object(let members) = value else { return value }
        var entries: [JSON] = []
        for member in members {
            let text: String = try DefinitionReader.value(member.value, [.name("environment"), .name(member.name)])
            if member.name.isEmpty || member.name.utf8.contains(UInt8(ascii: "=")) {
                throw DefinitionFault(
                    [.name("environment"), .name(member.name)], "\"\(member.name)\" is not a variable's name")
            }
            entries.append(.string("\(member.name)=\(text)"))
        }
        return .array(entries)
    }

    private static func devices(_ value: JSON) throws(DefinitionFault) -> JSON {
        try converted(value, "devices") { (text) throws(ZoneError) in try OptionValue.device(text).json }
    }

    private static func limits(_ value: JSON) throws(DefinitionFault) -> JSON {
        try converted(value, "limits") { (text) throws(ZoneError) in try OptionValue.limit(text).json }
    }

    private static func capabilities(_ value: JSON, _ name: String) throws(DefinitionFault) -> JSON {
        try converted(value, name) { (text) throws(ZoneError) in
            .string(try OptionValue.capability(text, "--cap"))
        }
    }

    /// A list whose texts are what an option takes.
    private static func converted(
        _ value: JSON, _ name: String, _ parse: (String) throws(ZoneError) -> JSON
    ) throws(DefinitionFault) -> JSON {
        var result: [JSON] = []
        for (index, element) in try elements(value, name).enumerated() {
            if case .string(let text) = element {
                result.append(try option(text, [.name(name), .index(index)], parse))
            } else {
                result.append(element)
            }
        }
        return .array(result)
    }

    /// Times as texts; the command as a line for the shell.
    private static func health(_ value: JSON) throws(DefinitionFault) -> JSON {
        guard case .object(let members) = value else { return value }
        var result: [JSON.Member] = []
        for member in members {
            let place: [JSONStep] = [.name("health"), .name(member.name)]
            switch (member.name, member.value) {
            case ("command", .string(let line)):
                let words = ["/bin/sh", "-c", line].map { JSON.string($0) }
                result.append(JSON.Member(member.name, .array(line.isEmpty ? [] : words)))
            case ("interval", .string), ("timeout", .string), ("startPeriod", .string):
                result.append(JSON.Member(member.name, try time(member.value, place, thousandths: 1)))
            default: result.append(member)
            }
        }
        return .object(result)
    }

    /// A time such as `10s` as a whole number of units of `thousandths` milliseconds; other values as they are.
    private static func time(
        _ value: JSON, _ place: [JSONStep], thousandths: Int64
    ) throws(DefinitionFault) -> JSON {
        guard case .string(let text) = value else { return value }
        guard let milliseconds = Duration.milliseconds(text) else {
            throw DefinitionFault(place, "\"\(text)\" is not a time", hint: "such as 500ms, 10s, 1m30s or 2h")
        }
        let (whole, rest) = milliseconds.quotientAndRemainder(dividingBy: thousandths)
        return .number(String(whole + (rest > 0 ? 1 : 0)))
    }
}

extension JSONCodable {
    /// The value as a tree.
    fileprivate var json: JSON {
        var writer = JSONWriter()
        write(to: &writer)
        // Our own text is JSON.
        return (try? JSON(parsing: writer.bytes)) ?? .null
    }
}
