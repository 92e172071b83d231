// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import LinuxSystem
import OCI
import ZoneRuntime

/// Shows how far a pull is: one line that is rewritten on a terminal, a line for each step elsewhere.
final class PullProgressLine {
    private let name: String
    private let isTerminal = Terminal.isTerminal(2)
    private let isQuiet: Bool
    private var shownLayer = 0

    init(_ name: String, isQuiet: Bool = false) {
        self.name = Output.printable(name)
        self.isQuiet = isQuiet
    }

    func show(_ progress: PullProgress) {
        if isQuiet { return }
        if isTerminal { return write("\r\u{1B}[K" + PullProgressLine.text(name, progress)) }
        switch progress {
        case .waiting, .found, .fetched: write(PullProgressLine.text(name, progress) + "\n")
        case .fetching: break
        case .unpacking(let step):
            guard step.step == .unpacking, step.layer != shownLayer else { return }
            shownLayer = step.layer
            write("\(name): unpacking layer \(step.layer) of \(step.layers), \(ByteSize.text(step.total))\n")
        }
    }

    func end() {
        if isTerminal, !isQuiet { write("\r\u{1B}[K") }
    }

    private func write(_ text: String) {
        // Progress that cannot be shown is no reason to stop.
        try? StandardStream.error.write(Array(text.utf8))
    }

    static func text(_ name: String, _ progress: PullProgress) -> String {
        switch progress {
        case .waiting: return "\(name): another zonectl pulls it, waiting"
        case .found(let layers, let missing, let bytes):
            let what = missing == 0 ? "none to fetch" : "\(missing) to fetch, \(ByteSize.text(bytes))"
            return "\(name): \(layers) layer\(layers == 1 ? "" : "s"), \(what)"
        case .fetching(let done, let layers, let bytes, let total):
            return "fetching layers, \(done) of \(layers) done \(ImportProgressLine.bar(bytes, of: total))"
        case .fetched(let layer, let bytes):
            return "\(name): fetched layer \(layer.hex.prefix(12)), \(ByteSize.text(bytes))"
        case .unpacking(let step): return ImportProgressLine.text(step)
        }
    }
}
