// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Testing

@testable import ZoneRuntime

@Suite struct PointInTimeTests {
    private let now: Int64 = 1_700_000_000_000_000_000

    @Test(
        arguments: [
            ("1970-01-01T00:00:00Z", 0), ("1970-01-01T01:00:00.5+01:00", 500_000_000),
            ("1969-12-31T23:59:59.999999999Z", -1), ("2024-02-29T12:00:00-05:30", 1_709_227_800_000_000_000),
            ("2000-03-01t00:00:00z", 951_868_800_000_000_000), ("2016-12-31T23:59:60Z", 1_483_228_800_000_000_000),
            ("2026-11-21 15:04:05.1234567891Z", 1_795_273_445_123_456_789),
        ] as [(String, Int64)])
    func timesAreRead(_ text: String, _ time: Int64) {
        #expect(PointInTime.nanoseconds(rfc3339: Array(text.utf8)[...]) == time)
        #expect(PointInTime.nanoseconds(text, now: now) == time)
    }

    @Test(
        arguments: [
            ("0", 0), ("1700000000", 1_700_000_000_000_000_000), ("1.25", 1_250_000_000),
            ("10m", 1_699_999_400_000_000_000), ("1h30m", 1_699_994_600_000_000_000),
            ("500ms", 1_699_999_999_500_000_000),
            ("2d", 1_699_827_200_000_000_000), ("0.5s", 1_699_999_999_500_000_000), ("1970-01-01T00:00Z", 0),
        ] as [(String, Int64)])
    func peopleWriteTimesSo(_ text: String, _ time: Int64) {
        #expect(PointInTime.nanoseconds(text, now: now) == time)
    }

    @Test(arguments: [
        "", " ", "-1", "+1", "1.", ".5", "1.x", "10x", "m", "1m30", "99999999999999999999", "9999999999d",
        "2026-02-29", "2026-00-01", "2026-1-1", "2026-01-01T", "2026-01-01T24:00Z", "2026-01-01T10:00:61Z",
        "2026-01-01T10:00Zx", "2026-01-01T10:00+1", "2026-01-01T10:00:00.Z", "9999-01-01T00:00:00Z", "now", "１m",
        "1.5.5",
        "1..5s", "5.s",
    ])
    func anythingElseIsNone(_ text: String) {
        #expect(PointInTime.nanoseconds(text, now: now) == nil)
    }

    @Test(arguments: ["2026-11-21", "2026-11-21T15:04", "2026-11-21 15:04:05.5"])
    func withoutAZoneItIsTheCallers(_ text: String) throws {
        let time = try #require(PointInTime.nanoseconds(text, now: now))
        // Wherever that is.
        #expect(abs(time - 1_795_273_445_000_000_000) < 40 * 3_600_000_000_000)
    }

    @Test(arguments: [0, -1, 1, 1_795_273_445_123_456_789, .max, -9_223_372_036_000_000_000] as [Int64])
    func whatIsWrittenIsRead(_ time: Int64) {
        let text = PointInTime.rfc3339Nano(time)
        #expect(text.utf8.count == 30)
        #expect(PointInTime.nanoseconds(rfc3339: Array(text.utf8)[...]) == time)
    }
}
