// swift-tools-version: 6.2
import PackageDescription

// One strict settings array for every Swift target.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]
let strictC: [CSetting] = [.unsafeFlags(["-Wall", "-Wextra", "-Werror"])]

/// Declares a Swift library target below `Sources/`.
func layer(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

/// Declares a unit test target below `Tests/`.
func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name + "Tests", dependencies: dependencies, swiftSettings: strict)
}

// Bottom-up: a target may depend only on targets listed above it. `scripts/check-layers` holds the same order.
let package = Package(
    name: "ZoneRuntime",
    targets: [
        // L0: the kernel and the C libraries.
        .target(name: "CLinux", cSettings: strictC),
        .target(
            name: "CStart",
            cSettings: [.unsafeFlags(["-Wall", "-Wextra", "-Werror", "-O2", "-ffreestanding", "-fno-stack-protector"])]
        ),
        .systemLibrary(name: "CSeccomp", providers: [.apt(["libseccomp-dev"])]),
        .systemLibrary(name: "CCap", providers: [.apt(["libcap-dev"])]),
        .systemLibrary(name: "CNetlink", pkgConfig: "libnl-3.0", providers: [.apt(["libnl-3-dev"])]),
        .systemLibrary(name: "CArchive", providers: [.apt(["libarchive-dev"])]),
        .systemLibrary(name: "CNettle", providers: [.apt(["nettle-dev"])]),
        // L1: descriptors and system calls; OCI values.
        layer("LinuxSystem", ["CLinux"]),
        layer("OCI"),
        // L2: siblings, none imports another.
        layer("Seccomp", ["LinuxSystem", "OCI", "CSeccomp"]),
        layer("Namespaces", ["LinuxSystem", "CLinux", "CCap", "CNetlink"]),
        layer("CGroups", ["LinuxSystem", "OCI", "CLinux"]),
        layer("Images", ["LinuxSystem", "OCI", "CLinux", "CArchive", "CNettle"]),
        layer("Network", ["LinuxSystem", "CLinux", "CNetlink"]),
        layer("HVBridge", ["LinuxSystem", "OCI", "CLinux"]),
        // L3: zones.
        layer(
            "ZoneRuntime",
            ["CLinux", "LinuxSystem", "OCI", "Seccomp", "Namespaces", "CGroups", "Images", "Network", "HVBridge"]),
        // L4: the command.
        .executableTarget(
            name: "zonectl",
            dependencies: ["CLinux", "CStart", "LinuxSystem", "OCI", "Images", "ZoneRuntime"],
            swiftSettings: strict,
            linkerSettings: [.unsafeFlags(["-Xlinker", "--entry=zn_start"])]
        ),
        // Unit tests; the integration suite drives the executable, see Tests/Integration.
        .target(
            name: "TestSupport", dependencies: ["LinuxSystem"], path: "Tests/TestSupport", swiftSettings: strict),
        tests("Images", ["Images", "LinuxSystem", "OCI", "TestSupport"]),
        tests("Network", ["Network", "LinuxSystem", "CLinux"]),
        tests("HVBridge", ["HVBridge", "LinuxSystem", "OCI", "CLinux", "TestSupport"]),
        tests("Seccomp", ["Seccomp", "LinuxSystem", "OCI", "CSeccomp"]),
        tests("LinuxSystem", ["LinuxSystem", "CLinux", "TestSupport"]),
        tests("OCI", ["OCI"]),
        tests("Namespaces", ["Namespaces", "LinuxSystem", "TestSupport"]),
        tests("CGroups", ["CGroups", "LinuxSystem", "OCI", "TestSupport"]),
        tests(
            "ZoneRuntime",
            ["ZoneRuntime", "Namespaces", "CGroups", "HVBridge", "LinuxSystem", "OCI", "TestSupport"]),
        tests("zonectl", ["zonectl", "ZoneRuntime", "LinuxSystem", "OCI", "TestSupport"]),
    ]
)
