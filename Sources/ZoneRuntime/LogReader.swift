// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem

/// Reads a log's files as one text, from old to new, also while ``LogWriter`` writes and rotates them.
struct LogReader: ~Copyable {
    private let folder: Descriptor
    /// The newest file's name; older ones have a number behind it.
    private let name: String
    /// From old to new; the first one is read.
    private var files: [File] = []

    /// Held open, so that its inode is no other file's.
    private final class File {
        let descriptor: Descriptor
        let inode: UInt64
        /// Where the first line begins that was not read.
        var position: Int64 = 0

        init(_ descriptor: consuming Descriptor) throws(SystemError) {
            inode = try descriptor.stat().inode
            self.descriptor = descriptor
        }
    }

    /// What is read at once.
    private static let window = 64 << 10

    /// Opens the files that are there. `folder` is the zone's.
    init(folder: consuming Descriptor, name: String = LogWriter.file) throws(SystemError) {
        self.folder = folder
        self.name = name
        files = try LogReader.open(self.folder, name, after: nil)
    }

    /// Whether there is a log at all.
    var isEmpty: Bool { files.isEmpty }

    /// Opens the files that are newer than one, from old to new.
    ///
    /// From new to old: a file that is renamed meanwhile is met once more, under its next name, instead of being missed.
    private static func open(
        _ folder: borrowing Descriptor, _ base: String, after last: File?
    ) throws(SystemError) -> [File] {
        let prefix = base + "."
        let numbers = try folder.entries().compactMap { $0.after(prefix).flatMap { UInt32($0) } }.filter { $0 > 0 }
            .sorted()
        var files: [File] = []
        var number: UInt32 = 0
        var listed = numbers[...]
        while true {
            let name = number == 0 ? base : "\(prefix)\(number)"
            var isThere = true
            do throws(SystemError) {
                // Never blocks: what is no file of ours is none to wait for.
                let file = try File(folder.open(name, [.readOnly, .noFollow, .nonBlocking], resolve: .beneath))
                if let last, file.inode == last.inode { break }
                if !files.contains(where: { $0.inode == file.inode }) { files.append(file) }
            } catch {
                guard error.errno == .noEntry || error.errno == .loop else { throw error }
                isThere = false
            }
            if let next = listed.popFirst() {
                number = next
            } else if isThere, number < .max {
                number += 1
            } else {
                break
            }
        }
        return files.reversed()
    }

    // MARK: Forward

    /// Reads the lines that are there. `isLast`: what has no end yet will get none.
    mutating func read(
        isLast: Bool, _ body: (ArraySlice<UInt8>) throws(ZoneError) -> Void
    ) throws(ZoneError) {
        if files.isEmpty {
            files = try attempting("open the log") { () throws(SystemError) in
                try LogReader.open(folder, name, after: nil)
            }
        }
        while let file = files.first {
            try read(file, takesRest: isLast || files.count > 1, body)
            if files.count > 1 {
                files.removeFirst()
            } else {
                let newer = try attempting("open the log") { () throws(SystemError) in
                    try isCurrent(file) ? [] : try LogReader.open(folder, name, after: file)
                }
                if newer.isEmpty { return }
                // Since the end of this one was read, it may have got its last lines.
                files += newer
            }
        }
    }

    /// Whether a file still is the one that is written, or the one that was when the log went away.
    private func isCurrent(_ file: File) throws(SystemError) -> Bool {
        do throws(SystemError) { return try folder.status(name).inode == file.inode } catch {
            if error.errno == .noEntry { return true }
            throw error
        }
    }

    private func read(
        _ file: File, takesRest: Bool, _ body: (ArraySlice<UInt8>) throws(ZoneError) -> Void
    ) throws(ZoneError) {
        while true {
            let bytes = try attempting("read the log") { () throws(SystemError) in
                // Cut off by somebody: what follows is new.
                if try file.descriptor.stat().size < file.position { file.position = 0 }
                return try file.descriptor.read(at: file.position, upTo: LogReader.window)
            }
            if bytes.isEmpty { return }
            var rest = bytes[...]
            while let end = rest.firstIndex(of: 0x0A) {
                // Moved on first: a line whose reader fails is not read again.
                file.position += Int64(end + 1 - rest.startIndex)
                try body(rest[..<end])
                rest = rest[(end + 1)...]
            }
            if rest.count == bytes.count {
                // No line of ours is that long; and one without end is none to wait for where no more will come.
                guard takesRest || bytes.count == LogReader.window else { return }
                file.position += Int64(rest.count)
                try body(rest)
            }
        }
    }

    // MARK: Backward

    /// Skips all but the last `count` lines, where a line and those that it goes on in are one.
    mutating func skip(toLast count: Int) throws(ZoneError) {
        var left = count
        var isBehindEnd = false
        for index in files.indices.reversed() {
            let file = files[index]
            let start = try attempting("read the log") { () throws(SystemError) in
                try LogReader.start(of: &left, &isBehindEnd, in: file)
            }
            guard let start else { continue }
            file.position = start
            files.removeFirst(index)
            return
        }
    }

    /// Where the last `left` lines of a file begin; nil where it has not that many, which are taken off `left`.
    /// `isBehindEnd`: a line that ends has been seen, so that one that does not goes on in it.
    private static func start(
        of left: inout Int, _ isBehindEnd: inout Bool, in file: File
    ) throws(SystemError) -> Int64? {
        var end = try file.descriptor.stat().size
        while end > 0 {
            let begin = max(0, end - Int64(window))
            let bytes = try file.descriptor.read(at: begin, upTo: Int(end - begin))
            // Cut off meanwhile: all that is left.
            guard bytes.count == Int(end - begin) else { return 0 }
            var last = bytes.count
            while last > 0 {
                let before = bytes[..<(last - 1)].lastIndex(of: 0x0A)
                // A line that begins before the window, unless the window holds nothing else.
                if before == nil, begin > 0, last < bytes.count { break }
                let first = before.map { $0 + 1 } ?? 0
                let line = LogLine(bytes[first..<last].last == 0x0A ? bytes[first..<(last - 1)] : bytes[first..<last])
                if !line.isPartial || !isBehindEnd {
                    if left == 0 { return begin + Int64(last) }
                    left -= 1
                    isBehindEnd = true
                }
                last = first
            }
            end = begin + Int64(last)
        }
        return nil
    }
}
