// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
public import LinuxSystem

/// A folder of a test's own, removed with all that is in it when the value goes.
public final class TemporaryFolder {
    public let path: String
    public let descriptor: Descriptor

    public init() throws(SystemError) {
        var template = Array("/tmp/zonectl-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw SystemError("mkdtemp", "/tmp", Errno(rawValue: Glibc.errno))
        }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        descriptor = try Descriptor.open(path, [.readOnly, .directory])
    }

    deinit {
        // What cannot be removed stays in /tmp: no reason to fail a test.
        guard let slash = path.lastIndex(of: "/") else { return }
        try? Descriptor.open("/tmp", [.path, .directory]).removeTree(
            String(path[path.index(after: slash)...]))
    }

    /// Writes a file, with the folders that it lies in.
    public func write(_ name: String, _ text: String = "") throws(SystemError) {
        if let slash = name.lastIndex(of: "/") { try makeFolder(String(name[..<slash])) }
        let file = try descriptor.open(
            name, [.writeOnly, .create, .truncate], mode: 0o644, resolve: .beneath)
        try file.writeAll(text)
    }

    /// Makes a folder, with those that it lies in.
    public func makeFolder(_ name: String) throws(SystemError) {
        _ = try Descriptor.makePath("\(path)/\(name)")
    }

    public func read(_ name: String) throws(SystemError) -> String {
        String(decoding: try descriptor.readFile(name), as: UTF8.self)
    }

    /// Whether anything of this name is there, be it a dangling link.
    public func has(_ name: String) -> Bool {
        (try? FileStatus.of("\(path)/\(name)", followLinks: false)) != nil
    }
}
