// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import OCI
import Testing

@testable import HVBridge

@Suite struct QMPConnectionTests {
    @Test func negotiationKeepsTheVersion() throws {
        var fixture = try QMPFixture()
        try fixture.negotiate()
        #expect(fixture.qmp.version?.description == "7.2.22")
        #expect(fixture.qmp.version?.package == "Debian 1:7.2")
        #expect(fixture.peer.heard() == [#"{"execute":"qmp_capabilities","id":1}"#])
    }

    @Test func anAnswerIsFoundAmongEventsAndOthersAnswers() throws {
        var fixture = try QMPFixture.negotiated()
        try fixture.peer.say(
            "\r\n" + QMPFixture.stopped + #"{"return": {"no": "status"}, "id": 1}"# + "\n"
                + #"{"error": {"class": "GenericError", "desc": "late"}, "id": 77}"# + "\n"
                + #"{"return": 5, "id": "2"}"# + "\n"
                + #"{"id": 2, "return": {"status": "paused", "singlestep": false, "running": false}}"# + "\n"
                + #"{"id": 2, "return": "again"}"# + "\n")
        let reply = try fixture.qmp.execute(QMP.QueryStatus())
        #expect(reply.status == .paused)
        #expect(!reply.isRunning)
        let event = fixture.qmp.nextEvent()
        #expect(event?.kind == .stop)
        #expect(event?.seconds == 1_795_352_195)
        #expect(event?.microseconds == 895_488)
        #expect(fixture.qmp.nextEvent() == nil)
    }

    @Test func aRefusalIsToldWithItsClass() throws {
        var fixture = try QMPFixture.negotiated()
        try fixture.peer.say(
            #"{"error": {"class": "DeviceNotActive", "desc": "No balloon\u001b[2J device"}, "id": 2}"# + "\n"
                + #"{"error": {"class": "GenericError", "desc": "JSON parse error"}}"# + "\n")
        let first = failure { () throws(QMPError) in try fixture.qmp.execute(QMP.QueryBalloon()) }
        guard case .refused("query-balloon", .deviceNotActive, "No balloon?[2J device") = first else {
            Issue.record("\(reason(first))")
            return
        }
        #expect(reason(first) == "query-balloon was refused: No balloon?[2J device (DeviceNotActive)")
    }

    @Test func anErrorWithoutAnIDIsTheAnswerToTheOneThatWaits() throws {
        var fixture = try QMPFixture.negotiated()
        try fixture.peer.say(#"{"error": {"class": "Strange", "desc": "JSON parse error"}}"# + "\n")
        let error = failure { () throws(QMPError) in try fixture.qmp.execute(QMP.Stop()) }
        guard case .refused("stop", .other("Strange"), _) = error else {
            Issue.record("\(reason(error))")
            return
        }
    }

    @Test func aLateAnswerIsPassedOver() throws {
        var fixture = try QMPFixture.negotiated()
        let error = failure { () throws(QMPError) in try fixture.qmp.execute(QMP.Stop(), milliseconds: 1) }
        #expect(reason(error) == "no answer to stop in time")
        try fixture.peer.say(#"{"return": {}, "id": 2}"# + "\n")
        #expect(try !fixture.qmp.receive())
        try fixture.peer.say(#"{"return": {"enabled": true, "present": true}, "id": 3}"# + "\n")
        #expect(try fixture.qmp.execute(QMP.QueryKVM()).isEnabled)
    }

    @Test func anAnswerOfTheWrongShapeEndsTheCommandAlone() throws {
        var fixture = try QMPFixture.negotiated()
        for text in [
            #"{"return": {"status": "on fire", "running": 1}, "id": 2}"#, #"{"return": [], "id": 3}"#,
        ] {
            try fixture.peer.say(text + "\n")
            let error = failure { () throws(QMPError) in try fixture.qmp.execute(QMP.QueryStatus()) }
            #expect(kind(error) == "malformed")
            #expect(reason(error).contains("the answer to query-status"))
        }
        try fixture.peer.say(#"{"return": [{"cpu-index": -1, "thread-id": 7}], "id": 4}"# + "\n")
        #expect(kind(failure { () throws(QMPError) in try fixture.qmp.execute(QMP.QueryCPUs()) }) == "malformed")
        try fixture.peer.say(#"{"return": {"actual": 18446744073709551616}, "id": 5}"# + "\n")
        #expect(kind(failure { () throws(QMPError) in try fixture.qmp.execute(QMP.QueryBalloon()) }) == "malformed")
        try fixture.peer.say(#"{"return": {"actual": 5}, "id": 6}"# + "\n")
        #expect(try fixture.qmp.execute(QMP.QueryBalloon()).actual == 5)
    }

    @Test func eventsBeforeTheEndAreNotLost() throws {
        let fixture = try QMPFixture.negotiated()
        try fixture.peer.say(QMPFixture.stopped + QMPFixture.stopped + #"{"event": "SHUT"#)
        var qmp = fixture.takeConnection()
        #expect(try qmp.receive())
        #expect(try qmp.receive())
        #expect(qmp.nextEvent()?.kind == .stop)
        #expect(qmp.nextEvent()?.kind == .stop)
        #expect(qmp.nextEvent() == nil)
        for _ in 0..<3 {
            #expect(kind(failure { () throws(QMPError) in try qmp.receive() }) == "closed")
        }
        #expect(kind(failure { () throws(QMPError) in try qmp.execute(QMP.Stop()) }) == "closed")
    }

    @Test func aDescriptorGoesWithItsCommand() throws {
        var fixture = try QMPFixture.negotiated()
        let file = try Descriptor.inMemory("picture")
        try file.writeAll(Array("content".utf8), "picture")
        _ = failure { () throws(QMPError) in
            try fixture.qmp.execute(QMP.GetDescriptor(name: "client"), sending: file.raw, milliseconds: 0)
        }
        guard let received = try fixture.peer.takeDescriptor() else {
            Issue.record("no descriptor came")
            return
        }
        received.rewind()
        #expect(try received.read(upTo: 100) == Array("content".utf8))
    }

    @Test func aPeerThatReadsNothingMakesACommandEndInTime() throws {
        var fixture = try QMPFixture.negotiated()
        let large = String(repeating: "x", count: 300_000)
        let command = QMP.DeviceAdd(driver: large, id: "a")
        for _ in 0..<4 {
            #expect(
                kind(failure { () throws(QMPError) in try fixture.qmp.execute(command, milliseconds: 5) }) == "timedOut"
            )
        }
        // One command at most is half sent; once somebody reads, the next one follows it whole.
        var lines: [String] = []
        for _ in 0..<8 {
            lines += fixture.peer.heard()
            _ = try fixture.qmp.receive()
        }
        _ = failure { () throws(QMPError) in try fixture.qmp.execute(QMP.Stop(), milliseconds: 0) }
        lines += fixture.peer.heard()
        #expect(lines.last?.after(#"{"execute":"stop","id":"#) != nil)
    }
}

extension QMPConnectionTests {
    @Test(arguments: [false, true]) func aPeerThatStopsListeningIsClosed(_ hasUnsent: Bool) throws {
        var fixture = try QMPFixture.negotiated()
        if hasUnsent {
            let large = QMP.DeviceDelete(id: String(repeating: "x", count: 1 << 20))
            #expect(
                kind(failure { () throws(QMPError) in try fixture.qmp.execute(large, milliseconds: 1) }) == "timedOut")
        }
        try fixture.peer.say(QMPFixture.stopped)
        _ = shutdown(fixture.peer.socket.raw, CInt(SHUT_RD))
        let error = failure { () throws(QMPError) in try fixture.qmp.execute(QMP.Stop(), milliseconds: 60_000) }
        #expect(kind(error) == "closed")
        #expect(fixture.qmp.nextEvent()?.kind == .stop)
        #expect(kind(failure { () throws(QMPError) in try fixture.qmp.receive() }) == "closed")
    }
}

// MARK: What is hostile

@Suite struct QMPHostileTests {
    /// No message of QEMU's: each ends the connection at once with a sentence.
    static let nonsense: [String] = [
        "hello", "{", "[]", "{}", "1", "null", "\"text\"", "{\"return\": {}", "{\"return\": {}}",
        #"{"event": 5}"#, #"{"event": "STOP"}"#, #"{"event": "STOP", "timestamp": 5}"#,
        #"{"event": "STOP", "timestamp": {"seconds": "1", "microseconds": 0}}"#,
        #"{"event": "STOP", "timestamp": {"seconds": 1e400, "microseconds": 0}}"#,
        #"{"event": "STOP", "timestamp": {"seconds": 1}}"#,
        #"{"event": "STOP", "timestamp": {"seconds": 99999999999999999999, "microseconds": 0}}"#,
        #"{"event": "SHUTDOWN", "timestamp": {"seconds": 1, "microseconds": 0}}"#,
        #"{"event": "SHUTDOWN", "timestamp": {"seconds": 1, "microseconds": 0}, "data": []}"#,
        #"{"event": "SHUTDOWN", "timestamp": {"seconds": 1, "microseconds": 0}, "data": {"guest": "no"}}"#,
        #"{"event": "BALLOON_CHANGE", "timestamp": {"seconds": 1, "microseconds": 0}, "data": {"actual": -1}}"#,
        #"{"event": "VNC_CONNECTED", "timestamp": {"seconds": 1, "microseconds": 0}, "data": {"client": 1}}"#,
        #"{"error": "no", "id": 2}"#, #"{"error": {}, "id": 2}"#, #"{"error": {"class": 1, "desc": 2}}"#,
        #"{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}}}"#, #"{"QMP": 1}"#,
        #"{"return": {}, "return": {}, "id": 2}"#, "{\"return\": \"\u{0}\", \"id\": 2}",
        #"{"return": "\ud800", "id": 2}"#, #"{"return": "\u0000", "id": 2}"#,
        String(repeating: "[", count: 5000), String(repeating: #"{"a":"#, count: 5000),
        #"{"return": "# + String(repeating: "[", count: 100) + String(repeating: "]", count: 100) + #", "id": 2}"#,
    ]

    @Test(arguments: nonsense)
    func nonsenseIsAnErrorAtOnceAndForGood(_ text: String) throws {
        var fixture = try QMPFixture.negotiated()
        try fixture.peer.say(text + "\n")
        let first = failure { () throws(QMPError) in try fixture.qmp.execute(QMP.Stop(), milliseconds: 60_000) }
        #expect(kind(first) == "malformed", "\(reason(first))")
        #expect(reason(first).utf8.count < 3000)
        #expect(kind(failure { () throws(QMPError) in try fixture.qmp.receive() }) == "malformed")
        #expect(kind(failure { () throws(QMPError) in try fixture.qmp.execute(QMP.Stop()) }) == "malformed")
        // The connection is cut, so that a loop that waits on it is told.
        #expect(try waitReadable(fixture.qmp.raw, milliseconds: 60_000))
    }

    @Test func bytesThatAreNoTextAreAnError() throws {
        var fixture = try QMPFixture.negotiated()
        try fixture.peer.say(Array(#"{"return": ""#.utf8) + [0xFF, 0xC0, 0x80] + Array("\"}\n".utf8))
        #expect(kind(failure { () throws(QMPError) in try fixture.qmp.execute(QMP.Stop()) }) == "malformed")
    }

    @Test(arguments: [
        "", "{", #"{"QMP": {"#, QMPFixture.greeting, QMPFixture.greeting + #"{"return": {}, "id""#, QMPFixture.stopped,
    ])
    func silenceIsTimedOutAndAnEndIsClosed(_ text: String) throws {
        var silent = try QMPFixture()
        try silent.peer.say(text)
        #expect(kind(failure { () throws(QMPError) in try silent.qmp.negotiate(milliseconds: 5) }) == "timedOut")

        let pair = try QMPSocketPair()
        do {
            let peer = QMPPeer(socket: try pair.theirs.duplicate())
            try peer.say(text)
        }
        _ = shutdown(pair.theirs.raw, CInt(SHUT_RDWR))
        var qmp = QMPConnection(pair.takeOurs())
        #expect(kind(failure { () throws(QMPError) in try qmp.negotiate(milliseconds: 60_000) }) == "closed")
    }

    @Test(arguments: [
        #"{"QMP": {}}"#, #"{"QMP": {"version": {}}}"#, #"{"QMP": {"version": {"qemu": {"major": -1}}}}"#,
        #"{"QMP": {"version": {"qemu": {"major": 4294967296, "minor": 0, "micro": 0}}}}"#,
    ])
    func aGreetingWithoutAVersionIsMalformed(_ text: String) throws {
        var fixture = try QMPFixture()
        try fixture.peer.say(text + "\n")
        #expect(kind(failure { () throws(QMPError) in try fixture.qmp.negotiate() }) == "malformed")
    }

    @Test func aTimeOfNothingOrLessIsNoTrap() throws {
        for milliseconds in [0, -1, Int.min] {
            var fixture = try QMPFixture.negotiated()
            let error = failure { () throws(QMPError) in
                try fixture.qmp.execute(QMP.Stop(), milliseconds: milliseconds)
            }
            #expect(kind(error) == "timedOut")
        }
        #expect(deadline(in: Int.max) > 0)
    }

    @Test func aLongMessageIsTooLargeWithAndWithoutItsEnd() throws {
        for end in ["", "\n"] {
            var fixture = try QMPFixture(messageLimit: 1000)
            try fixture.peer.say(#"{"QMP": ""# + String(repeating: "x", count: 1000) + "\"}" + end)
            let error = failure { () throws(QMPError) in try fixture.qmp.negotiate(milliseconds: 60_000) }
            guard case .tooLarge(1000) = error else {
                Issue.record("\(reason(error))")
                return
            }
        }
    }

    @Test func aFloodOfEventsIsCountedAndTheLatestAreKept() throws {
        var fixture = try QMPFixture(eventLimit: 10)
        for number in 0..<100 {
            try fixture.peer.say(
                #"{"event": "E\#(number)", "timestamp": {"seconds": \#(number), "microseconds": 0}}"# + "\n")
        }
        #expect(try fixture.qmp.receive())
        #expect(fixture.qmp.droppedEvents == 90)
        for number in 90..<100 { #expect(fixture.qmp.nextEvent()?.kind == .other(name: "E\(number)")) }
        #expect(fixture.qmp.nextEvent() == nil)
    }

    /// A program that never stops talking, at the other end.
    private func chatter(_ program: String, _ arguments: [String], _ body: (inout QMPConnection) -> Void) throws {
        let pair = try QMPSocketPair()
        let silence = try Descriptor.open("/dev/null", [.writeOnly])
        let process = try HostProgram(program, arguments).start(output: pair.theirs.raw, errors: silence.raw)
        var qmp = QMPConnection(pair.takeOurs())
        body(&qmp)
        try process.signal(SIGKILL)
        _ = try process.wait()
    }

    @Test(.timeLimit(.minutes(1))) func eventsWithoutEndDoNotHoldACommandUp() throws {
        let event = #"{"event": "RESUME", "timestamp": {"seconds": 1, "microseconds": 0}}"#
        try chatter("yes", [event]) { qmp in
            #expect(kind(failure { () throws(QMPError) in try qmp.negotiate(milliseconds: 100) }) == "timedOut")
            #expect(
                kind(failure { () throws(QMPError) in try qmp.execute(QMP.Stop(), milliseconds: 100) }) == "timedOut")
            #expect((try? qmp.receive()) == true)
            #expect(qmp.droppedEvents > 0)
        }
        try chatter("yes", [""]) { qmp in
            #expect(kind(failure { () throws(QMPError) in try qmp.negotiate(milliseconds: 100) }) == "timedOut")
        }
    }

    @Test(.timeLimit(.minutes(1))) func aLineWithoutEndIsTooLarge() throws {
        try chatter("cat", ["/dev/zero"]) { qmp in
            #expect(kind(failure { () throws(QMPError) in try qmp.negotiate(milliseconds: 60_000) }) == "tooLarge")
        }
    }

    @Test func eachByteOfAConversationMayBeTheLast() throws {
        let whole = Array(
            (QMPFixture.greeting + #"{"return": {}, "id": 1}"# + "\n" + QMPFixture.stopped
                + #"{"return": {"enabled": true, "present": true}, "id": 2}"# + "\n").utf8)
        for count in 0..<whole.count {
            let pair = try QMPSocketPair()
            try QMPPeer(socket: try pair.theirs.duplicate()).say(Array(whole.prefix(count)))
            _ = shutdown(pair.theirs.raw, CInt(SHUT_WR))
            var qmp = QMPConnection(pair.takeOurs())
            let error = failure { () throws(QMPError) in
                try qmp.negotiate()
                _ = try qmp.execute(QMP.QueryKVM())
            }
            #expect(kind(error) == "closed", "after \(count) bytes: \(reason(error))")
        }
    }

    /// Bytes that differ from a real conversation's in one place: any error, but no trap and no hang.
    @Test func oneChangedByteNeverTraps() throws {
        let whole = Array(
            (QMPFixture.greeting + QMPFixture.stopped
                + #"{"timestamp": {"seconds": 1, "microseconds": 0}, "event": "SHUTDOWN", "data": "#
                + #"{"guest": false, "reason": "host-qmp-quit"}}"# + "\n").utf8)
        for index in whole.indices {
            for byte in [0, 0x22, 0x2C, 0x39, 0x5B, 0x7B, 0x7D, 0x80, 0xFF, 0x0A] as [UInt8] {
                var changed = whole
                changed[index] = byte
                var fixture = try QMPFixture()
                try fixture.peer.say(changed)
                _ = failure { () throws(QMPError) in try fixture.qmp.receive() }
                while fixture.qmp.nextEvent() != nil {}
            }
        }
    }
}
