// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// Where a keeper writes what its zone says, and what it has to say itself.
struct KeeperLog: ~Copyable {
    private var writer: LogWriter?
    /// Whether lines also go to stdout, which systemd has connected to its journal.
    private let copies: Bool
    /// When a line that was begun is written as far as it is known, by ``MonotonicClock``.
    private(set) var deadline: Int64?

    /// Milliseconds that the rest of a line is waited for.
    private static let patience: Int64 = 200

    init(_ definition: ZoneDefinition, _ folders: ZoneFolders, copies: Bool) {
        self.copies = copies
        // A log that cannot be opened must not keep the zone from running.
        if let folder = try? Descriptor.open(folders.persistent(definition.name), [.readOnly, .directory, .noFollow]) {
            writer = LogWriter(folder: folder, policy: definition.log ?? LogPolicy())
        }
    }

    mutating func append(_ bytes: UnsafeRawBufferPointer, _ source: KeeperStreams.Source) {
        writer?.append(Array(bytes)[...], source == .output ? .output : .error)
        deadline = writer?.hasUnfinished ?? false ? MonotonicClock.milliseconds + KeeperLog.patience : nil
        if copies { copy(bytes) }
    }

    /// Writes a line of the keeper's own.
    mutating func note(_ line: String) {
        let text = Array("zonectl: \(line)\n".utf8)
        text.withUnsafeBytes { append($0, .error) }
    }

    /// Writes what is there of lines that were begun, once they have waited long enough.
    mutating func settle() {
        guard let due = deadline, MonotonicClock.milliseconds >= due else { return }
        writer?.flush()
        deadline = nil
    }

    /// The zone will say no more.
    mutating func finish() {
        writer?.finish()
        deadline = nil
    }

    /// What the journal does not take at once is not waited for: the keeper has one loop, and the log file has it all.
    private func copy(_ bytes: UnsafeRawBufferPointer) {
        var rest = bytes[...]
        while !rest.isEmpty {
            var poller = Poller()
            let place = poller.add(1, read: false, write: true)
            // As much as a pipe that is writable takes without blocking, pipe(7) "PIPE_BUF".
            let part = UnsafeRawBufferPointer(rebasing: rest.prefix(4096))
            guard (try? poller.wait(milliseconds: 0)) == true, poller.isWritable(place),
                (try? StandardStream.output.write(Array(part))) != nil
            else { return }
            rest = rest.dropFirst(part.count)
        }
    }
}
