// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CSeccomp
import Glibc
import LinuxSystem
public import OCI

/// Where a profile comes from.
public enum ProfileSource: Sendable {
    /// The distribution's, else the built-in one; with the ``Hardening``.
    case distribution
    /// A file of the user's, in docker's form or as `linux.seccomp` of config-linux.md.
    case file(String)
    /// Rules given in place.
    case spec(Spec.Seccomp)
}

/// Compiled filters in a directory, because compiling costs as much as the rest of a zone's start.
///
/// A hit opens the profile without reading it, reads one file and compares: no JSON is parsed and libseccomp does
/// nothing. A cache that cannot be read or written, or whose files are damaged, only costs the time to compile.
public struct SeccompCache: Sendable {
    /// To be raised whenever the same profile would compile to another filter: it invalidates every cached file.
    static let revision: UInt32 = 2
    /// Filters that are kept; one more throws all away, which is simpler than to know their age and rarely happens.
    static let capacity = 64

    private let directory: String
    private let distributionProfile: String

    /// `directory` is made when the first filter is stored; its parent may be missing too.
    public init(directory: String, distributionProfile: String = "/usr/share/containers/seccomp.json") {
        self.directory = directory
        self.distributionProfile = distributionProfile
    }

    /// Returns the filter for a zone that may hold `capabilities`, names such as `CAP_CHOWN`.
    ///
    /// `exceptions` matters to ``ProfileSource/distribution`` only.
    public func program(
        profile source: ProfileSource,
        capabilities: [String],
        exceptions: Hardening.Exceptions = []
    ) throws(SeccompError) -> SeccompProgram {
        let zone = ZoneFacts(capabilities: Set(capabilities), target: .current, exceptions: exceptions)
        var key = zone.key
        switch source {
        case .spec(let spec):
            key.append("spec")
            key.append(spec)
            if let program = load(key) { return program }
            let program = try SeccompProgram(compiling: spec)
            store(program, key)
            return program
        case .file(let path):
            guard let file = try ProfileFile.open(path) else {
                throw SeccompError(
                    .system, "open the seccomp profile", cause: SystemError("open", path, .noEntry))
            }
            key.append("file")
            return try program(file, key) { profile throws(SeccompError) in
                try profile.resolve(capabilities: zone.capabilities, target: zone.target)
            }
        case .distribution:
            key.append("distribution")
            if let file = try ProfileFile.open(distributionProfile) {
                return try program(file, key, zone.hardened)
            }
            if let program = load(key) { return program }
            let program = try SeccompProgram(compiling: zone.hardened(.builtIn))
            store(program, key)
            return program
        }
    }

    private func program(
        _ file: borrowing ProfileFile,
        _ zoneKey: CacheKey,
        _ resolve: (SeccompProfile) throws(SeccompError) -> Spec.Seccomp
    ) throws(SeccompError) -> SeccompProgram {
        var key = zoneKey
        key.append(file.status)
        if let program = load(key) { return program }
        do throws(SeccompError) {
            let program = try SeccompProgram(compiling: try resolve(try file.read()))
            if file.isSettled { store(program, key) }
            return program
        } catch {
            throw error.inside("seccomp profile \(file.path)")
        }
    }

    private func load(_ key: CacheKey) -> SeccompProgram? {
        // Whatever is wrong with the cache, the profile can be compiled.
        guard let file = try? Descriptor.open("\(directory)/\(key.fileName)", [.readOnly, .noFollow, .nonBlocking]),
            let status = try? file.stat(), status.kind == .regular,
            // Whoever could write to the file could take the filter off a zone.
            status.uid == geteuid(), status.mode & 0o022 == 0,
            let bytes = try? file.readAll(limit: CacheEntry.maximumSize(key))
        else { return nil }
        return CacheEntry.program(in: bytes, for: key)
    }

    private func store(_ program: SeccompProgram, _ key: CacheKey) {
        // A cache that cannot be written is as good as an empty one.
        guard let folder = try? Descriptor.makePath(directory, mode: 0o700), let names = try? folder.entries() else {
            return
        }
        if names.count >= SeccompCache.capacity {
            for name in names { try? folder.remove(name) }
        }
        try? folder.replaceFile(key.fileName, CacheEntry(key: key, program: program).encoded, mode: 0o600)
    }
}

/// What a filter depends on besides its profile.
private struct ZoneFacts {
    let capabilities: Set<String>
    let target: FilterTarget
    let exceptions: Hardening.Exceptions

    var key: CacheKey {
        var key = CacheKey()
        key.append(UInt64(SeccompCache.revision))
        // A newer libseccomp knows more calls. This only reads a constant of the library's.
        if let version = seccomp_version()?.pointee {
            key.append(UInt64(version.major) << 32 | UInt64(version.minor) << 16 | UInt64(version.micro))
        }
        key.append(target.token)
        key.append(UInt64(target.kernel.major) << 32 | UInt64(target.kernel.minor))
        key.append(UInt64(exceptions.rawValue))
        key.append(capabilities.sorted())
        return key
    }

    func hardened(_ profile: SeccompProfile) throws(SeccompError) -> Spec.Seccomp {
        Hardening.applied(
            to: try profile.resolve(capabilities: capabilities, target: target),
            capabilities: capabilities, exceptions: exceptions)
    }
}

/// A profile's file, open but not read.
private struct ProfileFile: ~Copyable {
    let path: String
    let status: FileStatus
    private let descriptor: Descriptor

    private init(_ path: String, _ descriptor: consuming Descriptor, _ status: FileStatus) {
        self.path = path
        self.descriptor = descriptor
        self.status = status
    }

    /// Returns `nil` where there is no such file.
    static func open(_ path: String) throws(SeccompError) -> ProfileFile? {
        // A pipe that nobody writes to must not hold the launch up.
        let descriptor: Descriptor
        do throws(SystemError) { descriptor = try Descriptor.open(path, [.readOnly, .nonBlocking]) } catch {
            if error.errno == .noEntry { return nil }
            throw SeccompError(.system, "open the seccomp profile", cause: error)
        }
        let status: FileStatus
        do throws(SystemError) { status = try descriptor.stat() } catch {
            throw SeccompError(.system, "seccomp profile \(path)", cause: error)
        }
        guard status.kind == .regular else {
            throw SeccompError(.invalid, "seccomp profile \(path): is not a regular file")
        }
        return ProfileFile(path, descriptor, status)
    }

    func read() throws(SeccompError) -> SeccompProfile {
        let bytes: [UInt8]
        do throws(SystemError) { bytes = try descriptor.readAll(limit: 4 << 20, path) } catch {
            throw SeccompError(.system, "read the profile", cause: error)
        }
        do throws(JSONError) { return try SeccompProfile(parsing: bytes) } catch { throw SeccompError(error) }
    }

    /// Whether the file's status, taken before it was read, will differ after any later change: it is still the same, and
    /// the last change is so long ago that the next one cannot bear the same time. The kernel stamps files with the time
    /// of its last timer tick, at most 10 ms ago.
    var isSettled: Bool {
        guard (try? descriptor.stat()) == status else { return false }
        return FileStatus.now &- status.changed > 20_000_000
    }
}
