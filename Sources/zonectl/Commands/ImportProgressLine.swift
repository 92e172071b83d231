// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import LinuxSystem

/// Shows how far an import is: one line that is rewritten, on a terminal only.
final class ImportProgressLine {
    private let isShown = Terminal.isTerminal(2)

    func show(_ progress: ImportProgress) {
        guard isShown else { return }
        // Progress that cannot be shown is no reason to stop.
        try? StandardStream.error.write(Array("\r\u{1B}[K\(progress)".utf8))
    }

    func end() {
        guard isShown else { return }
        try? StandardStream.error.write(Array("\r\u{1B}[K".utf8))
    }
}
