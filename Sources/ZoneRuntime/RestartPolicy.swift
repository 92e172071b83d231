// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import OCI

/// Whether a detached zone is started again when it has ended by itself; docker's words and meaning.
public struct RestartPolicy: JSONCodable, Sendable, Equatable {
    public enum Kind: String, CaseIterable, Sendable {
        case no
        /// Only after an exit status other than 0.
        case onFailure = "on-failure"
        case always
        /// Also when the host starts, unless it was stopped by somebody before.
        case unlessStopped = "unless-stopped"
    }

    public let kind: Kind
    /// How often at most, for `on-failure`; `nil` without limit.
    public let attempts: Int?

    public static let never = RestartPolicy(kind: .no, attempts: nil)

    private init(kind: Kind, attempts: Int?) {
        self.kind = kind
        self.attempts = attempts
    }

    /// Reads `no`, `on-failure[:N]`, `always` or `unless-stopped`; `nil` for anything else.
    public init?(_ text: String) {
        let parts = text.utf8.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        guard parts.count <= 2, let kind = Kind(rawValue: String(parts[0]) ?? "") else { return nil }
        self.kind = kind
        guard parts.count == 2 else {
            attempts = nil
            return
        }
        guard kind == .onFailure, let count = String(parts[1]).flatMap({ Int($0) }), (1...1_000_000).contains(count)
        else { return nil }
        attempts = count
    }

    public init(json: JSON) throws(JSONError) {
        let text = try String(json: json)
        guard let policy = RestartPolicy(text) else {
            throw JSONError(
                place: "", reason: "\"\(text)\" is not a restart policy: no, on-failure[:N], always or unless-stopped")
        }
        self = policy
    }

    public func write(to writer: inout JSONWriter) { writer.string(text) }

    public var isOmitted: Bool { kind == .no }

    public var text: String { kind.rawValue + (attempts.map { ":\($0)" } ?? "") }

    /// Whether a zone that has ended by itself with this status, as a shell shows it, is started again. `restarts`: how
    /// often it was already.
    func isToRestart(after status: Int32, restarts: Int) -> Bool {
        switch kind {
        case .no: false
        case .onFailure: status != 0 && attempts.map { restarts < $0 } ?? true
        case .always, .unlessStopped: true
        }
    }

    /// Whether the zone comes back with the host. `wasStopped`: somebody stopped it before.
    func isForBoot(wasStopped: Bool) -> Bool {
        switch kind {
        case .always: true
        case .unlessStopped: !wasStopped
        case .no, .onFailure: false
        }
    }
}

extension ZoneDefinition {
    /// A zone that is removed with its end cannot be started again.
    public func refuseContradiction(with restart: RestartPolicy) throws(ZoneError) {
        if restart == .never || !autoRemove { return }
        throw ZoneError(
            .invalid, "--rm and --restart \(restart.text) contradict each other",
            hint: "a zone that is removed with its end cannot be started again")
    }
}

/// How long to wait before the next start: longer each time, until the zone has run for a while. Without it a zone that
/// cannot work would take a CPU for itself.
struct BackOff {
    /// Milliseconds.
    static let first: Int64 = 100
    static let longest: Int64 = 60_000
    /// A zone that ran this long has recovered.
    static let recovery: Int64 = 10_000

    private var delay: Int64 = 0

    /// Milliseconds until the next start of a zone that ran for so long.
    mutating func next(afterRunning milliseconds: Int64) -> Int64 {
        delay = milliseconds >= BackOff.recovery || delay == 0 ? BackOff.first : min(delay * 2, BackOff.longest)
        return delay
    }
}
