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

    /// Closes one early; a number that is not in the bag is left alone.
    public mutating func close(_ raw: CInt) {
        guard let index = numbers.firstIndex(of: raw) else { return }
        numbers.remove(at: index)
        _ = Descriptor(owning: raw)
    }

    /// Closes all of them early.
    public mutating func closeAll() {
        for raw in numbers { _ = Descriptor(owning: raw) }
        numbers = []
    }

    deinit {
        for raw in numbers { _ = Descriptor(owning: raw) }
    }
}
