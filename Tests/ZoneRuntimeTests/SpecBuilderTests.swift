// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import TestSupport
import Testing

@testable import Namespaces
@testable import ZoneRuntime

/// From a definition and an image to the configuration, and from that to the plan.
@Suite struct SpecBuilderTests {
    private func spec(
        _ image: (inout ImageConfiguration.Execution) -> Void = { _ in },
        _ definition: (inout ZoneDefinition) -> Void = { _ in }
    ) throws -> Spec {
        var execution = ImageConfiguration.Execution()
        execution.cmd = ["sh"]
        image(&execution)
        var wanted = ZoneDefinition()
        wanted.name = "web"
        wanted.image = "busybox"
        definition(&wanted)
        return try SpecBuilder(
            definition: wanted, image: execution, volatile: "/run/z/web", persistent: "/store/zones/z",
            cgroupsPath: "/zonectl/web"
        ).spec(
            windowSize: WindowSize(rows: 24, columns: 80))
    }

    /// docker's rules for what runs.
    @Test(
        arguments: [
            (nil, ["cmd"], nil, [], ["cmd"]), (["entry"], ["cmd"], nil, [], ["entry", "cmd"]),
            (["entry"], ["cmd"], nil, ["own"], ["entry", "own"]),
            (["entry"], ["cmd"], "other", [], ["other"]), (["entry"], ["cmd"], "other", ["own"], ["other", "own"]),
            (["entry"], ["cmd"], "", ["own"], ["own"]), (nil, nil, nil, ["own"], ["own"]),
            ([], ["cmd"], nil, [], ["cmd"]),
        ] as [([String]?, [String]?, String?, [String], [String])])
    func runsWhatDockerWould(
        _ entrypoint: [String]?, _ cmd: [String]?, _ replaced: String?, _ command: [String], _ expected: [String]
    ) throws {
        let made = try spec {
            $0.entrypoint = entrypoint
            $0.cmd = cmd
        } _: {
            $0.entrypoint = replaced
            $0.command = command
        }
        #expect(made.process?.args == expected)
    }

    @Test(arguments: [(nil, nil), (["entry"], "")] as [([String]?, String?)])
    func nothingToRunIsAnError(_ entrypoint: [String]?, _ replaced: String?) {
        let error = #expect(throws: ZoneError.self) {
            _ = try spec {
                $0.entrypoint = entrypoint
                $0.cmd = nil
            } _: {
                $0.entrypoint = replaced
            }
        }
        #expect(error?.detail == "image busybox names no command to run")
    }

    @Test func laterVariablesReplaceEarlierOnes() throws {
        let made = try spec {
            $0.env = ["PATH=/image", "A=image", "B=image"]
        } _: {
            $0.environment = ["B=own", "C=own", "PATHS=x"]
        }
        #expect(made.process?.env == ["PATH=/image", "HOSTNAME=web", "A=image", "B=own", "C=own", "PATHS=x"])
        #expect(try spec().process?.env.first?.hasPrefix("PATH=/usr/local/sbin:") == true)
        #expect(try spec({ _ in }, { $0.hasTerminal = true }).process?.env.contains("TERM=xterm") == true)
    }

    @Test func workingDirectoriesAreAbsolute() throws {
        #expect(try spec().process?.cwd == "/")
        #expect(try spec { $0.workingDir = "/srv" }.process?.cwd == "/srv")
        #expect(try spec({ $0.workingDir = "/srv" }, { $0.workingDirectory = "/own" }).process?.cwd == "/own")
        #expect(try spec { $0.workingDir = "" }.process?.cwd == "/")
        #expect(throws: ZoneError.self) { _ = try spec { $0.workingDir = "srv" } }
    }

    @Test func capabilitiesAreDockersUnlessTold() throws {
        let names = { (change: (inout ZoneDefinition) -> Void) throws in
            try self.spec({ _ in }, change).process?.capabilities
        }
        let plain = try #require(try names { _ in })
        #expect(plain.bounding.count == 14)
        #expect(!plain.bounding.contains("CAP_SYS_ADMIN"))
        #expect(plain.effective == plain.bounding && plain.permitted == plain.bounding)
        // CVE-2022-29162
        #expect(plain.inheritable.isEmpty && plain.ambient.isEmpty)
        #expect(try names { $0.droppedCapabilities = ["ALL"] }?.bounding == [])
        #expect(
            try names {
                $0.droppedCapabilities = ["ALL"]
                $0.addedCapabilities = ["CAP_CHOWN"]
            }?.bounding == ["CAP_CHOWN"])
        let more = try names {
            $0.addedCapabilities = ["CAP_SYS_ADMIN", "CAP_CHOWN"]
            $0.droppedCapabilities = ["CAP_KILL"]
        }
        #expect(more?.bounding.filter { $0 == "CAP_CHOWN" }.count == 1)
        #expect(more?.bounding.contains("CAP_SYS_ADMIN") == true)
        #expect(more?.bounding.contains("CAP_KILL") == false)
    }

    @Test func theHostsNetworkLeavesOutTheNamespace() throws {
        #expect(try spec().linux?.namespaces.map(\.type).contains(.network) == true)
        let shared = try spec({ _ in }, { $0.network = .host })
        #expect(shared.linux?.namespaces.map(\.type).contains(.network) == false)
        #expect(shared.linux?.namespaces.count == 5)
    }

    @Test func aMountOfTheUsersReplacesOurFile() throws {
        let made = try spec({ _ in }) {
            $0.mounts = [.init(destination: "/etc/hosts", type: "bind", source: "/srv/hosts", options: ["rbind"])]
        }
        #expect(made.mounts.filter { $0.destination == "/etc/hosts" }.map(\.source) == ["/srv/hosts"])
        #expect(
            made.mounts.contains { $0.destination == "/etc/resolv.conf" && $0.source == "/store/zones/z/resolv.conf" })
    }

    @Test func aDeviceMustBeOne() throws {
        let made = try spec({ _ in }) {
            $0.devices = [.init(source: "/dev/null", target: "/dev/nothing", access: "r")]
        }
        let device = try #require(made.linux?.devices.first)
        #expect((device.type, device.path, device.major, device.minor) == ("c", "/dev/nothing", 1, 3))
        #expect(made.linux?.resources?.devices.last == .init(allow: true, type: "c", major: 1, minor: 3, access: "r"))
        for source in ["/etc/passwd", "/dev/missing"] {
            #expect(throws: ZoneError.self) {
                _ = try spec({ _ in }) { $0.devices = [.init(source: source, target: "/dev/x", access: "r")] }
            }
        }
    }

    @Test func labelsOfTheUsersWin() throws {
        let made = try spec({ $0.labels = ["a": "image", "b": "image"] }, { $0.labels = ["b": "own"] })
        #expect(made.annotations == ["a": "image", "b": "own"])
    }

    // MARK: The plan of a process

    private func plan(_ change: (inout Spec.Process) -> Void) throws -> ProcessPlan {
        var process = Spec.Process()
        process.args = ["sh"]
        change(&process)
        return try PlanBuilder.process(process, nil)
    }

    @Test func aPlanHoldsWhatTheConfigurationSays() throws {
        let made = try plan {
            $0.user.username = "www:1"
            $0.user.umask = 0o077
            $0.capabilities = Spec.Capabilities()
            $0.capabilities?.bounding = ["CAP_CHOWN", "CAP_BPF"]
            $0.rlimits = [.init(type: "RLIMIT_NOFILE", soft: 1, hard: 2)]
            $0.terminal = true
            $0.consoleSize = .init(height: 3, width: 4)
        }
        #expect(made.user == UserRequest("www:1").map { .named($0) })
        #expect(made.umask == 0o077)
        #expect(made.capabilities?.bounding == 1 | 1 << 39)
        #expect(made.capabilities?.inheritable == 0)
        #expect(made.limits.map(\.resource) == [7])
        #expect(made.terminal == WindowSize(rows: 3, columns: 4))
        #expect(try plan { $0.user.uid = 5 }.user == .ids(uid: 5, gid: 0, groups: []))
    }

    @Test func aPlanNeedsSense() {
        let bad: [(inout Spec.Process) -> Void] = [
            { $0.cwd = "" }, { $0.cwd = "srv" }, { $0.user.username = "0:" },
            { $0.user.username = "" },
            { $0.rlimits = [.init(type: "RLIMIT_SENSE", soft: 0, hard: 0)] },
            {
                $0.rlimits = [
                    .init(type: "RLIMIT_CPU", soft: 1, hard: 1), .init(type: "RLIMIT_CPU", soft: 1, hard: 1),
                ]
            },
            { $0.rlimits = [.init(type: "RLIMIT_CPU", soft: 2, hard: 1)] },
            { $0.oomScoreAdj = 1001 },
        ]
        for change in bad {
            let error = #expect(throws: ZoneError.self) { _ = try plan(change) }
            #expect(error?.code == .invalid)
        }
    }

    @Test func limitsHaveTheKernelsNumbers() {
        #expect(ResourceLimits.number(of: "RLIMIT_NOFILE") == 7)
        #expect(ResourceLimits.number(of: "RLIMIT_RTTIME") == 15)
        #expect(ResourceLimits.number(of: "NOFILE") == nil)
        #expect(ResourceLimits.shortNames.count == 16)
        #expect(ResourceLimits.shortNames.allSatisfy { ResourceLimits.number(of: "RLIMIT_\($0.uppercased())") != nil })
    }
}
