// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Network
import OCI
import Testing

@testable import ZoneRuntime

@Suite struct GuestConfigurationTests {
    @Test func configurationComesBackAsItWasSent() throws {
        var configuration = GuestConfiguration()
        configuration.zone = "web"
        configuration.hostname = "host"
        configuration.root.image = "zone-image"
        configuration.root.changes = "zone-changes"
        configuration.root.isReadOnly = true
        configuration.hasShares = true
        configuration.files = [GuestFile(name: "hosts", content: "127.0.0.1\tlocalhost\n\u{1}\u{7f}é\n", mode: 0o600)]
        var interface = GuestInterface()
        interface.mac = "02:00:00:00:00:01"
        interface.name = "eth0"
        interface.addresses = ["10.0.0.2/24"]
        interface.gateways = ["10.0.0.1"]
        interface.mtu = 1400
        configuration.interfaces = [interface]
        configuration.time = .max
        configuration.spec.process = Spec.Process()
        configuration.spec.process?.args = ["sh", "-c", "true"]
        configuration.runsInit = true
        configuration.isInitSystem = true
        #expect(try GuestConfiguration(parsing: configuration.serialized()) == configuration)
    }

    @Test func defaultsAreLeftOut() throws {
        let text = #"{"root":{"image":"a"},"spec":{"ociVersion":"1.2.0"}}"#
        let configuration = try GuestConfiguration(parsing: Array(text.utf8))
        #expect(configuration.root.image == "a")
        #expect(configuration.root.changes == nil)
        #expect(!configuration.hasShares)
        #expect(configuration.interfaces.isEmpty)
    }

    @Test(arguments: [
        "", "{}", "[]", "null", #"{"root":{}}"#, #"{"root":[],"spec":{"ociVersion":""}}"#,
        #"{"root":{},"spec":{"ociVersion":"1"},"time":1e99}"#,
        #"{"root":{},"spec":{"ociVersion":"1"},"interfaces":[{}]}"#,
        #"{"root":{},"spec":{"ociVersion":"1"},"files":[{"content":"x"}]}"#,
    ]) func refusesWhatIsNone(_ text: String) {
        #expect(throws: JSONError.self) { try GuestConfiguration(parsing: Array(text.utf8)) }
    }

    @Test func requestComesBackAsItWasSent() throws {
        for action in GuestRequest.Action.allCases {
            var request = GuestRequest()
            request.action = action
            request.isInteractive = true
            request.path = "/etc/../x y"
            request.followsLink = true
            request.keepsOwners = true
            request.process = Spec.Process()
            #expect(try GuestRequest(parsing: request.serialized()) == request)
        }
        #expect(throws: JSONError.self) { try GuestRequest(parsing: Array(#"{"action":"reboot"}"#.utf8)) }
    }

    @Test func failureSaysWhatToDo() {
        let error = ZoneError(.commandNotFound, "no such program", hint: "install it")
        let frame = GuestFrame.failure(3, error)
        #expect(frame.kind == .failed)
        #expect(frame.payload == [127] + Array("no such program\ninstall it".utf8))
        let long = GuestFrame.failure(3, ZoneError(.system, String(repeating: "x", count: 1 << 20)))
        #expect(long.payload.count == GuestFrame.longest)
    }

    @Test func modulesAreReadByFeature() {
        let features = GuestModules.features(of: Array("base: a.ko b.ko\nnet:  c.ko \nempty:\nnonsense\n\n".utf8))
        #expect(features.map(\.name) == ["base", "net", "empty"])
        #expect(features.map(\.files) == [["a.ko", "b.ko"], ["c.ko"], []])
        #expect(GuestModules.features(of: []).isEmpty)
        #expect(GuestModules.features(of: [0xFF, 0x0A, 0x3A]).map(\.files) == [[]])
    }

    @Test func addressesHaveAPrefix() throws {
        let (address, length) = try GuestNetwork.address("10.0.0.2/24")
        #expect(address == IPAddress("10.0.0.2"))
        #expect(length == 24)
        #expect(try GuestNetwork.address("fd00::1/128").1 == 128)
        for text in [
            "10.0.0.2", "10.0.0.2/33", "10.0.0.2/-1", "/24", "10.0.0.2/24/1", "fd00::1/129", "10.0.0.2/0024", "",
        ] {
            #expect(throws: ZoneError.self) { try GuestNetwork.address(text) }
        }
    }

    @Test func memoryIsReadInBytes() {
        var statistics = GuestStatistics()
        let text = """
            MemTotal:         223768 kB
            MemFree: x kB
            MemAvailable:   9223372036854775807 kB
            Cached:  -1 kB
            MemAvailable:   166720 kB
            """
        statistics.add(memory: Array(text.utf8))
        #expect(statistics.memoryTotal == 223_768 << 10)
        #expect(statistics.memoryAvailable == 166_720 << 10)
        statistics.add(memory: [0xFF, 0x20, 0x20, 0x0A])
        #expect(statistics.memoryTotal == 223_768 << 10)
    }
}
