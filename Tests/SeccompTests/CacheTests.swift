// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI
import Testing

@testable import Seccomp

/// A directory that is removed with everything in it.
private final class Scratch {
    let path: String

    init() throws {
        var template = Array("/tmp/seccomp-tests.XXXXXX".utf8CString)
        let made = try #require(template.withUnsafeMutableBufferPointer { $0.baseAddress.flatMap { mkdtemp($0) } })
        path = String(cString: made)
    }

    deinit {
        let name = String(path.dropFirst("/tmp/".count))
        try? Descriptor.open("/tmp", [.path, .directory]).removeTree(name)
    }

    func write(_ name: String, _ text: String) throws -> String {
        try write(name, Array(text.utf8))
    }

    func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        let file = try Descriptor.open("\(path)/\(name)", [.writeOnly, .create, .truncate], mode: 0o600)
        try file.writeAll(bytes)
        return "\(path)/\(name)"
    }

    var cache: String { "\(path)/below/cache" }

    /// The cached files' names.
    func cached() throws -> [String] {
        guard (try? FileStatus.of(cache)) != nil else { return [] }
        return try Descriptor.open(cache, [.path, .directory]).entries().sorted()
    }
}

@Suite struct CacheTests {
    private let scratch: Scratch
    private let cache: SeccompCache

    init() throws {
        scratch = try Scratch()
        cache = SeccompCache(directory: scratch.cache, distributionProfile: "\(scratch.path)/default.json")
    }

    private func profile(_ action: String, _ name: String = "getpid") -> String {
        "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"\(name)\"], \"action\": \"\(action)\"}]}"
    }

    /// Writes a profile and waits until its time stamp is old enough to be told from a later one.
    private func settled(_ text: String) throws -> String {
        let path = try scratch.write("profile.json", text)
        pause(milliseconds: 40)
        return path
    }

    /// Changes a cached file's program and makes its checksum right again.
    private func forge(_ name: String) throws -> SeccompProgram {
        var bytes = try readHostFile("\(scratch.cache)/\(name)")
        let key = Int(bytes[20]) | Int(bytes[21]) << 8
        bytes[bytes.count - 4] ^= 1
        var checksum = Checksum()
        checksum.add(bytes[..<24])
        checksum.add(bytes[32..<(32 + key)])
        checksum.add(bytes[(32 + key)...])
        for index in 0..<8 { bytes[24 + index] = UInt8(truncatingIfNeeded: checksum.value >> UInt64(index * 8)) }
        _ = try scratch.write("below/cache/\(name)", bytes)
        return SeccompProgram(instructions: Array(bytes[(32 + key)...]), flags: 4)
    }

    @Test func aHitCompilesNothing() throws {
        for source in [
            .file(try settled(profile("SCMP_ACT_LOG"))), .spec(rules("SCMP_ACT_ALLOW")), .distribution,
        ] as [ProfileSource] {
            let before = Set(try scratch.cached())
            let program = try cache.program(profile: source, capabilities: ["CAP_CHOWN"])
            let added = Set(try scratch.cached()).subtracting(before)
            let name = try #require(added.first)
            #expect(added.count == 1)
            #expect(try cache.program(profile: source, capabilities: ["CAP_CHOWN"]) == program)
            // Only a program that was taken from the file can have the forged instruction.
            let forged = try forge(name)
            #expect(forged != program)
            #expect(try cache.program(profile: source, capabilities: ["CAP_CHOWN"]) == forged)
        }
    }

    @Test func theOrderOfCapabilitiesDoesNotMatter() throws {
        let source = ProfileSource.distribution
        let first = try cache.program(profile: source, capabilities: ["CAP_CHOWN", "CAP_SYS_ADMIN"])
        let second = try cache.program(profile: source, capabilities: ["CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_CHOWN"])
        #expect(first == second)
        #expect(try scratch.cached().count == 1)
        let third = try cache.program(profile: source, capabilities: ["CAP_CHOWN"])
        #expect(third != first)
        #expect(try cache.program(profile: source, capabilities: ["CAP_CHOWN"], exceptions: .socketcall) != third)
        #expect(try scratch.cached().count == 3)
    }

    @Test func filesAreForTheOwnerOnly() throws {
        _ = try cache.program(profile: .distribution, capabilities: [])
        let name = try #require(try scratch.cached().first)
        #expect(try FileStatus.of(scratch.cache).mode == 0o700)
        #expect(try FileStatus.of("\(scratch.cache)/\(name)").mode == 0o600)
    }

    @Test func damagedFilesAreCompiledAnew() throws {
        let path = try settled(profile("SCMP_ACT_LOG"))
        let program = try cache.program(profile: .file(path), capabilities: [])
        let name = try #require(try scratch.cached().first)
        let good = try readHostFile("\(scratch.cache)/\(name)")
        var damaged: [[UInt8]] =
            stride(from: 0, to: good.count, by: 5).map { Array(good.prefix($0)) } + [good + [0], good + good]
        for index in stride(from: 0, to: good.count, by: 3) {
            var bytes = good
            bytes[index] ^= 0x10
            damaged.append(bytes)
        }
        for bytes in damaged {
            _ = try scratch.write("below/cache/\(name)", bytes)
            #expect(try cache.program(profile: .file(path), capabilities: []) == program)
            #expect(try readHostFile("\(scratch.cache)/\(name)") == good)
        }
    }

    @Test func filesOfOthersAreNotTrusted() throws {
        let program = try cache.program(profile: .distribution, capabilities: [])
        let name = try #require(try scratch.cached().first)
        let path = "\(scratch.cache)/\(name)"
        _ = try forge(name)
        #expect(chmod(path, 0o666) == 0)
        #expect(try cache.program(profile: .distribution, capabilities: []) == program)
        // A link to a good file is no file of ours either.
        _ = try forge(name)
        #expect(rename(path, "\(scratch.path)/elsewhere") == 0)
        #expect(symlink("\(scratch.path)/elsewhere", path) == 0)
        #expect(try cache.program(profile: .distribution, capabilities: []) == program)
        #expect(try FileStatus.of(path, followLinks: false).kind == .regular)
    }

    @Test func aChangedProfileIsNoticed() throws {
        let path = try settled(profile("SCMP_ACT_LOG"))
        let first = try cache.program(profile: .file(path), capabilities: [])
        let times = try FileStatus.of(path)
        // As long as before, and with its old time of modification.
        _ = try settled(profile("SCMP_ACT_KIL").replacing("KIL", with: "LOG").replacing("getpid", with: "gettid"))
        var stamps = [timespec](repeating: timespec(), count: 2)
        stamps[1].tv_sec = Int(times.modified / 1_000_000_000)
        stamps[1].tv_nsec = Int(times.modified % 1_000_000_000)
        stamps[0] = stamps[1]
        #expect(utimensat(AT_FDCWD, path, stamps, 0) == 0)
        #expect(try FileStatus.of(path).modified == times.modified)
        #expect(try FileStatus.of(path).size == times.size)
        #expect(try cache.program(profile: .file(path), capabilities: []) != first)
        _ = try settled("{")
        #expect(throws: SeccompError.self) { try cache.program(profile: .file(path), capabilities: []) }
    }

    @Test func aProfileThatWasJustWrittenIsNotCached() throws {
        let path = try scratch.write("profile.json", profile("SCMP_ACT_LOG"))
        let start = try FileStatus.of(path).changed
        _ = try cache.program(profile: .file(path), capabilities: [])
        // On a machine that took longer than that nothing can be said.
        if FileStatus.now - start < 20_000_000 { #expect(try scratch.cached() == []) }
    }

    @Test func anUnusableCacheIsNoFailure() throws {
        let file = try scratch.write("file", "")
        for directory in ["\(file)/cache", "/proc/no/such", ""] {
            let cache = SeccompCache(directory: directory, distributionProfile: "/nonexistent")
            #expect(try cache.program(profile: .distribution, capabilities: []).instructions.count > 1000)
        }
    }

    @Test func theCacheStaysSmall() throws {
        for number in 0..<(SeccompCache.capacity + 6) {
            let spec = rules("SCMP_ACT_ALLOW", [rule(["getpid"], "SCMP_ACT_ERRNO", UInt32(number + 2))])
            _ = try cache.program(profile: .spec(spec), capabilities: [])
        }
        #expect(try scratch.cached().count == 6)
    }

    @Test func theDistributionsProfileIsHardenedAndTheUsersIsNot() throws {
        let text = """
            {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["keyctl", "getpid"], "action": "SCMP_ACT_ALLOW"}]}
            """
        _ = try scratch.write("default.json", text)
        let path = try settled(text)
        let byDefault = try cache.program(profile: .distribution, capabilities: [])
        let chosen = try cache.program(profile: .file(path), capabilities: [])
        #expect(byDefault != chosen)
        #if arch(x86_64)
        #expect(try FilterInterpreter(byDefault).action(.amd64, 250) == Answer.notPermitted)
        #expect(try FilterInterpreter(byDefault).action(.amd64, 39) == Answer.allow)
        #expect(try FilterInterpreter(chosen).action(.amd64, 250) == Answer.allow)
        #endif
    }

    @Test func errorsNameTheFileAndTheKey() throws {
        let missing = #expect(throws: SeccompError.self) {
            try cache.program(profile: .file("\(scratch.path)/none"), capabilities: [])
        }
        #expect(missing?.cause?.errno == .noEntry)
        #expect(missing?.description.contains("\(scratch.path)/none") == true)
        let folder = #expect(throws: SeccompError.self) {
            try cache.program(profile: .file(scratch.path), capabilities: [])
        }
        #expect(folder?.description == "seccomp profile \(scratch.path): is not a regular file")
        let path = try settled(profile("SCMP_ACT_DANCE"))
        let bad = #expect(throws: SeccompError.self) { try cache.program(profile: .file(path), capabilities: []) }
        #expect(
            bad?.description
                == "seccomp profile \(path): syscalls[0].action: \"SCMP_ACT_DANCE\" is not an action such as SCMP_ACT_ALLOW"
        )
        let cut = try settled("{\"defaultAction\":\n \"SCMP_ACT_ALLOW\"")
        let broken = #expect(throws: SeccompError.self) { try cache.program(profile: .file(cut), capabilities: []) }
        #expect(broken?.description == "seccomp profile \(cut): line 2, column 18: expected ',' or '}'")
        #expect(mkfifo("\(scratch.path)/pipe", 0o600) == 0)
        #expect(throws: SeccompError.self) {
            try cache.program(profile: .file("\(scratch.path)/pipe"), capabilities: [])
        }
    }
}
