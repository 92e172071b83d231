// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import Glibc
import LinuxSystem
import OCI

extension BundleRuntime {
    /// Writes a running zone's processes into files. Unless they are to go on they have ended then, and the zone is
    /// stopped, until `restore` or `delete`. Where it fails the zone runs on.
    public func checkpoint(_ request: CheckpointRequest) throws(ZoneError) {
        let id = request.id
        _ = try store.findBundle(id)
        let claim = try store.lockBundle(id)
        let entry = store.entry(id)
        guard case .running(let process) = entry.state, var record = entry.record else {
            let hint: String? = if case .paused = entry.state { "resume it first" } else { nil }
            throw ZoneError(
                .wrongState, "checkpoint: container \"\(id)\" is \(entry.state.word), not running", hint: hint)
        }
        guard record.bundle != nil, let spec = try store.configuration(of: id) else {
            throw ZoneError(
                .unsupported, "checkpoint: zone \(id) was made from an image: only zones of bundles can be saved yet")
        }
        let session = try CriuSession(
            request.isPreDump ? .preDump : .dump, id, request.criu, program: options.criu)
        let imagePath = session.settings.imagePath
        let dump = CheckpointDump(request: request, session: session, spec: spec, record: record, pid: process.pid)
        try dump.run()
        if request.leavesRunning || request.isPreDump { return }
        record.phase = .stopped
        record.finished = Int64(time(nil))
        record.checkpoint = imagePath
        try store.write(record, in: claim.folder)
    }
}

/// One request to save a zone.
struct CheckpointDump: ~Copyable {
    let request: CheckpointRequest
    let session: CriuSession
    let spec: Spec
    let record: ZoneRecord
    let pid: Int32

    func run() throws(ZoneError) {
        var message = session.options()
        message.add(CriuSession.Field.pid, pid)
        message.add(CriuSession.Field.root, record.rootfs ?? "/")
        try addChoices(&message)
        try addSurroundings(&message)
        _ = try session.run(message) { (_) throws(ZoneError) in }
    }

    private func addChoices(_ message: inout CriuMessage) throws(ZoneError) {
        let isWhole = !request.isPreDump
        for (field, isSet) in [
            (CriuSession.Field.leaveRunning, request.leavesRunning || request.isPreDump),
            (CriuSession.Field.linkRemap, request.linksRemoved),
            (CriuSession.Field.skipInFlight, request.skipsTCPInFlight),
            // The next checkpoint is to know what has changed since.
            (CriuSession.Field.tracksMemory, request.isPreDump || request.parentPath != nil),
            (CriuSession.Field.orphanTerminal, spec.process?.terminal ?? false && isWhole),
        ] where isSet {
            message.add(field, true)
        }
        if let parent = request.parentPath {
            try session.withImages { (folder) throws(SystemError) in
                _ = try Descriptor.open(
                    parent.isAbsolutePath ? parent : "/proc/self/fd/\(folder.raw)/\(parent)", [.path, .directory])
            }
            message.add(CriuSession.Field.parent, parent)
        }
        if let server = request.pageServer { message.add(CriuSession.Field.pageServer, try address(server)) }
        if let number = request.statusDescriptor {
            guard Descriptor.isOpen(number) else {
                throw ZoneError(.invalid, "--status-fd \(number): there is no such open descriptor")
            }
            message.add(CriuSession.Field.statusDescriptor, number)
        }
        if request.criu.isLazy, request.pageServer == nil {
            throw ZoneError(.invalid, "--lazy-pages needs --page-server ADDRESS:PORT: where memory is asked for")
        }
    }

    private func address(_ text: String) throws(ZoneError) -> CriuMessage {
        guard let colon = text.lastIndex(of: ":"), colon != text.startIndex,
            let port = UInt16(text[text.index(after: colon)...])
        else {
            throw ZoneError(.invalid, "--page-server \"\(text)\" is not ADDRESS:PORT")
        }
        var server = CriuMessage()
        server.add(1, String(text[..<colon]))
        server.add(2, Int32(port))
        return server
    }

    /// What the zone has from outside: mounts, namespaces, streams.
    private func addSurroundings(_ message: inout CriuMessage) throws(ZoneError) {
        for joined in try JoinedNamespaces.of(spec, "checkpoint") {
            guard let key = joined.key else { continue }
            let inode = try attempting("checkpoint container \(record.id)") { () throws(SystemError) in
                try FileStatus.of("/proc/\(pid)/ns/\(joined.file)").inode
            }
            message.add(CriuSession.Field.external, "\(joined.file)[\(inode)]:\(key)")
        }
        if let freezer = (record.cgroups.first { $0.hierarchy == "freezer" })
            ?? (record.cgroups.count == 1 ? record.cgroups.first { $0.hierarchy.isEmpty } : nil)
        {
            // All processes stop at once, however fast they multiply.
            message.add(CriuSession.Field.freezer, freezer.path)
        }
        var file = CheckpointFile()
        try attempting("look at container \(record.id)") { () throws(SystemError) in
            let mounts = try ContainerMounts(of: pid, spec)
            file.mounts = mounts.external()
            file.places = mounts.places()
            for number in 0...2 {
                let name = try ContainerMounts.name(ofStream: number, pid: pid, mounts: mounts)
                file.streams.append(name)
                guard let stream = try? FileStatus.of("/proc/\(pid)/fd/\(number)"), stream.isNull else { continue }
                file.nulls.append(name)
            }
        }
        for mount in file.mounts {
            guard !mount.point.contains("]") else {
                throw ZoneError(.unsupported, "checkpoint: criu cannot name the mount at \(mount.point)")
            }
            message.add(CriuSession.Field.external, "mnt[\(mount.point)]:\(mount.point)")
        }
        for name in Set(file.streams).sorted() where name.hasPrefix("file[") {
            message.add(CriuSession.Field.external, name)
        }
        if !request.isPreDump { try session.withImages { (folder) throws(SystemError) in try file.write(in: folder) } }
    }
}

/// Namespaces that the configuration names by path and that are not the host's.
struct JoinedNamespaces {
    let kind: Spec.Namespace.Kind
    let path: String

    /// The name below /proc/PID/ns.
    var file: String { JoinedNamespaces.file(kind) }

    /// The name in the checkpoint of one that criu is given open; the same as runc's and crun's.
    var key: String? {
        switch kind {
        case .network: "extRootNetNS"
        case .pid: "extRootPidNS"
        default: nil
        }
    }

    private static func file(_ kind: Spec.Namespace.Kind) -> String {
        switch kind {
        case .network: "net"
        case .mount: "mnt"
        case .pid, .ipc, .uts, .user, .cgroup, .time: kind.rawValue
        }
    }

    static func of(_ spec: Spec, _ verb: String) throws(ZoneError) -> [JoinedNamespaces] {
        var found: [JoinedNamespaces] = []
        for namespace in spec.linux?.namespaces ?? [] {
            guard let path = namespace.path, !path.isEmpty else { continue }
            let joined = JoinedNamespaces(kind: namespace.type, path: path)
            let (theirs, ours) = try attempting("\(verb): linux.namespaces") { () throws(SystemError) in
                (try FileStatus.of(path), try FileStatus.of("/proc/self/ns/\(joined.file)"))
            }
            // criu is in the same one: nothing to save.
            if theirs.inode == ours.inode, theirs.device == ours.device { continue }
            switch namespace.type {
            case .network, .pid, .ipc, .uts, .time: found.append(joined)
            case .mount, .user, .cgroup:
                throw ZoneError(
                    .unsupported,
                    "\(verb): linux.namespaces: criu cannot join a \(namespace.type.rawValue) namespace by path")
            }
        }
        return found
    }
}
