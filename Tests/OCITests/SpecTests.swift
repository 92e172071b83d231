// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import Testing

@Suite struct SpecTests {
    @Test func readsARealConfiguration() throws {
        let spec = try Spec(parsing: Array(Self.configuration.utf8))
        #expect(spec.ociVersion == "1.0.2-dev")
        let process = try #require(spec.process)
        #expect(process.args == ["nginx", "-g", "daemon off;"])
        #expect(process.user.uid == 101)
        #expect(process.user.additionalGids == [101, 4_294_967_294])
        #expect(process.user.umask == 18)
        #expect(process.consoleSize == Spec.ConsoleSize(height: 25, width: 80))
        #expect(process.capabilities?.bounding == ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"])
        #expect(process.capabilities?.ambient == [])
        #expect(process.rlimits == [Spec.ResourceLimit(type: "RLIMIT_NOFILE", soft: 1024, hard: .max)])
        #expect(process.noNewPrivileges)
        #expect(process.oomScoreAdj == -500)
        #expect(spec.root == Spec.Root(path: "rootfs", readonly: true))
        #expect(spec.mounts.count == 2)
        #expect(spec.mounts[1].options == ["rbind", "ro"])
        #expect(spec.annotations["org.example/key"] == "value")
        let linux = try #require(spec.linux)
        #expect(linux.namespaces.map(\.type) == [.pid, .network, .mount])
        #expect(linux.namespaces[1].path == "/run/netns/x")
        #expect(linux.devices.first?.fileMode == 438)
        let resources = try #require(linux.resources)
        #expect(resources.memory?.limit == 536_870_912)
        #expect(resources.memory?.swap == -1)
        #expect(resources.cpu?.shares == 512)
        #expect(resources.cpu?.cpus == "0-3,7")
        #expect(resources.pids?.limit == 100)
        #expect(
            resources.devices == [
                .init(allow: false, access: "rwm"), .init(allow: true, type: "c", major: 1, minor: 3),
            ])
        #expect(linux.seccomp?.syscalls.first?.args.first?.valueTwo == 0)
        #expect(linux.seccomp?.syscalls.first?.args.first?.value == 18_446_744_073_709_551_615)
        #expect(linux.maskedPaths == ["/proc/kcore"])
    }

    @Test(arguments: [false, true])
    func survivesARoundTrip(_ pretty: Bool) throws {
        let spec = try Spec(parsing: Array(Self.configuration.utf8))
        let text = spec.serialized(pretty: pretty)
        #expect(text.last == 0x0A)
        #expect(try Spec(parsing: text) == spec)
        // Writing is stable: what was written is written the same.
        #expect(try Spec(parsing: text).serialized(pretty: pretty) == text)
    }

    @Test func leavesOutWhatSaysNothing() {
        var spec = Spec()
        #expect(String(decoding: spec.serialized(), as: UTF8.self) == "{\"ociVersion\":\"1.2.0\"}\n")
        spec.process = Spec.Process()
        spec.process?.args = ["sh"]
        #expect(
            String(decoding: spec.serialized(), as: UTF8.self)
                == #"{"ociVersion":"1.2.0","process":{"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/"}}"#
                + "\n")
    }

    @Test func nullIsAsGoodAsNothing() throws {
        let text =
            #"{"ociVersion":"1.2.0","process":null,"mounts":null,"linux":{"resources":null,"devices":null}}"#
        let spec = try Spec(parsing: Array(text.utf8))
        #expect(spec.process == nil)
        #expect(spec.mounts.isEmpty)
        #expect(spec.linux == Spec.Linux())
    }

    @Test func unknownFieldsAreSkipped() throws {
        let text =
            #"{"ociVersion":"1.2.0","solaris":{"milestone":"x"},"vm":{},"windows":null}"#
        #expect(try Spec(parsing: Array(text.utf8)) == Spec())
    }

    struct Misfit: Sendable {
        let text: String
        let error: String

        init(_ text: String, _ error: String) {
            self.text = text
            self.error = error
        }
    }

    /// The place is what a person must look at in the file.
    @Test(arguments: [
        Misfit("[]", "expected an object, found an array"),
        Misfit("{}", "ociVersion: is missing"),
        Misfit(#"{"ociVersion":null}"#, "ociVersion: is missing"),
        Misfit(#"{"ociVersion":1}"#, "ociVersion: expected a string, found a number"),
        Misfit(
            #""process":{"cwd":"/","args":[1]}"#, "process.args[0]: expected a string, found a number"),
        Misfit(
            #""process":{"cwd":"/","args":["a",{}]}"#,
            "process.args[1]: expected a string, found an object"),
        Misfit(
            #""process":{"cwd":"/","args":"sh"}"#, "process.args: expected an array, found a string"),
        Misfit(#""process":{"args":["sh"]}"#, "process.cwd: is missing"),
        Misfit(
            #""process":{"cwd":"/","user":{"uid":-1,"gid":0}}"#,
            "process.user.uid: -1 is not an integer from 0 to 4294967295"),
        Misfit(#""process":{"cwd":"/","user":{"uid":0}}"#, "process.user.gid: is missing"),
        Misfit(
            #""process":{"cwd":"/","rlimits":[{"type":"RLIMIT_CORE","soft":1,"hard":"x"}]}"#,
            "process.rlimits[0].hard: expected an integer, found a string"),
        Misfit(
            #""process":{"cwd":"/","terminal":"yes"}"#,
            "process.terminal: expected a boolean, found a string"),
        Misfit(#""root":{"path":7}"#, "root.path: expected a string, found a number"),
        Misfit(#""mounts":[{"destination":"/"},{}]"#, "mounts[1].destination: is missing"),
        Misfit(#""annotations":{"a":1}"#, "annotations.a: expected a string, found a number"),
        Misfit(
            #""linux":{"namespaces":[{"type":"pod"}]}"#,
            "linux.namespaces[0].type: \"pod\" is not one of pid, network, mount, ipc, uts, user, cgroup, time"
        ),
        Misfit(
            #""linux":{"resources":{"memory":{"limit":1e9}}}"#,
            "linux.resources.memory.limit: 1e9 is not an integer from -9223372036854775808 to 9223372036854775807"
        ),
        Misfit(#""linux":{"resources":{"pids":{}}}"#, "linux.resources.pids.limit: is missing"),
        Misfit(
            #""linux":{"resources":{"devices":[{"allow":1}]}}"#,
            "linux.resources.devices[0].allow: expected a boolean, found a number"),
    ])
    func namesThePlaceOfAnError(_ misfit: Misfit) {
        let text =
            misfit.text.hasPrefix("\"") ? "{\"ociVersion\":\"1.2.0\",\(misfit.text)}" : misfit.text
        let error = #expect(throws: JSONError.self) { try Spec(parsing: Array(text.utf8)) }
        #expect(error.map { "\($0)" } == misfit.error)
    }

    @Test func placesGrowFromInside() {
        let inner = JSONError(place: "", reason: "why")
        #expect("\(inner)" == "why")
        #expect("\(inner.inside("[3]"))" == "[3]: why")
        #expect("\(inner.inside("[3]").inside("args").inside("process"))" == "process.args[3]: why")
    }

    @Test func readsAnImagesDocuments() throws {
        let hex = String(repeating: "a", count: 64)
        let manifest = try ImageManifest(
            parsing: Array(
                """
                {"schemaVersion": 2,
                 "config": {"mediaType": "\(MediaType.config)", "digest": "sha256:\(hex)", "size": 7},
                 "layers": [{"mediaType": "\(MediaType.layerGzip)", "digest": "sha256:\(hex)",
                     "size": 9223372036854775807}]}
                """.utf8))
        #expect(manifest.layers.map(\.size) == [.max])
        #expect(try ImageManifest(parsing: manifest.serialized()) == manifest)
        let configuration = try ImageConfiguration(
            parsing: Array(
                """
                {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:\(hex)"]},
                 "config": {"Env": ["A=b"], "Entrypoint": null, "Cmd": ["sh"], "WorkingDir": "", "Labels": {"x": "y"}}}
                """.utf8))
        #expect(configuration.config?.cmd == ["sh"])
        #expect(configuration.config?.entrypoint == nil)
        #expect(try ImageConfiguration(parsing: configuration.serialized()) == configuration)
        let error = #expect(throws: JSONError.self) {
            try ImageManifest(
                parsing: Array(
                    #"{"schemaVersion":2,"config":{"mediaType":"","digest":"md5:0","size":0},"layers":[]}"#
                        .utf8))
        }
        #expect(error?.place == "config.digest")
    }

    private static let configuration = """
        {
          "ociVersion": "1.0.2-dev",
          "process": {
            "terminal": true, "consoleSize": {"height": 25, "width": 80},
            "user": {"uid": 101, "gid": 101, "umask": 18, "additionalGids": [101, 4294967294]},
            "args": ["nginx", "-g", "daemon off;"],
            "env": ["PATH=/usr/bin", "EMPTY=", "UTF8=žluťoučký"],
            "cwd": "/",
            "capabilities": {"bounding": ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"],
                                 "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 18446744073709551615, "soft": 1024}],
            "noNewPrivileges": true,
            "oomScoreAdj": -500,
            "apparmorProfile": "unknown here"
          },
          "root": {"path": "rootfs", "readonly": true},
          "hostname": "web",
          "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/data", "source": "/srv/data", "options": ["rbind", "ro"]}
          ],
          "annotations": {"org.example/key": "value"},
          "hooks": {"prestart": []},
          "linux": {
            "namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/x"}, {"type": "mount"}],
            "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438,
                     "uid": 0, "gid": 0}],
            "cgroupsPath": "/zonectl/web",
            "resources": {
              "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3}],
              "memory": {"limit": 536870912, "swap": -1, "swappiness": 60},
              "cpu": {"shares": 512, "quota": 150000, "period": 100000, "cpus": "0-3,7", "idle": 1},
              "pids": {"limit": 100}
            },
            "seccomp": {
              "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
              "architectures": ["SCMP_ARCH_X86_64"],
              "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ALLOW",
                            "args": [{"index": 0, "value": 18446744073709551615, "op": "SCMP_CMP_EQ"}]}]
            },
            "sysctl": {"net.ipv4.ip_forward": "1"},
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"]
          }
        }
        """
}
