// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// A key of a machine's keyboard: `QKeyCode` of QEMU's qapi/ui.json, all of 7.2. The raw value is QEMU's name.
public enum QKeyCode: String, CaseIterable, Sendable {
    case unmapped, shift, shiftRight = "shift_r", alt, altRight = "alt_r", control = "ctrl", controlRight = "ctrl_r"
    case menu, escape = "esc", digit1 = "1", digit2 = "2", digit3 = "3", digit4 = "4", digit5 = "5", digit6 = "6"
    case digit7 = "7", digit8 = "8", digit9 = "9", digit0 = "0", minus, equal, backspace, tab, q, w, e, r, t, y, u
    case i, o, p, bracketLeft = "bracket_left", bracketRight = "bracket_right", enter = "ret", a, s, d, f, g, h, j
    case k, l, semicolon, apostrophe, graveAccent = "grave_accent", backslash, z, x, c, v, b, n, m, comma, dot
    case slash, asterisk, space = "spc", capsLock = "caps_lock", f1, f2, f3, f4, f5, f6, f7, f8, f9, f10
    case numLock = "num_lock", scrollLock = "scroll_lock", keypadDivide = "kp_divide"
    case keypadMultiply = "kp_multiply", keypadSubtract = "kp_subtract", keypadAdd = "kp_add"
    case keypadEnter = "kp_enter", keypadDecimal = "kp_decimal", systemRequest = "sysrq", keypad0 = "kp_0"
    case keypad1 = "kp_1", keypad2 = "kp_2", keypad3 = "kp_3", keypad4 = "kp_4", keypad5 = "kp_5", keypad6 = "kp_6"
    case keypad7 = "kp_7", keypad8 = "kp_8", keypad9 = "kp_9", lessThan = "less", f11, f12, print, home
    case pageUp = "pgup", pageDown = "pgdn", end, left, up, down, right, insert, delete, stop, again, props, undo
    case front, copy, open, paste, find, cut, lineFeed = "lf", help, metaLeft = "meta_l", metaRight = "meta_r"
    case compose, pause, ro, hiragana, henkan, yen, muhenkan, katakanaHiragana = "katakanahiragana"
    case keypadComma = "kp_comma", keypadEquals = "kp_equals", power, sleep, wake, audioNext = "audionext"
    case audioPrevious = "audioprev", audioStop = "audiostop", audioPlay = "audioplay", audioMute = "audiomute"
    case volumeUp = "volumeup", volumeDown = "volumedown", mediaSelect = "mediaselect", mail, calculator, computer
    case acHome = "ac_home", acBack = "ac_back", acForward = "ac_forward", acRefresh = "ac_refresh"
    case acBookmarks = "ac_bookmarks", lang1, lang2
}
