// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import Images
import LinuxSystem
import OCI

/// Copies between the host and a micro machine that runs: as archives, which the agent in it writes and unpacks by the code that does it
/// here for containers. Nothing of the machine's disks is ever mounted on the host.
extension ZoneCopy {
    /// Does the copy where one of the two ends is in a machine; false where none is.
    func copyWithMachine(from source: End, to target: End) throws(ZoneError) -> Bool {
        let from = try machine(source)
        let to = try machine(target)
        guard from != nil || to != nil else { return false }
        if case .zone = source, case .zone = target {
            throw ZoneError(
                .unsupported, "cp: one of the two zones is a virtual machine",
                hint: "copy by way of the host: to a file or through a pipe (-)")
        }
        let signals = try attempting("wait for signals") { () throws(SystemError) in try SignalQueue(.forwarded) }
        switch (source, target) {
        case (.zone(_, let path), .stream):
            if isatty(1) == 1 {
                throw ZoneError(
                    .invalid, "cp: an archive is nothing for a terminal", hint: "send stdout to a file or a program")
            }
            try run(from ?? "", request(.archive, path), signals, input: nil, output: 1)
        case (.stream, .zone(_, let path)):
            var request = request(.extract, path)
            request.keepsOwners = true
            try run(to ?? "", request, signals, input: 0, output: 1)
        case (.zone(_, let path), .host(let destination)):
            try fetch(path, from ?? "", to: destination, signals)
        case (.host(let path), .zone(_, let destination)): try send(path, to ?? "", destination, signals)
        default: return false
        }
        return true
    }

    /// The name of the zone of an end that is a machine.
    private func machine(_ end: End) throws(ZoneError) -> String? {
        guard case .zone(let name, let path) = end else { return nil }
        let entry = try store.find(name)
        guard entry.record?.bundle == nil, let machine = try store.definition(of: entry.name)?.machine else {
            return nil
        }
        try MachineVerbs(store).requireAgent("cp", entry.name, machine)
        _ = try entry.state.runningProcess(for: "cp", of: entry.name)
        if path.isEmpty {
            throw ZoneError(
                .invalid, "cp: the path in zone \(entry.name) is empty", hint: "its root is \(entry.name):/")
        }
        return entry.name
    }

    private func request(_ action: GuestRequest.Action, _ path: String) -> GuestRequest {
        var request = GuestRequest()
        request.action = action
        request.path = path
        request.followsLink = followsLink
        request.keepsOwners = keepsOwners
        request.isInteractive = action == .extract
        return request
    }

    private func run(
        _ zone: String, _ request: GuestRequest, _ signals: borrowing SignalQueue, input: CInt?, output: CInt
    ) throws(ZoneError) {
        let session = MachineSession(try MachineClient(store, zone), input: input, output: output)
        let code = try session.run(request, signals)
        if code != 0 { throw ZoneError(.system, "cp: the copy in machine \(zone) ended with status \(code)") }
    }

    /// What is at a path in the machine; nil for nothing.
    private func look(_ zone: String, _ path: String) throws(ZoneError) -> GuestPathAnswer.Kind? {
        var client = try MachineClient(store, zone)
        let frame = GuestFrame(.open, MachineGuest.mainSession, request(.look, path).serialized())
        guard let answer = try? GuestPathAnswer(parsing: try client.answer(to: frame, milliseconds: 30_000)) else {
            throw ZoneError(.system, "cp: machine \(zone) answers nonsense")
        }
        return answer.kind
    }

    /// What a source is called; nil where only what is in it is meant (`dir/.`).
    private func called(_ path: String) -> String? {
        var trimmed = path
        while trimmed.utf8.count > 1, trimmed.utf8.last == UInt8(ascii: "/") { trimmed.removeLast() }
        return CopyPlace.split(trimmed).name
    }

    // MARK: Out of the machine

    private func fetch(
        _ path: String, _ zone: String, to destination: String, _ signals: borrowing SignalQueue
    ) throws(ZoneError) {
        let name = "cp-\(getpid())"
        let place = "\(store.folders.persistent(zone))/\(name)"
        let attempt = "cp: \(zone):\(path)"
        let pipe = try attempting(attempt) { () throws(SystemError) in try Pipe() }
        let zoneFolder = try attempting(attempt) { () throws(SystemError) in
            let zoneFolder = try Descriptor.open(store.folders.persistent(zone), [.readOnly, .directory])
            try zoneFolder.ensureDirectory(name, mode: 0o700)
            return zoneFolder
        }
        var rollback = Rollback()
        let removal = store.folders.persistent(zone)
        rollback.add { try? Descriptor.open(removal, [.readOnly, .directory]).removeTree(name) }
        // It unpacks while we receive: the machine is not trusted, and the code that takes images' layers apart is what takes this.
        let pid = zn_fork()
        if pid == 0 {
            _ = zn_close(pipe.writer.raw)
            _exit(unpack(pipe.reader.raw, at: place))
        }
        let child = try attempting(attempt) { () throws(SystemError) in
            try ProcessHandle(pid: try check(pid, "fork"))
        }
        let output = pipe.writer.raw
        var failure: ZoneError?
        do throws(ZoneError) {
            try run(zone, request(.archive, path), signals, input: nil, output: output)
        } catch { failure = error }
        drop(pipe)
        let status = try attempting(attempt) { () throws(SystemError) in try child.wait() }
        if let failure { throw failure }
        guard status == .exited(0) else { throw ZoneError(.system, "\(attempt): what came could not be unpacked") }
        let entries = try attempting(attempt) { () throws(SystemError) in
            try zoneFolder.open(name, [.readOnly, .directory, .noFollow], resolve: .beneath).entries()
        }
        let isContent = called(path) == nil
        guard isContent || entries.count == 1 else { throw ZoneError(.system, "\(attempt): nothing came") }
        try copy(
            isContent ? "\(place)/." : "\(place)/\(entries[0])", CopyPlace(nil), to: destination, CopyPlace(nil),
            isZones: false)
        drop(rollback)
    }

    private func unpack(_ raw: CInt, at place: String) -> CInt {
        var policy = CopyPolicy()
        if !keepsOwners { policy.owner = (geteuid(), getegid()) }
        policy.makesNodes = keepsOwners
        do throws(ImageError) {
            guard let folder = try? Descriptor.open(place, [.readOnly, .directory]) else { return 1 }
            try TreeExtractor(policy).extract(raw, into: folder) { below in
                try? folder.open(below, [.readOnly, .directory], resolve: .beneath)
            }
            return 0
        } catch {
            report("cp: \(error)")
            return 1
        }
    }

    // MARK: Into the machine

    private func send(
        _ path: String, _ zone: String, _ destination: String, _ signals: borrowing SignalQueue
    ) throws(ZoneError) {
        let last = CopyPlace.split(path).name
        let host = CopyPlace(nil)
        let file = try host.open(path, follows: followsLink || last == nil)
        let status: FileStatus
        do throws(SystemError) { status = try file.stat() } catch { throw host.failure(path, error) }
        let isDirectory = status.kind == .directory
        if last == nil, !isDirectory { throw ZoneError(.invalid, "cp: \(path): it is no directory") }
        var folder = destination
        var name = called(path) ?? "."
        switch try look(zone, destination) {
        case .directory: break
        case let kind:
            if kind != nil, isDirectory {
                throw ZoneError(
                    .invalid, "cp: \(zone):\(destination) is a file, and cannot be replaced by a directory")
            }
            let (above, new) = CopyPlace.split(destination)
            guard let new, try look(zone, above.isEmpty ? "/" : above) == .directory else {
                throw ZoneError(
                    .notFound, "cp: \(zone):\(destination): no such directory", hint: "make that directory first")
            }
            (folder, name) = (above.isEmpty ? "/" : above, new)
        }
        let attempt = "cp: \(path)"
        let pipe = try attempting(attempt) { () throws(SystemError) in try Pipe() }
        let pid = zn_fork()
        if pid == 0 {
            _ = zn_close(pipe.reader.raw)
            do throws(ImageError) {
                var writer = try TreeArchiver(to: pipe.writer.raw, report: report)
                try writer.add(file, as: name)
                try writer.finish()
                _exit(0)
            } catch {
                report("cp: \(error)")
                _exit(1)
            }
        }
        let child = try attempting(attempt) { () throws(SystemError) in
            try ProcessHandle(pid: try check(pid, "fork"))
        }
        let reader = pipe.takeReader()
        try run(zone, request(.extract, folder), signals, input: reader.raw, output: 1)
        let ended = try attempting(attempt) { () throws(SystemError) in try child.wait() }
        guard ended == .exited(0) else { throw ZoneError(.system, "\(attempt): it could not be read to its end") }
    }
}
