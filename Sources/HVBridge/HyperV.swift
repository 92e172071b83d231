// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// The interface of Microsoft's hypervisor, which makes Windows wait and keep time as a guest should.
enum HyperV {
    /// The properties of `-cpu` that switch its parts on. Only KVM has them: under the translator Windows runs as on a bare
    /// processor.
    ///
    /// They are named one by one, as what `hv-passthrough` switches on depends on the host and its kernel. All are in
    /// Linux 5.0 and QEMU 7.2. Not there: `hv-evmcs` (Intel only), `hv-reenlightenment` (needs a scalable counter),
    /// `hv-syndbg` and `hv-crash` (for debugging).
    static func features(_ accelerator: Accelerator) -> [(name: String, value: String)] {
        guard accelerator == .kvm else { return [] }
        return [
            ("hv-relaxed", "on"),
            ("hv-vapic", "on"),
            // After how many attempts to take a lock it asks the hypervisor to run someone else.
            ("hv-spinlocks", "0x1fff"),
            ("hv-vpindex", "on"),
            ("hv-runtime", "on"),
            ("hv-time", "on"),
            ("hv-synic", "on"),
            ("hv-stimer", "on"),
            ("hv-reset", "on"),
            ("hv-frequencies", "on"),
            ("hv-tlbflush", "on"),
            ("hv-ipi", "on"),
        ]
    }
}
