// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Namespaces
import OCI
import Testing

@testable import ZoneRuntime

@Suite struct ProcessAttributesTests {
    private func attributes(
        isAdded: Bool = false,
        _ change: (inout Spec.Process, inout Spec.Personality?) -> Void
    ) throws -> ProcessAttributes {
        var process = Spec.Process()
        var personality: Spec.Personality?
        change(&process, &personality)
        return try ProcessAttributesBuilder.attributes(process, personality: personality, isAdded: isAdded)
    }

    private func scheduler(_ policy: String, _ change: (inout Spec.Scheduler) -> Void = { _ in }) throws
        -> SchedulerPlan?
    {
        try attributes { process, _ in
            var scheduler = Spec.Scheduler()
            scheduler.policy = policy
            change(&scheduler)
            process.scheduler = scheduler
        }.scheduler
    }

    @Test func nothingAskedNothingDone() throws {
        #expect(try attributes { _, _ in } == ProcessAttributes())
    }

    @Test(arguments: [("LINUX", 0), ("LINUX32", 8)] as [(String, UInt)])
    func personality(_ domain: String, _ number: UInt) throws {
        #expect(
            try attributes { _, personality in
                personality = Spec.Personality()
                personality?.domain = domain
            }.personality == number)
    }

    @Test(arguments: [("", []), ("linux", []), ("BSD", []), ("LINUX", ["ADDR_NO_RANDOMIZE"])] as [(String, [String])])
    func refusesPersonality(_ domain: String, _ flags: [String]) {
        #expect(throws: ZoneError.self) {
            try attributes { _, personality in
                personality = Spec.Personality()
                personality?.domain = domain
                personality?.flags = flags
            }
        }
    }

    @Test func schedulers() throws {
        #expect(try scheduler("SCHED_OTHER") { $0.nice = -20 }?.nice == -20)
        #expect(try scheduler("SCHED_BATCH")?.policy == 3)
        #expect(try scheduler("SCHED_IDLE")?.policy == 5)
        let real = try scheduler("SCHED_RR") {
            $0.priority = 99
            $0.flags = ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_UTIL_CLAMP_MAX"]
        }
        #expect(real?.policy == 2 && real?.priority == 99 && real?.flags == 0x41)
        let deadline = try scheduler("SCHED_DEADLINE") { ($0.runtime, $0.deadline, $0.period) = (1, 2, 3) }
        #expect(deadline?.policy == 6 && deadline?.runtime == 1 && deadline?.deadline == 2 && deadline?.period == 3)
    }

    @Test func refusesSchedulers() {
        let bad: [(String, (inout Spec.Scheduler) -> Void)] = [
            ("", { _ in }), ("OTHER", { _ in }), ("SCHED_OTHER", { $0.nice = 20 }), ("SCHED_OTHER", { $0.nice = -21 }),
            ("SCHED_OTHER", { $0.priority = 1 }), ("SCHED_FIFO", { $0.priority = 100 }),
            ("SCHED_FIFO", { $0.priority = -1 }), ("SCHED_FIFO", { $0.flags = ["SCHED_FLAG"] }),
            ("SCHED_RR", { $0.runtime = 5 }),
        ]
        for (policy, change) in bad {
            #expect(throws: ZoneError.self) { try scheduler(policy, change) }
        }
    }

    @Test(
        arguments: [
            ("IOPRIO_CLASS_RT", 0, 0x2000), ("IOPRIO_CLASS_BE", 7, 0x4007), ("IOPRIO_CLASS_IDLE", 0, 0x6000),
            ("IOPRIO_CLASS_BE", 8, nil), ("IOPRIO_CLASS_BE", -1, nil), ("IOPRIO_CLASS_NONE", 0, nil), ("", 0, nil),
        ] as [(String, Int32, CInt?)])
    func ioPriority(_ name: String, _ priority: Int32, _ number: CInt?) throws {
        let made = {
            try attributes { process, _ in
                process.ioPriority = Spec.IOPriority()
                process.ioPriority?.priorityClass = name
                process.ioPriority?.priority = priority
            }.ioPriority
        }
        guard let number else {
            #expect(throws: ZoneError.self) { try made() }
            return
        }
        #expect(try made() == number)
    }

    @Test func cpusAreChosenForAddedProcessesOnly() throws {
        let choose = { (process: inout Spec.Process, _: inout Spec.Personality?) in
            process.execCPUAffinity = Spec.CPUAffinity()
            process.execCPUAffinity?.initial = "0"
            process.execCPUAffinity?.final = "0-1"
        }
        #expect(try attributes(choose) == ProcessAttributes())
        let made = try attributes(isAdded: true, choose)
        #expect(made.initialAffinity == CPUSet("0") && made.finalAffinity == CPUSet("0,1"))
        #expect(throws: ZoneError.self) {
            try attributes { process, _ in
                process.execCPUAffinity = Spec.CPUAffinity()
                process.execCPUAffinity?.final = "1-"
            }
        }
    }

    // MARK: Capabilities

    private func plan(_ change: (inout Spec.Capabilities) -> Void) -> (plan: CapabilityPlan, warnings: [String]) {
        var sets = Spec.Capabilities()
        change(&sets)
        var warnings: [String] = []
        let plan = CapabilityPlan(sets, ownsUsers: true) { warnings.append($0) }
        return (plan, warnings)
    }

    @Test func unknownCapabilitiesAreLeftOutAndSaid() {
        let made = plan {
            $0.bounding = ["CAP_CHOWN", "CAP_SENSE"]
            $0.permitted = ["CAP_CHOWN", "CAP_SENSE"]
            $0.effective = ["CAP_CHOWN"]
            $0.inheritable = ["CAP_KILL"]
        }
        #expect(made.plan.bounding == 1 && made.plan.permitted == 1 && made.plan.effective == 1)
        // As it was asked for.
        #expect(made.plan.inheritable == 1 << 5)
        #expect(made.warnings.count == 1)
        #expect(made.warnings.first?.contains("CAP_SENSE") == true)
    }

    @Test func ambientIsWhatIsPermittedAndInheritable() {
        let made = plan {
            $0.permitted = ["CAP_CHOWN", "CAP_KILL"]
            $0.inheritable = ["CAP_CHOWN"]
            $0.ambient = ["CAP_CHOWN", "CAP_KILL"]
            $0.effective = ["CAP_NET_RAW"]
        }
        #expect(made.plan.ambient == 1)
        #expect(made.plan.effective == 0)
        #expect(made.warnings.count == 1)
        #expect(made.warnings.first?.contains("CAP_KILL") == true)
    }

    // MARK: Devices

    @Test(
        arguments: [
            ("c", 1, 3, .character), ("u", 1, 3, .character), ("b", 8, 0, .block), ("p", -1, -1, .fifo),
            ("c", 4095, 1_048_575, .character), ("c", 4096, 0, nil), ("c", 0, 1_048_576, nil), ("c", -1, 0, nil),
            ("x", 1, 3, nil), ("", 1, 3, nil),
        ] as [(String, Int64, Int64, DevicePlan.Kind?)])
    func devices(_ type: String, _ major: Int64, _ minor: Int64, _ kind: DevicePlan.Kind?) throws {
        let device = Spec.Device(type: type, path: "/dev/x", major: major, minor: minor, fileMode: 0o120_640)
        guard let kind else {
            #expect(throws: ZoneError.self) { try DevicePlanBuilder.plan(device, "linux.devices[0]") }
            return
        }
        let plan = try DevicePlanBuilder.plan(device, "linux.devices[0]")
        #expect(plan.kind == kind && plan.mode == 0o640 && !plan.isDefault)
    }

    @Test(arguments: ["", "/", "dev/x"])
    func refusesDevicePaths(_ path: String) {
        let device = Spec.Device(type: "c", path: path, major: 1, minor: 3, fileMode: 0o666)
        #expect(throws: ZoneError.self) { try DevicePlanBuilder.plan(device, "linux.devices[0]") }
    }

    @Test(
        arguments: [
            ("/dev", "bind", [], true), ("//dev/", "none", ["rbind"], true), ("/dev", "tmpfs", [], false),
            ("/dev/shm", "bind", [], false), ("/dev", "none", ["bind", "remount"], false),
        ] as [(String, String, [String], Bool)])
    func aBoundDevIsLeftAlone(_ destination: String, _ type: String, _ options: [String], _ brings: Bool) {
        let mount = Spec.Mount(destination: destination, type: type, source: "/dev", options: options)
        #expect(MountPlanBuilder.bringsDevices([mount]) == brings)
    }
}
