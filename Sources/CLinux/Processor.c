// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#define _GNU_SOURCE
#include "Processor.h"

#if defined(__x86_64__) || defined(__i386__)
#include <time.h>
#include <x86intrin.h>

enum { BRACKETS = 16 };

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC_RAW, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

// The clock is read between two readings of the counter. Of several attempts the one with the least between them counts:
// it was not interrupted.
static void read_both(uint64_t *counter, int64_t *nanoseconds) {
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < BRACKETS; i++) {
        uint64_t before = __rdtsc();
        int64_t time = now();
        uint64_t after = __rdtsc();
        if (after < before || after - before >= least) continue;
        least = after - before;
        *counter = before + least / 2;
        *nanoseconds = time;
    }
}

uint32_t zn_tsc_khz(void) {
    uint64_t counters[2] = {0, 0};
    int64_t times[2] = {0, 0};
    read_both(&counters[0], &times[0]);
    // Asleep rather than in a loop: the counter goes on, and others may use the processor.
    const struct timespec pause = {0, 1500000};
    nanosleep(&pause, 0);
    read_both(&counters[1], &times[1]);
    if (counters[1] <= counters[0] || times[1] <= times[0]) return 0;
    // Cycles in a nanosecond, times a million: kHz.
    uint64_t cycles = counters[1] - counters[0];
    double rate = (double)cycles * 1e6 / (double)(times[1] - times[0]);
    // What is beyond 100 GHz or below 100 MHz is no time-stamp counter that Linux would use.
    return rate < 100000 || rate > 100000000 ? 0 : (uint32_t)rate;
}
#else
uint32_t zn_tsc_khz(void) { return 0; }
#endif
