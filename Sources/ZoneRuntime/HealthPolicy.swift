// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Images
public import OCI

/// How to find out whether what runs in a zone does its work; docker's words and defaults.
public struct HealthPolicy: JSONRecord, Sendable, Equatable {
    /// Executed in the zone: exit status 0 is healthy. Empty: no check, also where the image names one.
    public var command: [String] = []
    /// Milliseconds.
    public var interval: Int64 = 30_000
    public var timeout: Int64 = 30_000
    /// For so long after the start a failure does not count.
    public var startPeriod: Int64 = 0
    /// How many failures one after the other make a zone unhealthy.
    public var retries: Int64 = 3

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("command", &command)
        try visitor.field("interval", &interval)
        try visitor.field("timeout", &timeout)
        try visitor.field("startPeriod", &startPeriod)
        try visitor.field("retries", &retries)
    }

    /// How a zone is checked: as its definition says, else its image; `nil` where neither wants it.
    static func of(_ definition: ZoneDefinition, _ image: Image?) -> HealthPolicy? {
        var policy = definition.health ?? image?.configuration.config?.healthcheck.flatMap { HealthPolicy($0) }
        guard policy?.command.isEmpty == false else { return nil }
        policy?.bound()
        return policy
    }

    /// No time that sums with others could exceed what 64 bits hold: ten years are as good as never.
    private mutating func bound() {
        let most: Int64 = 315_360_000_000
        interval = min(max(interval, 1), most)
        timeout = min(max(timeout, 1), most)
        startPeriod = min(max(startPeriod, 0), most)
    }

    /// What an image asks for: `["CMD", …]`, `["CMD-SHELL", LINE]` or `["NONE"]`, times in nanoseconds; 0 is the default.
    init?(_ check: ImageConfiguration.HealthCheck) {
        switch (check.test.first, check.test.count) {
        case ("CMD", 2...): command = Array(check.test.dropFirst())
        case ("CMD-SHELL", 2): command = ["/bin/sh", "-c", check.test[1]]
        default: return nil
        }
        if check.interval > 0 { interval = max(1, check.interval / 1_000_000) }
        if check.timeout > 0 { timeout = max(1, check.timeout / 1_000_000) }
        if check.startPeriod > 0 { startPeriod = check.startPeriod / 1_000_000 }
        if check.retries > 0 { retries = check.retries }
    }
}

/// What is known of a zone's health, as `ROOT/NAME/health.json` holds it.
public struct HealthRecord: JSONRecord, Sendable, Equatable {
    public enum Status: String, JSONCodable, CaseIterable, Sendable {
        case starting, healthy, unhealthy
    }

    public var status = Status.starting
    /// How many checks have failed one after the other.
    public var failingStreak: Int64 = 0
    /// Of the last check: its end in seconds since 1970, its exit status, the end of what it wrote.
    public var checked: Int64?
    public var exitCode: Int32?
    public var output = ""

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("status", &status)
        try visitor.field("failingStreak", &failingStreak)
        try visitor.field("checked", &checked)
        try visitor.field("exitCode", &exitCode)
        try visitor.field("output", &output)
    }

    /// Takes in a check's result. `isStarting`: within the start period failures do not count.
    mutating func note(_ exitCode: Int32, _ output: String, at time: Int64, _ policy: HealthPolicy, isStarting: Bool) {
        checked = time
        self.exitCode = exitCode
        self.output = output
        if exitCode == 0 {
            failingStreak = 0
            status = .healthy
        } else if !(isStarting && status == .starting) {
            failingStreak += 1
            if failingStreak >= policy.retries { status = .unhealthy }
        }
    }
}
