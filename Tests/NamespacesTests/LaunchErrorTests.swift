// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import Testing

@testable import Namespaces

@Suite struct LaunchErrorTests {
    /// What `LaunchDescription` writes for a failure in the child.
    private func sentence(
        _ step: LaunchStep,
        _ errno: Errno,
        _ index: Int = -1,
        program: String = "sh",
        user: ProcessPlan.User = .ids(uid: 1, gid: 2, groups: [])
    ) -> String {
        var plan = LaunchPlan()
        plan.mounts = [
            MountPlan(target: "/proc", source: .fileSystem(type: "proc", options: [])),
            MountPlan(target: "/data", source: .tree(-1, isDirectory: true)),
            MountPlan(target: "/m", source: .remount(options: [])),
        ]
        plan.devices = [
            DevicePlan(path: "/dev/fuse", major: 10, minor: 229)
        ]
        plan.maskedPaths = ["/proc/kcore"]
        plan.readonlyPaths = ["/proc/sys"]
        plan.sysctls = [(name: "net.ipv4.ip_forward", value: "1")]
        plan.process.limits = [LimitPlan(name: "RLIMIT_NOFILE", resource: 7, soft: 10, hard: 20)]
        plan.process.workingDirectory = "/work"
        plan.process.arguments = [program, "-c"]
        plan.process.environment = ["PATH=/bin:/sbin"]
        plan.process.user = user
        let error = LaunchDescription(plan).error(Message(LaunchFailure(step, errno, index)))
        #expect(error.step == step)
        #expect(error.errno == errno)
        #expect("\(error)" == error.sentence)
        return error.sentence
    }

    @Test(
        arguments: [
            (.mount, .noDevice, 0, "mount on /proc (proc): No such device"),
            (.mount, .busy, 1, "mount on /data: Device or resource busy"),
            (
                .mount, .loop, 0,
                "mount on /proc (proc): the path leads through a symbolic link of the image's, which could redirect it"
            ),
            (.sealMount, .notPermitted, 1, "make the mount read-only /data: Operation not permitted"),
            (.device, .notPermitted, 0, "make the device /dev/fuse: Operation not permitted"),
            (.deviceLink, .readOnly, 0, "make the link /dev/fd: Read-only file system"),
            (.maskedPath, .loop, 0, "mask /proc/kcore: Too many levels of symbolic links"),
            (.readonlyPath, .noMemory, 0, "make read-only /proc/sys: Cannot allocate memory"),
            (.sysctl, .noEntry, 0, "set the sysctl net.ipv4.ip_forward=1: No such file or directory"),
            (
                .limit, .notPermitted, 0,
                "set the resource limit RLIMIT_NOFILE=10:20: operation not permitted: it is above the hard limit, "
                    + "which only CAP_SYS_RESOURCE may raise"
            ),
            (.limit, .invalid, 0, "set the resource limit RLIMIT_NOFILE=10:20: Invalid argument"),
            (
                .mount, .notPermitted, 0,
                "mount on /proc (proc): operation not permitted: the zone's user namespace must own the namespaces "
                    + "that it shows: give the zone new ones, or bind-mount the host's"
            ),
            (
                .mount, .invalid, 2,
                "mount on /m (remount): nothing is mounted there, or it does not take these options"
            ),
            (.copyUp, .noSpace, 0, "copy what is covered by the mount on /proc (proc): No space left on device"),
            (.workingDirectory, .noEntry, -1, "change to the working directory /work: No such file or directory"),
            (.setIdentity, .invalid, -1, "change to the user 1:2: Invalid argument"),
            (.seccomp, .invalid, -1, "load the seccomp filter: Invalid argument"),
        ] as [(LaunchStep, Errno, Int, String)])
    func namesStepSubjectAndReason(_ step: LaunchStep, _ errno: Errno, _ index: Int, _ expected: String) {
        #expect(sentence(step, errno, index).hasPrefix(expected))
    }

    /// podman picks the status by these words: 127 for the first two, 126 for the third.
    @Test func engineWordsAreKept() {
        #expect(
            sentence(.execute, .noEntry, program: "nope")
                == "exec: \"nope\": executable file not found in $PATH (/bin:/sbin)")
        #expect(sentence(.execute, .noEntry, program: "/no/pe").contains("no such file or directory"))
        #expect(sentence(.execute, .accessDenied, program: "/etc").contains("permission denied"))
        #expect(sentence(.execute, .badExecutable, program: "/x").contains("exec format error"))
        #expect(sentence(.execute, .tooBig) == "exec: \"sh\": Argument list too long")
    }

    @Test func aMissingUserIsNamed() throws {
        let request = try #require(UserRequest("alice:audio"))
        #expect(
            sentence(.user, .noEntry, user: .named(request))
                == "user \"alice:audio\": not found in the zone's /etc/passwd or /etc/group")
        #expect(sentence(.user, .ioError).hasPrefix("user \"1:2\": "))
    }

    /// The child is not trusted to send an index or a step of ours.
    @Test(arguments: LaunchStep.allCases, [-1, 0, 1, 99, Int(Int32.max), Int(Int32.min)])
    func anyIndexMakesASentence(_ step: LaunchStep, _ index: Int) {
        #expect(!sentence(step, .loop, index).isEmpty)
    }

    @Test func anUnknownStepIsSaid() {
        var message = Message(LaunchFailure(.mount, .busy))
        message.step = 9999
        let error = LaunchDescription(LaunchPlan()).error(message)
        #expect(error.step == nil)
        #expect(error.sentence.contains("9999"))
    }

    @Test func everyStepHasAnAttemptOfItsOwn() {
        let texts = LaunchStep.allCases.map(\.attempt)
        #expect(Set(texts).count == LaunchStep.allCases.count)
        for text in texts {
            #expect(text.first?.isLowercase == true)
            #expect(text.last != ".")
            #expect(text.count > 3)
        }
    }

    // MARK: Messages

    @Test func messagesAreTwentyBytesWithoutHoles() {
        #expect(MemoryLayout<Message>.size == 20)
        #expect(MemoryLayout<Message>.stride == 20)
        let message = Message(LaunchFailure(.execute, .noEntry, 5))
        let words = withUnsafeBytes(of: message) { bytes in
            (0..<5).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Int32.self) }
        }
        #expect(words == [3, Int32(LaunchStep.execute.rawValue), ENOENT, 5, 0])
    }

    @Test func anIndexBeyondTheMessageIsCut() {
        #expect(LaunchFailure(.mount, .busy, .max).index == -1)
        #expect(LaunchFailure(.mount, .busy).index == -1)
    }

    @Test func attemptsKeepStepAndIndex() throws {
        #expect(try attempt(.mount, 5) == 5)
        let failure = #expect(throws: LaunchFailure.self) { _ = try attempt(.device, -EBUSY, index: 3) }
        #expect(failure?.step == .device)
        #expect(failure?.errno == .busy)
        #expect(failure?.index == 3)
    }
}
