// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Testing

@testable import ZoneRuntime

/// By what nft prints (libnftables-json(5)).
struct ForeignRulesTests {
    private func obstacles(_ objects: String...) throws -> [ForeignRules.Obstacle] {
        let text = "{\"nftables\": [{\"metainfo\": {\"version\": \"1.0.6\"}}, \(objects.joined(separator: ", "))]}"
        return try #require(ForeignRules(Array(text.utf8))).obstacles(of: "zone0", own: "zonectl", uplinks: ["eth0"])
    }

    private func chain(
        _ name: String, hook: String = "forward", policy: String = "accept", table: String = "filter",
        family: String = "ip"
    ) -> String {
        "{\"chain\": {\"family\": \"\(family)\", \"table\": \"\(table)\", \"name\": \"\(name)\", \"handle\": 1, "
            + "\"type\": \"filter\", \"hook\": \"\(hook)\", \"prio\": 0, \"policy\": \"\(policy)\"}}"
    }

    private func rule(_ chain: String, _ expression: String, table: String = "filter") -> String {
        "{\"rule\": {\"family\": \"ip\", \"table\": \"\(table)\", \"chain\": \"\(chain)\", \"handle\": 2, \"expr\": [\(expression)]}}"
    }

    private func accept(_ link: String) -> String {
        "{\"match\": {\"op\": \"==\", \"left\": {\"meta\": {\"key\": \"iifname\"}}, \"right\": \"\(link)\"}}, {\"accept\": null}"
    }

    @Test func aPolicyThatDropsIsTold() throws {
        let found = try obstacles(chain("FORWARD", policy: "drop"), chain("INPUT", hook: "input", policy: "drop"))
        #expect(found.count == 2)
        #expect(found[0].detail.contains("chain FORWARD of table ip filter"))
        #expect(found[0].hint.contains("nft insert rule ip filter FORWARD oifname zone0 accept"))
        #expect(found[1].hint == "nft insert rule ip filter INPUT iifname zone0 accept")
    }

    @Test func aLastRuleThatDropsIsTold() throws {
        for verdict in ["drop", "reject"] {
            let last = rule("FORWARD", "{\"counter\": {\"packets\": 1, \"bytes\": 2}}, {\"\(verdict)\": null}")
            #expect(try obstacles(chain("FORWARD"), last).count == 1)
        }
        let some =
            "{\"match\": {\"op\": \"==\", \"left\": {\"meta\": {\"key\": \"iifname\"}}, \"right\": \"eth9\"}}, {\"drop\": null}"
        #expect(try obstacles(chain("FORWARD"), rule("FORWARD", some)).isEmpty)
    }

    @Test func dockersChainForUsersIsNamed() throws {
        let found = try obstacles(chain("FORWARD", policy: "drop"), rule("DOCKER-USER", "{\"return\": null}"))
        #expect(
            found.first?.hint
                == "iptables -I DOCKER-USER -o zone0 -j ACCEPT; iptables -I DOCKER-USER -i zone0 -o eth0 -j ACCEPT")
    }

    @Test func whoKnowsTheBridgeIsNoObstacle() throws {
        for link in ["zone0", "zone*"] {
            let rules = rule("DOCKER-USER", accept(link))
            #expect(try obstacles(chain("FORWARD", policy: "drop"), rules).isEmpty)
        }
        #expect(try obstacles(chain("FORWARD", policy: "drop"), rule("DOCKER-USER", accept("zone1"))).count == 1)
        #expect(try obstacles(chain("FORWARD", policy: "drop"), rule("X", accept("zone0"), table: "other")).count == 1)
    }

    @Test func ourOwnAndOtherHooksAreNone() throws {
        #expect(try obstacles(chain("forward", policy: "drop", table: "zonectl", family: "inet")).isEmpty)
        #expect(try obstacles(chain("OUTPUT", hook: "output", policy: "drop")).isEmpty)
        #expect(try obstacles(chain("FORWARD", policy: "drop", family: "arp")).isEmpty)
    }

    @Test func whatIsNoRulesetIsNone() {
        for text in ["", "[]", "{\"nftables\": 1}", "{\"nftables\": [1, {\"chain\": 2}, {\"rule\": {\"expr\": 3}}"] {
            #expect(ForeignRules(Array(text.utf8)) == nil)
        }
    }
}
