// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// The host's processor.

#ifndef PROCESSOR_H
#define PROCESSOR_H

#include <stdint.h>

/// The rate of the time-stamp counter in kHz, measured against CLOCK_MONOTONIC_RAW for one to two milliseconds; 0 where
/// there is none, or it does not count evenly.
uint32_t zn_tsc_khz(void);

#endif
