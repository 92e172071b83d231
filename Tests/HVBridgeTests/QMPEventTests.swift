// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import Testing

@testable import HVBridge

@Suite struct QMPEventTests {
    /// The event that QEMU's text gives.
    private func event(_ name: String, _ data: String?) throws -> QMPEvent.Kind? {
        var fixture = try QMPFixture()
        let rest = data.map { #", "data": \#($0)"# } ?? ""
        try fixture.peer.say(
            #"{"event": "\#(name)", "timestamp": {"seconds": -1, "microseconds": -1}\#(rest)}"# + "\n")
        _ = try fixture.qmp.receive()
        return fixture.qmp.nextEvent()?.kind
    }

    @Test func eachEventHasItsPayload() throws {
        #expect(
            try event("SHUTDOWN", #"{"guest": true, "reason": "guest-shutdown"}"#)
                == .shutdown(guest: true, reason: "guest-shutdown"))
        #expect(
            try event("RESET", #"{"guest": false, "reason": "host-qmp-system-reset"}"#)
                == .reset(guest: false, reason: "host-qmp-system-reset"))
        #expect(try event("POWERDOWN", nil) == .powerdown)
        #expect(try event("STOP", nil) == .stop)
        #expect(try event("RESUME", "{}") == .resume)
        #expect(try event("SUSPEND", nil) == .suspend)
        #expect(try event("WAKEUP", nil) == .wakeup)
        #expect(try event("WATCHDOG", #"{"action": "reset"}"#) == .watchdog(action: "reset"))
        #expect(try event("BALLOON_CHANGE", #"{"actual": 944766976}"#) == .balloonChange(actual: 944_766_976))
        #expect(
            try event("RTC_CHANGE", #"{"offset": -78, "qom-path": "/machine/unattached/device[3]"}"#)
                == .rtcChange(offset: -78))
        #expect(
            try event("DEVICE_DELETED", #"{"device": "net0", "path": "/machine/peripheral/net0"}"#)
                == .deviceDeleted(device: "net0", path: "/machine/peripheral/net0"))
        #expect(
            try event("DEVICE_DELETED", #"{"path": "/machine/x"}"#)
                == .deviceDeleted(device: nil, path: "/machine/x"))
        #expect(try event("JOB_STATUS_CHANGE", #"{"status": 5}"#) == .other(name: "JOB_STATUS_CHANGE"))
    }

    @Test func panicsAndDiskErrors() throws {
        #expect(
            try event("GUEST_PANICKED", #"{"action": "pause"}"#) == .guestPanicked(action: "pause", info: nil))
        #expect(
            try event(
                "GUEST_PANICKED",
                #"{"action": "run", "info": {"type": "hyper-v", "arg1": 1, "arg2": 2, "arg3": 3, "arg4": 4, "arg5": 5}}"#
            )
                == .guestPanicked(action: "run", info: .hyperV([1, 2, 3, 4, 5])))
        #expect(
            try event(
                "GUEST_PANICKED",
                #"{"action": "pause", "info": {"type": "s390", "core": 1, "psw-mask": 1, "psw-addr": 2, "#
                    + #""reason": "disabled-wait"}}"#)
                == .guestPanicked(action: "pause", info: .s390(core: 1, reason: "disabled-wait")))
        let error = try event(
            "BLOCK_IO_ERROR",
            #"{"device": "d", "node-name": "n", "operation": "write", "action": "stop", "nospace": true, "#
                + #""reason": "No space left on device"}"#)
        guard case .blockIOError(let details) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(details.node == "n" && details.operation == "write" && details.action == "stop" && details.isNoSpace)
        #expect(details.reason == "No space left on device")
    }

    @Test func clientsOfTheScreen() throws {
        let data =
            #"{"server": {"auth": "none", "host": "", "service": "", "family": "unix", "websocket": false}, "#
            + #""client": {"host": "127.0.0.1", "service": "58425", "family": "ipv4", "websocket": false}}"#
        let client = QMPEvent.VNCPeer(host: "127.0.0.1", service: "58425", family: "ipv4")
        #expect(try event("VNC_CONNECTED", data) == .vnc(.connected, client: client))
        #expect(try event("VNC_INITIALIZED", data) == .vnc(.initialized, client: client))
        #expect(try event("VNC_DISCONNECTED", data) == .vnc(.disconnected, client: client))
    }

    @Test func textsAreCutAndCannotSteerATerminal() throws {
        let long = String(repeating: "y", count: 5000)
        #expect(
            try event("WATCHDOG", #"{"action": "\#(long)"}"#)
                == .watchdog(action: String(repeating: "y", count: 256) + "…"))
        #expect(try event(long, nil) == .other(name: String(repeating: "y", count: 64) + "…"))
        #expect(
            try event("WATCHDOG", #"{"action": "\u001b[31m\u202ex\u2028\u009b"}"#) == .watchdog(action: "?[31m?x??"))
    }
}

@Suite struct QMPCommandTests {
    private func text(_ command: some QMPCommand) -> String {
        String(decoding: QMPConnection.text(of: command, id: 7).dropLast(), as: UTF8.self)
    }

    @Test func commandsAreWrittenAsQEMUReadsThem() {
        #expect(text(QMP.Continue()) == #"{"execute":"cont","id":7}"#)
        #expect(
            text(QMP.Screendump(filename: "/dev/fdset/1", device: "v", head: 0))
                == #"{"execute":"screendump","arguments":{"filename":"/dev/fdset/1","format":"png","device":"v","head":0},"id":7}"#
        )
        #expect(
            text(QMP.SendKey(KeyChord([.control, .delete]), holdMilliseconds: 50))
                == #"{"execute":"send-key","arguments":{"keys":[{"type":"qcode","data":"ctrl"},"#
                + #"{"type":"qcode","data":"delete"}],"hold-time":50},"id":7}"#)
        #expect(text(QMP.AddDescriptor()) == #"{"execute":"add-fd","id":7}"#)
        #expect(
            text(QMP.RemoveDescriptor(set: 1, number: 12))
                == #"{"execute":"remove-fd","arguments":{"fdset-id":1,"fd":12},"id":7}"#)
        #expect(
            text(QMP.PollGuestMemory(path: "/machine/peripheral/balloon", seconds: 2))
                == #"{"execute":"qom-set","arguments":{"path":"/machine/peripheral/balloon","#
                + #""property":"guest-stats-polling-interval","value":2},"id":7}"#)
        #expect(
            text(
                QMP.DeviceAdd(driver: "virtio-net-pci", id: "n\"1", bus: "p", properties: [.init("mac", .string("5"))]))
                == #"{"execute":"device_add","arguments":{"driver":"virtio-net-pci","id":"n\"1","bus":"p","mac":"5"},"id":7}"#
        )
    }

    @Test func aGuestsFiguresMayBeMissing() throws {
        let json = try JSON(
            parsing: Array(
                (#"{"stats": {"stat-free-memory": 1020, "stat-total-memory": 18446744073709551615, "#
                    + #""stat-swap-in": -1, "stat-swap-out": "x"}, "last-update": 0}"#).utf8))
        let memory = try QMP.GuestMemory(json: json)
        #expect(memory.free == 1020)
        #expect(memory.total == nil && memory.swapIn == nil && memory.swapOut == nil && memory.available == nil)
        #expect(memory.lastUpdate == nil)
        var writer = JSONWriter()
        memory.write(to: &writer)
        #expect(try QMP.GuestMemory(json: JSON(parsing: writer.bytes)) == memory)
        #expect(throws: JSONError.self) { try QMP.GuestMemory(json: .object([])) }
    }
}
