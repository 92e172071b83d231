// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import ZoneRuntime

/// Options about how a zone is kept alive and ended.
enum SupervisionOptions {
    static let restart = Option.value(
        "restart", nil, "no|on-failure[:N]|always|unless-stopped", "When to start the zone again after it has ended")
    static let stopSignal = Option.value("stop-signal", nil, "SIGNAL", "Signal that asks the zone to end")
    static let stopTimeout = Option.value(
        "stop-timeout", nil, "SECONDS", "How long it has for that before it is killed (default 10)")
    static let healthCommand = Option.value(
        "health-cmd", nil, "LINE", "Shell command that succeeds while the zone does its work")
    static let healthInterval = Option.value("health-interval", nil, "TIME", "Time between checks (default 30s)")
    static let healthTimeout = Option.value("health-timeout", nil, "TIME", "Time that a check may take (default 30s)")
    static let healthRetries = Option.value(
        "health-retries", nil, "NUMBER", "Failures that make the zone unhealthy (default 3)")
    static let healthStart = Option.value(
        "health-start-period", nil, "TIME", "Time after the start in which failures do not count (default 0s)")
    static let noHealthCheck = Option.flag("no-healthcheck", nil, "Leave out the image's health check")

    static let all = [
        restart, stopSignal, stopTimeout, healthCommand, healthInterval, healthTimeout, healthRetries, healthStart,
        noHealthCheck,
    ]

    static func apply(_ arguments: Arguments, to definition: inout ZoneDefinition) throws(ZoneError) {
        if let text = arguments.value(restart) {
            definition.restart = try policy(text)
            try definition.refuseContradiction(with: definition.restart)
        }
        if let text = arguments.value(stopSignal) {
            guard SignalName.number(of: text) != nil else {
                throw ZoneError(
                    .invalid, "--stop-signal \"\(text)\" is not a signal",
                    hint: "give a name such as TERM or a number from 1 to 64")
            }
            definition.stopSignal = text
        }
        if let text = arguments.value(stopTimeout) {
            definition.stopTimeout = try number(text, "--stop-timeout", in: 0...86_400)
        }
        definition.health = try health(arguments)
    }

    static func policy(_ text: String) throws(ZoneError) -> RestartPolicy {
        guard let policy = RestartPolicy(text) else {
            throw ZoneError(
                .invalid, "--restart \"\(text)\" is not a restart policy",
                hint: "there is no, on-failure, on-failure:N, always and unless-stopped")
        }
        return policy
    }

    private static func health(_ arguments: Arguments) throws(ZoneError) -> HealthPolicy? {
        let others = [healthInterval, healthTimeout, healthRetries, healthStart]
        if arguments.flag(noHealthCheck) {
            if let option = ([healthCommand] + others).first(where: { arguments.value($0) != nil }) {
                throw ZoneError(.invalid, "--no-healthcheck and --\(option.name) contradict each other")
            }
            return HealthPolicy()
        }
        guard let line = arguments.value(healthCommand) else {
            if let option = others.first(where: { arguments.value($0) != nil }) {
                throw ZoneError(
                    .invalid, "--\(option.name) needs --health-cmd", hint: "it says how a check is to be done")
            }
            return nil
        }
        guard !line.isEmpty else { throw ZoneError(.invalid, "--health-cmd is empty") }
        var policy = HealthPolicy()
        policy.command = ["/bin/sh", "-c", line]
        if let text = arguments.value(healthInterval) { policy.interval = try time(text, "--health-interval") }
        if let text = arguments.value(healthTimeout) { policy.timeout = try time(text, "--health-timeout") }
        if let text = arguments.value(healthStart) {
            policy.startPeriod = text == "0" ? 0 : try time(text, "--health-start-period")
        }
        if let text = arguments.value(healthRetries) {
            policy.retries = try number(text, "--health-retries", in: 1...1_000_000)
        }
        return policy
    }

    private static func time(_ text: String, _ option: String) throws(ZoneError) -> Int64 {
        guard let milliseconds = Duration.milliseconds(text), milliseconds > 0 else {
            throw ZoneError(.invalid, "\(option) \"\(text)\" is not a time", hint: "such as 500ms, 10s, 1m30s or 2h")
        }
        return milliseconds
    }

    private static func number(
        _ text: String, _ option: String, in range: ClosedRange<Int64>
    ) throws(ZoneError) -> Int64 {
        guard let number = Int64(text), range.contains(number) else {
            throw ZoneError(
                .invalid, "\(option) \"\(text)\" is not a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// For a zone in the foreground: whoever waits for it sees how it ends.
    static func refuse(_ arguments: Arguments) throws(ZoneError) {
        for option in [restart, healthCommand] {
            guard let text = arguments.value(option), text != "no" else { continue }
            throw ZoneError(
                .invalid, "--\(option.name) needs -d: nobody stays with a zone in the foreground but its caller",
                hint: "zonectl run -d …; 'zonectl attach NAME' shows it")
        }
    }
}
