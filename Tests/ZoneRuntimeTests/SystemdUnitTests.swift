// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI
import Testing

@testable import ZoneRuntime

@Suite struct SystemdUnitTests {
    private func unit(
        _ program: String = "/usr/bin/zonectl", root: String = ZoneFolders.defaultRoot,
        store: String = ZoneFolders.defaultStore
    ) throws -> SystemdUnit {
        SystemdUnit(program: program, try ZoneFolders(root: root, store: store))
    }

    private func definition(_ restart: String = "no") throws -> ZoneDefinition {
        var definition = ZoneDefinition()
        (definition.name, definition.image) = ("web", "busybox")
        definition.restart = try #require(RestartPolicy(restart))
        return definition
    }

    private func lines(_ text: String, _ key: String) -> [String] {
        text.fields("\n").compactMap { $0.after("\(key)=") }
    }

    @Test func namesOptionsOnlyWhereTheyAreNotTheDefault() throws {
        let plain = try unit().text(of: definition())
        #expect(lines(plain, "ExecStart") == ["/usr/bin/zonectl start --foreground web"])
        let other = try unit(root: "/r", store: "/s").text(of: definition())
        #expect(lines(other, "ExecStart") == ["/usr/bin/zonectl --root /r --store /s start --foreground web"])
        #expect(lines(other, "RequiresMountsFor") == ["/s"])
    }

    // systemd.syntax(7) and systemd.service(5): % in specifiers, $ in variables, quotes and backslashes in words.
    @Test(arguments: ["/usr/bin/zonectl", "/a b/zonectl", "/a\"b\\ c/%zonectl", "/ä"])
    func whatFollowsTheProgramIsFound(_ program: String) throws {
        let (root, store) = (ZoneFolders.defaultRoot, ZoneFolders.defaultStore)
        for folders in try [(root, store), ("/r x", "/s"), (root, "/s")].map({
            try ZoneFolders(root: $0.0, store: $0.1)
        }) {
            let unit = SystemdUnit(program: program, folders)
            let line = "\(SystemdUnit.quoted(program)) \(unit.arguments("web"))"
            #expect(SystemdUnit.arguments(of: line) == unit.arguments("web"))
        }
        #expect(SystemdUnit.arguments(of: "/usr/bin/zonectl") == "")
    }

    @Test func pathsAreQuoted() throws {
        let text = try unit("/opt/a b/%z$\"\\x", root: "/r$HOME/%h", store: "/s p/\n").text(of: definition())
        #expect(
            lines(text, "ExecStart") == [
                #""/opt/a b/%%z$\"\\x" --root "/r$$HOME/%%h" --store "/s p/\x0a" start --foreground web"#
            ])
        #expect(lines(text, "RequiresMountsFor") == [#""/s p/\x0a""#])
    }

    @Test(arguments: [
        ("no", "no", "StartLimitIntervalSec=0"), ("on-failure", "on-failure", "StartLimitIntervalSec=0"),
        ("on-failure:3", "on-failure", "StartLimitBurst=4"), ("always", "always", "StartLimitIntervalSec=0"),
        ("unless-stopped", "always", "StartLimitIntervalSec=0"),
    ])
    func restartPoliciesAreSystemds(_ policy: String, _ restart: String, _ limit: String) throws {
        let text = try unit().text(of: definition(policy))
        #expect(lines(text, "Restart") == [restart])
        #expect(text.fields("\n").contains(limit))
        let dropIn = try unit().dropIn(of: definition(policy))
        #expect((dropIn == nil) == (policy == "no"))
        if let dropIn { #expect(lines(dropIn, "Restart") == [restart] && dropIn.fields("\n").contains(limit)) }
    }

    @Test func theTemplateIsAnInstanceWithoutItsName() throws {
        let template = try unit().template()
        let instance = template.split(separator: "%i").joined(separator: "web")
        let text = try unit().text(of: definition())
        #expect(instance.fields("\n").dropFirst() == text.fields("\n").dropFirst())
        #expect(template.fields("\n").allSatisfy { $0.hasPrefix("[") || $0.hasPrefix("#") || $0.contains("=") })
    }

    @Test(arguments: [
        ("/run/systemd/notify", true), ("@abstract", true), ("@", false), ("", false), ("relative", false),
        (String(repeating: "/a", count: 60), false),
    ])
    func takesSocketsOfSupervisors(_ socket: String, _ isFine: Bool) {
        #expect((ServiceNotifier(socket: socket) != nil) == isFine)
    }
}
