// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import LinuxSystem
import OCI
import ZoneRuntime

/// Shows how far a pull is: on a terminal a line that is rewritten, beside the bars that skopeo draws there for each layer;
/// a line for each step elsewhere.
final class PullProgressLine {
    /// Where bars can be drawn.
    static var terminal: Int32? { Terminal.isTerminal(2) ? 2 : nil }

    private let name: String
    private let isTerminal = PullProgressLine.terminal != nil
    private let isQuiet: Bool
    private var shownLayer = 0

    init(_ name: String, isQuiet: Bool = false) {
        self.name = Output.printable(name)
        self.isQuiet = isQuiet
    }

    func show(_ progress: PullProgress) {
        if isQuiet { return }
        let text = PullProgressLine.text(name, progress)
        switch progress {
        case .waiting, .found: write(text + "\n")
        // skopeo has shown it.
        case .fetched: if !isTerminal { write(text + "\n") }
        case .unpacking(let step):
            if isTerminal { return write("\r\u{1B}[K" + text) }
            guard step.step == .unpacking, step.layer != shownLayer else { return }
            shownLayer = step.layer
            write("\(name): unpacking layer \(step.layer) of \(step.layers)\n")
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
        case .fetched(let layer, let bytes):
            return "\(name): fetched layer \(layer.hex.prefix(12)), \(ByteSize.text(bytes))"
        case .unpacking(let step): return ImportProgressLine.text(step)
        }
    }
}
