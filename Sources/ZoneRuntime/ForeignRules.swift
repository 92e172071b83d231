// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import Network
import OCI

/// Rules of somebody else's that drop what zones send and get: what one base chain of nftables drops, no other one can let
/// pass. We leave them as they are, and say what they do and how to let a network pass.
struct ForeignRules {
    /// A chain that drops what it does not know, and knows nothing of a bridge.
    struct Obstacle: Equatable {
        let detail: String
        let hint: String
    }

    private struct Chain {
        let family: String
        let table: String
        let name: String
        let hook: String
        var drops: Bool
    }

    private struct Rule {
        let family: String
        let table: String
        let chain: String
        /// Names that it compares, and what it does in the end.
        let names: [String]
        let isUnconditional: Bool
        let verdict: String
    }

    private var chains: [Chain] = []
    private var rules: [Rule] = []

    /// Reads the ruleset as nft prints it, libnftables-json(5).
    init?(_ document: [UInt8]) {
        guard let all = (try? JSON(parsing: document))?["nftables"], case .array(let objects) = all else { return nil }
        for object in objects {
            if let chain = object["chain"], let hook = chain["hook"]?.text {
                chains.append(
                    Chain(
                        family: chain["family"]?.text ?? "", table: chain["table"]?.text ?? "",
                        name: chain["name"]?.text ?? "", hook: hook, drops: chain["policy"]?.text == "drop"))
            } else if let rule = object["rule"], let expression = rule["expr"], case .array(let parts) = expression {
                let verdict = parts.last.flatMap { $0.members.first?.name } ?? ""
                rules.append(
                    Rule(
                        family: rule["family"]?.text ?? "", table: rule["table"]?.text ?? "",
                        chain: rule["chain"]?.text ?? "", names: parts.flatMap(ForeignRules.texts),
                        isUnconditional: parts.allSatisfy { part in
                            ["counter", "drop", "reject", "log", "comment"].contains(part.members.first?.name ?? "")
                        }, verdict: verdict))
            }
        }
    }

    /// All that is said of the host's rules now; `nil` where nothing can be found out.
    static func ofHost() -> ForeignRules? {
        guard var program = try? HostProgram("nft", ["-j", "list", "ruleset"]) else { return nil }
        // Of hosts with thousands of services.
        program.limit = 32 << 20
        guard let outcome = try? program.run(), outcome.status == .exited(0), !outcome.isCut else { return nil }
        return ForeignRules(outcome.output)
    }

    private static func texts(_ value: JSON) -> [String] {
        switch value {
        case .string(let text): [text]
        case .array(let values): values.flatMap(texts)
        case .object: value.members.flatMap { texts($0.value) }
        default: []
        }
    }

    /// What stops a bridge's traffic. `own`: our table; `uplinks`: the links by which the host reaches everything else.
    func obstacles(of bridge: String, own: String, uplinks: [String]) -> [Obstacle] {
        var found: [Obstacle] = []
        for chain in chains where ["forward", "input"].contains(chain.hook) && chain.table != own {
            guard ["ip", "ip6", "inet", "bridge"].contains(chain.family) else { continue }
            let all = rules.filter { $0.family == chain.family && $0.table == chain.table }
            let isEnd = all.contains {
                $0.chain == chain.name && $0.isUnconditional && ["drop", "reject"].contains($0.verdict)
            }
            guard chain.drops || isEnd else { continue }
            // Somebody has thought of it, in this chain or in one that it calls. A name may end with "*".
            let isKnown = all.contains { rule in
                !["drop", "reject"].contains(rule.verdict)
                    && rule.names.contains { name in
                        name == bridge || name.last == "*" && name.count > 1 && bridge.hasPrefix(name.dropLast())
                    }
            }
            if isKnown { continue }
            let why = chain.drops ? "policy drop" : "its last rule drops the rest"
            let isDocker = all.contains { $0.chain == "DOCKER-USER" } && chain.hook == "forward"
            let what = chain.hook == "forward" ? "what zones send and get" : "what zones ask the host, as for names"
            let detail =
                "chain \(chain.name) of table \(chain.family) \(chain.table), which is somebody else's, drops what it does not know (\(why)), and so \(what) on \(bridge)"
            found.append(Obstacle(detail: detail, hint: hint(chain, bridge, uplinks, isDocker: isDocker)))
        }
        return found
    }

    private func hint(_ chain: Chain, _ bridge: String, _ uplinks: [String], isDocker: Bool) -> String {
        if isDocker {
            // What goes in is our own chain's matter. Not all that comes out: it would reach containers' ports that nobody has
            // published, which docker shuts by the policy alone.
            let insert = "\(chain.family == "ip6" ? "ip6tables" : "iptables") -I DOCKER-USER"
            let ways = uplinks.isEmpty ? ["! -o docker0"] : uplinks.map { "-o \($0)" }
            let out = ways.map { "\(insert) -i \(bridge) \($0) -j ACCEPT" }
            return (["\(insert) -o \(bridge) -j ACCEPT"] + out).joined(separator: "; ")
        }
        func insert(_ key: String) -> String {
            "nft insert rule \(chain.family) \(chain.table) \(chain.name) \(key) \(bridge) accept"
        }
        return chain.hook == "forward" ? "\(insert("iifname")); \(insert("oifname"))" : insert("iifname")
    }
}

extension JSON {
    fileprivate var text: String? {
        if case .string(let text) = self { return text }
        return nil
    }

    fileprivate var members: [Member] {
        if case .object(let members) = self { return members }
        return []
    }
}
