// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

/// Undoes what was done, in reverse, unless it is committed. Undo is written beside do.
struct Rollback: ~Copyable {
    private var actions: [() -> Void] = []

    /// Adds what undoes the step just taken, or about to be taken. It must bear that the step never happened.
    mutating func add(_ action: @escaping () -> Void) {
        actions.append(action)
    }

    /// Keeps everything.
    mutating func commit() {
        actions.removeAll()
    }

    deinit {
        for action in actions.reversed() { action() }
    }
}
