// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI
import ZoneRuntime

/// Where errors and warnings go: a file of the engine's, which it reads back, and stderr.
struct EngineLog: Sendable {
    enum Level: String {
        case error, warning, debug
    }

    private var path: String?
    private var isJSON = false
    private var isVerbose = false

    init() {}

    init(_ globals: Arguments) throws(ZoneError) {
        // As with runc an empty name is none.
        path = globals.value(EngineOption.log).flatMap { $0.isEmpty ? nil : $0 }
        isVerbose = globals.flag(EngineOption.debug)
        switch globals.value(EngineOption.logFormat) {
        case nil, "text": break
        case "json": isJSON = true
        case .some(let other):
            throw ZoneError(.invalid, "--log-format \"\(other)\" is not a format", hint: "there is text and json")
        }
        // crun's form, `file:PATH`.
        if let path, path.hasPrefix("file:") { self.path = String(path.dropFirst(5)) }
        if let path = self.path {
            // Now rather than when there is something to say.
            do throws(SystemError) { _ = try EngineLog.open(path) } catch {
                self.path = nil
                throw ZoneError("--log", error)
            }
        }
    }

    /// The log that words name which cannot be parsed as a whole.
    init(of words: some Collection<String>) {
        let words = EngineOption.beforeVerb(words)
        path = EngineOption.mentioned(EngineOption.log, words).flatMap { $0.isEmpty ? nil : $0 }
        isJSON = EngineOption.mentioned(EngineOption.logFormat, words) == "json"
    }

    /// Tells what is done, where the engine wants to know.
    func debug(_ text: @autoclosure () -> String) {
        if isVerbose { write(.debug, text()) }
    }

    /// Tells why a verb failed.
    func report(_ error: ZoneError) {
        append(.error, error.detail)
        Output.report(error)
    }

    /// Without a file for them warnings go to stderr.
    func write(_ level: Level, _ text: String) {
        if path == nil { return Output.report(level == .warning ? "warning: \(text)" : text) }
        append(level, text)
    }

    private static func open(_ path: String) throws(SystemError) -> Descriptor {
        try Descriptor.open(path, [.writeOnly, .create, .append, .noControllingTerminal], mode: 0o644)
    }

    private func append(_ level: Level, _ text: String) {
        guard let path else { return }
        var writer = JSONWriter()
        let time = PointInTime.rfc3339(Int64(Glibc.time(nil)))
        if isJSON {
            writer.beginObject()
            for (name, value) in [("level", level.rawValue), ("msg", text), ("time", time)] {
                writer.name(name)
                writer.string(value)
            }
            writer.endObject()
        } else {
            writer.string(text)
        }
        let body = String(decoding: writer.bytes, as: UTF8.self)
        let line = isJSON ? body : "time=\"\(time)\" level=\(level.rawValue) msg=\(body)"
        do throws(SystemError) {
            try EngineLog.open(path).writeOnce(line + "\n", path)
        } catch {
            Output.report("--log: \(error)")
        }
    }
}
