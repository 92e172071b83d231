// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI
import TestSupport
import Testing

@testable import CGroups

/// A script poses as busctl: it writes its arguments down, one a line, and does what systemd would do.
@Suite struct SystemdTests {
    private let folder: TemporaryFolder
    private let layout: CGroupLayout

    init() throws {
        folder = try TemporaryFolder()
        try folder.makeFolder("cg")
        layout = CGroupLayout(unified: "\(folder.path)/cg", legacy: [])
    }

    private func busctl(_ script: String = "") throws -> String {
        let path = "\(folder.path)/busctl"
        try folder.write("busctl", "#!/bin/sh\nfor a; do echo \"$a\"; done >> \(folder.path)/calls\n\(script)\n")
        chmod(path, 0o755)
        return path
    }

    private func scope(
        slice: String = "", name: String = "z", annotations: [String: String] = [:], user: UInt32? = nil,
        script: String = ""
    ) throws -> SystemdScope {
        try SystemdScope(
            layout, slice: slice, prefix: "zonectl", name: name, user: user, annotations: annotations,
            busctl: try busctl(script))
    }

    @Test func unitsHaveTheirPlace() throws {
        let root = "\(folder.path)/cg"
        #expect(try scope().directories.map(\.path) == ["\(root)/system.slice/zonectl-z.scope"])
        #expect(
            try scope(slice: "machine-a.slice").directories.map(\.path)
                == ["\(root)/machine.slice/machine-a.slice/zonectl-z.scope"])
        #expect(try scope(slice: "-.slice").directories.map(\.path) == ["\(root)/zonectl-z.scope"])
        #expect(try scope(slice: "a.slice", name: "a-b.slice").directories.map(\.path) == ["\(root)/a.slice/a-b.slice"])
        let user = try scope(user: 1000, script: "echo 's \"/user.slice/user-1000.slice/user@1000.service\"'")
        #expect(
            user.directories.map(\.path)
                == ["\(root)/user.slice/user-1000.slice/user@1000.service/user.slice/zonectl-z.scope"])
        #expect(try folder.read("calls").hasPrefix("--user\n--no-pager\n--\nget-property\n"))
        let again = try SystemdScope(recorded: user.directories[0], user: 1000, busctl: "\(folder.path)/busctl")
        #expect(again.unit == "zonectl-z.scope" && again.directories == user.directories)
        #expect(throws: SystemError.self) {
            try SystemdScope(recorded: .init(hierarchy: "", path: "\(root)/x/y"), busctl: "/bin/true")
        }
    }

    @Test func onlyVersion2() throws {
        let hybrid = CGroupLayout(unified: "/u", legacy: [.init(controllers: ["cpu"], mountPoint: "/c")])
        let error = #expect(throws: SystemError.self) {
            try SystemdScope(hybrid, slice: "", prefix: "p", name: "n", busctl: "/bin/true")
        }
        #expect(error?.errno == .notSupported)
    }

    private static let base = [
        "Description", "s", "zone zonectl-z.scope", "Slice", "s", "system.slice", "PIDs", "au", "1", "42", "Delegate",
        "b", "true", "CollectMode", "s", "inactive-or-failed", "CPUAccounting", "b", "true", "IOAccounting", "b",
        "true", "MemoryAccounting", "b", "true", "TasksAccounting", "b", "true", "DefaultDependencies", "b", "false",
    ]

    @Test func theCallHasEveryProperty() throws {
        #expect(
            try scope().startArguments(pid: 42, Spec.Resources())
                == ["zonectl-z.scope", "replace", "10"] + Self.base + ["0"])
        var resources = Spec.Resources()
        resources.cpu = Spec.CPU()
        resources.cpu?.shares = 1024
        resources.cpu?.quota = 50_500
        resources.cpu?.period = 100_000
        resources.cpu?.cpus = "0,2-3,9"
        resources.memory = Spec.Memory()
        resources.memory?.limit = 1 << 20
        resources.memory?.swap = 3 << 20
        resources.memory?.reservation = 4096
        resources.pids = Spec.Pids(limit: 7)
        resources.unified = ["memory.high": "8192", "memory.oom.group": "1", "io.max": "8:0 rbps=1"]
        let arguments = try scope().startArguments(pid: 42, resources)
        let limits = [
            "MemoryMax", "t", "1048576", "MemoryLow", "t", "4096", "MemorySwapMax", "t", "2097152", "CPUWeight", "t",
            "100", "CPUQuotaPerSecUSec", "t", "510000", "CPUQuotaPeriodUSec", "t", "100000", "AllowedCPUs", "ay", "2",
            "13", "2", "TasksMax", "t", "7", "MemoryHigh", "t", "8192",
        ]
        #expect(arguments == ["zonectl-z.scope", "replace", "19"] + Self.base + limits + ["0"])
    }

    @Test func noLimitIsTheHighestNumber() throws {
        var resources = Spec.Resources()
        resources.memory = Spec.Memory()
        resources.memory?.limit = -1
        resources.memory?.swap = -1
        resources.cpu = Spec.CPU()
        resources.cpu?.quota = -1
        resources.pids = Spec.Pids(limit: 0)
        let highest = String(UInt64.max)
        #expect(
            try SystemdProperty.limits(resources).flatMap { [$0.name] + $0.values }
                == [
                    "MemoryMax", highest, "MemorySwapMax", highest, "CPUQuotaPerSecUSec", highest, "TasksMax", highest,
                ])
        resources.cpu?.quota = .max
        resources.cpu?.period = 1
        #expect(try SystemdProperty.limits(resources).contains(.number("CPUQuotaPerSecUSec", .max)))
        resources.cpu?.cpus = "7-3"
        #expect(throws: SystemError.self) { try SystemdProperty.limits(resources) }
    }

    @Test(
        arguments: [
            ("A", "true", "b", ["true"]), ("TimeoutStopUSec", "uint64 5", "t", ["5"]),
            ("CollectMode", "'inactive'", "s", ["inactive"]), ("Text", "\"it's \\\"x\\\"\"", "s", ["it's \"x\""]),
            ("Number", "-7", "i", ["-7"]), ("Number", "1.5", "d", ["1.5"]),
            ("List", "['a', 'b']", "as", ["2", "a", "b"]),
            ("List", "[uint32 1, 2]", "au", ["2", "1", "2"]), ("List", "@as []", "as", ["0"]),
            ("List", "@at [1,2]", "at", ["2", "1", "2"]), ("Path", "objectpath '/a'", "o", ["/a"]),
            ("Flag", " boolean  false ", "b", ["false"]),
        ] as [(String, String, String, [String])])
    func annotations(_ name: String, _ text: String, _ signature: String, _ values: [String]) throws {
        let name = name == "A" ? "Aaa" : name
        #expect(
            try SystemdAnnotation.properties(["org.systemd.property.\(name)": text, "other": "x"])
                == [SystemdProperty(name: name, signature: signature, values: values)])
    }

    @Test(arguments: [("TimeoutStopSec", "90", "90000000"), ("TimeoutStopSec", "1.5", "1500000")])
    func secondsBecomeMicroseconds(_ name: String, _ text: String, _ value: String) throws {
        #expect(
            try SystemdAnnotation.properties(["org.systemd.property.\(name)": text])
                == [SystemdProperty(name: "TimeoutStopUSec", signature: "t", values: [value])])
    }

    @Test(arguments: [
        ("Good", ""), ("Good", "yes"), ("Good", "'x"), ("Good", "[1"), ("Good", "[]"), ("Good", "[1,'x']"),
        ("Good", "[[1]]"), ("Good", "uint32 -1"), ("Good", "99999999999"), ("Good", "1 2"), ("Good", "byte 'x'"),
        ("Good", "@"), ("Good", "@a [1]"), ("Good", "@aas []"), ("Good", "uint32 true"), ("Good", "[1 2]"),
        ("Good", "[,]"),
        ("Good", "'\\x'"), ("Good", "nan"), ("Good", "inf"), ("Ab", "1"), ("A-b-c", "1"), ("", "1"),
        ("WaitSec", "'x'"), ("WaitSec", "-1"), ("Good", "<1>"), ("Good", "(1,2)"), ("Good", "'a\0b'"),
        ("Good", "@b@b true"), ("Good", "@b @b true"), ("Good", "uint32 @u 1"),
        // A level of the parser's for each would be more than a stack holds.
        ("Good", String(repeating: "@b", count: 1_000_000) + "true"),
    ])
    func badAnnotationsAreRefused(_ name: String, _ text: String) {
        #expect(throws: SystemError.self) {
            try SystemdAnnotation.properties(["org.systemd.property.\(name)": text])
        }
    }

    @Test func annotationsHaveTheLastWord() throws {
        let scope = try scope(annotations: ["org.systemd.property.CollectMode": "'inactive'"])
        let arguments = try scope.startArguments(pid: 1, Spec.Resources())
        #expect(arguments.count { $0 == "CollectMode" } == 1)
        #expect(Array(arguments.suffix(4)) == ["CollectMode", "s", "inactive", "0"])
    }

    @Test func slicesTakeNoProcesses() throws {
        let arguments = try scope(slice: "a.slice", name: "a-b.slice").startArguments(pid: 1, Spec.Resources())
        #expect(!arguments.contains("PIDs") && !arguments.contains("Delegate") && !arguments.contains("Slice"))
        #expect(Array(arguments[6...9]) == ["Wants", "as", "1", "a.slice"])
    }

    // MARK: With the script

    @Test func aSliceStartsAndStops() throws {
        let group = "\(folder.path)/cg/a.slice/a-b.slice"
        let scope = try scope(
            slice: "a.slice", name: "a-b.slice",
            script: """
                case "$*" in
                *StartTransientUnit*)
                    mkdir -p \(group); : > \(group)/cgroup.procs; : > \(group)/pids.max
                    echo pids > \(group)/cgroup.controllers; echo 'o "/org/freedesktop/systemd1/job/1"';;
                *StopUnit*) rm -r \(group);;
                *ResetFailedUnit*) echo 'Call failed: Unit a-b.slice not loaded.' >&2; exit 1;;
                esac
                """)
        var resources = Spec.Resources()
        resources.pids = Spec.Pids(limit: 9)
        #expect(try scope.open().unified == nil)
        try scope.create(resources)
        #expect(!folder.has("calls"))
        try scope.start(pid: 77, resources: resources)
        #expect(try folder.read("cg/a.slice/a-b.slice/cgroup.procs") == "77")
        #expect(try folder.read("cg/a.slice/a-b.slice/pids.max") == "9")
        #expect(try scope.open().unified != nil)
        let lines = try folder.read("calls").split(separator: "\n").map(String.init)
        #expect(
            Array(lines.prefix(9)) == [
                "--system", "--no-pager", "--", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                "org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))",
            ])
        #expect(Array(lines[9...10]) == ["a-b.slice", "replace"])
        resources.pids = Spec.Pids(limit: 8)
        #expect(try scope.update(resources) == scope.directories)
        #expect(try folder.read("cg/a.slice/a-b.slice/pids.max") == "8")
        #expect(try folder.read("calls").contains("SetUnitProperties\nsba(sv)\na-b.slice\ntrue\n1\nTasksMax\nt\n8\n"))
        try scope.remove()
        try scope.remove()
        #expect(try folder.read("calls").contains("StopUnit\nss\na-b.slice\nreplace\n"))
    }

    @Test(
        arguments: [
            ("Access denied", Errno.accessDenied),
            ("Failed to connect to bus: No such file or directory", .notSupported),
            ("Call failed: Process org.freedesktop.systemd1 exited with status 1", .notSupported),
            ("Call failed: Invalid argument", .invalid), ("Call failed: whatever", .ioError),
        ])
    func refusalsKeepTheirReason(_ text: String, _ errno: Errno) throws {
        let scope = try scope(script: "echo '\(text)' >&2; exit 1")
        let error = #expect(throws: SystemError.self) { try scope.start(pid: 1, resources: Spec.Resources()) }
        #expect(error?.errno == errno)
        #expect(error?.subject.contains(text) == true)
    }

    /// One that failed is forgotten, then it is tried once more.
    @Test func aNameInTheWayIsTriedOnceMore() throws {
        let scope = try scope(
            script:
                "case \"$*\" in *Start*) echo 'Call failed: Unit zonectl-z.scope already exists.' >&2; exit 1;; esac")
        let error = #expect(throws: SystemError.self) { try scope.start(pid: 1, resources: Spec.Resources()) }
        #expect(error?.errno == .exists)
        let calls = try folder.read("calls").split(separator: "\n").filter { $0.hasSuffix("Unit") }
        #expect(calls == ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"])
    }

    @Test func aProcessThatIsGoneEndsTheWait() throws {
        let scope = try scope()
        let error = #expect(throws: SystemError.self) { try scope.start(pid: .max, resources: Spec.Resources()) }
        #expect(error?.errno == .noEntry)
    }
}
