// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem

/// Finds and makes places inside a zone's root; every lookup is by `openat2` below the root's descriptor.
struct InsidePath {
    let root: CInt

    /// Opens `path` for use as a mount target or to be looked at; returns the number or `-errno`.
    func find(_ path: String, noSymlinks: Bool = false, flags: OpenFlags = [.path]) -> CInt {
        let resolve: ResolveFlags = noSymlinks ? [.inRoot, .noMagicLinks, .noSymlinks] : .zone
        return zn_openat2(root, path, UInt64(flags.union(.closeOnExec).rawValue), 0, resolve.rawValue)
    }

    /// As ``find(_:noSymlinks:flags:)``, but makes what is missing: directories, and at the end a directory or an
    /// empty file.
    ///
    /// A link that leads nowhere gets its target made, as images have /etc/resolv.conf -> ../run/systemd/resolve/….
    func findOrMake(_ path: String, directory: Bool, noSymlinks: Bool, links: Int = 0) -> CInt {
        // As many as the kernel follows: path_resolution(7).
        if links > 40 { return -ELOOP }
        let found = find(path, noSymlinks: noSymlinks)
        if found != -ENOENT { return found }
        let (parentPath, name) = InsidePath.split(path)
        // `..` cannot leave the root, but a mount point that is named so is a mistake.
        if name == ".." || name == "." || name.isEmpty { return -EINVAL }
        let parent =
            parentPath == "/"
            ? find("/") : findOrMake(parentPath, directory: true, noSymlinks: noSymlinks, links: links)
        if parent < 0 { return parent }
        let owner = Descriptor(owning: parent)
        if directory {
            let made = zn_mkdirat(owner.raw, name, 0o755)
            if made < 0, made != -EEXIST { return made }
        } else {
            // O_NOFOLLOW|O_EXCL: what is made is ours, not the target of a link put there meanwhile.
            let made = zn_openat(
                owner.raw, name,
                O_WRONLY | O_CREAT | O_EXCL | OpenFlags.closeOnExec.rawValue | OpenFlags.noFollow.rawValue,
                0o644)
            if made < 0, made != -EEXIST { return made }
            if made >= 0 { _ = zn_close(made) }
        }
        let made = find(path, noSymlinks: noSymlinks)
        guard made == -ENOENT, !noSymlinks, let target = try? owner.readLink(name) else { return made }
        let next = target.isAbsolutePath ? target : "\(parentPath)/\(target)"
        return findOrMake(next, directory: directory, noSymlinks: false, links: links + 1)
    }

    /// Splits `/a/b` into `/a` and `b`.
    static func split(_ path: String) -> (parent: String, name: String) {
        var parts = path.pathComponents
        guard let name = parts.popLast() else { return ("/", "") }
        return (parts.absolutePath, name)
    }
}
