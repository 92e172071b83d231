// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux
import Glibc
import LinuxSystem
import Namespaces

/// A dnsmasq that has nothing of root's but a few capabilities (P14): a user of its own, and a mount namespace in which it sees
/// programs, what says whom the host asks for names, and one folder of ours. It can write nowhere.
struct NamesProgram {
    /// Of ours, `ROOT/…`; it sees it at the same path, and nothing else of ROOT.
    let folder: String
    let root: String
    let arguments: [String]
    let capabilities: UInt64
    /// The network namespace that it is in; else the caller's.
    var network: CInt?
    /// Whether it asks whom the host asks, whose settings it then sees: names may come and go there (rename), so as folders.
    var followsHost = false
    var endsWithCaller = false

    /// `words` come behind those that all have.
    init(_ folder: String, of root: String, capabilities: [CInt], _ words: [String]) throws(SystemError) {
        self.folder = folder
        self.root = root
        // It is nobody else's user from the start: it has no other one to change to, and no file to write its number to.
        arguments =
            [try HostProgram.find("dnsmasq"), "--conf-file=/dev/null", "--user=root", "--keep-in-foreground"]
            + ["--bind-interfaces"] + words
        self.capabilities = capabilities.reduce(0) { $0 | 1 << UInt64($1) }
    }

    // MARK: The user

    /// Debian's package has a user for it.
    static func user(_ passwd: String) -> (uid: UInt32, gid: UInt32) {
        for line in passwd.fields("\n") {
            let fields = line.utf8.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
            guard fields.count >= 4, fields[0].elementsEqual("dnsmasq".utf8),
                let uid = UInt32(String(decoding: fields[2], as: UTF8.self)),
                let gid = UInt32(String(decoding: fields[3], as: UTF8.self))
            else { continue }
            if uid != 0, gid != 0, uid != .max, gid != .max { return (uid, gid) }
        }
        return (65534, 65534)
    }

    private static func user() -> (uid: UInt32, gid: UInt32) {
        user(String(decoding: (try? readHostFile("/etc/passwd", limit: 1 << 20)) ?? [], as: UTF8.self))
    }

    /// Makes its folder, which is shut to all others: in it, files that everybody may read are its own to read.
    static func makeFolder(_ path: String) throws(SystemError) -> Descriptor {
        _ = try Descriptor.makePath(path, mode: 0o700)
        let folder = try Descriptor.open(path, [.readOnly, .directory, .noFollow])
        try check(zn_fchownat(folder.raw, "", .max, user().gid, 0x1000 /* AT_EMPTY_PATH */), "chown", path)
        try check(zn_fchmod(folder.raw, 0o750), "chmod", path)
        return folder
    }

    /// Makes what everybody may read who gets there, whatever the caller's umask says.
    static func readable<Value>(
        _ body: () throws(SystemError) -> Value
    ) throws(SystemError) -> Value {
        let before = umask(0o022)
        defer { _ = umask(before) }
        return try body()
    }

    // MARK: The start

    /// Starts it as a child, and returns once it answers; else what it said is the error's subject. `began` gets its number
    /// before it runs. The caller is a process for this alone: its umask changes.
    func start(began: (Int32) throws(SystemError) -> Void = { _ in }) throws(SystemError) -> ProcessHandle {
        _ = umask(0o022)
        let pipe = try Pipe()
        let process = try launch(pipe.writer.raw, began)
        let end = MonotonicClock.milliseconds + 10_000
        let reader = pipe.takeReader()
        var said: [UInt8] = []
        while try waitReadable(reader.raw, milliseconds: Int(max(0, end - MonotonicClock.milliseconds))) {
            let more = try reader.read(upTo: 4096)
            if said.count < 4096 { said += more }
            // It leaves its streams once it has its sockets; else they went with all that it had open.
            if more.isEmpty, (try? FileStatus.of("/proc/\(process.pid)/fd/1")) != nil { return process }
            if more.isEmpty { break }
        }
        try? process.signal(SIGKILL)
        _ = try process.wait()
        let line = String(decoding: said, as: UTF8.self).fields("\n").first
        throw SystemError("run", line ?? "\(arguments[0]) says nothing", .ioError)
    }

    /// The same, as nobody's child: its number is in a file of its folder.
    func startApart(_ pidFile: String) throws(SystemError) {
        let pipe = try Pipe()
        // There is no other thread: the child is a whole process.
        let pid = zn_fork()
        if pid == 0 {
            do throws(SystemError) {
                _ = try start { (number) throws(SystemError) in
                    let place = try Descriptor.open(folder, [.readOnly, .directory])
                    try place.replaceFile(pidFile, Array("\(number)\n".utf8), mode: 0o600)
                }
            } catch {
                try? pipe.writer.writeAll(error.operation == "run" ? error.subject : "\(error)")
                _exit(1)
            }
            _exit(0)
        }
        try check(pid, "fork")
        let reader = pipe.takeReader()
        let said = try reader.readAll(limit: 1 << 16)
        var status: CInt = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        if status != 0 { throw SystemError("run", String(decoding: said, as: UTF8.self), .ioError) }
    }

    private func launch(
        _ output: CInt, _ began: (Int32) throws(SystemError) -> Void
    ) throws(SystemError) -> ProcessHandle {
        let null = try Descriptor.open("/dev/null", [.readWrite])
        var plan = try plan()
        plan.process.standard = (null.raw, output, output)
        // Nothing that comes is for us.
        let signals = try SignalQueue(SignalSet([]))
        func attempting<Value>(
            _ body: () throws(LaunchError) -> Value
        ) throws(SystemError) -> Value where Value: ~Copyable {
            do throws(LaunchError) { return try body() } catch {
                throw SystemError("run", "\(arguments[0]): \(error)", error.errno)
            }
        }
        var launching = try attempting { () throws(LaunchError) in try LaunchingProcess.start(plan) }
        try attempting { () throws(LaunchError) in try launching.waitUntilReady(interruptedBy: signals) }
        try began(launching.process.pid)
        try attempting { () throws(LaunchError) in try launching.release(interruptedBy: signals) }
        return try launching.process.duplicate()
    }

    // MARK: What it sees

    private static let closed: MountAttributes = [.readOnly, .noSuid, .noDevices, .noExecution]

    private func plan() throws(SystemError) -> LaunchPlan {
        var plan = LaunchPlan()
        plan.newNamespaces = [.mount]
        if let network { plan.joins = [NamespaceJoin(descriptor: network, kinds: .network, name: "the zone's")] }
        let top = try FileSystemContext("tmpfs")
        try top.set("mode", "755")
        let tree = try top.mount([.noSuid, .noDevices, .noExecution])
        if !followsHost {
            // For the name of its user.
            try tree.ensureDirectory("etc")
            try tree.open("etc", [.readOnly, .directory], resolve: .beneath).replaceFile(
                "passwd", Array("root:x:0:0::/:\n".utf8))
        }
        plan.root = RootPlan(.tree(plan.descriptors.adopt(tree)), anchor: root, isReadOnly: true)
        try addPrograms(&plan)
        if followsHost { try addSettings(&plan) }
        // Upon what others than root have no way through.
        var cover = MountPlan(
            target: closedFolder(), source: .fileSystem(type: "tmpfs", options: [(key: "mode", value: "755")]),
            sealsAtEnd: true)
        cover.changes.set = NamesProgram.closed
        plan.mounts.append(cover)
        try show(folder, NamesProgram.closed, &plan)
        plan.process = process()
        return plan
    }

    /// ROOT, or what keeps others from it.
    private func closedFolder() -> String {
        let parts = root.pathComponents
        for count in 1..<max(parts.count, 1) {
            let path = Array(parts.prefix(count)).absolutePath
            if let status = try? FileStatus.of(path), status.mode & 0o001 == 0 { return path }
        }
        return root
    }

    private func process() -> ProcessPlan {
        var process = ProcessPlan()
        process.arguments = arguments
        process.environment = ["PATH=/usr/sbin:/usr/bin", "LC_ALL=C"]
        let user = NamesProgram.user()
        process.user = .ids(uid: user.uid, gid: user.gid, groups: [])
        var sets = CapabilityPlan()
        (sets.bounding, sets.permitted, sets.effective) = (capabilities, capabilities, capabilities)
        (sets.inheritable, sets.ambient) = (capabilities, capabilities)
        process.capabilities = sets
        process.setsNoNewPrivileges = true
        process.diesWithLauncher = endsWithCaller
        return process
    }

    private func show(
        _ path: String, _ attributes: MountAttributes, isDirectory: Bool = true, recursive: Bool = false,
        _ plan: inout LaunchPlan
    ) throws(SystemError) {
        var changes = MountChanges()
        if recursive { changes.recursiveSet = attributes } else { changes.set = attributes }
        let tree = try Descriptor.cloneTree(path, recursive: recursive, changes: changes)
        plan.mounts.append(
            MountPlan(target: path, source: .tree(plan.descriptors.adopt(tree), isDirectory: isDirectory)))
    }

    private func addPrograms(_ plan: inout LaunchPlan) throws(SystemError) {
        let host = try Descriptor.open("/", [.path, .directory])
        for name in ["usr"] + MachineRoot.systemFolders {
            guard let status = try? host.status(name) else { continue }
            if status.kind == .symlink {
                plan.mounts.append(MountPlan(target: "/\(name)", source: .symlink(try host.readLink(name))))
            } else if status.kind == .directory {
                try show("/\(name)", [.readOnly, .noSuid, .noDevices], &plan)
            }
        }
        // What it has inherited is closed by what is in /proc/self/fd.
        var proc = MountPlan(target: "/proc", source: .fileSystem(type: "proc", options: []))
        proc.changes.set = NamesProgram.closed
        plan.mounts.append(proc)
        for name in ["null", "urandom"] {
            try show("/dev/\(name)", [.noSuid, .noExecution], isDirectory: false, &plan)
        }
    }

    /// /etc/resolv.conf, and what it leads to; and where messages go.
    private func addSettings(_ plan: inout LaunchPlan) throws(SystemError) {
        // In a container the file itself is mounted there.
        try show("/etc", NamesProgram.closed, recursive: true, &plan)
        var shown = ["/etc"]
        if (try? FileStatus.of("/run", followLinks: false))?.kind == .directory {
            try show("/run", NamesProgram.closed, &plan)
            shown.append("/run")
        }
        let host = try Descriptor.open("/", [.path, .directory])
        var path = "/etc/resolv.conf"
        for _ in 0..<8 {
            guard let text = try? host.readLink(path) else { break }
            path = NamesProgram.settled(text.isAbsolutePath ? text : "\(NamesProgram.folder(of: path))/\(text)")
            let place = NamesProgram.folder(of: path)
            if shown.contains(where: { NamesProgram.holds($0, place) }) { continue }
            if (try? FileStatus.of(place))?.kind == .directory {
                try show(place, NamesProgram.closed, &plan)
                shown.append(place)
            }
        }
        switch (try? FileStatus.of("/dev/log", followLinks: false))?.kind {
        case .symlink:
            plan.mounts.append(MountPlan(target: "/dev/log", source: .symlink(try host.readLink("dev/log"))))
        case .socket: try show("/dev/log", NamesProgram.closed, isDirectory: false, &plan)
        default: break
        }
    }

    private static func folder(of path: String) -> String {
        path.pathComponents.dropLast().map { $0 }.absolutePath
    }

    /// The path without `.` and `..`.
    static func settled(_ path: String) -> String {
        var parts: [String] = []
        for part in path.pathComponents where part != "." {
            if part != ".." { parts.append(part) } else { _ = parts.popLast() }
        }
        return parts.absolutePath
    }

    /// Whether a folder is seen in one that is shown, whose other file systems are not.
    private static func holds(_ folder: String, _ place: String) -> Bool {
        guard "\(place)/".after("\(folder)/") != nil, let one = try? FileStatus.of(folder),
            let other = try? FileStatus.of(place)
        else { return false }
        return one.device == other.device
    }
}
