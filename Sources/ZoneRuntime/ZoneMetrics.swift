// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// What zones use in Prometheus' text exposition format, version 0.0.4.
public struct ZoneMetrics {
    private let store: ZoneStore

    public init(_ folders: ZoneFolders) {
        store = ZoneStore(folders)
    }

    /// Every state as the metric `zonectl_zone_state` has it, one of which is 1.
    private static let states = ["creating", "created", "running", "paused", "restarting", "stopped", "damaged"]

    public func text() throws(ZoneError) -> String {
        let network = NetworkUsage.Host()
        let zones = try store.list().map {
            Zone(entry: $0, usage: ZoneUsage($0, network: network, store), health: store.health(of: $0))
        }
        var text = ZoneMetrics.family("zones", "gauge", "Number of zones.", [("", String(zones.count))])
        text += ZoneMetrics.family(
            "zone_info", "gauge", "What a zone is; always 1.",
            zones.map { zone in
                let image = ZoneMetrics.escaped(zone.entry.record?.image ?? "")
                return (ZoneMetrics.label(zone, "type=\"\(zone.usage.type)\",image=\"\(image)\""), "1")
            })
        text += ZoneMetrics.family(
            "zone_state", "gauge", "1 for the state that a zone is in, 0 for the others.",
            zones.flatMap { zone in
                ZoneMetrics.states.map { state in
                    (ZoneMetrics.label(zone, "state=\"\(state)\""), zone.usage.status == state ? "1" : "0")
                }
            })
        for metric in ZoneMetrics.metrics {
            text += ZoneMetrics.family(
                metric.name, metric.kind, metric.help,
                zones.flatMap { zone in metric.values(zone).map { (ZoneMetrics.label(zone, $0), $1) } })
        }
        return text
    }

    private struct Zone {
        let entry: ZoneStore.Entry
        let usage: ZoneUsage
        let health: HealthRecord?
    }

    /// A metric of each zone, with values for label sets of its own.
    private struct Metric {
        let name: String
        let kind: String
        let help: String
        let values: (Zone) -> [(String, String)]

        init(_ name: String, _ kind: String, _ help: String, _ values: @escaping (Zone) -> [(String, String)]) {
            self.name = name
            self.kind = kind
            self.help = help
            self.values = values
        }

        /// Of one number.
        init(_ name: String, _ kind: String, _ help: String, _ value: @escaping (ZoneUsage) -> UInt64?) {
            self.init(name, kind, help) { zone in value(zone.usage).map { [("", String($0))] } ?? [] }
        }
    }

    /// Of those who are counted so: a zone that has none, or a host that does not count it, has no sample.
    private static var metrics: [Metric] {
        [
            Metric("zone_created_timestamp_seconds", "gauge", "When the zone was made, in seconds since 1970.") {
                zone in
                zone.entry.record.map { [("", String($0.created))] } ?? []
            },
            Metric("zone_exit_code", "gauge", "Exit status of a zone that has ended.") { zone in
                guard case .stopped(let code?) = zone.entry.state else { return [] }
                return [("", String(code))]
            },
            Metric("zone_restarts_total", "counter", "How often the zone was started again since somebody started it.")
            {
                zone in
                zone.entry.record.map { $0.isDetached ? [("", String($0.restarts))] : [] } ?? []
            },
            Metric("zone_health", "gauge", "1 for what the zone's health check says, 0 for the others.") { zone in
                guard let health = zone.health else { return [] }
                return HealthRecord.Status.allCases.map { status in
                    ("status=\"\(status.rawValue)\"", health.status == status ? "1" : "0")
                }
            },
            Metric("zone_cpu_seconds_total", "counter", "CPU time used.") { zone in
                zone.usage.cpuTime.map { [("", seconds($0))] } ?? []
            },
            Metric("zone_cpu_throttled_seconds_total", "counter", "Time kept from running by the zone's CPU limit.") {
                zone in zone.usage.throttledTime.map { [("", seconds($0))] } ?? []
            },
            Metric("zone_cpu_throttled_periods_total", "counter", "Periods in which the CPU limit was reached.") {
                $0.throttledPeriods
            },
            Metric("zone_memory_usage_bytes", "gauge", "Memory used, without what could be dropped at once.") {
                $0.memory
            },
            Metric("zone_memory_limit_bytes", "gauge", "Memory limit; not there for a zone without one.") {
                $0.memoryLimit
            },
            Metric("zone_guest_memory_bytes", "gauge", "Memory of a machine's guest, as its kernel says.") {
                $0.guestMemory
            },
            Metric("zone_guest_memory_available_bytes", "gauge", "What of it the guest could still use.") {
                $0.guestMemoryAvailable
            },
            Metric("zone_oom_kills_total", "counter", "Processes killed at the memory limit.") { $0.memoryKills },
            Metric("zone_io_read_bytes_total", "counter", "Bytes read from block devices.") { $0.readBytes },
            Metric("zone_io_written_bytes_total", "counter", "Bytes written to block devices.") { $0.writtenBytes },
            Metric("zone_network_received_bytes_total", "counter", "Bytes received, but for the loopback.") {
                $0.receivedBytes
            },
            Metric("zone_network_sent_bytes_total", "counter", "Bytes sent, but for the loopback.") { $0.sentBytes },
            Metric("zone_pids", "gauge", "Processes and threads.") { $0.pids },
            Metric("zone_pids_limit", "gauge", "Limit of processes and threads.") { $0.pidsLimit },
            Metric("zone_pressure_ratio", "gauge", "Share of the last ten seconds in which something waited.") { zone in
                [
                    ("cpu", zone.usage.cpuPressure), ("memory", zone.usage.memoryPressure),
                    ("io", zone.usage.ioPressure),
                ].flatMap { resource, value in
                    value.map { [("resource=\"\(resource)\"", String($0.value / 100))] } ?? []
                }
            },
        ]
    }

    // MARK: Words of the format

    private static func family(_ name: String, _ kind: String, _ help: String, _ samples: [(String, String)]) -> String
    {
        if samples.isEmpty { return "" }
        var text = "# HELP zonectl_\(name) \(help)\n# TYPE zonectl_\(name) \(kind)\n"
        for (labels, value) in samples {
            text += "zonectl_\(name)\(labels.isEmpty ? "" : "{\(labels)}") \(value)\n"
        }
        return text
    }

    private static func label(_ zone: Zone, _ more: String) -> String {
        "name=\"\(escaped(zone.usage.name))\"\(more.isEmpty ? "" : ",\(more)")"
    }

    /// Backslash, quote and new line, as the format wants it; by scalars, as a mark may follow each.
    static func escaped(_ text: String) -> String {
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": result.append(contentsOf: #"\\"#.unicodeScalars)
            case "\"": result.append(contentsOf: #"\""#.unicodeScalars)
            case "\n": result.append(contentsOf: #"\n"#.unicodeScalars)
            default: result.append(scalar)
            }
        }
        return String(result)
    }

    /// Nanoseconds as seconds, exactly.
    static func seconds(_ nanoseconds: UInt64) -> String {
        let rest = String(nanoseconds % 1_000_000_000)
        return "\(nanoseconds / 1_000_000_000).\(String(repeating: "0", count: 9 - rest.utf8.count))\(rest)"
    }
}
