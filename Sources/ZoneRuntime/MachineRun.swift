// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

public import OCI

/// What a machine's monitor is to do, handed over in a file without a name. Numbers of descriptors are those that it inherits.
struct MachineRun: JSONRecord, Sendable, Equatable {
    var name = ""
    /// QEMU: an absolute path in the machine's own mount namespace, and its words.
    var program = ""
    var arguments: [String] = []
    /// Those that QEMU inherits, and nobody else keeps.
    var descriptors: [Int32] = []
    /// Programs that stay beside QEMU: the TPM's.
    var companions: [MachineCompanion] = []

    /// Descriptors for network cards that are known only when the machine starts (``EngineLinks``), and the board that gets them.
    var cards: [Int32] = []
    var board = ""

    /// Our ends of sockets: QEMU's monitor; the agent of a micro machine; that of a machine with QEMU's guest agent; the
    /// first serial port, where it is not QEMU's own output.
    var qmp: Int32 = -1
    var agent: Int32?
    var guestAgent: Int32?
    var serial: Int32?
    /// Listens for ``MachineClient``.
    var control: Int32 = -1
    /// Takes a ``MachineReadiness``.
    var readiness: Int32 = -1
    /// Listens on the host's loopback for viewers that the machine's VNC socket is to serve.
    var viewers: Int32?
    /// The VNC socket in the machine's mount namespace.
    var vncPath: String?

    /// Of a micro machine: what runs in it.
    var guest: GuestConfiguration?
    var isInteractive = false
    var hasTerminal = false
    /// Nothing on its disks is wanted after its end.
    var isEphemeral = false
    /// Milliseconds from the wish that it ends until it is switched off.
    var stopMilliseconds: Int64 = 0
    /// Milliseconds that a micro machine's agent may need to appear.
    var bootMilliseconds: Int64 = 120_000
    /// Virtual CPUs.
    var processors: Int64 = 1
    /// Host CPUs of virtual CPUs, in the order of these; empty where nothing was said of one.
    var pins: [[Int64]] = []

    init() {}

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("name", &name)
        try visitor.required("program", &program)
        try visitor.field("arguments", &arguments)
        try visitor.field("descriptors", &descriptors)
        try visitor.field("companions", &companions)
        try visitor.field("cards", &cards)
        try visitor.field("board", &board)
        try visitor.required("qmp", &qmp)
        try visitor.field("agent", &agent)
        try visitor.field("guestAgent", &guestAgent)
        try visitor.field("serial", &serial)
        try visitor.required("control", &control)
        try visitor.required("readiness", &readiness)
        try visitor.field("viewers", &viewers)
        try visitor.field("vncPath", &vncPath)
        try visitor.field("guest", &guest)
        try visitor.field("interactive", &isInteractive)
        try visitor.field("terminal", &hasTerminal)
        try visitor.field("ephemeral", &isEphemeral)
        try visitor.field("stopMilliseconds", &stopMilliseconds)
        try visitor.field("bootMilliseconds", &bootMilliseconds)
        try visitor.field("processors", &processors)
        try visitor.field("pins", &pins)
    }
}

/// A program that a machine needs beside QEMU.
struct MachineCompanion: JSONRecord, Sendable, Equatable {
    var program = ""
    var arguments: [String] = []
    var descriptors: [Int32] = []

    init() {}

    init(program: String, arguments: [String], descriptors: [Int32]) {
        self.program = program
        self.arguments = arguments
        self.descriptors = descriptors
    }

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("program", &program)
        try visitor.field("arguments", &arguments)
        try visitor.field("descriptors", &descriptors)
    }
}

/// What the monitor tells who started the machine, once.
struct MachineReadiness: JSONRecord, Sendable, Equatable {
    /// Nil: it runs. Else why not, in a sentence, and the exit status that goes with it.
    var failure: String?
    var exitCode: Int32 = 0

    init() {}

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.field("failure", &failure)
        try visitor.field("exitCode", &exitCode)
    }
}

/// What `zonectl` asks a machine's monitor for, beside sessions in the guest.
struct MachineRequest: JSONRecord, Sendable, Equatable {
    enum Action: String, JSONCodable, CaseIterable, Sendable {
        case pause, resume, reset, powerDown, screenshot, sendKeys, status
    }

    var action = Action.status
    /// Of a screenshot: the name of the file in the machine's own folder.
    var file = ""
    /// Chords, each as QEMU's names of keys (QKeyCode), pressed one after the other.
    var keys: [[String]] = []
    /// Until a machine that is to end is switched off.
    var milliseconds: Int64 = 0

    init() {}

    init(_ action: Action) { self.action = action }

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("action", &action)
        try visitor.field("file", &file)
        try visitor.field("keys", &keys)
        try visitor.field("milliseconds", &milliseconds)
    }
}

/// How a machine is.
public struct MachineStatus: JSONRecord, Sendable, Equatable {
    /// As QEMU has it: `running`, `paused`, `io-error`, `guest-panicked` …
    public var status = ""
    public var accelerator = ""
    /// Bytes that the guest has, as far as its balloon lets it.
    public var memory: Int64 = 0
    /// Bytes that the guest could use, as its own kernel says; nil where nothing in it tells.
    public var memoryAvailable: Int64?
    public var memoryTotal: Int64?
    /// Threads that run virtual CPUs.
    public var threads: [Int64] = []
    /// Bytes and operations of all disks since the start.
    public var readBytes: Int64 = 0
    public var writtenBytes: Int64 = 0

    public init() {}

    public mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("status", &status)
        try visitor.field("accelerator", &accelerator)
        try visitor.field("memory", &memory)
        try visitor.field("memoryAvailable", &memoryAvailable)
        try visitor.field("memoryTotal", &memoryTotal)
        try visitor.field("threads", &threads)
        try visitor.field("readBytes", &readBytes)
        try visitor.field("writtenBytes", &writtenBytes)
    }
}
