// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import CNettle
import OCI

/// A running SHA-256, computed by nettle with the machine's own instructions where it has them.
struct SHA256 {
    private var context = sha256_ctx()

    init() {
        nettle_sha256_init(&context)
    }

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress else { return }
        nettle_sha256_update(&context, bytes.count, base.assumingMemoryBound(to: UInt8.self))
    }

    /// Returns the digest of all bytes; the next update begins a new one.
    mutating func finish() -> Digest {
        var result = [UInt8](repeating: 0, count: Int(SHA256_DIGEST_SIZE))
        nettle_sha256_digest(&context, result.count, &result)
        let digits = Array("0123456789abcdef".utf8)
        let hex = result.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
        guard let digest = Digest(hex: String(decoding: hex, as: UTF8.self)) else {
            preconditionFailure("32 bytes are 64 digits")
        }
        return digest
    }

    /// Returns the digest of `bytes`.
    static func digest(of bytes: [UInt8]) -> Digest {
        var hash = SHA256()
        bytes.withUnsafeBytes { hash.update($0) }
        return hash.finish()
    }
}
