// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import LinuxSystem
import OCI

/// Why a virtual machine's control connection did not do what was asked of it.
///
/// What the other end says is in the texts only cut and without control characters: they may be shown on a terminal.
public enum QMPError: Error, Sendable, CustomStringConvertible {
    /// The other end is gone: the connection is at its end.
    case closed
    /// No answer came in time. The connection goes on: a late answer is passed over.
    case timedOut(command: String)
    /// What came is not what the protocol has. The connection is given up, except where only an answer's content is wrong.
    case malformed(reason: String)
    /// An error was the answer.
    case refused(command: String, class: QMPErrorClass, description: String)
    /// A system call of ours failed.
    case system(SystemError)
    /// A message is longer than `limit` bytes. The connection is given up.
    case tooLarge(limit: Int)

    public var description: String {
        switch self {
        case .closed: "the other end closed the machine's control connection"
        case .timedOut(let command): "no answer to \(command) in time"
        case .malformed(let reason): "the machine's control connection: \(reason)"
        case .refused(let command, .generic, let description): "\(command) was refused: \(description)"
        case .refused(let command, let kind, let description): "\(command) was refused: \(description) (\(kind))"
        case .system(let error): "\(error)"
        case .tooLarge(let limit): "a message on the machine's control connection is longer than \(limit) bytes"
        }
    }

    static func malformed(_ part: String, _ error: JSONError) -> QMPError {
        .malformed(reason: plain("\(part): \(error)", limit: 512))
    }
}

/// The kinds of error that QEMU tells apart: `QapiErrorClass` of its qapi/error.json.
public enum QMPErrorClass: Sendable, Equatable, CustomStringConvertible {
    case generic
    case commandNotFound
    case deviceNotActive
    case deviceNotFound
    case kvmMissingCapability
    case other(String)

    init(_ name: String) {
        switch name {
        case "GenericError": self = .generic
        case "CommandNotFound": self = .commandNotFound
        case "DeviceNotActive": self = .deviceNotActive
        case "DeviceNotFound": self = .deviceNotFound
        case "KVMMissingCap": self = .kvmMissingCapability
        default: self = .other(plain(name, limit: 64))
        }
    }

    /// QEMU's own name.
    public var description: String {
        switch self {
        case .generic: "GenericError"
        case .commandNotFound: "CommandNotFound"
        case .deviceNotActive: "DeviceNotActive"
        case .deviceNotFound: "DeviceNotFound"
        case .kvmMissingCapability: "KVMMissingCap"
        case .other(let name): name
        }
    }
}

/// An error as QMP and the guest agent answer it.
struct QMPRefusal: JSONRecord {
    var kind = ""
    var description = ""

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("class", &kind)
        try visitor.required("desc", &description)
    }

    func error(_ command: String) -> QMPError {
        .refused(command: command, class: QMPErrorClass(kind), description: plain(description, limit: 512))
    }
}

/// A text of the other end's as it may be kept and shown: at most `limit` characters of Unicode, none of which moves a
/// cursor or turns the direction of writing.
func plain(_ text: String, limit: Int = 256) -> String {
    var result = String.UnicodeScalarView()
    var count = 0
    for scalar in text.unicodeScalars {
        if count == limit {
            result.append("…")
            break
        }
        count += 1
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator: result.append("?")
        default: result.append(scalar)
        }
    }
    return String(result)
}
