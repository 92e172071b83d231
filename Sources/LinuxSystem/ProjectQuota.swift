// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CLinux

/// The project quota of the file system that holds a directory: trees of files whose size is limited together, by a number
/// that each file has. On ext4 and XFS, where the file system was mounted so (`prjquota`).
public struct ProjectQuota: ~Copyable {
    private let directory: Descriptor

    /// `nil` where the file system keeps no such limits.
    public init?(of directory: borrowing Descriptor) throws(SystemError) {
        let own = try directory.open(".", [.readOnly, .directory], resolve: .beneath)
        guard zn_project_quota_is_enforced(own.raw) == 1 else { return nil }
        self.directory = own
    }

    /// What the files of a project take.
    public struct Use: Sendable, Equatable {
        public let bytes: Int64
        public let inodes: Int64
    }

    public func use(of project: UInt32) throws(SystemError) -> Use {
        var bytes: UInt64 = 0
        var inodes: UInt64 = 0
        try check(zn_project_use(directory.raw, project, &bytes, &inodes), "quotactl", "project \(project)")
        return Use(bytes: Int64(clamping: bytes), inodes: Int64(clamping: inodes))
    }

    /// Limits what the files of a project may take, in bytes.
    public func limit(_ project: UInt32, to bytes: Int64) throws(SystemError) {
        try check(
            zn_project_limit(directory.raw, project, UInt64(max(bytes, 0))), "quotactl", "project \(project)")
    }

    /// Makes an empty directory a project's, and all that will be made in it.
    public func assign(_ project: UInt32, to directory: borrowing Descriptor) throws(SystemError) {
        let own = try directory.open(".", [.readOnly, .directory], resolve: .beneath)
        try check(zn_project_set(own.raw, project), "set project", "\(project)")
    }
}
