// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem

/// A user of a zone's, as its own /etc/passwd has it; passwd(5).
public struct LoginAccount: Sendable, Equatable {
    public let name: String
    public let uid: UInt32
    public let home: String
    /// Empty for the system's usual one.
    public let shell: String

    public init(name: String, uid: UInt32, home: String, shell: String) {
        self.name = name
        self.uid = uid
        self.home = home
        self.shell = shell
    }

    /// Looks a user up below a zone's root; `nil` where there is none such.
    public static func find(
        _ user: UserRequest.Principal, root: borrowing Descriptor
    ) throws(SystemError) -> LoginAccount? {
        do throws(LaunchFailure) {
            return try UserLookup.account(user, root: root.raw)
        } catch {
            throw SystemError("read", "/etc/passwd", error.errno)
        }
    }
}
