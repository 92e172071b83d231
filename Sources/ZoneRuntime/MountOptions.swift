// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Namespaces
import OCI

/// The options of mount(8) and of the runtime specification, sorted into what the kernel takes where.
struct MountOptions: Equatable {
    var attributes: MountAttributes = []
    var isBind = false
    var isRecursive = false
    /// What the file system itself takes, for fsconfig(2).
    var data: [Data] = []

    struct Data: Equatable {
        let key: String
        let value: String?
    }

    init(_ options: [String]) throws(ZoneError) {
        for option in options { try add(option) }
    }

    private mutating func add(_ option: String) throws(ZoneError) {
        switch option {
        case "ro": attributes.insert(.readOnly)
        case "rw": attributes.remove(.readOnly)
        case "nosuid": attributes.insert(.noSuid)
        case "suid": attributes.remove(.noSuid)
        case "nodev": attributes.insert(.noDevices)
        case "dev": attributes.remove(.noDevices)
        case "noexec": attributes.insert(.noExecution)
        case "exec": attributes.remove(.noExecution)
        case "noatime": setAccessTime(.noAccessTime)
        case "strictatime": setAccessTime(.strictAccessTime)
        // The kernel's own default.
        case "relatime": setAccessTime([])
        case "atime": attributes.remove(.noAccessTime)
        case "nostrictatime": attributes.remove(.strictAccessTime)
        case "nodiratime": attributes.insert(.noDirectoryAccessTime)
        case "nosymfollow": attributes.insert(.noSymlinks)
        // Defaults of mount(8).
        case "diratime", "norelatime", "defaults", "async", "symfollow": break
        case "bind": isBind = true
        case "rbind": (isBind, isRecursive) = (true, true)
        // The zone's mounts are private: see RootSetup.
        case "private", "rprivate": break
        case "shared", "rshared", "slave", "rslave", "unbindable", "runbindable":
            throw ZoneError(
                .unsupported, "mount propagation \"\(option)\" is not supported",
                hint: "mounts of a zone are private to it")
        case "": throw ZoneError(.invalid, "an empty mount option")
        default:
            let parts = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            data.append(Data(key: String(parts[0]), value: parts.count == 2 ? String(parts[1]) : nil))
        }
    }

    /// The mode of access times is one field: of several options the last counts, as for mount(8).
    private mutating func setAccessTime(_ mode: MountAttributes) {
        attributes.subtract([.noAccessTime, .strictAccessTime])
        attributes.formUnion(mode)
    }
}
