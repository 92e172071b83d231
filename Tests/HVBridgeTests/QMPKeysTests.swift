// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Testing

@testable import HVBridge

@Suite struct QMPKeyTests {
    @Test func chordsAreReadByName() throws {
        #expect(try KeyNames.chord("ctrl-alt-delete").keys == [.control, .alt, .delete])
        #expect(try KeyNames.chord("Ctrl-Alt-F1").keys == [.control, .alt, .f1])
        #expect(try KeyNames.chord("a").keys == [.a])
        #expect(try KeyNames.chord("ret").keys == [.enter])
        #expect(try KeyNames.chord("enter").keys == [.enter])
        #expect(try KeyNames.chord("minus").keys == [.minus])
        #expect(try KeyNames.chord("kp_0").keys == [.keypad0])
        #expect(try KeyNames.chord("win-r").keys == [.metaLeft, .r])
    }

    @Test func everyNameOfQEMUsButOneIsAKey() throws {
        #expect(QKeyCode.allCases.count == 150)
        for key in QKeyCode.allCases where key != .unmapped {
            #expect(try KeyNames.chord(key.rawValue).keys == [key])
        }
        #expect(throws: KeyNameError.self) { try KeyNames.chord("unmapped") }
    }

    @Test(arguments: [
        ("delte", "delete"), ("ctlr", "ctrl"), ("contrl", "control"), ("f13", "f1"), ("retrun", "return"),
        ("spcae", "space"), ("volume", "volumeup"), ("meta_", "meta_l"), ("backspce", "backspace"),
    ])
    func nearNamesAreListed(_ wrong: String, _ right: String) {
        #expect {
            try KeyNames.chord("ctrl-" + wrong)
        } throws: { error in
            guard case .unknown(wrong, let near)? = error as? KeyNameError else { return false }
            return near.contains(right) && near.count <= 5
        }
    }

    @Test(arguments: ["", "-", "ctrl-", "-a", "ctrl--a"])
    func anEmptyNameIsAnError(_ text: String) {
        #expect(throws: KeyNameError.empty) { try KeyNames.chord(text) }
    }

    @Test func hostileNamesAreRefusedShort() {
        #expect(throws: KeyNameError.tooMany(limit: 10)) { try KeyNames.chord(String(repeating: "a-", count: 100_000)) }
        #expect {
            try KeyNames.chord(String(repeating: "\u{1B}", count: 100_000))
        } throws: { error in
            "\(error)".utf8.count < 200 && !"\(error)".utf8.contains(0x1B)
        }
        #expect(throws: KeyNameError.unknown(name: "a\u{301}", near: [])) { try KeyNames.chord("a\u{301}") }
    }

    @Test func textIsTypedOnAUSKeyboard() throws {
        let chords = try KeyNames.typing("aZ0)-_\"~|?\t\r\n\n ")
        let expected: [[QKeyCode]] = [
            [.a], [.shift, .z], [.digit0], [.shift, .digit0], [.minus], [.shift, .minus], [.shift, .apostrophe],
            [.shift, .graveAccent], [.shift, .backslash], [.shift, .slash], [.tab], [.enter], [.enter], [.space],
        ]
        #expect(chords.map(\.keys) == expected)
    }

    @Test func everyPrintableCharacterHasAChordOfItsOwn() throws {
        let text = String(String.UnicodeScalarView((0x20...0x7E).compactMap { Unicode.Scalar($0) }))
        let chords = try KeyNames.typing(text)
        #expect(chords.count == 95)
        for (index, chord) in chords.enumerated() {
            #expect(!chords[..<index].contains(chord))
        }
    }

    @Test func whatIsNotOnTheKeyboardIsTold() {
        #expect(throws: KeyNameError.untypable(character: "é", position: 3)) { try KeyNames.typing("caé") }
        #expect(throws: KeyNameError.untypable(character: "?", position: 1)) { try KeyNames.typing("\u{0}") }
        #expect(throws: KeyNameError.tooMany(limit: 4096)) {
            try KeyNames.typing(String(repeating: "a", count: 5000))
        }
    }
}
