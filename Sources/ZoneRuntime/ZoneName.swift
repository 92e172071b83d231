// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc

/// Names of zones.
public enum ZoneName {
    /// Letters, digits, `_`, `.` and `-`, at most 63 bytes, beginning with a letter or digit: safe as a file name, a
    /// cgroup name and a host name.
    public static func isValid(_ name: String) -> Bool {
        let bytes = name.utf8
        guard let first = bytes.first, bytes.count <= 63, isAlphanumeric(first) else { return false }
        return bytes.allSatisfy { isAlphanumeric($0) || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F }
    }

    /// Engines' ids: letters, digits, `_`, `+`, `.` and `-`, at most 255 bytes, as runc's, but no `.` or `-` at the
    /// beginning: hidden files of ours begin with the one, options with the other.
    public static func isValidID(_ id: String) -> Bool {
        let bytes = id.utf8
        guard let first = bytes.first, bytes.count <= 255, first != 0x2D, first != 0x2E else { return false }
        return bytes.allSatisfy { isAlphanumeric($0) || [0x2B, 0x2D, 0x2E, 0x5F].contains($0) }
    }

    static func validateID(_ id: String) throws(ZoneError) {
        if isValidID(id) { return }
        throw ZoneError(
            .invalid, "invalid container ID \"\(id)\"",
            hint: "use 1 to 255 letters, digits, '_', '+', '.' or '-', beginning with a letter, digit, '_' or '+'")
    }

    static func validate(_ name: String) throws(ZoneError) {
        if isValid(name) { return }
        throw ZoneError(
            .invalid, "name \"\(name)\" is not valid",
            hint: "use 1 to 63 letters, digits, '_', '.' or '-', beginning with a letter or digit")
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        byte >= 0x30 && byte <= 0x39 || byte | 0x20 >= 0x61 && byte | 0x20 <= 0x7A
    }

    /// Makes up a name; the caller tries again when it is taken.
    static func random() -> String {
        "\(adjectives[Int.random(in: 0..<adjectives.count)])-\(nouns[Int.random(in: 0..<nouns.count)])"
    }

    private static let adjectives = words(
        """
        able agile amber ample ancient arctic autumn azure bold brave brief bright brisk calm candid clear clever cosmic \
        crisp curious daring deep distant eager early earnest easy elder exact fair fast fine firm fleet fond frank free \
        fresh gentle giant glad golden grand green happy hardy hidden honest humble icy ideal jolly keen kind large late \
        light lively local lone lucky lunar major merry mild misty modern modest narrow neat new noble north novel open \
        orange patient plain polite prime proud pure quick quiet rapid rare ready red rich robust royal round rustic sage \
        scarlet serene sharp shy silent silver simple sleek slim small smart smooth snowy solar solid south spare stable \
        steady still stout strong sunny super swift tall tame thin tidy tiny tough true urban valid vast violet vivid warm \
        wary west wide wild wise witty young zesty
        """)

    private static let nouns = words(
        """
        acorn anchor apple arch aspen badger bay beacon bear beech birch bird bison bloom boat brook cabin canyon cedar \
        cliff cloud clover comet coral cove crane creek crow dawn deer delta dolphin dove dune eagle elk elm ember falcon \
        fern field finch fjord flint forest fox frost garden gecko geyser glacier glade goose grove gull harbor hare hawk \
        hazel heath heron hill horizon ibis inlet iris island ivy jay juniper kestrel lagoon lake lark laurel leaf lily \
        linden lion lotus lynx maple marsh meadow mesa mist moon moose moss moth oak oasis ocean olive orchid otter owl \
        panda peak pebble pelican pine plain plover pond poplar puffin quail rabbit rain raven reed reef ridge river robin \
        rock rose sand sea seal shore sky snow sparrow spring spruce star stone storm stork stream summit sun swan thicket \
        thistle tide tiger trail tree trout tulip tundra valley walnut wave whale willow wind wolf wood wren yew
        """)

    private static func words(_ text: String) -> [String] {
        text.split(separator: " ").map(String.init)
    }
}
