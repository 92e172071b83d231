// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import Images
import LinuxSystem
import OCI

/// A copy to or from a machine's zone, or a look at a path of it: a process of the agent's own, as a file of the zone's may
/// keep whoever reads it waiting. Names are looked up as ``ZoneCopy`` does it, below the zone's root.
struct GuestCopy: ~Copyable {
    let process: ProcessHandle
    let streams: GuestStreams
    let finding: Finding

    /// What the process leaves behind: an answer, or why it failed.
    final class Finding {
        fileprivate let file: Descriptor

        fileprivate init() throws(SystemError) { file = try Descriptor.inMemory("finding") }

        /// The last messages of the session.
        func frames(_ session: UInt32, _ status: ExitStatus) -> [GuestFrame] {
            file.rewind()
            let text = (try? file.readAll(limit: GuestFrame.longest)) ?? []
            if status.shellCode == 0 {
                let end = GuestFrame(.exited, session, numbers: [CInt(0)])
                return text.isEmpty ? [end] : [GuestFrame(.answer, session, text), end]
            }
            if case .exited(let code) = status, !text.isEmpty {
                return [GuestFrame(.failed, session, [UInt8(clamping: code)] + text)]
            }
            return [.failure(session, ZoneError(.system, "the copy ended with status \(status.shellCode)"))]
        }
    }

    static func start(_ request: GuestRequest, in tree: consuming ZoneTree) throws(ZoneError) -> GuestCopy {
        do throws(SystemError) {
            let finding = try Finding()
            let input = try Pipe()
            let output = try Pipe()
            let error = try Pipe()
            let pid = try check(zn_fork(), "fork")
            if pid == 0 {
                let kept = [input.reader.raw, output.writer.raw, error.writer.raw]
                for (number, raw) in kept.enumerated() { _ = zn_dup3(raw, CInt(number), 0) }
                GuestCopy.work(request, tree, finding)
            }
            let process = try ProcessHandle(pid: pid)
            let writer = request.action == .extract ? try input.writer.duplicate() : nil
            let streams = GuestStreams(own: writer, output: output.takeReader(), error: error.takeReader())
            return GuestCopy(process: process, streams: streams, finding: finding)
        } catch {
            throw ZoneError("start a copy", error)
        }
    }

    // MARK: In the process

    private static func work(_ request: GuestRequest, _ tree: consuming ZoneTree, _ finding: Finding) -> Never {
        // The port among others; nothing but its own streams, the tree and the file.
        let kept = [tree.root.raw, finding.file.raw].sorted()
        var next: CInt = 3
        for raw in kept {
            if raw > next { _ = zn_close_range(UInt32(next), UInt32(raw - 1), 0) }
            next = raw + 1
        }
        _ = zn_close_range(UInt32(next), .max, 0)
        do throws(ZoneError) {
            let place = CopyPlace(tree)
            switch request.action {
            case .archive: try archive(request, place)
            case .extract: try extract(request, place)
            default:
                try? finding.file.writeAll(try look(request, place).serialized())
            }
        } catch {
            try? finding.file.writeAll(error.sentence)
            _exit(error.exitCode)
        }
        _exit(0)
    }

    private static func archive(_ request: GuestRequest, _ place: borrowing CopyPlace) throws(ZoneError) {
        let path = request.path
        let name = CopyPlace.split(path).name
        var trimmed = path[...]
        while trimmed.utf8.count > 1, trimmed.utf8.last == UInt8(ascii: "/") { trimmed = trimmed.dropLast() }
        let called = name ?? CopyPlace.split(String(trimmed)).name
        let file = try place.open(path, follows: request.followsLink || name == nil)
        if name == nil {
            let status: FileStatus
            do throws(SystemError) { status = try file.stat() } catch { throw place.failure(path, error) }
            guard status.kind == .directory else {
                throw ZoneError(.invalid, "cp: \(place.describe(path)): it is no directory")
            }
        }
        try attemptingImage { () throws(ImageError) in
            var writer = try TreeArchiver(to: 1) { line in try? StandardStream.error.write(Array("\(line)\n".utf8)) }
            try writer.add(file, as: called ?? ".")
            try writer.finish()
        }
    }

    private static func extract(_ request: GuestRequest, _ place: borrowing CopyPlace) throws(ZoneError) {
        let path = request.path
        let target = try place.target(path)
        guard target.name == nil else {
            throw ZoneError(
                .invalid, "cp: \(place.describe(path)) must be a directory that there is, for an archive's members")
        }
        var policy = CopyPolicy()
        if !request.keepsOwners { policy.owner = (0, 0) }
        policy.makesNodes = request.keepsOwners
        do throws(ImageError) {
            try TreeExtractor(policy).extract(0, into: target.directory) { below in place.directory(below, of: path) }
        } catch {
            throw ZoneError(error).inside("cp: \(place.describe(path))")
        }
    }

    private static func look(_ request: GuestRequest, _ place: borrowing CopyPlace) throws(ZoneError) -> GuestPathAnswer
    {
        var answer = GuestPathAnswer()
        let file: Descriptor
        do throws(ZoneError) { file = try place.open(request.path, follows: request.followsLink) } catch {
            if error.code == .notFound { return answer }
            throw error
        }
        do throws(SystemError) {
            switch try file.stat().kind {
            case .directory: answer.kind = .directory
            case .regular: answer.kind = .file
            default: answer.kind = .other
            }
        } catch {
            throw place.failure(request.path, error)
        }
        return answer
    }
}

extension GuestFrame {
    /// Says why a session, or the configuration, did not come to be.
    static func failure(_ session: UInt32, _ error: ZoneError) -> GuestFrame {
        GuestFrame(.failed, session, [UInt8(clamping: error.exitCode)] + Array(error.sentence.utf8.prefix(longest - 1)))
    }
}

extension ZoneError {
    /// The detail, and in another line what to do about it.
    fileprivate var sentence: String { hint.map { "\(detail)\n\($0)" } ?? detail }
}
