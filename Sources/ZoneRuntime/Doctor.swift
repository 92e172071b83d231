// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
public import OCI

/// One thing of the host's that was looked at, and what came of it.
public struct DoctorFinding: JSONRecord, Sendable, Equatable {
    public enum Verdict: String, JSONCodable, CaseIterable, Sendable {
        case ok
        /// Something cannot be done, and the rest works.
        case warning
        /// Zones do not work, or not safely.
        case problem
        /// Nothing to look at here, or not for this user: `found` says why.
        case skipped
    }

    /// `THEME.THING`, such as `kernel.version`: the same in every version of zonectl.
    public var check = ""
    public var verdict = Verdict.ok
    public var found = ""
    /// What does not work, where the verdict is a warning or a problem.
    public var affects: String?
    /// What to do about it, there too.
    public var fix: String?

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("check", &check)
        try visitor.required("verdict", &verdict)
        try visitor.required("found", &found)
        try visitor.field("affects", &affects)
        try visitor.field("fix", &fix)
    }

    static func ok(_ check: String, _ found: String) -> DoctorFinding { DoctorFinding(.ok, check, found) }

    static func skipped(_ check: String, _ found: String) -> DoctorFinding { DoctorFinding(.skipped, check, found) }

    static func warning(_ check: String, _ found: String, affects: String, fix: String) -> DoctorFinding {
        DoctorFinding(.warning, check, found, affects, fix)
    }

    static func problem(_ check: String, _ found: String, affects: String, fix: String) -> DoctorFinding {
        DoctorFinding(.problem, check, found, affects, fix)
    }

    private init(
        _ verdict: Verdict, _ check: String, _ found: String, _ affects: String? = nil, _ fix: String? = nil
    ) {
        (self.verdict, self.check, self.found, self.affects, self.fix) = (verdict, check, found, affects, fix)
    }
}

/// Everything that was looked at.
public struct DoctorReport: JSONRecord, Sendable {
    /// Counted up when a field changes its meaning or goes.
    public var schema: Int64 = 1
    /// The user's uid: what is found depends on it.
    public var uid: Int64 = 0
    public var problems: Int64 = 0
    public var warnings: Int64 = 0
    public var findings: [DoctorFinding] = []

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("schema", &schema)
        try visitor.required("uid", &uid)
        try visitor.required("problems", &problems)
        try visitor.required("warnings", &warnings)
        try visitor.required("findings", &findings)
    }

    /// Looks at the host. Nothing is changed; where a look would be a change, what is known of such hosts is told.
    public init(of folders: ZoneFolders) {
        self.init(of: DoctorHost(folders: folders))
    }

    init(of host: DoctorHost) {
        uid = Int64(host.uid)
        findings =
            DoctorKernel.findings(host) + DoctorUsers.findings(host) + DoctorGroups.findings(host)
            + DoctorStorage.findings(host) + DoctorZones.findings(host) + DoctorNetwork.findings(host)
            + DoctorMachines.findings(host) + DoctorTools.findings(host)
        problems = Int64(findings.count { $0.verdict == .problem })
        warnings = Int64(findings.count { $0.verdict == .warning })
    }
}

/// What the checks see of the host; tests show them another one.
struct DoctorHost {
    let folders: ZoneFolders
    var uid = geteuid()
    /// The text of a file, nil where it cannot be read.
    var text: (_ path: String) -> String? = { path in
        (try? readHostFile(path, limit: 4 << 20)).map { String(decoding: $0, as: UTF8.self) }
    }
    /// The path of a program, nil where it is not installed.
    var program: (_ name: String) -> String? = { try? HostProgram.find($0) }
    /// Whether a program runs and ends with success.
    var succeeds: (_ program: String, _ arguments: [String]) -> Bool = { name, arguments in
        guard var program = try? HostProgram(name, arguments) else { return false }
        program.milliseconds = 5000
        return (try? program.run())?.status == .exited(0)
    }

    var isRoot: Bool { uid == 0 }

    /// The first line of a file, without blanks around it.
    func line(_ path: String) -> String? {
        text(path)?.split(separator: "\n").first.map { $0.split(separator: " ").joined(separator: " ") }
    }

    /// The user's name in passwd(5), or the number.
    var userName: String { SubordinateIDs.name(of: uid, in: text("/etc/passwd") ?? "") ?? String(uid) }

    /// How to install a package, which has Debian's name.
    func install(_ package: String) -> String {
        let release = DoctorHost.variables(text("/etc/os-release") ?? "")
        let families = [release["ID"] ?? ""] + (release["ID_LIKE"] ?? "").split(separator: " ").map(String.init)
        return families.contains("debian") || families.contains("ubuntu")
            ? "apt-get install \(package)" : "install the package that Debian calls \(package)"
    }

    /// The variables of os-release(5).
    static func variables(_ text: String) -> [String: String] {
        var result: [String: String] = [:]
        for line in text.split(separator: "\n") {
            let (name, value) = String(line).halves("=")
            guard let value, !name.hasPrefix("#") else { continue }
            result[name] = value.filter { $0 != "\"" && $0 != "'" }
        }
        return result
    }
}
