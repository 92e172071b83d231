// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc
import LinuxSystem
import Testing

@testable import HVBridge

@Suite struct GuestAgentChannelTests {
    /// A channel whose ends are in step, and its peer.
    private struct Fixture: ~Copyable {
        var agent: GuestAgentChannel
        let peer: QMPPeer

        init() throws {
            let pair = try QMPSocketPair()
            peer = QMPPeer(socket: try pair.theirs.duplicate())
            agent = GuestAgentChannel(pair.takeOurs())
        }

        static func inStep() throws -> Fixture {
            var fixture = try Fixture()
            try fixture.peer.say([0xFF] + Array("{\"return\": 42}\n".utf8))
            try fixture.agent.synchronize(id: 42, until: deadline(in: 5000))
            _ = fixture.peer.heard()
            return fixture
        }

        consuming func takeAgent() -> GuestAgentChannel { agent }
    }

    @Test func whatIsLeftOfAnEarlierClientIsDropped() throws {
        var fixture = try Fixture()
        let old = #"{"return": "half an ans"# + "\n" + #"{"return": 42}"# + "\n{\"re"
        let stale = [0xFF] + Array("{\"return\": 41}\n".utf8) + [0xFF, 0xFF] + Array("nonsense\n".utf8)
        try fixture.peer.say(Array(old.utf8) + stale + [0xFF] + Array("{\"return\": 42}\n{\"return\": {}}\n".utf8))
        try fixture.agent.synchronize(id: 42, until: deadline(in: 5000))
        try fixture.agent.ping()
        let heard = fixture.peer.heard()
        #expect(heard.first?.after("\u{FFFD}") == #"{"execute":"guest-sync-delimited","arguments":{"id":42}}"#)
        #expect(heard.last == #"{"execute":"guest-ping"}"#)
    }

    @Test func aGuestWithoutAnAgentIsTimedOut() throws {
        var fixture = try Fixture()
        let error = failure { () throws(QMPError) in try fixture.agent.ping(milliseconds: 5) }
        #expect(reason(error) == "no answer to guest-sync-delimited in time")
    }

    @Test func afterAMissedAnswerBothAreBroughtIntoStepAgain() throws {
        var fixture = try Fixture.inStep()
        #expect(kind(failure { () throws(QMPError) in try fixture.agent.ping(milliseconds: 5) }) == "timedOut")
        // The late answer must not be taken for the next command's.
        try fixture.peer.say("{\"return\": {}}\n")
        let error = failure { () throws(QMPError) in try fixture.agent.operatingSystem(milliseconds: 5) }
        #expect(reason(error) == "no answer to guest-sync-delimited in time")
    }

    @Test func theSystemIsToldInHarmlessTexts() throws {
        var fixture = try Fixture.inStep()
        try fixture.peer.say(
            #"{"return": {"name": "Debian GNU/Linux", "kernel-release": "6.1.0", "version": "12 (bookworm)", "#
                + #""pretty-name": "Debian\u001b]0;x\u0007", "version-id": "12", "machine": "x86_64", "id": "debian"}}"#
                + "\n")
        let system = try fixture.agent.operatingSystem()
        #expect(system.id == "debian" && system.versionID == "12" && system.machine == "x86_64")
        #expect(system.prettyName == "Debian?]0;x?")
        #expect(system.kernelVersion.isEmpty)
    }

    @Test func interfacesHaveCheckedAddresses() throws {
        var fixture = try Fixture.inStep()
        try fixture.peer.say(
            #"{"return": [{"name": "lo", "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "127.0.0.1", "#
                + #""prefix": 8}], "hardware-address": "00:00:00:00:00:00", "statistics": {"rx-bytes": 1}}, "#
                + #"{"name": "eth0", "ip-addresses": [{"ip-address-type": "ipv6", "ip-address": "fe80::1%eth0", "#
                + #""prefix": 64}]}, {"name": "none"}]}"# + "\n")
        let interfaces = try fixture.agent.interfaces()
        #expect(interfaces.map(\.name) == ["lo", "eth0", "none"])
        #expect(interfaces[0].addresses.first?.address == "127.0.0.1")
        #expect(interfaces[0].addresses.first?.prefix == 8)
        #expect(interfaces[1].addresses.first?.address == "fe80::1")
        #expect(interfaces[1].addresses.first?.isIPv6 == true)
        #expect(interfaces[2].addresses.isEmpty)
    }

    @Test(arguments: [
        #"{"ip-address-type": "ipv4", "ip-address": "1.2.3.4.5", "prefix": 8}"#,
        #"{"ip-address-type": "ipv4", "ip-address": "::1", "prefix": 8}"#,
        #"{"ip-address-type": "ipv4", "ip-address": "1.2.3.4", "prefix": 33}"#,
        #"{"ip-address-type": "ipv6", "ip-address": "::1", "prefix": 129}"#,
        #"{"ip-address-type": "ipv6", "ip-address": "::1", "prefix": -1}"#,
        #"{"ip-address-type": "ipx", "ip-address": "::1", "prefix": 1}"#,
        #"{"ip-address-type": "ipv6", "ip-address": 1, "prefix": 1}"#, "5", "{}",
    ])
    func anAddressThatIsNoneIsMalformed(_ address: String) throws {
        var fixture = try Fixture.inStep()
        try fixture.peer.say(#"{"return": [{"name": "eth0", "ip-addresses": [\#(address)]}]}"# + "\n")
        #expect(kind(failure { () throws(QMPError) in try fixture.agent.interfaces() }) == "malformed")
    }

    @Test func aShutdownIsNotAnswered() throws {
        var fixture = try Fixture.inStep()
        try fixture.agent.shutdown(grace: 5)
        #expect(fixture.peer.heard() == [#"{"execute":"guest-shutdown","arguments":{"mode":"powerdown"}}"#])

        var refused = try Fixture.inStep()
        try refused.peer.say(#"{"error": {"class": "GenericError", "desc": "child process failed"}}"# + "\n")
        let error = failure { () throws(QMPError) in try refused.agent.shutdown(.reboot) }
        #expect(reason(error) == "guest-shutdown was refused: child process failed")

        let ended = try Fixture.inStep()
        _ = Glibc.shutdown(ended.peer.socket.raw, CInt(SHUT_WR))
        var agent = ended.takeAgent()
        #expect(["none", "closed"].contains(kind(failure { () throws(QMPError) in try agent.shutdown() })))
    }

    @Test(arguments: [
        "hello", "{", "[]", "{}", "5", #"{"return": 5}"#, #"{"error": 5}"#, #"{"error": {"class": "x"}}"#,
        String(repeating: "[", count: 5000),
    ])
    func nonsenseIsMalformed(_ text: String) throws {
        var fixture = try Fixture.inStep()
        try fixture.peer.say("\r\n" + text + "\n")
        let error = failure { () throws(QMPError) in try fixture.agent.ping(milliseconds: 60_000) }
        #expect(kind(error) == "malformed")
        // What the agent says next is of no use before both are in step again.
        try fixture.peer.say("{\"return\": {}}\n")
        #expect(kind(failure { () throws(QMPError) in try fixture.agent.ping(milliseconds: 5) }) == "timedOut")
    }

    @Test(.timeLimit(.minutes(1)), arguments: [["yes", "x"], ["cat", "/dev/zero"], ["yes", #"{"return": {}}"#]])
    func aGuestThatNeverStopsTalkingIsTimedOut(_ words: [String]) throws {
        let pair = try QMPSocketPair()
        let silence = try Descriptor.open("/dev/null", [.writeOnly])
        let program = try HostProgram(words[0], Array(words.dropFirst()))
        let process = try program.start(output: pair.theirs.raw, errors: silence.raw)
        var agent = GuestAgentChannel(pair.takeOurs())
        #expect(kind(failure { () throws(QMPError) in try agent.ping(milliseconds: 100) }) == "timedOut")
        try process.signal(SIGKILL)
        _ = try process.wait()
        #expect(kind(failure { () throws(QMPError) in try agent.ping(milliseconds: 60_000) }) == "closed")
    }

    @Test func aLineWithoutEndIsTooLarge() throws {
        let pair = try QMPSocketPair()
        let peer = QMPPeer(socket: try pair.theirs.duplicate())
        var agent = GuestAgentChannel(pair.takeOurs())
        try peer.say([0xFF] + Array("{\"return\": 42}\n".utf8))
        try agent.synchronize(id: 42, until: deadline(in: 5000))
        let silence = try Descriptor.open("/dev/null", [.writeOnly])
        let process = try HostProgram("cat", ["/dev/zero"]).start(output: peer.socket.raw, errors: silence.raw)
        #expect(kind(failure { () throws(QMPError) in try agent.ping(milliseconds: 60_000) }) == "tooLarge")
        try process.signal(SIGKILL)
        _ = try process.wait()
    }
}
