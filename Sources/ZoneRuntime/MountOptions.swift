// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Namespaces
import OCI

/// The options of mount(8) and of the runtime specification (config-linux.md "Linux mount options"), sorted into what
/// the kernel takes where. Of two that contradict each other the later one counts.
struct MountOptions: Equatable {
    /// Attributes and propagation of the mount.
    var changes = MountChanges()
    var isBind = false
    var isRecursive = false
    var isRemount = false
    /// `idmap` or `ridmap`.
    var idMapping: IDMapping?
    /// A tmpfs begins with what it covers.
    var copiesUp = false
    /// A source that is a symbolic link is copied instead of followed.
    var copiesSymlink = false
    /// Flags of the file system that it shares with all others, such as `sync`: a bind mount has no say in them.
    var superblock: [String] = []
    /// What the file system itself takes, for fsconfig(2).
    var data: [Data] = []

    enum IDMapping: Equatable {
        case mount, tree
    }

    struct Data: Equatable {
        let key: String
        let value: String?
    }

    /// What a new mount begins with.
    var attributes: MountAttributes { changes.attributes }

    init(_ options: [String]) throws(ZoneError) {
        for option in options {
            for part in MountOptions.split(option) { try add(part) }
        }
    }

    // MARK: The table

    private enum Meaning {
        case set(MountAttributes)
        case clear(MountAttributes)
        /// A mode of access times; empty for `relatime`, the kernel's own.
        case accessTime(MountAttributes)
        case leaveAccessTime(MountAttributes)
        case propagation(MountPropagation.Kind)
        case superblock
        /// What is so anyway.
        case nothing
    }

    /// Options of one mount. Each also exists with an `r` before it, for the mount and all below it, but for
    /// `superblock` and `nothing`.
    private static let meanings: [(name: String, meaning: Meaning)] = [
        ("ro", .set(.readOnly)), ("rw", .clear(.readOnly)),
        ("nosuid", .set(.noSuid)), ("suid", .clear(.noSuid)),
        ("nodev", .set(.noDevices)), ("dev", .clear(.noDevices)),
        ("noexec", .set(.noExecution)), ("exec", .clear(.noExecution)),
        ("nodiratime", .set(.noDirectoryAccessTime)), ("diratime", .clear(.noDirectoryAccessTime)),
        ("nosymfollow", .set(.noSymlinks)), ("symfollow", .clear(.noSymlinks)),
        ("noatime", .accessTime(.noAccessTime)), ("atime", .leaveAccessTime(.noAccessTime)),
        ("strictatime", .accessTime(.strictAccessTime)), ("nostrictatime", .leaveAccessTime(.strictAccessTime)),
        ("relatime", .accessTime([])), ("norelatime", .leaveAccessTime([])),
        ("private", .propagation(.private)), ("shared", .propagation(.shared)), ("slave", .propagation(.slave)),
        ("unbindable", .propagation(.unbindable)),
        ("sync", .superblock), ("async", .superblock), ("dirsync", .superblock), ("mand", .superblock),
        ("nomand", .superblock),
        ("lazytime", .superblock), ("nolazytime", .superblock),
        // Of these fsconfig(2) knows nothing: messages to the log, and a counter that file systems keep by themselves.
        ("silent", .nothing), ("loud", .nothing), ("noiversion", .nothing), ("defaults", .nothing),
        ("notmpcopyup", .nothing),
    ]

    private static func meaning(of option: String) -> Meaning? {
        meanings.first { $0.name == option }?.meaning
    }

    /// Every option that is not a file system's own, for `features` (features.md "mountOptions").
    static var known: [String] {
        var names = ["bind", "rbind", "remount", "idmap", "ridmap", "tmpcopyup", "copy-symlink"]
        for (name, meaning) in meanings {
            names.append(name)
            switch meaning {
            case .superblock, .nothing: break
            default: names.append("r" + name)
            }
        }
        return names.sorted()
    }

    /// The options in one text: mount(2) takes them separated by commas, and configurations have them so. Not within
    /// quotes (SELinux contexts) and not behind a backslash (names of overlay layers).
    static func split(_ text: String) -> [String] {
        guard text.utf8.contains(UInt8(ascii: ",")) else { return [text] }
        var parts: [String] = [""]
        var isQuoted = false
        var isEscaped = false
        for character in text.unicodeScalars {
            if character == ",", !isQuoted, !isEscaped {
                parts.append("")
                continue
            }
            if character == "\"" { isQuoted.toggle() }
            isEscaped = character == "\\" && !isEscaped
            parts[parts.count - 1].unicodeScalars.append(character)
        }
        return parts
    }

    private mutating func add(_ option: String) throws(ZoneError) {
        if let meaning = MountOptions.meaning(of: option) { return apply(meaning, option, isRecursive: false) }
        if let rest = option.after("r"), let meaning = MountOptions.meaning(of: rest) {
            switch meaning {
            case .superblock, .nothing: break
            default: return apply(meaning, option, isRecursive: true)
            }
        }
        switch option {
        case "bind": isBind = true
        case "rbind": (isBind, isRecursive) = (true, true)
        case "remount": isRemount = true
        case "idmap": idMapping = .mount
        case "ridmap": idMapping = .tree
        case "tmpcopyup": copiesUp = true
        case "copy-symlink": copiesSymlink = true
        case "": throw ZoneError(.invalid, "an empty mount option")
        default:
            // By bytes: to Swift a = with a combining mark after it is another character.
            let (key, value) = option.halves("=")
            data.append(Data(key: key, value: value))
        }
    }

    private mutating func apply(_ meaning: Meaning, _ option: String, isRecursive: Bool) {
        switch meaning {
        case .set(let attributes): change(attributes, [], isRecursive)
        case .clear(let attributes): change([], attributes, isRecursive)
        case .accessTime(let mode): change(mode, .accessTimeField, isRecursive)
        case .leaveAccessTime(let mode): changes.leaveAccessTime(mode, isRecursive: isRecursive)
        case .propagation(let kind): changes.propagation = MountPropagation(kind, isRecursive: isRecursive)
        case .superblock: superblock.append(option)
        case .nothing: break
        }
    }

    private mutating func change(_ set: MountAttributes, _ clear: MountAttributes, _ isRecursive: Bool) {
        if isRecursive {
            changes.changeAll(set: set, clear: clear)
        } else {
            changes.change(set: set, clear: clear)
        }
    }
}

extension MountPropagation {
    /// Reads `linux.rootfsPropagation`.
    init(rootfs text: String) throws(ZoneError) {
        let options = try MountOptions([text])
        guard let propagation = options.changes.propagation else {
            throw ZoneError(
                .invalid, "linux.rootfsPropagation: \"\(text)\" is not known",
                hint: "there is private, slave, shared and unbindable, each also with an r before it")
        }
        self = propagation
    }
}
