// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import TestSupport
import Testing
import ZoneRuntime

@testable import zonectl

@Suite struct DefinitionFileTests {
    private func zones(_ text: String, named name: String? = nil) throws -> [DefinitionFile.Zone] {
        let folder = try TemporaryFolder()
        let path = "\(folder.path)/web.json"
        try Descriptor.open(folder.path, [.path, .directory]).replaceFile("web.json", Array(text.utf8))
        return try DefinitionFile(path).zones(named: name)
    }

    private func definition(_ members: String) throws -> ZoneDefinition {
        try #require(
            try zones("{\"name\": \"web\", \"image\": \"busybox\"\(members.isEmpty ? "" : ", ")\(members)}").first
        ).definition
    }

    @Test func shortFormsMeanWhatOptionsMean() throws {
        let zone = try definition(
            """
            "memory": "512M", "cpus": 1.5, "burst": "50ms", "pidsLimit": 100, "cpuShares": 512, "cpusetCpus": "0",
            "resources": {"memoryReservation": 1048576, "blkioWeight": 200},
            "environment": {"A": "b=c", "B": ""}, "tmpfs": ["/tmp:size=1M"], "mounts": ["/etc:/host:ro"],
            "devices": ["/dev/null:rw"], "limits": ["nofile=10:20"], "addedCapabilities": ["net_admin"],
            "restart": "on-failure:3", "stopTimeout": "1m", "health": {"command": "true", "interval": "5s"}
            """)
        #expect(zone.resources.memory?.limit == 512 << 20)
        #expect(zone.resources.memory?.swap == 1024 << 20)
        #expect(zone.resources.memory?.reservation == 1 << 20)
        #expect(zone.resources.cpu?.quota == 150_000 && zone.resources.cpu?.period == 100_000)
        #expect(zone.resources.cpu?.burst == 50_000 && zone.resources.cpu?.shares == 512)
        #expect(zone.resources.cpu?.cpus == "0")
        #expect(zone.resources.pids?.limit == 100)
        #expect(zone.resources.blockIO?.weight == 200)
        #expect(zone.environment == ["A=b=c", "B="])
        #expect(zone.mounts.map(\.destination) == ["/host", "/tmp"])
        #expect(zone.mounts[0].options.contains("rro"))
        #expect(zone.devices == [.init(source: "/dev/null", target: "/dev/null", access: "rw")])
        #expect(zone.limits == [.init(type: "RLIMIT_NOFILE", soft: 10, hard: 20)])
        #expect(zone.addedCapabilities == ["CAP_NET_ADMIN"])
        #expect(zone.restart == RestartPolicy("on-failure:3"))
        #expect(zone.stopTimeout == 60)
        #expect(zone.health?.command == ["/bin/sh", "-c", "true"] && zone.health?.interval == 5000)
        #expect(zone.type == "container")
    }

    @Test func whatIsPrintedIsReadAgain() throws {
        let first = try definition(
            """
            "command": ["sh", "-c", "echo \\"x\\""], "entrypoint": "", "hostname": "h", "workingDirectory": "/w",
            "user": "1:2", "interactive": true, "terminal": true, "init": true, "readOnly": true, "network": "none",
            "memory": "64M", "memorySwap": -1, "cpus": "0.5", "mounts": ["/etc:/e"], "tmpfs": ["/t"], "devices": ["/dev/null"],
            "limits": ["nofile=-1"], "sysctls": {"net.ipv4.ip_forward": "1"}, "labels": {"a.b": "c"},
            "restart": "always", "health": {"command": ["a"], "retries": 2}, "stopSignal": "INT", "stopTimeout": 3,
            "seccompProfile": "unconfined", "allowsNewPrivileges": true, "droppedCapabilities": ["ALL"]
            """)
        let again = try #require(try zones(String(decoding: first.serialized(pretty: true), as: UTF8.self)).first)
        #expect(again.definition == first)
        #expect(again.startsWithHost)
    }

    @Test(arguments: [
        (
            "{\n\"name\": \"web\",\n\"image\": \"i\",\n\"memorx\": 1}", 4,
            "\"memorx\": unknown key; did you mean \"memory\"?"
        ),
        (
            "{\"name\": \"web\", \"image\": \"i\",\n\"mounts\": [\n{\"destination\": \"/a\",\n\"optionx\": []}]}", 4,
            "\"mounts[0].optionx\": unknown key; did you mean \"options\"?"
        ),
        ("{\"name\": \"web\",\n\"image\": 7}", 2, "\"image\": expected a string, found a number"),
        ("{\"name\": \"web\"}", 1, "image is missing"),
        ("{\"name\": \"a b\", \"image\": \"i\"}", 1, "is not a name"),
        (
            "{\"name\": \"web\", \"image\": \"i\",\n\"autoRemove\": true,\n\"restart\": \"always\"}", 3,
            "contradict each other"
        ),
        ("{\"name\": \"web\", \"image\": \"i\",\n\"cpus\": 1,\n\"burst\": \"200ms\"}", 3, "above the quota"),
        ("{\"name\": \"web\", \"image\": \"i\",\n\"burst\": \"1ms\"}", 2, "needs a cap"),
        (
            "{\"name\": \"web\", \"image\": \"i\",\n\"memory\": \"1M\",\n\"memoryReservation\": \"2M\"}", 3,
            "above the limit"
        ),
        (
            "{\"name\": \"web\", \"image\": \"i\",\n\"memory\": \"1M\",\n\"resources\": {\n\"memory\": {\"limit\": 5}}}",
            2, "contradicts"
        ),
        (
            "{\"name\": \"web\", \"image\": \"i\",\n\"memory\": \"1M\",\n\"resources\": {\n\"memory\": \"5M\"}}", 4,
            "given twice"
        ),
        ("{\"name\": \"web\", \"image\": \"i\",\n\"memory\": \"much\"}", 2, "\"memory\": \"much\" is not understood"),
        ("{\"name\": \"web\", \"image\": \"i\",\n\"restart\": \"sometimes\"}", 2, "not a restart policy"),
        ("{\"name\": \"web\", \"image\": \"i\",\n\"created\": 1}", 2, "noted by zonectl itself"),
        ("{\"name\": \"web\", \"image\": \"i\",\n\"health\": {\"command\": [],\n\"retries\": 5}}", 2, "contradicts"),
        (
            "{\"name\": \"web\", \"image\": \"i\",\n\"environment\": [\"A=1\",\n\"B\"]}", 3,
            "is not an environment variable"
        ),
        (
            "{\"name\": \"web\", \"image\": \"i\",\n\"sysctls\": {\n\"kernel.panic\": \"1\"}}", 3,
            "not a parameter of the zone's own"
        ),
        ("{\"name\": \"web\", \"image\": \"i\",\n\"mounts\": [\"/etc:/proc/x\"]}", 2, "inside the zone's own /proc"),
        ("{\"name\": \"web\", \"image\": \"i\",\n\"type\": \"vm\"}", 2, "has 'machine'"),
        ("{\"name\": \"web\", \"image\": \"i\",\n\"name\": \"web\"}", 2, "duplicate name \"name\""),
        ("[{\"name\": \"web\", \"image\": \"i\"},\n{\"name\": \"web\", \"image\": \"j\"}]", 2, "defined twice"),
        ("[]x", 1, "unexpected text"), ("7", 1, "a definition is an object"), ("{", 1, "quotes"),
    ])
    func faultsHaveALine(_ text: String, _ line: Int, _ words: String) throws {
        let error = #expect(throws: ZoneError.self) { _ = try zones(text) }
        let detail = try #require(error).detail
        #expect(detail.contains("web.json: line \(line)"), "\(detail)")
        #expect(detail.contains(words), "\(detail)")
    }

    @Test func theFilesNameIsTheZones() throws {
        let zone = try #require(try zones(#"{"image": "i", "boot": false}"#, named: "web").first)
        #expect(zone.definition.name == "web" && !zone.startsWithHost)
        #expect(throws: ZoneError.self) { _ = try zones(#"{"name": "other", "image": "i"}"#, named: "web") }
        #expect(throws: ZoneError.self) { _ = try zones(#"[{"name": "web", "image": "i"}]"#, named: "web") }
    }
}
