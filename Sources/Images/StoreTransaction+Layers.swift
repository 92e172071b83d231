// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import LinuxSystem
import OCI

extension StoreTransaction {
    /// Unpacks the layers that are missing, at the same time where there are processors for it; each gets its name when all
    /// are on the disk.
    func unpackLayers(of image: Image, progress: (ImportProgress) -> Void) throws(ImageError) {
        let chain = image.chainIDs
        guard chain.count <= store.limits.layers else {
            throw ImageError(.unsupported, "\(chain.count) layers: overlayfs cannot stack so many")
        }
        let missing = chain.indices.filter { !hasLayer(chain[$0]) }
        if missing.isEmpty { return }
        var meter = UnpackMeter(image, missing)
        let done = OrderedWorkers.run(missing.count) { (position, line) in
            do throws(ImageError) {
                try unpackLayer(missing[position], of: image, { line.awaitTurn() }) { line.report($0) }
                return true
            } catch {
                return false
            }
        } progress: { position, bytes in
            progress(meter.report(missing[position], bytes))
        }
        for number in missing.dropFirst(done) {
            // Where a worker has failed, it has left something; here its error shows.
            try attempting("unpack") { () throws(SystemError) in
                try layers.removeTree("\(StoreTransaction.staging)/\(chain[number].hex)")
            }
            try unpackLayer(number, of: image, {}) { progress(meter.report(number, $0)) }
        }
        try publish(missing.map { (chain[$0].hex, chain[$0]) })
    }

    /// Unpacks one layer into the staging folder. What lies below it is looked at after `lowerLayersAreDone` only.
    private func unpackLayer(
        _ number: Int, of image: Image, _ lowerLayersAreDone: () -> Void, progress: (Int64) -> Void
    ) throws(ImageError) {
        let chain = image.chainIDs
        let blob = image.manifest.layers[number]
        do throws(ImageError) {
            let totals = try unpack(
                store.blobPath(blob.digest), as: chain[number].hex, isLowest: number == 0,
                below: { () throws(ImageError) in
                    lowerLayersAreDone()
                    return LowerLayers(chain[..<number].reversed().compactMap { openAnyLayer($0) })
                }, progress: progress)
            guard totals.blob == blob.digest, totals.blobSize == blob.size else {
                throw ImageError(.invalid, "its \(totals.blobSize) bytes have digest \(totals.blob): it is damaged")
            }
            let wanted = image.configuration.rootfs.diffIDs[number]
            guard totals.content == wanted else {
                throw ImageError(.invalid, "it unpacks to \(totals.content), not to \(wanted) as the image says")
            }
        } catch {
            throw error.inside("layer \(blob.digest)")
        }
    }

    func hasLayer(_ id: Digest) -> Bool { openLayer(id.hex) != nil }

    /// The directories of an image's layers, topmost first, which are all there.
    func layerHandles(of image: Image) -> [LayerDirectory.Handle] {
        image.chainIDs.reversed().compactMap { openLayer($0.hex) }
    }

    /// One that has its name, or is staged.
    private func openAnyLayer(_ id: Digest) -> LayerDirectory.Handle? {
        openLayer(id.hex) ?? openLayer("\(StoreTransaction.staging)/\(id.hex)")
    }

    private func openLayer(_ name: String) -> LayerDirectory.Handle? {
        // Absent layers are the usual case; any other failure shows when the layer is made.
        guard let folder = try? layers.open(name, [.readOnly, .directory], resolve: [.beneath, .noSymlinks]) else {
            return nil
        }
        return LayerDirectory.Handle(folder)
    }

    /// Unpacks one blob into a staged layer and returns what its bytes were. `below` is asked for once all members are there.
    func unpack(
        _ file: String,
        as name: String,
        isLowest: Bool = false,
        below: () throws(ImageError) -> LowerLayers,
        progress: (Int64) -> Void
    ) throws(ImageError) -> BlobStream.Totals {
        let limits = store.limits
        var isHelped = true
        func members(_ mayHelp: Bool, _ writer: inout LayerWriter) throws(ImageError) -> BlobStream.Totals {
            let blob = try attempting("unpack") { () throws(SystemError) in
                try Descriptor.open(file, [.readOnly, .noFollow])
            }
            let stream = try BlobStream(blob, mayHelp: mayHelp, limits: limits)
            isHelped = stream.isHelped
            let archive = try TarReader(stream, limits: limits)
            var reported: Int64 = 0
            while let entry = try archive.next() {
                try writer.write(entry, from: archive)
                if stream.blobSize - reported >= 1 << 20 {
                    reported = stream.blobSize
                    progress(reported)
                }
            }
            return try stream.finish()
        }
        var writer = LayerWriter(LayerDirectory(try stageLayer(name)), isLowest: isLowest, marks, limits: limits)
        let totals: BlobStream.Totals
        do throws(ImageError) { totals = try members(true, &writer) } catch {
            guard isHelped else { throw error }
            // Again from the beginning, without help: what is wrong is told by libarchive.
            try attempting("unpack") { () throws(SystemError) in
                try layers.removeTree("\(StoreTransaction.staging)/\(name)")
            }
            writer = LayerWriter(LayerDirectory(try stageLayer(name)), isLowest: isLowest, marks, limits: limits)
            totals = try members(false, &writer)
        }
        progress(totals.blobSize)
        try writer.finish(on: try below())
        return totals
    }

    private func stageLayer(_ name: String) throws(ImageError) -> Descriptor {
        try attempting("unpack") { () throws(SystemError) in
            let staged = "\(StoreTransaction.staging)/\(name)"
            try layers.makeDirectory(staged, mode: 0o755)
            let layer = try layers.open(staged, [.readOnly, .directory], resolve: [.beneath, .noSymlinks])
            // Whatever the umask is; the archive's own entry for "." may change it.
            try check(zn_fchmod(layer.raw, 0o755), "chmod", staged)
            return layer
        }
    }

    /// Gives staged layers their names, once their content is on the disk: a layer that has a name is never looked at
    /// again, so a power cut must not leave one with empty files.
    func publish(_ staged: [(name: String, id: Digest)]) throws(ImageError) {
        if staged.isEmpty { return }
        do throws(SystemError) {
            try check(zn_syncfs(layers.raw), "syncfs", store.path)
            for layer in staged {
                try layers.rename("\(StoreTransaction.staging)/\(layer.name)", to: layer.id.hex, replace: false)
            }
        } catch {
            throw ImageError("unpack", error)
        }
    }
}

/// Adds up what was done of several layers at a time.
private struct UnpackMeter {
    private let layers: Int
    private let total: Int64
    private var done: [Int64]
    private var last = 0

    init(_ image: Image, _ missing: [Int]) {
        layers = image.chainIDs.count
        total = missing.reduce(0) { $0 &+ image.manifest.layers[$1].size }
        done = Array(repeating: 0, count: layers)
    }

    mutating func report(_ number: Int, _ bytes: Int64) -> ImportProgress {
        done[number] = bytes
        last = max(last, number)
        return ImportProgress(
            step: .unpacking, layer: last + 1, layers: layers, bytes: done.reduce(0, &+), total: total)
    }
}
