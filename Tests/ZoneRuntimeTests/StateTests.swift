// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI
import TestSupport
import Testing

@testable import CGroups
@testable import Namespaces
@testable import ZoneRuntime

@Suite struct StateTests {
    private let folder: TemporaryFolder
    private let store: ZoneStore

    init() throws {
        folder = try TemporaryFolder()
        store = ZoneStore(try ZoneFolders(root: "\(folder.path)/run", store: "\(folder.path)/store"))
    }

    private func record(
        _ phase: ZoneRecord.Phase, process: RecordedProcess = .init(), keeper: RecordedProcess = .init()
    )
        -> ZoneRecord
    {
        var record = ZoneRecord()
        record.store = store.folders.store
        record.id = "web"
        record.phase = phase
        record.process = process
        record.keeper = keeper
        record.image = "busybox"
        return record
    }

    // MARK: States from records

    @Test func aZoneRunsAsLongAsItsProcess() throws {
        let own = try RecordedProcess(getpid())
        #expect(ZoneState(record(.running, process: own)) == .running(own))
        #expect(ZoneState(record(.creating, keeper: own)) == .creating)
    }

    @Test func aNumberThatWasGivenToAnotherIsNotTheZone() throws {
        var other = try RecordedProcess(getpid())
        other.startTime += 1
        #expect(ZoneState(record(.running, process: other)) == .stopped(exitCode: nil))
        #expect(ZoneState(record(.creating, keeper: other)) == .stopped(exitCode: nil))
    }

    @Test func aProcessThatIsGoneIsStopped() throws {
        let dead = try endedProcess(reap: true)
        #expect(ZoneState(record(.running, process: dead)) == .stopped(exitCode: nil))
        // A keeper that lives on does not make the zone run.
        #expect(
            ZoneState(record(.running, process: dead, keeper: try RecordedProcess(getpid()))) == .stopped(exitCode: nil)
        )
    }

    @Test func aZombieIsStopped() throws {
        let zombie = try endedProcess(reap: false)
        #expect(ZoneState(record(.running, process: zombie)) == .stopped(exitCode: nil))
        var status: CInt = 0
        waitpid(zombie.pid, &status, 0)
    }

    @Test(arguments: [0, -1, Int32.max])
    func noNumberOfAProcessIsAlive(_ pid: Int32) {
        var process = RecordedProcess()
        process.pid = pid
        #expect(!process.isAlive)
    }

    @Test func anEndIsKept() throws {
        var ended = record(.stopped, process: try RecordedProcess(getpid()))
        ended.exitCode = 137
        #expect(ZoneState(ended) == .stopped(exitCode: 137))
    }

    @Test func anOperationTakesTheStateThatItNeeds() throws {
        let own = try RecordedProcess(getpid())
        #expect(try ZoneState.running(own).runningProcess(for: "exec", of: "web") == own)
        for state in [ZoneState.creating, .stopped(exitCode: 1), .damaged("why")] {
            let error = #expect(throws: ZoneError.self) { _ = try state.runningProcess(for: "exec", of: "web") }
            #expect(error?.code == .wrongState)
            #expect(error?.detail.hasPrefix("exec: zone web is ") == true)
        }
    }

    @Test func aRecordSurvivesARoundTrip() throws {
        var full = record(.running, process: try RecordedProcess(getpid()), keeper: try RecordedProcess(getpid()))
        full.created = 1_700_000_000
        full.finished = 1_700_000_001
        full.exitCode = -1
        full.cgroups = [
            RecordedCGroup(CGroupDirectory(hierarchy: "cpu,cpuacct", path: "/a")),
            RecordedCGroup(CGroupDirectory(hierarchy: "", path: "/b")),
        ]
        full.command = ["sh"]
        #expect(try ZoneRecord(parsing: full.serialized()) == full)
        #expect(full.cgroups.map(\.directory).map(\.path) == ["/a", "/b"])
    }

    private func endedProcess(reap: Bool) throws -> RecordedProcess {
        var pid: pid_t = 0
        // Held until it was looked at: it waits for the end of its stdin.
        var ends: [CInt] = [-1, -1]
        try #require(pipe(&ends) == 0)
        _ = fcntl(ends[1], F_SETFD, FD_CLOEXEC)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_adddup2(&actions, ends[0], 0)
        defer { posix_spawn_file_actions_destroy(&actions) }
        var arguments = [strdup("cat"), nil]
        defer { free(arguments[0]) }
        let result = posix_spawn(&pid, "/bin/cat", &actions, nil, &arguments, environ)
        try #require(result == 0)
        let process = try RecordedProcess(pid)
        #expect(process.isAlive)
        close(ends[0])
        close(ends[1])
        let handle = try ProcessHandle(pid: pid)
        try #require(try handle.waitUntilEnded(milliseconds: 10_000))
        if reap { _ = try handle.wait() }
        return process
    }

    // MARK: The store

    private func makeZone(_ name: String, state: String? = nil) throws {
        try folder.makeFolder("store/zones/\(name)")
        if let state { try folder.write("run/\(name)/state.json", state) }
    }

    @Test func anEmptyStoreHasNoZones() throws {
        #expect(try store.list().isEmpty)
        let error = #expect(throws: ZoneError.self) { _ = try store.find("web") }
        #expect(error?.code == .notFound)
    }

    @Test func zonesAreListedWhateverBecameOfThem() throws {
        try makeZone("whole", state: String(decoding: record(.stopped).serialized(), as: UTF8.self))
        try makeZone("bare")
        try makeZone("damaged", state: "{\"id\":")
        try makeZone(".hidden")
        let entries = try store.list()
        #expect(entries.map(\.name) == ["bare", "damaged", "whole"])
        #expect(entries[0].state == .stopped(exitCode: nil))
        #expect(entries[1].state.word == "damaged")
        #expect(entries[2].record?.image == "busybox")
        guard case .damaged(let reason) = entries[1].state else { return }
        #expect(reason.hasPrefix("\(folder.path)/run/damaged/state.json: line 1"))
    }

    @Test func aUniqueBeginningIsEnough() throws {
        for name in ["web", "web-2", "worker"] { try makeZone(name) }
        #expect(try store.find("wo").name == "worker")
        #expect(try store.find("web").name == "web")
        #expect(try store.find("web-").name == "web-2")
        let ambiguous = #expect(throws: ZoneError.self) { _ = try store.find("w") }
        #expect(ambiguous?.code == .invalid)
        #expect(ambiguous?.detail.contains("web, web-2, worker") == true)
        for name in ["", "x", "../zones/web", "web/", ".", "/"] {
            let error = #expect(throws: ZoneError.self) { _ = try store.find(name) }
            #expect(error?.code == .notFound, "\(name)")
        }
    }

    @Test func aNameIsClaimedOnce() throws {
        let claim = try store.claim("web")
        #expect(claim.name == "web")
        let error = #expect(throws: ZoneError.self) { _ = try store.claim("web") }
        #expect(error?.code == .exists)
        #expect(error?.detail.contains("\"web\" is taken") == true)
        let made = try store.claim(nil)
        #expect(ZoneName.isValid(made.name))
        #expect(try Set(store.list().map(\.name)) == ["web", made.name])
        #expect(throws: ZoneError.self) { _ = try store.claim("../x") }
    }

    @Test func aClaimHoldsTheLock() throws {
        let claim = try store.claim("web")
        let other = try Descriptor.open(store.folders.persistent("web"), [.readOnly, .directory])
        #expect(try other.lock(wait: false) == false)
        drop(claim)
        // A child that another test has just forked holds the descriptor, too, until it executes its program.
        var isFree = false
        for _ in 0..<500 where !isFree {
            isFree = try other.lock(wait: false)
            if !isFree { usleep(10_000) }
        }
        #expect(isFree)
        let error = #expect(throws: ZoneError.self) { _ = try store.lock("gone") }
        #expect(error?.code == .notFound)
    }

    @Test func recordsAreReadAsWritten() throws {
        let claim = try store.claim("web")
        let volatile = try store.makeVolatile("web")
        #expect(try store.record(of: "web") == nil)
        try store.write(record(.creating), in: volatile)
        #expect(try store.record(of: "web") == record(.creating))
        #expect(try store.definition(of: "web") == nil)
        try store.erase(claim.name, cgroups: [])
        #expect(try store.list().isEmpty)
        #expect(!folder.has("run/web"))
        // What is gone is gone: again is fine.
        try store.erase("web", cgroups: [])
    }

    // MARK: Errors

    @Test(
        arguments: [
            (.invalid, 125), (.notFound, 125), (.exists, 125), (.wrongState, 125), (.unsupported, 125),
            (.notPermitted, 125),
            (.system, 125), (.notExecutable, 126), (.commandNotFound, 127),
        ] as [(ZoneError.Code, Int32)])
    func exitCodesAreDockers(_ code: ZoneError.Code, _ status: Int32) {
        #expect(ZoneError(code, "x").exitCode == status)
    }

    @Test(
        arguments: [
            (.execute, .noEntry, 127), (.execute, .notDirectory, 127), (.execute, .accessDenied, 126),
            (.execute, .badExecutable, 126),
            (.execute, .tooBig, 126), (.user, .noEntry, 125), (.mount, .noEntry, 125),
            (.workingDirectory, .noEntry, 125),
        ] as [(LaunchStep, Errno, Int32)])
    func whyAProgramDidNotStartIsItsStatus(_ step: LaunchStep, _ errno: Errno, _ status: Int32) {
        let error = ZoneError(LaunchError(step: step, errno: errno, sentence: "it failed"), zone: "web")
        #expect(error.exitCode == status)
        #expect(error.detail == "zone web: it failed")
    }

    @Test func errorsSayWhatToDo() {
        #expect(ZoneError("save", SystemError("write", "/f", .noSpace)).hint?.contains("--store") == true)
        #expect(ZoneError("save", SystemError("write", "/f", .notPermitted)).hint?.contains("root") == true)
        let plain = ZoneError("save", SystemError("write", "/f", .ioError))
        #expect(plain.hint == nil)
        #expect(plain.detail == "save: write /f: Input/output error")
    }
}
