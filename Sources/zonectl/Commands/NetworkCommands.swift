// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import OCI
import ZoneRuntime

/// `zonectl network create NETWORK`
enum NetworkCreateCommand {
    static let subnet = Option.list(
        "subnet", nil, "SUBNET", "Such as 10.20.0.0/24 or fd00:20::/64; free ones if not given")
    static let isInternal = Option.flag("internal", nil, "Nothing goes in or out")
    static let gateway = Option.list(
        "gateway", nil, "ADDRESS", "The bridge's address in a subnet (default: the first one)")
    static let parent = Option.value("parent", nil, "LINK", "A link of the host's, for the VLAN")
    static let vlan = Option.value("vlan", nil, "NUMBER", "Extend the network to a VLAN, from 1 to 4094")
    static let mtu = Option.value("mtu", nil, "BYTES", "The largest packet")
    static let label = Option.list("label", "l", "NAME=VALUE", "Note something on the network")

    static let command = Command(
        names: ["network create"], group: .networks, operands: "NETWORK", summary: "Make a network for zones",
        details: """
            Zones of a network reach each other, by address and by name, and through the host everything else; nothing else
            reaches them. On the host it is a bridge, whose address is the first one of each subnet.
            """,
        examples: """
            zonectl network create web
            zonectl run -d --name db --network web postgres
            zonectl run --rm --network web busybox ping -c 1 db
            """,
        options: [subnet, gateway, isInternal, mtu, parent, vlan, label]
    ) { (arguments, context) throws(ZoneError) in
        guard arguments.operands.count == 1 else {
            throw ZoneError(.invalid, "network create takes one name", hint: "zonectl network create web")
        }
        var wish = NetworkStore.Wish()
        wish.subnets = arguments.list(subnet)
        wish.gateways = arguments.list(gateway)
        wish.isInternal = arguments.flag(isInternal)
        wish.parent = arguments.value(parent)
        if let text = arguments.value(vlan) {
            guard let number = Int64(text), (1...4094).contains(number) else {
                throw ZoneError(.invalid, "--vlan \"\(text)\" is not a number from 1 to 4094")
            }
            wish.vlan = number
        }
        wish.labels = try RunCommand.labels(arguments)
        if let text = arguments.value(mtu) {
            // IPv6 wants 1280 at least (RFC 8200); a bridge takes no more than that.
            guard let bytes = Int64(text), (1280...65535).contains(bytes) else {
                throw ZoneError(.invalid, "--mtu \"\(text)\" is not a number from 1280 to 65535")
            }
            wish.mtu = bytes
        }
        try Output.write(try NetworkStore(context.folders).create(arguments.operands[0], wish).name + "\n")
        return 0
    }
}

/// `zonectl network ls`
enum NetworkListCommand {
    static let quiet = Option.flag("quiet", "q", "Print names only")
    static let json = Option.flag("json", nil, "Print JSON")

    static let command = Command(
        names: ["network ls", "network list"], group: .networks, operands: "", summary: "List networks of zones",
        options: [quiet, json], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        try ListCommand.refuseOperands(arguments)
        let store = NetworkStore(context.folders)
        let networks = try store.list()
        if arguments.flag(quiet) {
            try Output.write(networks.map { $0.name + "\n" }.joined())
            return 0
        }
        let users = networks.isEmpty ? [:] : try store.users()
        if arguments.flag(json) {
            try Output.json(networks.map { NetworkView($0, context.folders, users) })
        } else {
            try Output.table(
                ["NAME", "SUBNETS", "ZONES"],
                networks.map { network in
                    let zones = (users[network.name] ?? []).joined(separator: ", ")
                    return [
                        network.name,
                        network.subnets.joined(separator: ", ") + (network.isInternal ? " (internal)" : ""),
                        zones.isEmpty ? "-" : zones,
                    ]
                })
        }
        return 0
    }
}

/// `zonectl network inspect NETWORK…`
enum NetworkInspectCommand {
    static let command = Command(
        names: ["network inspect"], group: .networks, operands: "NETWORK…", summary: "Show all about networks, as JSON",
        options: [], needsRoot: false
    ) { (arguments, context) throws(ZoneError) in
        let store = NetworkStore(context.folders)
        let users = try store.users()
        let (views, status) = try NetworkNames.forEach(arguments.operands) { (name) throws(ZoneError) in
            let network = try store.find(name)
            var view = NetworkView(network, context.folders, users)
            view.obstacles = store.obstacles(network)
            return view
        }
        try Output.json(views)
        return status
    }
}

/// `zonectl network rm NETWORK…`
enum NetworkRemoveCommand {
    static let command = Command(
        names: ["network rm"], group: .networks, operands: "NETWORK…", summary: "Remove networks",
        details: "A network that a zone is in, running or stopped, stays.", options: []
    ) { (arguments, context) throws(ZoneError) in
        let store = NetworkStore(context.folders)
        return try NetworkNames.forEach(arguments.operands) { (name) throws(ZoneError) in
            try store.remove(name)
            try Output.write(name + "\n")
        }.exitCode
    }
}

/// `zonectl network connect NETWORK ZONE`
enum NetworkConnectCommand {
    static let ip = Option.list("ip", nil, "ADDRESS", "Address of the zone's; one of IPv4, one of IPv6")
    static let mac = Option.value("mac", nil, "ADDRESS", "MAC address of the zone's")

    static let command = Command(
        names: ["network connect"], group: .networks, operands: "NETWORK ZONE",
        summary: "Connect a zone to one more network, also while it runs",
        details: "NETWORK is one of 'zonectl network ls', bridge:LINK or macvlan:LINK.",
        examples: """
            zonectl network connect --ip 10.20.0.7 backend web
            """,
        options: [ip, mac]
    ) { (arguments, context) throws(ZoneError) in
        let (network, zone) = try NetworkNames.pair(arguments, "connect")
        var attachment = NetworkAttachment(network)
        attachment.addresses = arguments.list(ip)
        attachment.mac = arguments.value(mac) ?? ""
        var change = ZoneSettings.Change()
        change.network.connects = [attachment]
        try ZoneSettings(context.folders).apply(change, to: zone)
        return 0
    }
}

/// `zonectl network disconnect NETWORK ZONE`
enum NetworkDisconnectCommand {
    static let command = Command(
        names: ["network disconnect"], group: .networks, operands: "NETWORK ZONE",
        summary: "Take a zone out of a network, also while it runs", options: []
    ) { (arguments, context) throws(ZoneError) in
        let (network, zone) = try NetworkNames.pair(arguments, "disconnect")
        var change = ZoneSettings.Change()
        change.network.disconnects = [network]
        try ZoneSettings(context.folders).apply(change, to: zone)
        return 0
    }
}

/// Names of networks on a command line.
private enum NetworkNames {
    static func pair(_ arguments: Arguments, _ verb: String) throws(ZoneError) -> (network: String, zone: String) {
        guard arguments.operands.count == 2 else {
            throw ZoneError(
                .invalid, "network \(verb) takes a network and a zone", hint: "zonectl network \(verb) web db")
        }
        return (arguments.operands[0], arguments.operands[1])
    }

    static func forEach<Result>(
        _ names: [String], _ body: (String) throws(ZoneError) -> Result
    ) throws(ZoneError) -> (results: [Result], exitCode: Int32) {
        if names.isEmpty {
            throw ZoneError(.invalid, "give the name of a network", hint: "'zonectl network ls' lists all networks")
        }
        return try InspectCommand.forEach(names, body)
    }
}

/// A network as `network ls --json` and `network inspect` show it.
struct NetworkView: JSONRecord {
    var name = ""
    var created = Timestamp()
    var subnets: [String] = []
    var gateways: [String] = []
    var bridge = ""
    var isInternal = false
    var mtu: Int64?
    var parent: String?
    var vlan: Int64?
    var labels: [String: String] = [:]
    var zones: [String] = []
    /// What rules of somebody else's do to it; `inspect` looks.
    var obstacles: [String] = []

    init() {}

    init(_ network: NetworkRecord, _ folders: ZoneFolders, _ users: [String: [String]]) {
        name = network.name
        created = Timestamp(network.created)
        subnets = network.subnets
        gateways = network.allGateways
        bridge = folders.bridge(network.name)
        isInternal = network.isInternal
        mtu = network.mtu
        parent = network.parent
        vlan = network.vlan
        labels = network.labels
        zones = users[network.name] ?? []
    }

    mutating func visit(_ visitor: inout some FieldVisitor) throws(JSONError) {
        try visitor.required("name", &name)
        try visitor.required("created", &created)
        try visitor.required("subnets", &subnets)
        try visitor.required("gateways", &gateways)
        try visitor.required("bridge", &bridge)
        try visitor.required("internal", &isInternal)
        try visitor.field("mtu", &mtu)
        try visitor.field("parent", &parent)
        try visitor.field("vlan", &vlan)
        try visitor.required("labels", &labels)
        try visitor.required("zones", &zones)
        try visitor.field("obstacles", &obstacles)
    }
}
