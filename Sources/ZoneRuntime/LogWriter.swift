// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// Writes what a zone says into its log, in lines as ``LogLine`` has them: `log`, and `log.1`, `log.2` … with older ones.
///
/// Whatever happens to the disk, the caller goes on: lines that cannot be written are counted, and the first one that can
/// is told how many they were. Memory: at most 16 KiB for each stream and 64 KiB of what is about to be written.
struct LogWriter: ~Copyable {
    static let file = "log"
    /// Bytes of a message; a longer one becomes several lines, as containerd's.
    static let longestMessage = 16 << 10
    /// What is written at once, more or less a line.
    private static let batchSize = 32 << 10

    private let folder: Descriptor
    private let policy: LogPolicy
    private var log: Descriptor?
    private var size: Int64 = 0
    /// Whether the file ends in the middle of a line, and something must end it.
    private var isTorn = false
    private var output = Unfinished()
    private var error = Unfinished()
    private var batch: [UInt8] = []
    private var batchLines: UInt64 = 0
    /// Whether the batch begins with the line that tells what was lost.
    private var batchTells = false
    private var lost: UInt64 = 0
    private var reason = Errno.noSpace
    private var stamp = LogStamp()

    /// What a stream has said of a line that it has not ended.
    private struct Unfinished {
        var bytes: [UInt8] = []
        /// Whether the beginning of the line is in the log already.
        var isBegun = false
    }

    /// `folder` is the zone's, STORE/zones/NAME: by descriptor, as the zone may be renamed.
    init(folder: consuming Descriptor, policy: LogPolicy = LogPolicy()) {
        self.folder = folder
        self.policy = policy
        // So that a log is there, though nothing was said yet. What fails here fails again with the first line.
        if policy.driver == .file { _ = open() }
    }

    /// Whether a stream has said something that only ``flush(at:)`` would write.
    var hasUnfinished: Bool { !output.bytes.isEmpty || !error.bytes.isEmpty || lost > 0 }

    /// Takes what a stream has said; whole lines are written at once. `time`: nanoseconds since 1970.
    mutating func append(_ bytes: ArraySlice<UInt8>, _ stream: LogStream, at time: Int64 = FileStatus.now) {
        if policy.driver == .none { return }
        var rest = bytes
        while let end = rest.firstIndex(of: 0x0A) {
            take(rest[..<end], stream, endsLine: true, time)
            rest = rest[(end + 1)...]
        }
        take(rest, stream, endsLine: false, time)
        write(at: time)
    }

    /// Writes lines that were begun as far as they are known: for a moment when nothing else happens.
    mutating func flush(at time: Int64 = FileStatus.now) {
        for stream in [LogStream.output, .error] where !unfinished(stream).bytes.isEmpty {
            add([], stream, isPartial: true, time)
        }
        if batch.isEmpty, lost > 0 { tell(time) }
        write(at: time)
    }

    /// Ends lines that were begun: the zone will say no more.
    mutating func finish(at time: Int64 = FileStatus.now) {
        for stream in [LogStream.output, .error] {
            let rest = unfinished(stream)
            if rest.isBegun || !rest.bytes.isEmpty { add([], stream, isPartial: false, time) }
        }
        flush(at: time)
        // On NFS a folder cannot be removed as long as a file in it is open. Who has more to say opens it again.
        log = nil
    }

    // MARK: Lines

    private mutating func take(_ part: ArraySlice<UInt8>, _ stream: LogStream, endsLine: Bool, _ time: Int64) {
        if policy.driver == .none { return }
        var part = part
        while unfinished(stream).bytes.count + part.count > LogWriter.longestMessage {
            let room = LogWriter.longestMessage - unfinished(stream).bytes.count
            add(part.prefix(room), stream, isPartial: true, time)
            part = part.dropFirst(room)
        }
        if endsLine { return add(part, stream, isPartial: false, time) }
        switch stream {
        case .output: output.bytes += part
        case .error: error.bytes += part
        }
    }

    private func unfinished(_ stream: LogStream) -> Unfinished {
        switch stream {
        case .output: output
        case .error: error
        }
    }

    /// Adds a line to the batch: what the stream had said, and `part`.
    private mutating func add(_ part: ArraySlice<UInt8>, _ stream: LogStream, isPartial: Bool, _ time: Int64) {
        if batch.isEmpty, lost > 0 { tell(time) }
        stamp.append(time, to: &batch)
        batch += stream == .output ? " stdout ".utf8 : " stderr ".utf8
        batch += isPartial ? "P ".utf8 : "F ".utf8
        switch stream {
        case .output:
            batch += output.bytes
            output.bytes.removeAll(keepingCapacity: true)
            output.isBegun = isPartial
        case .error:
            batch += error.bytes
            error.bytes.removeAll(keepingCapacity: true)
            error.isBegun = isPartial
        }
        batch += part
        batch.append(0x0A)
        batchLines += 1
        if batch.count >= LogWriter.batchSize || Int64(batch.count) >= policy.maximumSize { write(at: time) }
    }

    /// Begins the batch with what was lost before it.
    private mutating func tell(_ time: Int64) {
        stamp.append(time, to: &batch)
        let lines = lost == 1 ? "1 line was" : "\(lost) lines were"
        batch += " stderr F zonectl: \(lines) lost: \(reason.message)\n".utf8
        batchTells = true
    }

    // MARK: The file

    private mutating func write(at time: Int64) {
        if batch.isEmpty { return }
        if let failure = store() { reason = failure }
        batch.removeAll(keepingCapacity: true)
        batchLines = 0
        batchTells = false
    }

    /// Writes the batch, counts what of it is lost, and tells why.
    private mutating func store() -> Errno? {
        if let failure = makeRoom(for: Int64(batch.count)) {
            lost += batchLines
            return failure
        }
        let raw = log?.raw
        if raw == nil, let failure = open() {
            lost += batchLines
            return failure
        }
        let mends = isTorn
        if mends { batch.insert(0x0A, at: 0) }
        let (count, failure) = log?.writePart(batch) ?? (0, .badDescriptor)
        size += Int64(count)
        if failure == nil {
            isTorn = false
            if batchTells { lost = 0 }
            return nil
        }
        // Whole lines only: half a one would swallow the next.
        let end = (batch[..<count].lastIndex(of: 0x0A) ?? -1) + 1
        if end > 0 { isTorn = false }
        if end < count, let now = try? log?.stat().size {
            // Somebody else may have cut the file off since.
            let whole = max(0, now - Int64(count - end))
            if log?.truncate(to: whole) ?? false { size = whole } else { isTorn = true }
        }
        var written = UInt64(batch[..<end].lazy.filter { $0 == 0x0A }.count)
        if mends, written > 0 { written -= 1 }
        if batchTells, written > 0 {
            lost = 0
            written -= 1
        }
        lost += batchLines - min(written, batchLines)
        return failure
    }

    /// Opens the file; the reason where that fails.
    private mutating func open() -> Errno? {
        let raw = folder.openRaw(
            LogWriter.file, [.readWrite, .create, .append, .noFollow], mode: 0o600, resolve: .beneath)
        if raw < 0 { return Errno(rawValue: -raw) }
        let file = Descriptor(owning: raw)
        // What cannot be looked at is taken for an empty file: then it only becomes too long.
        size = (try? file.stat().size) ?? 0
        // A crash of the host may leave half a line.
        isTorn = size > 0 && (try? file.read(at: size - 1, upTo: 1)) != [0x0A]
        log = consume file
        return nil
    }

    /// Begins a new file where the batch would make this one too long.
    private mutating func makeRoom(for count: Int64) -> Errno? {
        if size == 0 || count <= policy.maximumSize - min(size, policy.maximumSize) { return nil }
        do throws(SystemError) {
            // An older policy may have kept more.
            var extra = Int(policy.files)
            while try removeIfThere("\(LogWriter.file).\(extra)") { extra += 1 }
            if policy.files == 1 {
                // Not cut off: who follows the file reads it to its end.
                _ = try removeIfThere(LogWriter.file)
            } else {
                // Up to the first gap: a rotation that failed half-way left one, and must not cost a file each time.
                var gap = 1
                while gap < Int(policy.files) - 1, try isThere("\(LogWriter.file).\(gap)") { gap += 1 }
                for number in stride(from: gap, to: 1, by: -1) {
                    try folder.rename("\(LogWriter.file).\(number - 1)", to: "\(LogWriter.file).\(number)")
                }
                if try isThere(LogWriter.file) { try folder.rename(LogWriter.file, to: "\(LogWriter.file).1") }
            }
        } catch {
            return error.errno
        }
        log = nil
        size = 0
        isTorn = false
        return nil
    }

    private func removeIfThere(_ name: String) throws(SystemError) -> Bool {
        do throws(SystemError) { try folder.remove(name) } catch {
            if error.errno == .noEntry { return false }
            throw error
        }
        return true
    }

    private func isThere(_ name: String) throws(SystemError) -> Bool {
        do throws(SystemError) { _ = try folder.status(name) } catch {
            if error.errno == .noEntry { return false }
            throw error
        }
        return true
    }
}
