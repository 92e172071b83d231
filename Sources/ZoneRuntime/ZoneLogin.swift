// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import Namespaces

/// Somebody who wants to log in to a zone.
public struct LoginRequest: Sendable {
    /// Name or number; root where nothing is said.
    public var user: String?
    /// What the user's shell is to execute; empty to talk with it.
    public var line = ""
    /// Added to what a login begins with.
    public var environment: [String] = []
    public var isInteractive = false
    public var hasTerminal = false

    public init() {}
}

/// Logs in to a running zone: the user's own shell, as the zone's /etc/passwd has it, as login(1) starts it.
public struct ZoneLogin: Sendable {
    private let store: ZoneStore
    private let executor: ZoneExecutor

    /// `report` gets lines for people.
    public init(_ folders: ZoneFolders, report: @escaping @Sendable (String) -> Void) {
        store = ZoneStore(folders)
        executor = ZoneExecutor(folders, report: report)
    }

    /// Returns the shell's exit status, as a shell shows it.
    public func login(_ request: LoginRequest, to name: String) throws(ZoneError) -> Int32 {
        let entry = try store.find(name)
        let zone = entry.name
        if let bundle = entry.record?.bundle {
            throw ZoneError(
                .unsupported, "shell: zone \(zone) was made from the bundle \(bundle)",
                hint: "'zonectl exec \(zone) sh' executes a shell there")
        }
        let process = try entry.state.runningProcess(for: "shell", of: zone)
        let root: Descriptor
        do throws(SystemError) { root = try Descriptor.open("/proc/\(process.pid)/root", [.path, .directory]) } catch {
            throw ZoneError("shell: look into zone \(zone)", error)
        }
        guard process.isAlive else { throw ZoneError(.wrongState, "shell: zone \(zone) has just ended") }
        let account = try account(request.user ?? "0", zone, root)
        let shell = try shell(of: account, zone, root)
        let session = try LoginSlots(store).take(zone, root)
        var exec = ExecRequest()
        exec.isLogin = true
        exec.arguments = [shell, "-l"] + (request.line.isEmpty ? [] : ["-c", request.line])
        exec.environment = environment(of: account, shell, request)
        exec.user = account.name.isEmpty ? String(account.uid) : account.name
        exec.workingDirectory = ZoneLogin.isDirectory(account.home, root) ? account.home : "/"
        exec.isInteractive = request.isInteractive
        exec.hasTerminal = request.hasTerminal
        let code = try executor.exec(exec, in: zone)
        drop(session)
        return code
    }

    private func account(
        _ user: String, _ zone: String, _ root: borrowing Descriptor
    ) throws(ZoneError) -> LoginAccount {
        let request = try PlanBuilder.userRequest(user)
        guard request.group == nil else {
            throw ZoneError(
                .invalid, "shell: \"\(user)\" names a group, too", hint: "who logs in has the user's groups")
        }
        let found: LoginAccount?
        do throws(SystemError) { found = try LoginAccount.find(request.user, root: root) } catch {
            throw ZoneError("shell: look up user \(user) in zone \(zone)", error)
        }
        if let found { return found }
        // A zone need not have users at all; root is there all the same.
        if request.user == .id(0) || request.user == .name("root") {
            return LoginAccount(name: "", uid: 0, home: "/root", shell: "")
        }
        throw ZoneError(
            .notFound, "shell: zone \(zone) has no user \"\(user)\"",
            hint: "its /etc/passwd lists those that there are; 'zonectl exec -u' takes any number")
    }

    /// The program; one that is not there is an error that says what to do instead.
    private func shell(
        of account: LoginAccount, _ zone: String, _ root: borrowing Descriptor
    ) throws(ZoneError) -> String {
        // login(1)'s, for an empty field.
        let shell = account.shell.isEmpty ? "/bin/sh" : account.shell
        let file = try? root.open(shell, [.path], resolve: .zone)
        guard shell.isAbsolutePath, let file, (try? file.stat())?.kind == .regular else {
            throw ZoneError(
                .commandNotFound, "shell: zone \(zone) has no \(shell)",
                hint: "'zonectl exec \(zone) PROGRAM' executes a program without a shell")
        }
        return shell
    }

    private func environment(of account: LoginAccount, _ shell: String, _ request: LoginRequest) -> [String] {
        let name = account.name.isEmpty ? "root" : account.name
        var entries = [
            DefaultProfile.path, "HOME=\(account.home.isEmpty ? "/" : account.home)", "SHELL=\(shell)", "USER=\(name)",
            "LOGNAME=\(name)",
        ]
        if request.hasTerminal { entries.append("TERM=\(getenv("TERM").map { String(cString: $0) } ?? "xterm")") }
        for entry in request.environment {
            entries.removeAll { $0.halves("=").0 == entry.halves("=").0 }
            entries.append(entry)
        }
        return entries
    }

    private static func isDirectory(_ path: String, _ root: borrowing Descriptor) -> Bool {
        guard path.isAbsolutePath, let file = try? root.open(path, [.path], resolve: .zone) else { return false }
        return (try? file.stat())?.kind == .directory
    }
}

/// Places for those who are logged in to a zone with `--max-users`: files that each `zonectl shell` holds a lock on. A
/// lock ends with its process, however that ends, so that there is nothing to clean up.
private struct LoginSlots {
    private static let folder = "logins"
    private let store: ZoneStore

    init(_ store: ZoneStore) {
        self.store = store
    }

    /// Takes a place, `nil` where there is no limit.
    func take(_ zone: String, _ root: borrowing Descriptor) throws(ZoneError) -> Descriptor? {
        guard let most = try store.definition(of: zone)?.maxUsers else { return nil }
        // One at a time: two who look at once would each see the other.
        let claim = try store.lock(zone)
        let volatile = try store.openVolatile(zone)
        var own: Descriptor?
        var others = LoginSlots.inside(root)
        do throws(SystemError) {
            try volatile.ensureDirectory(LoginSlots.folder, mode: 0o700)
            let folder = try volatile.open(LoginSlots.folder, [.path, .directory, .noFollow], resolve: .beneath)
            for index in 0..<most where others < most {
                let place = try folder.open(
                    String(index), [.writeOnly, .create, .noFollow], mode: 0o600, resolve: .beneath)
                if try !place.lock(wait: false) {
                    others += 1
                } else if own == nil {
                    own = consume place
                } else if try folder.isLast(index) {
                    // Files are made one after the other: behind the last one there is nobody.
                    break
                }
            }
        } catch {
            throw ZoneError("shell: count who is logged in to zone \(zone)", error)
        }
        drop(claim)
        if others < most, let own { return own }
        throw ZoneError(
            .wrongState, "shell: \(others) of at most \(most) users are logged in to zone \(zone) already",
            hint: "wait until one logs out; 'zonectl exec' is not counted")
    }

    /// How many have logged in inside, over the network or at the console: utmp(5), with processes that are alive.
    private static func inside(_ root: borrowing Descriptor) -> Int64 {
        // Systems without the file do not count them; then those of ours are all that is known.
        guard let file = try? root.open("/run/utmp", [.readOnly, .nonBlocking], resolve: .zone),
            (try? file.stat())?.kind == .regular, let bytes = try? file.readAll(limit: 1 << 20)
        else { return 0 }
        // struct utmp: 384 bytes, the kind in the first two, the pid at 4; 7 is USER_PROCESS.
        var count: Int64 = 0
        for start in stride(from: 0, through: bytes.count - 384, by: 384)
        where bytes[start] == 7 && bytes[start + 1] == 0 {
            let pid = (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[start + 4 + $1]) << UInt32(8 * $1) }
            if (try? root.open("/proc/\(pid)", [.path], resolve: .zone)) != nil { count += 1 }
        }
        return count
    }
}

extension Descriptor {
    fileprivate func isLast(_ index: Int64) throws(SystemError) -> Bool {
        do throws(SystemError) { _ = try status(String(index + 1)) } catch {
            if error.errno == .noEntry { return true }
            throw error
        }
        return false
    }
}
