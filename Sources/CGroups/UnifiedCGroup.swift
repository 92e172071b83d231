// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// A zone's group in the version 2 hierarchy: all of it on a host with version 2 alone, on a hybrid host what version 1
/// has not.
struct UnifiedCGroup: CGroupManager {
    private let directory: CGroupDirectory
    /// The hierarchy's mount point; `nil` for a group that was recorded earlier: looked for when it is needed.
    private let root: String?
    /// Controllers that are enabled where they are to be had, whether or not a limit asks: for accounting.
    private let wanted: [String]

    static let always = ["cpu", "cpuset", "memory", "pids"]
    /// What readers of statistics look at besides.
    static let engine = always + ["io", "hugetlb", "rdma", "misc"]

    init(root: String, path: String, wanted: [String] = always) {
        self.root = root
        self.wanted = wanted
        directory = CGroupDirectory(hierarchy: "", path: "\(root)/\(path)")
    }

    init(directory: CGroupDirectory, root: String? = nil, wanted: [String] = []) {
        self.root = root
        self.wanted = wanted
        self.directory = directory
    }

    var directories: [CGroupDirectory] { [directory] }

    func create(_ resources: Spec.Resources) throws(SystemError) {
        let isNew = try CGroupFiles.make(directory.path)
        let group = try CGroupFiles(directory.path, isNew: isNew)
        try apply(resources, CGroups.controllers, to: group)
    }

    func update(_ resources: Spec.Resources, undoing journal: CGroupJournal) throws(SystemError) {
        try apply(resources, CGroups.controllers, to: try CGroupFiles(directory.path, journal: journal))
    }

    /// Applies the limits of some controllers and the `unified` map; enables what they need.
    func apply(
        _ resources: Spec.Resources,
        _ controllers: [any Controller],
        to group: borrowing CGroupFiles
    ) throws(SystemError) {
        let asked = controllers.filter { $0.isAsked(resources) }
        var needed = asked.compactMap(\.unifiedName)
        for name in resources.unified.keys {
            if let controller = try UnifiedCGroup.controller(of: name) { needed.append(controller) }
        }
        try enable(needed, in: group)
        for controller in asked { try controller.applyUnified(resources, to: group) }
        // By name, so that what happens does not depend on the order of a table.
        for (name, text) in resources.unified.sorted(by: { $0.key < $1.key }) {
            // A file such as io.max takes one line at a time.
            for line in text.split(separator: "\n") { try group.write(name, String(line)) }
        }
    }

    /// The controller whose file this is, `nil` for the files that every group has.
    static func controller(of file: String) throws(SystemError) -> String? {
        let bytes = file.utf8
        guard let dot = bytes.firstIndex(of: UInt8(ascii: ".")), dot != bytes.startIndex,
            !bytes.contains(UInt8(ascii: "/")), !bytes.contains(0), let name = String(bytes[..<dot])
        else { throw SystemError("limit", "unified: \"\(file)\" is no file of a control group", .invalid) }
        return name == "cgroup" ? nil : name
    }

    // MARK: Controllers

    /// Makes sure that the group has the files of `needed`, and those of ``wanted`` where that can be done.
    ///
    /// A controller has files only where every group above passes it on (cgroup-v2, "Top-down Constraint"). Usually
    /// they do already, which one file of our own group tells.
    private func enable(_ needed: [String], in group: borrowing CGroupFiles) throws(SystemError) {
        if needed.isEmpty && wanted.isEmpty { return }
        let present = UnifiedCGroup.words(try group.readIfThere("cgroup.controllers"))
        let missing = Set(needed + wanted).subtracting(present)
        if missing.isEmpty { return }
        let root = try knownRoot()
        let available = UnifiedCGroup.words(try CGroupFiles(root).readIfThere("cgroup.controllers"))
        for name in needed where missing.contains(name) && !available.contains(name) {
            throw SystemError("limit", "cgroup controller \(name) is not in \(root)/cgroup.controllers", .notSupported)
        }
        // In a fixed order, for whoever reads the file or a trace.
        let names = missing.intersection(available).sorted()
        if names.isEmpty { return }
        var path = root
        for part in directory.path.dropFirst(root.count).split(separator: "/") {
            try enable(names, needed: needed, at: path)
            path += "/\(part)"
        }
    }

    private func enable(_ names: [String], needed: [String], at path: String) throws(SystemError) {
        let file = "cgroup.subtree_control"
        let group = try CGroupFiles(path)
        let enabled = UnifiedCGroup.words(try group.read(file))
        let missing = names.filter { !enabled.contains($0) }
        if missing.isEmpty { return }
        do throws(SystemError) {
            return try group.write(file, missing.map { "+" + $0 }.joined(separator: " "))
        } catch {
            // One of them may be the reason, or all: what no limit needs may stay away.
            if missing.count == 1 && !needed.contains(missing[0]) { return }
        }
        for name in missing {
            do throws(SystemError) { try group.write(file, "+" + name) } catch {
                if !needed.contains(name) { continue }
                throw UnifiedCGroup.explained(error, name, path)
            }
        }
    }

    /// Says what the kernel's numbers mean here.
    private static func explained(_ error: SystemError, _ name: String, _ path: String) -> SystemError {
        switch error.errno {
        case .busy, .notSupported:
            SystemError(
                "limit",
                "controller \(name) cannot be enabled below \(path): that group has processes of its own"
                    + " (cgroup v2 allows them in the outermost groups alone); choose another parent",
                .busy)
        case .accessDenied, .notPermitted, .readOnly:
            SystemError("limit", "controller \(name) is not delegated: \(path)/cgroup.subtree_control", error.errno)
        default: error
        }
    }

    private static func words(_ text: String?) -> Set<String> {
        Set((text ?? "").split(separator: " ").map(String.init))
    }

    private func knownRoot() throws(SystemError) -> String {
        if let root { return root }
        guard let root = try CGroupLayout.ofHost().unified else {
            throw SystemError("find", "cgroup version 2", .notSupported)
        }
        return root
    }

    // MARK: Processes

    func open() throws(SystemError) -> CGroupHandles {
        var handles = CGroupHandles()
        handles.setUnified(try Descriptor.open(directory.path, [.path, .directory]))
        return handles
    }

    func processes() throws(SystemError) -> [Int32] {
        try CGroupFiles.processes(directory.path)
    }

    func memoryKills() throws(SystemError) -> Int {
        let group = try CGroupFiles(directory.path)
        return group.exists("memory.events") ? try group.counter("oom_kill", in: "memory.events") : 0
    }

    func remove() throws(SystemError) {
        try CGroupFiles.remove(directory.path)
    }
}
