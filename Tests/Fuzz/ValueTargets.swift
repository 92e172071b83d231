// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

@testable import CGroups
@testable import Images
@testable import Namespaces
@testable import ZoneRuntime

/// Words that configurations, people and host files give.
let valueTargets = [
    FuzzTarget(name: "mount-options") { mountOptions($0) },
    FuzzTarget(name: "user") { user($0) },
    FuzzTarget(name: "size") { size($0) },
    FuzzTarget(name: "signal") { signal($0) },
    FuzzTarget(name: "cgroup-path") { cgroupPath($0) },
    FuzzTarget(name: "cpu-list") { cpuList($0) },
    FuzzTarget(name: "subordinate-ids") { subordinateIDs($0) },
    FuzzTarget(name: "name") { name($0) },
    FuzzTarget(name: "annotation") { annotation($0) },
]

private func isASCII(_ text: String) -> Bool { text.utf8.allSatisfy { $0 < 0x80 } }

// MARK: Mounts

private func mountOptions(_ input: Input) {
    guard let text = input.text else { return }
    let words = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        .compactMap { String($0) }
    guard let options = try? MountOptions(words) else { return }
    check(options, of: words)
}

private let knownOptions = Set(MountOptions.known.map { Array($0.utf8) })

func check(_ options: MountOptions, of words: [String]) {
    let changes = options.changes
    let field = MountAttributes.accessTimeField
    expect(changes.set.intersection(changes.clear).subtracting(field).isEmpty, "nothing is both set and cleared")
    expect(
        changes.recursiveSet.intersection(changes.recursiveClear).subtracting(field).isEmpty,
        "nothing is both set and cleared in the tree")
    // The field holds one mode at a time.
    for set in [options.attributes, changes.set, changes.recursiveSet] {
        expect(!set.isSuperset(of: [.noAccessTime, .strictAccessTime]), "there is one mode of access times")
    }
    var given = words.flatMap { MountOptions.split($0) }.map { Array($0.utf8) }[...]
    for data in options.data {
        let isOurs = knownOptions.contains(Array(data.key.utf8)) && data.value == nil
        expect(!isOurs, "\(data.key) is left to the file system")
        expect(!data.key.utf8.contains(UInt8(ascii: "=")), "the name of an option ends at =: \(data.key)")
        let written = Array((data.value.map { "\(data.key)=\($0)" } ?? data.key).utf8)
        // In their order, none invented.
        guard let index = given.firstIndex(of: written) else { return expect(false, "an option was made up") }
        given = given[(index + 1)...]
    }
    // The last of two counts, so that saying everything again changes nothing.
    guard let twice = try? MountOptions(words + words) else { return expect(false, "the same again is refused") }
    expect(twice.attributes == options.attributes, "the same again changes attributes")
    expect(twice.changes.propagation == changes.propagation, "the same again changes propagation")
    expect(twice.data.count == 2 * options.data.count, "the same again is not the same options")
}

// MARK: Users

private func user(_ input: Input) {
    guard let text = input.text, let request = UserRequest(text) else { return }
    expect(request.text.utf8.elementsEqual(text.utf8), "the text is kept")
    checkUser(request)
    let parts = text.utf8.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
    let written = [request.user, request.group].compactMap { $0 }
    expect(parts.count == written.count, "there are as many principals as parts")
    for (part, principal) in zip(parts, written) {
        switch principal {
        case .id(let id):
            expect(String(part).map { UInt64($0) == UInt64(id) } == true, "\(text) is not \(id)")
            expect(part.allSatisfy { $0 >= 0x30 && $0 <= 0x39 }, "an id is digits")
        case .name(let name): expect(part.elementsEqual(name.utf8), "\(name) is not what was given")
        }
    }
}

func checkUser(_ request: UserRequest) {
    for principal in [request.user, request.group].compactMap({ $0 }) {
        switch principal {
        case .id(let id): expect(id != .max, "4294967295 means nobody")
        case .name(let name):
            expect(!name.isEmpty, "a name is empty")
            expect(!name.utf8.contains { $0 == 0x3A || $0 == 0x2F || $0 <= 0x20 }, "\(name) cannot be in /etc/passwd")
            expect(UInt32(name) == nil, "\(name) is a number")
        }
    }
}

// MARK: Sizes and signals

private func size(_ input: Input) {
    guard let text = input.text, let bytes = ByteSize.parse(text) else { return }
    expect(bytes >= 0, "\(text) is less than nothing")
    expect(isASCII(text), "\(text) is a size")
    expect(!ByteSize.text(bytes).isEmpty, "\(bytes) has no text")
    expect(ByteSize.parse(String(bytes)) == bytes, "\(bytes) is not read as itself")
    let unit = text.utf8.drop { $0 >= 0x30 && $0 <= 0x39 }
    if unit.isEmpty { expect(Int64(text) == bytes, "\(text) is \(bytes)") }
}

private func signal(_ input: Input) {
    guard let text = input.text, let number = SignalName.number(of: text) else { return }
    expect((1...64).contains(number), "\(text) is signal \(number)")
    expect(isASCII(text), "\(text) is a signal")
    expect(SignalName.number(of: String(number)) == number, "\(number) is not read as itself")
    expect(SignalName.number(of: text.lowercased()) == number, "letters in lower case mean another one")
}

// MARK: Control groups

private func cgroupPath(_ input: Input) {
    guard let text = input.text else { return }
    for systemd in [false, true] { checkCGroupPath(text, systemd: systemd) }
}

func checkCGroupPath(_ text: String?, systemd: Bool) {
    guard let path = try? CGroupPath.parse(text, id: "z", systemd: systemd, defaultParent: "zonectl") else { return }
    switch path {
    case .group(let path):
        expect(!systemd, "systemd gets units")
        expect(path.utf8.count <= 3072, "the path is too long")
        checkComponents(path)
    case .unit(let slice, let prefix, let name):
        expect(systemd, "only systemd gets units")
        guard let unit = try? SystemdName.unit(prefix: prefix, name: name) else {
            return expect(false, "a unit's name")
        }
        expect(!unit.utf8.contains(0x2F) && unit.utf8.count <= 255, "\(unit) is no name")
        if !slice.isEmpty {
            guard let expanded = try? SystemdName.expand(slice: slice) else { return expect(false, "a slice's name") }
            if !expanded.isEmpty { checkComponents(expanded) }
        }
    }
}

/// What is put behind a hierarchy's mount point stays below it, and is not the mount point.
private func checkComponents(_ path: String) {
    for part in path.utf8.split(separator: 0x2F, omittingEmptySubsequences: false) {
        expect(!part.isEmpty && !part.elementsEqual(".".utf8) && !part.elementsEqual("..".utf8), "\(path) leaves")
        expect(!part.contains { $0 < 0x20 }, "\(path) has control characters")
    }
}

private func cpuList(_ input: Input) {
    guard let text = input.text else { return }
    let numbers = NumberList.parse(text)
    expect(numbers.count <= 8192, "there are more numbers than the limit")
    guard let cpus = CPUSet(text) else { return }
    expect(isASCII(text), "\(text) is a list")
    let count = (0..<CPUSet.limit).count { cpus.contains($0) }
    expect(count > 0, "a list that was taken names a CPU")
    guard text.utf8.count < 256 else { return }
    var expected: Set<Int> = []
    for part in text.split(separator: ",") {
        let ends = part.split(separator: "-").compactMap { Int($0) }
        guard let first = ends.first, let last = ends.last else { return expect(false, "\(part) is no range") }
        expected.formUnion(first...last)
    }
    expect(expected.count == count && expected.allSatisfy(cpus.contains), "\(text) is read as other CPUs")
}

// MARK: Identities

private func subordinateIDs(_ input: Input) {
    guard let text = input.text else { return }
    let ranges = SubordinateIDs.ranges(text, user: 1000, name: "u")
    for (first, count) in ranges {
        expect(count > 0 && UInt64(first) + UInt64(count) <= UInt64(UInt32.max), "\(first):\(count) is too long")
    }
    var next: UInt64 = 0
    for range in SubordinateIDs.map(own: 1000, ranges) {
        expect(UInt64(range.inside) == next && range.count > 0, "ids inside do not follow one another")
        next += UInt64(range.count)
    }
    expect(next <= UInt64(UInt32.max), "4294967295 means nobody")
    _ = SubordinateIDs.name(of: 1000, in: text)
}

private func name(_ input: Input) {
    guard let text = input.text else { return }
    if ZoneName.isValid(text) { expect(ZoneName.isValidID(text) && text.utf8.count <= 63, "a name is an id") }
    if ZoneName.isValidID(text) {
        expect(isASCII(text) && !text.utf8.contains { $0 <= 0x20 || $0 == 0x2F }, "\(text) is a file name")
        expect(text != "." && text != ".." && !text.isEmpty, "\(text) is a folder of its own")
    }
    guard let image = try? ImageReference(text) else { return }
    if case .name(let full) = image {
        guard case .name(let again)? = try? ImageReference(full) else { return expect(false, "\(full) is no name") }
        expect(again.utf8.elementsEqual(full.utf8), "\(full) has another name: \(again)")
    }
}

private func annotation(_ input: Input) {
    guard let text = input.text else { return }
    for name in ["TasksMax", "TimeoutStopSec"] {
        guard let properties = try? SystemdAnnotation.properties(["org.systemd.property.\(name)": text]) else {
            continue
        }
        expect(properties.count == 1, "one annotation is one property")
        for property in properties {
            expect(
                !property.signature.isEmpty && property.signature.utf8.count <= 2, "a type is basic, or a list of one")
            expect(!property.values.isEmpty, "a property has a value")
        }
    }
}
