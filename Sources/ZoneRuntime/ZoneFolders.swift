// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
public import Images
import LinuxSystem

/// Where zones are kept.
///
///     ROOT/NAME/        state.json, config.json, hosts …: gone after a reboot
///     STORE/images/     an OCI layout, STORE/layers/ its unpacked layers
///     STORE/zones/NAME/ definition.json, upper/ and work/ of the zone's overlay; it exists as long as the zone does
///     STORE/cache/      compiled seccomp filters
public struct ZoneFolders: Sendable {
    public static let defaultRoot = "/run/zonectl"
    public static let defaultStore = "/var/lib/zonectl"

    /// Where they are unless told otherwise: an ordinary user's zones are the user's own (XDG base directories).
    public static func defaults() throws(ZoneError) -> (root: String, store: String) {
        guard Rootless.isInside else { return (defaultRoot, defaultStore) }
        let home = variable("HOME")
        let data = variable("XDG_DATA_HOME") ?? home.map { "\($0)/.local/share" }
        guard let data else {
            throw ZoneError(
                .invalid, "neither HOME nor XDG_DATA_HOME say where zones are to be kept",
                hint: "set one of them, or give --root and --store")
        }
        let volatile = variable("XDG_RUNTIME_DIR").map { "\($0)/zonectl" } ?? "\(data)/zonectl-run"
        return (volatile, "\(data)/zonectl")
    }

    private static func variable(_ name: String) -> String? {
        guard let value = getenv(name) else { return nil }
        let text = String(cString: value)
        return text.isAbsolutePath ? text : nil
    }

    public let root: String
    public let store: String
    /// Where kernels of micro machines are looked for first: what a command says is known before it puts itself into the background.
    public var guests: [String] = []

    /// Takes absolute paths.
    public init(root: String, store: String) throws(ZoneError) {
        for (option, path) in [("--root", root), ("--store", store)] where !path.isAbsolutePath {
            throw ZoneError(.invalid, "\(option) \"\(path)\" is not an absolute path")
        }
        self.root = ZoneFolders.normalized(root)
        self.store = ZoneFolders.normalized(store)
        // A zone's name is a folder's in both: it must not be able to mean anything else there.
        let isNested = "\(self.root)/".after("\(self.store)/") != nil || "\(self.store)/".after("\(self.root)/") != nil
        if self.root == "/" || self.store == "/" || isNested {
            throw ZoneError(
                .invalid, "--root \(self.root) and --store \(self.store) must be two folders, neither inside the other")
        }
    }

    private static func normalized(_ path: String) -> String {
        // By hand, as `split` and `joined` cost the first who uses them 70,000 instructions each.
        let slash = UInt8(ascii: "/")
        var bytes: [UInt8] = []
        for byte in path.utf8 where byte != slash || bytes.last != slash { bytes.append(byte) }
        if bytes.count > 1, bytes.last == slash { bytes.removeLast() }
        return String(decoding: bytes, as: UTF8.self)
    }

    public var images: ImageStore { ImageStore(path: store) }
    var marks: LayerMarks { images.marks }

    var zones: String { "\(store)/zones" }
    var seccompCache: String { "\(store)/cache/seccomp" }

    func volatile(_ name: String) -> String { "\(root)/\(name)" }
    func persistent(_ name: String) -> String { "\(zones)/\(name)" }

    /// The group above all zones' groups. Zones of another root must not meet ours, though they may share names.
    var cgroupParent: String {
        if root == ZoneFolders.defaultRoot { return "zonectl" }
        // FNV-1a, 32 bits of it: a name, not a secret.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in root.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        let folded = hash ^ hash >> 32
        let digits = Array("0123456789abcdef".utf8)
        let text = (0..<8).map { digits[Int(folded >> UInt64(28 - 4 * $0) & 15)] }
        return "zonectl-" + String(decoding: text, as: UTF8.self)
    }
}
