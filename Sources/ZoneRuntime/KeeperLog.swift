// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// Where a keeper writes what its zone says, and what it has to say itself.
struct KeeperLog: ~Copyable {
    /// Whether lines also go to stdout, which systemd has connected to its journal.
    private let copies: Bool
    /// When a line that was begun is written as far as it is known, by ``MonotonicClock``.
    private(set) var deadline: Int64?

    init(_ definition: ZoneDefinition, _ folders: ZoneFolders, copies: Bool) {
        self.copies = copies
    }

    mutating func append(_ bytes: UnsafeRawBufferPointer, _ source: KeeperStreams.Source) {
        if copies { copy(bytes) }
    }

    /// Writes a line of the keeper's own.
    mutating func note(_ line: String) {
        let text = Array("zonectl: \(line)\n".utf8)
        text.withUnsafeBytes { append($0, .error) }
    }

    /// Writes what is there of lines that were begun.
    mutating func settle() {
        deadline = nil
    }

    /// The zone will say no more.
    mutating func finish() {
        deadline = nil
    }

    private func copy(_ bytes: UnsafeRawBufferPointer) {
        // A journal that is gone must not end the zone.
        try? StandardStream.output.write(Array(bytes))
    }
}
