// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// Owns descriptors that are referred to by number.
public struct DescriptorBag: ~Copyable {
    private var numbers: [CInt] = []

    public init() {}

    /// Takes ownership and returns the number, valid as long as the bag lives.
    public mutating func adopt(_ descriptor: consuming Descriptor) -> CInt {
        let raw = descriptor.release()
        numbers.append(raw)
        return raw
    }

    deinit {
        for raw in numbers { _ = Descriptor(owning: raw) }
    }
}
