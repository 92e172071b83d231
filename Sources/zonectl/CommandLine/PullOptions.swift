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
        if let text = arguments.value(platform) { request.platform = try platform(text) }
        return request
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
    static func providing<Result>(
        _ image: String, _ arguments: Arguments, _ context: Context, _ body: () throws(ZoneError) -> Result
    ) throws(ZoneError) -> Result {
        let policy = arguments.value(policy) ?? "missing"
        switch policy {
        case "missing": if try isForAnother(image, arguments, context) { try pull(image, arguments, context) }
        case "always": try pull(image, arguments, context)
        case "never": return try body()
        default: throw ZoneError(.invalid, "--pull takes missing, always or never, not \"\(policy)\"")
        }
        do throws(ZoneError) { return try body() } catch {
            guard error.code == .notFound, policy == "missing", isMissing(image, context) else { throw error }
            // `run NAME` in a bundle's folder means that more likely than an image of a registry's.
            if !image.utf8.contains(UInt8(ascii: "/")), (try? FileStatus.of("config.json")) != nil { throw error }
            do throws(ZoneError) { try pull(image, arguments, context) } catch let failure {
                throw ZoneError(
                    failure.code, "\(error.detail), and cannot be pulled: \(failure.detail)", hint: failure.hint)
            }
        }
        return try body()
    }

    private static func isMissing(_ image: String, _ context: Context) -> Bool {
        // One that is only a digest has no name to ask a registry for.
        guard (try? RegistryName(image)) != nil else { return false }
        do throws(ImageError) { _ = try context.folders.images.find(image) } catch { return error.code == .notFound }
        return false
    }

    /// Whether the image that is there is for another machine than `--platform` says.
    private static func isForAnother(
        _ image: String, _ arguments: Arguments, _ context: Context
    ) throws(ZoneError) -> Bool {
        guard let text = arguments.value(platform), let found = try? context.folders.images.find(image) else {
            return false
        }
        return !found.platform.isFor(try platform(text))
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
