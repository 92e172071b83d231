// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
public import OCI

extension ImageStore {
    /// Imports an OCI image layout (a folder, or a tar archive of one), an archive of docker's, or the tar archive of a root
    /// file system, plain or compressed with gzip, zstd, bzip2 or xz.
    ///
    /// A layout's own name is used unless `name` is given; without either, the file's. `command` is what zones of a root
    /// file system run, `/bin/sh` unless given. Of the images for several machines `platform` says which; this machine's if
    /// `nil`. A failed import leaves nothing.
    public func importImage(
        from path: String,
        name: String?,
        command: [String]?,
        platform: Platform? = nil,
        progress: (ImportProgress) -> Void
    ) throws(ImageError) -> Image {
        var wanted: String?
        if let name { wanted = try ImageReference.normalized(name) }
        let fallback = ImageStore.baseName(path)
        let source = try ImageStore.openSource(path)
        let kind = try attempting(path) { () throws(SystemError) in try source.stat().kind }
        guard kind == .directory || kind == .regular else {
            throw ImageError(.invalid, "\(path): neither a folder nor a regular file")
        }
        if kind == .directory {
            let layout = try LayoutSource(source, place: path)
            try ImageStore.refuse(command, of: path)
            let choice = try layout.choose(wanted, fallback: fallback, for: platform ?? Image.machine)
            return try change { (transaction) throws(ImageError) in
                try transaction.importImage(choice, of: layout, progress)
            }
        }
        let archive = ImportArchive(source, place: path, limits: limits)
        let content = try archive.content()
        switch content {
        case .layout, .docker:
            try ImageStore.refuse(command, of: path)
            return try change { (transaction) throws(ImageError) in
                try archive.stageLayout(content, into: try transaction.stageFolder("layout"))
                let layout = try LayoutSource(try transaction.stageFolder("layout"), place: path)
                let choice = try layout.choose(wanted, fallback: fallback, for: platform ?? Image.machine)
                return try transaction.importImage(choice, of: layout, staged: "layout", progress)
            }
        case .rootfs(let compression):
            let final: String
            if let wanted { final = wanted } else { final = try ImageReference.normalized(fallback) }
            return try change { (transaction) throws(ImageError) in
                do throws(ImageError) {
                    return try transaction.importRootfs(
                        try archive.rewound(), compression, name: final, command: command ?? ["/bin/sh"],
                        platform: platform ?? Image.machine, progress)
                } catch {
                    throw error.inside(path)
                }
            }
        }
    }

    /// Makes a change under the lock, and leaves no more than is needed, whether it succeeds or fails.
    func change<Result>(_ body: (inout StoreTransaction) throws(ImageError) -> Result) throws(ImageError) -> Result {
        var transaction = try StoreTransaction(self)
        do throws(ImageError) {
            let image = try body(&transaction)
            transaction.sweep()
            return image
        } catch {
            transaction.sweep()
            throw error
        }
    }

    private static func refuse(_ command: [String]?, of path: String) throws(ImageError) {
        if command == nil { return }
        throw ImageError(
            .invalid, "\(path): the images of a layout have commands of their own; give one when running them")
    }

    static func openSource(_ path: String) throws(ImageError) -> Descriptor {
        do throws(SystemError) {
            // Not blocking: opening a fifo would wait for a writer.
            return try Descriptor.open(path, [.readOnly, .nonBlocking, .noControllingTerminal])
        } catch {
            if error.errno == .noEntry { throw ImageError(.notFound, "\(path): no such file or folder") }
            throw ImageError("import", error)
        }
    }

    /// A name for an image that has none: the file's, without what says how it is packed.
    static func baseName(_ path: String) -> String {
        var name = path.split(separator: "/").last.map(String.init) ?? ""
        if name.isEmpty || name == "." || name == ".." { name = "image" }
        var hasSuffix = true
        while hasSuffix {
            hasSuffix = false
            for suffix in [".tar", ".tgz", ".txz", ".tbz2", ".tzst", ".gz", ".xz", ".zst", ".bz2", ".oci"] {
                guard name.hasSuffix(suffix), name.utf8.count > suffix.utf8.count else { continue }
                name.removeLast(suffix.count)
                hasSuffix = true
            }
        }
        // What a name may not hold becomes '-', and only between letters.
        let parts = name.lowercased().split { !($0.isASCII && ($0.isLetter || $0.isNumber || $0 == ".")) }
        let joined = parts.map { $0.split(separator: ".").joined(separator: ".") }.filter { !$0.isEmpty }.joined(
            separator: "-")
        return joined.isEmpty ? "image" : joined
    }
}
