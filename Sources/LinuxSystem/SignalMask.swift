// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

import Glibc

/// Holds back the signals that end a process, for a moment in which it must not be interrupted.
public struct SignalMask: Sendable {
    private let former: sigset_t

    /// Signals that come wait until ``restore()``.
    public static func block() -> SignalMask {
        var set = sigset_t()
        var former = sigset_t()
        sigemptyset(&set)
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] { sigaddset(&set, signal) }
        sigprocmask(SIG_BLOCK, &set, &former)
        return SignalMask(former: former)
    }

    /// For a process of our own that lives on by itself: what ends others ends it.
    public static func unblockAll() {
        var set = sigset_t()
        sigemptyset(&set)
        sigprocmask(SIG_SETMASK, &set, nil)
    }

    public func restore() {
        var former = former
        sigprocmask(SIG_SETMASK, &former, nil)
    }
}
