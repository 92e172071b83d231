// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

extension ZoneLifecycle {
    /// Starts the zones whose restart policy brings them back with the host, but for those that systemd starts by their
    /// own units, and those that run. `report` is told what was started; what fails is told by `fail`, and the rest goes on.
    public func startForBoot(report: (String) -> Void, fail: (ZoneError) -> Void) throws(ZoneError) {
        let units = SystemdUnits(store)
        for entry in try store.list() {
            guard case .stopped = entry.state, entry.record?.bundle == nil else { continue }
            do throws(ZoneError) {
                // A zone whose making was interrupted is none yet.
                guard let definition = try store.definition(of: entry.name),
                    definition.restart.isForBoot(wasStopped: store.isToStayStopped(entry.name)),
                    !units.isEnabled(entry.name)
                else { continue }
                report(try start(entry.name))
            } catch {
                fail(error)
            }
        }
    }
}
