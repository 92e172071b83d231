// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import LinuxSystem
import ZoneRuntime

/// Shows how far an import is: one line that is rewritten, on a terminal only.
final class ImportProgressLine {
    private let isShown = Terminal.isTerminal(2)

    func show(_ progress: ImportProgress) {
        if isShown { write("\r\u{1B}[K" + ImportProgressLine.text(progress)) }
    }

    func end() {
        if isShown { write("\r\u{1B}[K") }
    }

    private func write(_ text: String) {
        // Progress that cannot be shown is no reason to stop.
        try? StandardStream.error.write(Array(text.utf8))
    }

    /// `unpacking layer 2 of 5 [=========>          ]  45%  45 MiB of 100 MiB`
    static func text(_ progress: ImportProgress) -> String {
        let step =
            switch progress.step {
            case .copying: "copying"
            case .unpacking: "unpacking"
            }
        return "\(step) layer \(progress.layer) of \(progress.layers) \(bar(progress.bytes, of: progress.total))"
    }

    /// `[=========>          ]  45%  45 MiB of 100 MiB`
    static func bar(_ bytes: Int64, of all: Int64) -> String {
        let width = 20
        let total = max(all, 1)
        let share = Double(min(max(bytes, 0), total)) / Double(total)
        let filled = Int(share * Double(width))
        let bar = String(repeating: "=", count: filled) + String(repeating: " ", count: width - filled)
        return "[\(bar)] \(Int(share * 100))%  \(ByteSize.text(bytes)) of \(ByteSize.text(total))"
    }
}
