// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem

/// Where `cp` copies from or to: a zone's files or the host's. The same questions are answered for both.
struct CopyPlace: ~Copyable {
    /// `nil`: the host.
    private let tree: ZoneTree?

    init(_ tree: consuming ZoneTree?) {
        self.tree = tree
    }

    /// Where something is to be put.
    struct Target: ~Copyable {
        let directory: Descriptor
        /// What it is to be called there, with a NUL at its end; `nil` where the path is that of a directory.
        var name: [CChar]?
        /// Whether a file has that name.
        var isTaken = false
    }

    /// As many links as the kernel follows, path_resolution(7).
    private static let mostLinks = 40

    /// For people.
    func describe(_ path: String) -> String {
        switch tree {
        case .some(let tree): "\(path) of zone \(tree.zone)"
        case .none: path
        }
    }

    /// Opens a path without doing anything with what is there. `follows`: a link at its end, too.
    func open(_ path: String, follows: Bool) throws(ZoneError) -> Descriptor {
        do throws(SystemError) { return try openPath(path, follows ? [.path] : [.path, .noFollow]) } catch {
            throw failure(path, error)
        }
    }

    /// Finds out where something would be put.
    func target(_ path: String) throws(ZoneError) -> Target {
        var rest = path
        for _ in 0..<CopyPlace.mostLinks {
            let (parentPath, name) = CopyPlace.split(rest)
            guard let name else {
                do throws(SystemError) { return Target(directory: try openPath(rest, [.path, .directory])) } catch {
                    throw failure(path, error)
                }
            }
            let parent: Descriptor
            do throws(SystemError) { parent = try openPath(parentPath, [.path, .directory]) } catch {
                throw failure(parentPath, error)
            }
            let bytes = name.utf8CString.map { $0 }
            do throws(SystemError) {
                guard let found = try parent.openEntry(bytes) else {
                    return Target(directory: parent, name: bytes)
                }
                switch try found.stat().kind {
                case .directory: return Target(directory: found)
                case .symlink:
                    let text = try found.linkText().shown
                    rest = text.isAbsolutePath ? text : "\(parentPath)/\(text)"
                default: return Target(directory: parent, name: bytes, isTaken: true)
                }
            } catch {
                throw failure(path, error)
            }
        }
        throw failure(path, SystemError("open", path, .loop))
    }

    /// The folder of a path and the last name in it; no name where the path can only mean a directory: it ends with a
    /// slash, a dot or two.
    static func split(_ path: String) -> (parent: String, name: String?) {
        let bytes = Array(path.utf8)
        let slash = bytes.lastIndex(of: UInt8(ascii: "/"))
        let last = String(decoding: bytes[(slash.map { $0 + 1 } ?? 0)...], as: UTF8.self)
        if last.isEmpty || last == "." || last == ".." { return (path, nil) }
        guard let slash else { return (".", last) }
        return (slash == 0 ? "/" : String(decoding: bytes[..<slash], as: UTF8.self), last)
    }

    private func openPath(_ path: String, _ flags: OpenFlags) throws(SystemError) -> Descriptor {
        switch tree {
        case .some(let tree): try tree.root.open(path, flags, resolve: .zone)
        case .none: try Descriptor.open(path, flags)
        }
    }

    /// Opens a directory that lies below another one, as the zone sees it: `path` is that of the other, `below` is relative.
    func directory(_ below: String, of path: String) -> Descriptor? {
        try? openPath("\(path)/\(below)", [.path, .directory])
    }

    func failure(_ path: String, _ error: SystemError) -> ZoneError {
        switch error.errno {
        case .noEntry: ZoneError(.notFound, "cp: \(describe(path)): there is no such file or directory")
        case .notDirectory: ZoneError(.invalid, "cp: \(describe(path)): it is, or leads through, what is no directory")
        case .readOnly: ZoneError(.notPermitted, "cp: \(describe(path)): the file system is read-only there")
        case .isDirectory:
            ZoneError(
                .exists, "cp: \(describe(path)): \(error.subject) is a directory there, which no file can replace",
                hint: "remove it first, or choose another place")
        default: ZoneError("cp: \(describe(path))", error)
        }
    }
}
