// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI

/// How registries are spoken to; what is not said here, the host's configuration of skopeo says.
public struct RegistryAccess: Sendable {
    /// `false`: certificates are not looked at, and HTTP will do.
    public var verifiesTLS: Bool?
    /// `USER:PASSWORD`.
    public var credentials: String?
    /// A file of credentials, as `docker login` and `podman login` write it.
    public var authFile: String?

    public init() {}
}

/// The program that speaks with registries: it knows their credentials, certificates, mirrors and policies.
///
/// It lives as long as its caller does, and not a moment longer: what is killed while it fetches leaves nothing that goes on.
struct Skopeo: Sendable {
    private let path: String
    private let access: RegistryAccess
    /// Manifests are small; a bigger one is not taken.
    private static let documentLimit = 16 << 20
    /// Milliseconds for one small document, with all redirections and tries for credentials.
    private static let patience = 120_000

    init(_ access: RegistryAccess) throws(ImageError) {
        guard let path = try? HostProgram.find("skopeo") else {
            throw ImageError(
                .unsupported, "skopeo, which speaks with registries, is not installed",
                hint: "install Debian's package skopeo")
        }
        self.path = path
        self.access = access
    }

    /// Fetches a manifest or a list of them, byte by byte as the registry has it.
    func document(_ name: RegistryName, digest: Digest? = nil) throws(ImageError) -> [UInt8] {
        let wanted = digest ?? name.digest
        var words = ["inspect", "--raw"] + tlsWords("--")
        let secret = try credentialFile(name.host)
        if let file = authFile(secret) { words += ["--authfile", file] }
        var program = try command(words + [name.transport(wanted)], secret)
        program.milliseconds = Skopeo.patience
        program.limit = Skopeo.documentLimit
        let outcome: HostProgram.Outcome
        do throws(SystemError) { outcome = try program.run() } catch {
            if error.errno == .timedOut {
                throw ImageError(
                    .unreachable, "\(name): registry \(name.host) did not answer in \(Skopeo.patience / 1000) s")
            }
            throw ImageError("fetch \(name)", error)
        }
        guard outcome.status == .exited(0) else { throw SkopeoFailure(outcome.errors, name, access).error }
        if outcome.isCut {
            throw ImageError(.invalid, "\(name): its manifest is longer than \(Skopeo.documentLimit) bytes")
        }
        if let wanted {
            let found = SHA256.digest(of: outcome.output)
            guard found == wanted else {
                throw ImageError(.invalid, "\(name): manifest \(wanted) is damaged: what came has digest \(found)")
            }
        }
        return outcome.output
    }

    /// Copies an image between a registry and a folder of ours, and calls `meanwhile` now and then until that is done.
    /// `registry` is the side of the registry: `src` or `dest`. On a terminal skopeo itself shows a bar for each layer.
    func copy(
        from source: String, to target: String, registry: String, _ options: [String], of name: RegistryName,
        terminal: CInt?, meanwhile: () -> Void
    ) throws(ImageError) {
        // Signatures are looked at where the host's policy asks for them; neither a layout nor our store has a place for them.
        var words =
            ["copy", "--retry-times", "3", "--remove-signatures"] + options + tlsWords("--\(registry)-")
        if terminal == nil { words.append("--quiet") }
        let secret = try credentialFile(name.host)
        if let file = authFile(secret) { words += ["--\(registry)-authfile", file] }
        let program = try command(words + [source, target], secret)
        let ended: (status: ExitStatus, errors: [UInt8])
        do throws(SystemError) { ended = try Skopeo.attend(program, terminal, meanwhile) } catch {
            throw ImageError("run skopeo", error)
        }
        guard ended.status == .exited(0) else { throw SkopeoFailure(ended.errors, name, access).error }
    }

    private static func attend(
        _ program: HostProgram, _ terminal: CInt?, _ meanwhile: () -> Void
    ) throws(SystemError) -> (ExitStatus, [UInt8]) {
        // Not a pipe: nobody has to empty a file. What it writes to its output is for people alone.
        let nowhere = try Descriptor.open("/dev/null", [.writeOnly])
        let errors = try Descriptor.inMemory("errors")
        let process = try program.start(output: terminal ?? nowhere.raw, errors: errors.raw)
        while try !process.waitUntilEnded(milliseconds: 200) { meanwhile() }
        let status = try process.wait()
        errors.rewind()
        return (status, try errors.readAll(limit: documentLimit, "errors"))
    }

    // MARK: The command line

    private func command(_ words: [String], _ secret: borrowing Descriptor?) throws(ImageError) -> HostProgram {
        var line = [path] + words
        // Killed with us, also when nobody could say goodbye. Where util-linux lacks it, a download goes on into a folder
        // that nobody looks at any more.
        if let setpriv = try? HostProgram.find("setpriv") { line = [setpriv, "--pdeathsig", "KILL"] + line }
        do throws(SystemError) {
            var program = try HostProgram(line[0], Array(line.dropFirst()))
            program.environment += Skopeo.passed.compactMap { name in
                getenv(name).flatMap { String(validatingCString: $0) }.map { "\(name)=\($0)" }
            }
            if let secret = Descriptor.number(of: secret) { program.inherited = [secret] }
            return program
        } catch {
            throw ImageError("run skopeo", error)
        }
    }

    /// What tells skopeo where credentials, certificates and proxies are.
    private static let passed = [
        "HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG",
        "CONTAINERS_REGISTRIES_CONF",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy",
        "https_proxy",
        "no_proxy", "all_proxy", "TMPDIR",
    ]

    private func tlsWords(_ prefix: String) -> [String] {
        access.verifiesTLS.map { ["\(prefix)tls-verify=\($0)"] } ?? []
    }

    private func authFile(_ secret: borrowing Descriptor?) -> String? {
        Descriptor.number(of: secret) == nil ? access.authFile : "/proc/self/fd/3"
    }

    /// The credentials as a file without a name: in skopeo's arguments everybody on the host could read them.
    private func credentialFile(_ host: String) throws(ImageError) -> Descriptor? {
        guard let credentials = access.credentials else { return nil }
        guard credentials.utf8.contains(UInt8(ascii: ":")) else {
            throw ImageError(.invalid, "credentials \"\(credentials)\" have no password: give USER:PASSWORD")
        }
        let auth = Base64.text(Array(credentials.utf8))
        let text = "{\"auths\":{\"\(host)\":{\"auth\":\"\(auth)\"}}}"
        return try attempting("pass credentials to skopeo") { () throws(SystemError) in
            let file = try Descriptor.inMemory("auth")
            try file.writeAll(Array(text.utf8), "auth")
            return file
        }
    }
}

/// RFC 4648, section 4.
enum Base64 {
    static func text(_ bytes: [UInt8]) -> String {
        let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var text: [UInt8] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            let group = rest.prefix(3)
            rest = rest.dropFirst(3)
            var bits: UInt32 = 0
            for index in 0..<3 {
                bits = bits << 8 | UInt32(index < group.count ? group[group.startIndex + index] : 0)
            }
            for index in 0..<4 {
                let digit = digits[Int(bits >> UInt32(18 - 6 * index) & 63)]
                text.append(index <= group.count ? digit : UInt8(ascii: "="))
            }
        }
        return String(decoding: text, as: UTF8.self)
    }
}
