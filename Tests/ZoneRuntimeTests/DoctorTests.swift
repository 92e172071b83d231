// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CGroups
import HVBridge
import LinuxSystem
import OCI
import Testing

@testable import ZoneRuntime

/// A host of which only these files and programs are there.
private func host(
    uid: UInt32 = 0, _ files: [String: String] = [:], programs: [String] = [], answers: Bool = true
) throws -> DoctorHost {
    var host = DoctorHost(folders: try ZoneFolders(root: "/nowhere/root", store: "/nowhere/store"), uid: uid)
    host.text = { files[$0] }
    host.program = { programs.contains($0) ? "/usr/bin/\($0)" : nil }
    host.succeeds = { _, _ in answers }
    return host
}

private let debian = ["/etc/os-release": "NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=\"debian\"\n"]

@Suite struct DoctorTests {
    // MARK: Parsers

    @Test func releasesAreVariables() {
        let variables = DoctorHost.variables("# x\nID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\nbroken\nA='b'\n=\n")
        #expect(variables["ID"] == "debian")
        #expect(variables["PRETTY_NAME"] == "Debian GNU/Linux 12")
        #expect(variables["A"] == "b")
        #expect(DoctorHost.variables("").isEmpty)
    }

    @Test func packagesAreNamedAsTheDistributionInstallsThem() throws {
        #expect(try host(debian).install("nftables") == "apt-get install nftables")
        #expect(try host(["/etc/os-release": "ID=fedora"]).install("nftables").contains("that Debian calls nftables"))
        #expect(try host().install("x").contains("that Debian calls x"))
    }

    @Test(
        arguments: [
            ("Name:\tx\nCapEff:\t000001ffffffffff\n", 0x1FF_FFFF_FFFF), ("CapEff:\t0\n", 0), ("", nil),
            ("CapEff:\tzz\n", nil), ("CapEff:\t1ffffffffffffffffffff\n", nil),
        ] as [(String, UInt64?)])
    func capabilitiesAreParsed(_ text: String, _ set: UInt64?) {
        #expect(DoctorKernel.effective(text) == set)
    }

    // MARK: Kernel

    @Test func oldKernelsAreAProblem() {
        #expect(DoctorKernel.version(KernelVersion(5, 11), release: "5.11.0").verdict == .problem)
        #expect(DoctorKernel.version(KernelVersion(5, 12), release: "5.12.1").verdict == .ok)
    }

    @Test func missingCallsAreNamed() {
        let finding = DoctorKernel.calls { $0 == 0 || $0 == 1 }
        #expect(finding.verdict == .problem)
        #expect(finding.found.contains("openat2, clone3"))
        #expect(DoctorKernel.calls { _ in false }.verdict == .ok)
    }

    @Test func overlayIsLookedForByItsWholeName() throws {
        let there = try host(["/proc/filesystems": "nodev\tproc\nnodev\toverlay\n\text4\n"])
        #expect(DoctorKernel.overlay(there).verdict == .ok)
        #expect(DoctorKernel.overlay(try host(["/proc/filesystems": "\toverlayx\n"])).verdict == .warning)
        #expect(DoctorKernel.overlay(try host()).fix?.contains("modprobe overlay") == true)
    }

    @Test func missingCapabilitiesSayWhatTheyCost() throws {
        let all: UInt64 = 0x1FF_FFFF_FFFF
        func finding(_ set: UInt64) throws -> DoctorFinding {
            DoctorKernel.capabilities(try host(["/proc/self/status": "CapEff:\t\(String(set, radix: 16))\n"]))
        }
        #expect(try finding(.max).verdict == .ok)
        let resource = try finding(all & ~(1 << 24))
        #expect(resource.verdict == .warning)
        #expect(resource.found.contains("CAP_SYS_RESOURCE"))
        #expect(resource.affects?.contains("--ulimit") == true)
        #expect(try finding(all & ~(1 << 21)).verdict == .problem)
        #expect(DoctorKernel.capabilities(try host(uid: 1000)).verdict == .skipped)
    }

    // MARK: Users

    @Test func switchesAreProblemsForUsersOnly() throws {
        let off = ["/proc/sys/user/max_user_namespaces": "0\n"]
        #expect(DoctorUsers.namespaces(try host(off)).verdict == .warning)
        let finding = DoctorUsers.namespaces(try host(uid: 1000, off)) { true }
        #expect(finding.verdict == .problem)
        #expect(finding.found.hasPrefix("user.max_user_namespaces is 0"))
        #expect(finding.fix?.contains("sysctl -w user.max_user_namespaces=15000") == true)
        let ubuntu = try host(uid: 1, ["/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"])
        #expect(DoctorUsers.namespaces(ubuntu) { true }.verdict == .problem)
        #expect(DoctorUsers.namespaces(try host(uid: 1000)) { true }.verdict == .ok)
        #expect(DoctorUsers.namespaces(try host(uid: 1000)) { false }.verdict == .problem)
    }

    @Test func subordinateIDsAreCounted() throws {
        func finding(_ line: String, uid: UInt32 = 1000) throws -> DoctorFinding {
            DoctorUsers.subordinate(
                try host(
                    uid: uid,
                    ["/etc/passwd": "ada:x:1000:1000::/:\n", "/etc/subuid": line, "/etc/subgid": "ada:100000:65536\n"]))
        }
        #expect(try finding("ada:100000:65536\n").verdict == .ok)
        #expect(try finding("1000:100000:65536\n").verdict == .ok)
        #expect(try finding("ada:100000:1000\n").found.contains("ada 1000 ids"))
        let none = try finding("eve:100000:65536\n")
        #expect(none.verdict == .warning)
        #expect(none.fix?.hasSuffix(" ada") == true)
        #expect(try finding("", uid: 0).verdict == .warning)
        #expect(try finding("ada:1:1\n", uid: 0).found.contains("ada"))
        // As many lines as there is room for must not overflow anything.
        #expect(try finding(String(repeating: "ada:1:4294967290\n", count: 1000)).verdict == .ok)
    }

    @Test func missingProgramsNameTheirPackage() throws {
        let finding = DoctorUsers.programs(try host(debian, programs: ["newuidmap"]))
        #expect(finding.found == "not installed: newgidmap")
        #expect(finding.fix == "apt-get install uidmap")
        #expect(DoctorUsers.programs(try host(programs: ["newuidmap", "newgidmap"])).verdict == .ok)
        #expect(DoctorNetwork.tables(try host(debian)).fix == "apt-get install nftables")
        #expect(DoctorNetwork.tables(try host(programs: ["nft"], answers: false)).verdict == .warning)
        #expect(DoctorNetwork.tables(try host(programs: ["nft"])).verdict == .ok)
        #expect(DoctorNetwork.tables(try host(uid: 1, programs: ["nft"])).verdict == .skipped)
        #expect(DoctorTools.lxcfs(try host(programs: ["lxcfs"])).fix?.hasPrefix("systemctl start lxcfs") == true)
        #expect(DoctorTools.lxcfs(try host(["/var/lib/lxcfs/proc/uptime": "1 1\n"])).verdict == .ok)
    }

    // MARK: Groups

    @Test func layoutsAreToldApart() {
        let legacy = [CGroupLayout.Hierarchy]()
        #expect(DoctorGroups.layout(CGroupLayout(unified: nil, legacy: legacy), controllers: []).verdict == .problem)
        #expect(DoctorGroups.layout(CGroupLayout(unified: "/c", legacy: legacy), controllers: []).verdict == .ok)
    }

    @Test func missingControllersNameTheirOptions() {
        let layout = CGroupLayout(unified: "/c", legacy: [])
        let all = ["cpuset", "cpu", "io", "memory", "pids"]
        #expect(DoctorGroups.controllers(layout, controllers: all).verdict == .ok)
        let finding = DoctorGroups.controllers(layout, controllers: ["cpuset", "cpu", "io", "pids"])
        #expect(finding.affects == "--memory")
        #expect(finding.fix?.contains("cgroup_enable=memory") == true)
        #expect(DoctorGroups.controllers(CGroupLayout(unified: nil, legacy: []), controllers: []).verdict == .skipped)
    }

    @Test func delegationIsTheUsers() throws {
        let layout = CGroupLayout(unified: "/c", legacy: [])
        let path = "/c/user.slice/user-1000.slice/user@1000.service/cgroup.controllers"
        #expect(DoctorGroups.delegation(try host(), layout).verdict == .skipped)
        #expect(DoctorGroups.delegation(try host(uid: 1000), layout).fix?.contains("enable-linger") == true)
        let some = DoctorGroups.delegation(try host(uid: 1000, [path: "memory pids\n"]), layout)
        #expect(some.found.contains("cpu, cpuset, io"))
        let all = DoctorGroups.delegation(try host(uid: 1000, [path: "cpuset cpu io memory pids\n"]), layout)
        #expect(all.verdict == .ok)
    }

    // MARK: Storage

    @Test func fileSystemsAreJudged() throws {
        func verdict(_ magic: Int64, uid: UInt32 = 0, _ kernel: KernelVersion = KernelVersion(6, 1)) throws
            -> DoctorFinding.Verdict
        {
            DoctorStorage.overlay(magic, try host(uid: uid), kernel: kernel).verdict
        }
        #expect(try verdict(0xEF53) == .ok)
        #expect(try verdict(0x794C_7630) == .warning)
        #expect(try verdict(0x6969) == .warning)
        #expect(try verdict(1) == .warning)
        #expect(try verdict(0x0102_1994) == .ok)
        #expect(try verdict(0x0102_1994, uid: 1000) == .warning)
        #expect(try verdict(0x0102_1994, uid: 1000, KernelVersion(6, 6)) == .ok)
    }

    @Test(
        arguments: [
            (1 << 40, .max, .ok), (1 << 29, .max, .warning), (1 << 20, .max, .problem), (1 << 40, 999, .problem),
            (1 << 40, 19_999, .warning), (.max, .max, .ok),
        ] as [(UInt64, UInt64, DoctorFinding.Verdict)])
    func spaceIsJudged(_ free: UInt64, _ inodes: UInt64, _ verdict: DoctorFinding.Verdict) {
        #expect(DoctorStorage.space(free: free, inodes: inodes).verdict == verdict)
    }

    // MARK: Machines, zones

    @Test func kvmIsJudgedByItsProbe() throws {
        #expect(DoctorMachines.kvm(.usable, try host()).verdict == .ok)
        let refused = DoctorMachines.kvm(.notPermitted, try host(uid: 7, ["/etc/passwd": "ada:x:7:7::/:\n"]))
        #expect(refused.fix?.contains("usermod -aG kvm ada") == true)
        #expect(DoctorMachines.kvm(.unusable(reason: "why"), try host()).found.contains("why"))
    }

    @Test func damagedZonesAreNamed() {
        let finding = DoctorZones.damaged([("a", .stopped(exitCode: 0)), ("b", .damaged("why")), ("c", .damaged("x"))])
        #expect(finding.verdict == .problem)
        #expect(finding.found == "b, c: why")
        #expect(finding.fix == "zonectl rm -f b c")
        #expect(DoctorZones.damaged([]).verdict == .ok)
        #expect(DoctorZones.interrupted(["a"]).fix == "zonectl rm a")
        #expect(DoctorZones.left(["/c/x"]).fix?.contains("rmdir /c/x") == true)
    }

    // MARK: The whole

    @Test func theReportIsComplete() throws {
        let report = DoctorReport(of: try host(uid: 1000))
        #expect(Set(report.findings.map(\.check)).count == report.findings.count)
        #expect(report.problems == report.findings.count { $0.verdict == .problem })
        for finding in report.findings {
            let isTrouble = finding.verdict == .warning || finding.verdict == .problem
            #expect((finding.affects != nil) == isTrouble, "\(finding.check)")
            #expect((finding.fix != nil) == isTrouble, "\(finding.check)")
            #expect(finding.found.last != ".", "\(finding.check)")
            #expect(finding.check.split(separator: ".").count == 2)
        }
        let again = try DoctorReport(parsing: report.serialized())
        #expect(again.findings == report.findings)
    }
}
