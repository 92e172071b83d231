// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import LinuxSystem
import OCI

/// `blkio` on version 1, `io` on version 2: weights and bounds of block devices.
struct BlockIOController: Controller {
    let name = "blkio"
    var unifiedName: String? { "io" }

    func isAsked(_ resources: Spec.Resources) -> Bool {
        guard let io = resources.blockIO else { return false }
        return said(io.weight) != nil || said(io.leafWeight) != nil || !io.weightDevice.isEmpty
            || BlockIOController.rates(io).contains { !$0.rates.isEmpty }
    }

    func applyUnified(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        guard let io = resources.blockIO else { return }
        if said(io.leafWeight) != nil || io.weightDevice.contains(where: { said($0.leafWeight) != nil }) {
            throw group.unsupported("blockIO.leafWeight needs cgroup version 1")
        }
        if said(io.weight) != nil || !io.weightDevice.isEmpty {
            // The bfq scheduler takes the OCI's range (10…1000) as it is; io.weight has 1…10000.
            let isBFQ = group.exists("io.bfq.weight")
            let file = isBFQ ? "io.bfq.weight" : "io.weight"
            let text = { (weight: UInt16) in isBFQ ? String(weight) : String(BlockIOController.ioWeight(weight)) }
            if let weight = said(io.weight) { try group.write(file, text(weight), for: "blockIO.weight") }
            for device in io.weightDevice {
                guard let weight = said(device.weight) else { continue }
                try group.write(
                    file, "\(device.major):\(device.minor) \(text(weight))", for: "blockIO.weightDevice")
            }
        }
        for (_, key, rates) in BlockIOController.rates(io) {
            for rate in rates {
                // 0 takes a bound away, as on version 1.
                let value = rate.rate == 0 ? "max" : String(rate.rate)
                try group.write("io.max", "\(rate.major):\(rate.minor) \(key)=\(value)")
            }
        }
    }

    func applyLegacy(_ resources: Spec.Resources, to group: borrowing CGroupFiles) throws(SystemError) {
        guard let io = resources.blockIO else { return }
        // Which files there are depends on the scheduler that the kernel was built with.
        let prefix = group.exists("blkio.weight") ? "blkio" : "blkio.bfq"
        if let weight = said(io.weight) {
            try group.write("\(prefix).weight", String(weight), for: "blockIO.weight")
        }
        if let weight = said(io.leafWeight) {
            try group.write("blkio.leaf_weight", String(weight), for: "blockIO.leafWeight")
        }
        for device in io.weightDevice {
            let place = "\(device.major):\(device.minor)"
            if let weight = said(device.weight) {
                try group.write("\(prefix).weight_device", "\(place) \(weight)", for: "blockIO.weightDevice")
            }
            if let weight = said(device.leafWeight) {
                try group.write("blkio.leaf_weight_device", "\(place) \(weight)", for: "blockIO.weightDevice")
            }
        }
        for (file, _, rates) in BlockIOController.rates(io) {
            for rate in rates {
                try group.write(file, "\(rate.major):\(rate.minor) \(rate.rate)", for: file)
            }
        }
    }

    /// Version 1's file and version 2's key of each kind of bound.
    private static func rates(_ io: Spec.BlockIO) -> [(file: String, key: String, rates: [Spec.DeviceRate])] {
        [
            ("blkio.throttle.read_bps_device", "rbps", io.throttleReadBpsDevice),
            ("blkio.throttle.write_bps_device", "wbps", io.throttleWriteBpsDevice),
            ("blkio.throttle.read_iops_device", "riops", io.throttleReadIOPSDevice),
            ("blkio.throttle.write_iops_device", "wiops", io.throttleWriteIOPSDevice),
        ]
    }

    /// 10…1000 linearly onto 1…10000, as runc and crun do it.
    static func ioWeight(_ weight: UInt16) -> Int {
        1 + (Int(min(max(weight, 10), 1000)) - 10) * 9999 / 990
    }
}
