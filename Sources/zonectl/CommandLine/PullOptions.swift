// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
import LinuxSystem
import OCI
import ZoneRuntime

/// The options of what speaks with a registry, and of what fetches an image that is missing.
enum PullOptions {
    static let policy = Option.value("pull", nil, "missing|always|never", "When the image is pulled (default: missing)")
    static let platform = Option.value(
        "platform", nil, "OS/ARCH[/VARIANT]", "Machine that the image is for (default: this one's)")
    static let tlsVerify = Option.flag(
        "tls-verify", nil, "Whether the registry must show a certificate (default: true)")
    static let credentials = Option.value("creds", nil, "USER:PASSWORD", "Credentials for the registry")
    static let authFile = Option.value(
        "authfile", nil, "FILE", "Credentials as 'podman login' or 'docker login' wrote them")

    static let access = [tlsVerify, credentials, authFile]
    static let forRun = [policy, platform] + access

    static func access(_ arguments: Arguments) throws(ZoneError) -> RegistryAccess {
        var access = RegistryAccess()
        access.verifiesTLS = arguments.value(tlsVerify).map { $0 == "true" }
        access.credentials = arguments.value(credentials)
        access.authFile = arguments.value(authFile)
        if let file = access.authFile, (try? FileStatus.of(file)) == nil {
            throw ZoneError(.notFound, "--authfile \(file): no such file")
        }
        return access
    }

    static func request(_ arguments: Arguments, isQuiet: Bool = false) throws(ZoneError) -> PullSettings {
        var request = PullSettings()
        request.terminal = isQuiet ? nil : PullProgressLine.terminal
        request.access = try access(arguments)
        request.platform = try wantedPlatform(arguments)
        return request
    }

    /// What `--platform` or `--arch` says; nil where neither is given.
    static func wantedPlatform(_ arguments: Arguments) throws(ZoneError) -> Platform? {
        let whole = try arguments.value(platform).map { (text) throws(ZoneError) in try platform(text) }
        guard let text = arguments.value(MachineOptions.architecture) else { return whole }
        let part = Platform(architecture: try MachineOptions.architecture(text), os: Image.machine.os)
        guard let whole else { return part }
        if whole.isFor(part) { return whole }
        throw ZoneError(.invalid, "--platform \(whole.os)/\(whole.architecture) and --arch \(part.architecture) differ")
    }

    /// `linux/arm64`, `linux/arm/v7`.
    static func platform(_ text: String) throws(ZoneError) -> Platform {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard 2...3 ~= parts.count, !parts.contains("") else {
            throw ZoneError(.invalid, "--platform \"\(text)\" is not OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64")
        }
        guard parts[0] == "linux" else {
            throw ZoneError(.unsupported, "--platform \"\(text)\": zones are made of images for linux")
        }
        var platform = Platform(architecture: parts[1], os: parts[0])
        if parts.count == 3 { platform.variant = parts[2] }
        return platform
    }

    /// Runs `body`, which makes a zone from an image, and pulls that as `--pull` says: before, or if it is not there.
    /// `definition`: of what is made, where it is to be looked at whether the image's programs can be executed in it.
    static func providing<Result>(
        _ image: String, _ arguments: Arguments, _ context: Context, for definition: ZoneDefinition? = nil,
        _ body: () throws(ZoneError) -> Result
    ) throws(ZoneError) -> Result {
        func checked() throws(ZoneError) -> Result {
            // One that is not there is what `body` says.
            if let definition, let found = try? context.folders.images.find(image) {
                try ForeignPrograms.check(definition, found.platform, name: image)
            }
            return try body()
        }
        let policy = arguments.value(policy) ?? "missing"
        switch policy {
        case "missing", "never":
            if let other = try another(image, arguments, context) {
                do throws(ZoneError) {
                    if policy == "never" { throw ZoneError(.notFound, "--pull=never") }
                    try pull(image, arguments, context)
                } catch {
                    throw ZoneError(
                        error.code,
                        "image \(image) is here for \(other.os)/\(other.architecture) only: \(error.detail)",
                        hint: error.hint)
                }
            }
            if policy == "never" { return try checked() }
        case "always": try pull(image, arguments, context)
        default: throw ZoneError(.invalid, "--pull takes missing, always or never, not \"\(policy)\"")
        }
        do throws(ZoneError) { return try checked() } catch {
            guard error.code == .notFound, policy == "missing", isMissing(image, context) else { throw error }
            // `run NAME` in a bundle's folder means that more likely than an image of a registry's.
            if !image.utf8.contains(UInt8(ascii: "/")), (try? FileStatus.of("config.json")) != nil { throw error }
            do throws(ZoneError) { try pull(image, arguments, context) } catch let failure {
                throw ZoneError(
                    failure.code, "\(error.detail), and cannot be pulled: \(failure.detail)", hint: failure.hint)
            }
        }
        return try checked()
    }

    private static func isMissing(_ image: String, _ context: Context) -> Bool {
        // One that is only a digest has no name to ask a registry for.
        guard (try? RegistryName(image)) != nil else { return false }
        do throws(ImageError) { _ = try context.folders.images.find(image) } catch { return error.code == .notFound }
        return false
    }

    /// What the image that is there is for, where that is another machine than `--platform` or `--arch` says.
    private static func another(
        _ image: String, _ arguments: Arguments, _ context: Context
    ) throws(ZoneError) -> Platform? {
        guard let wanted = try wantedPlatform(arguments), let found = try? context.folders.images.find(image) else {
            return nil
        }
        return found.platform.isFor(wanted) ? nil : found.platform
    }

    private static func pull(_ image: String, _ arguments: Arguments, _ context: Context) throws(ZoneError) {
        let request = try request(arguments)
        let progress = PullProgressLine(image)
        defer { progress.end() }
        _ = try asZoneError { () throws(ImageError) in
            try context.folders.images.pull(image, request, progress: progress.show)
        }
    }
}
