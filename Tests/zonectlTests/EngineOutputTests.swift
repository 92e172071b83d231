// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI
import TestSupport
import Testing
import ZoneRuntime

@testable import zonectl

/// What `spec`, `features` and `state` write.
@Suite struct EngineOutputTests {
    // MARK: spec

    @Test func theFirstConfigurationIsReadBack() throws {
        let spec = ExampleConfiguration.spec(rootless: nil)
        #expect(try Spec(parsing: spec.serialized(pretty: true)) == spec)
        #expect(spec.ociVersion == Spec.version)
        #expect(spec.root == Spec.Root(path: "rootfs", readonly: true))
        let process = try #require(spec.process)
        #expect(process.args == ["sh"] && process.terminal && process.cwd == "/" && process.noNewPrivileges)
        #expect(process.rlimits.map(\.type) == ["RLIMIT_NOFILE"])
        #expect(process.rlimits.first?.soft == 1024 && process.rlimits.first?.hard == 1024)
        #expect(process.capabilities?.bounding == ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"])
        #expect(process.capabilities?.inheritable.isEmpty == true && process.capabilities?.ambient.isEmpty == true)
        let linux = try #require(spec.linux)
        #expect(Set(linux.namespaces.map(\.type)).isSuperset(of: [.pid, .network, .ipc, .uts, .mount]))
        #expect(!linux.namespaces.contains { $0.type == .user })
        let targets = Set(spec.mounts.map(\.destination))
        #expect(targets.isSuperset(of: ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"]))
        #expect(linux.maskedPaths.contains("/proc/kcore") && linux.readonlyPaths.contains("/proc/sys"))
    }

    @Test func anOrdinaryUsersMapsItself() throws {
        let spec = ExampleConfiguration.spec(rootless: (uid: 1000, gid: 100))
        #expect(try Spec(parsing: spec.serialized()) == spec)
        let linux = try #require(spec.linux)
        #expect(linux.namespaces.contains { $0.type == .user })
        #expect(!linux.namespaces.contains { $0.type == .network })
        #expect(linux.uidMappings == [.init(containerID: 0, hostID: 1000, size: 1)])
        #expect(linux.gidMappings == [.init(containerID: 0, hostID: 100, size: 1)])
        #expect(linux.resources == nil)
        // Only group 0 is mapped.
        #expect(!spec.mounts.flatMap(\.options).contains { $0.hasPrefix("gid=") && $0 != "gid=0" })
    }

    @Test func aConfigurationIsNeverOverwritten() throws {
        let folder = try TemporaryFolder()
        let words = ["--root", "\(folder.path)/r", "--store", "\(folder.path)/s", "spec", "-b", folder.path]
        #expect(EngineFace.run(words[...], "runc") == 0)
        let first = try folder.read("config.json")
        #expect(try Spec(parsing: Array(first.utf8)).linux?.uidMappings == [])
        #expect(EngineFace.run((words + ["--rootless"])[...], "runc") == 1)
        #expect(try folder.read("config.json") == first)
    }

    // MARK: features

    private func features() throws -> JSON {
        try JSON(parsing: RuntimeFeatures.text(version: "1.2.3", commit: "abc"))
    }

    private func texts(_ json: JSON?) -> [String] {
        guard case .array(let values) = json else { return [] }
        return values.compactMap { if case .string(let text) = $0 { text } else { nil } }
    }

    @Test func featuresNameWhatThereIs() throws {
        let features = try features()
        #expect(features["ociVersionMin"] == .string("1.0.0"))
        #expect(features["ociVersionMax"] == .string(Spec.version))
        let hooks = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
        #expect(texts(features["hooks"]) == hooks)
        let options = texts(features["mountOptions"])
        #expect(Set(options).isSuperset(of: ["ro", "rbind", "rro", "idmap", "tmpcopyup", "rslave", "nosuid"]))
        #expect(options == options.sorted() && Set(options).count == options.count)
        let linux = try #require(features["linux"])
        #expect(
            texts(linux["namespaces"]) == ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"])
        #expect(texts(linux["capabilities"]).contains("CAP_CHOWN"))
        for (name, isEnabled) in [("apparmor", true), ("selinux", true), ("intelRdt", false)] {
            #expect(linux[name]?["enabled"] == .bool(isEnabled))
        }
        #expect(linux["mountExtensions"]?["idmap"]?["enabled"] == .bool(true))
        #expect(features["annotations"]?["io.zoneruntime.version"] == .string("1.2.3"))
    }

    @Test func supportedFlagsAreAmongTheKnown() throws {
        let seccomp = try #require(try features()["linux"]?["seccomp"])
        let known = texts(seccomp["knownFlags"])
        let supported = texts(seccomp["supportedFlags"])
        #expect(known.count == 4 && Set(supported).isSubset(of: known))
        // Linux 4.14 and 4.17 have these two.
        #expect(Set(supported).isSuperset(of: ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]))
        // Asking has filtered nothing.
        #expect(getpid() > 0)
        let status = try readHostFile("/proc/self/status", limit: 1 << 16)
        #expect(String(decoding: status, as: UTF8.self).contains("Seccomp:\t0\n") || Self.wasFiltered)
    }

    /// Whether whoever runs these tests put a filter on them.
    private static let wasFiltered: Bool = {
        let status = (try? readHostFile("/proc/\(getppid())/status", limit: 1 << 16)) ?? []
        return !String(decoding: status, as: UTF8.self).contains("Seccomp:\t0\n")
    }()

    // MARK: state

    @Test func stateHasTheSpecificationsMembers() throws {
        var state = BundleState()
        (state.id, state.status, state.pid, state.bundle) = ("x", "running", 7, "/b")
        (state.created, state.createdText, state.owner) = (0, PointInTime.rfc3339(0), "root")
        let json = try JSON(parsing: state.serialized(pretty: true))
        #expect(json["ociVersion"] == .string(Spec.version) && json["id"] == .string("x"))
        #expect(json["status"] == .string("running") && json["pid"] == .number("7"))
        #expect(json["bundle"] == .string("/b") && json["created"] == .string("1970-01-01T00:00:00Z"))
    }

    /// Ours against the C library's, on every day of 400 years, after which the calendar repeats itself.
    @Test func timesAreTheCLibrarys() {
        var seconds: [Int64] = [Int64(Int32.max) + 1, 253_402_300_799, -62_167_219_200]
        for year in stride(from: Int64(1), through: 9999, by: 37) { seconds.append((year - 1970) * 31_556_952) }
        for day in Int64(-800)..<146_200 { seconds.append(day * 86_400 + abs(day) % 86_400) }
        var wrong: [String] = []
        for value in seconds {
            var moment = time_t(value)
            var parts = tm()
            gmtime_r(&moment, &parts)
            var buffer = [CChar](repeating: 0, count: 64)
            let length = strftime(&buffer, buffer.count, "-%m-%dT%H:%M:%SZ", &parts)
            let tail = String(decoding: buffer.prefix(length).map { UInt8(bitPattern: $0) }, as: UTF8.self)
            let year = String(Int(parts.tm_year) + 1900)
            let expected = String(repeating: "0", count: 4 - year.count) + year + tail
            if PointInTime.rfc3339(value) != expected { wrong.append(expected) }
        }
        #expect(wrong == [])
        #expect(PointInTime.rfc3339(253_402_300_800) == "" && PointInTime.rfc3339(-62_167_219_201) == "")
        #expect(PointInTime.rfc3339(.max) == "" && PointInTime.rfc3339(.min) == "")
    }
}
