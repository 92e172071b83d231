// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// A process that only waits needs hardly any memory of its own, but for what it has executed once: the kernel maps some
// pages around each that is touched, and takes them back only when it must.

#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

/// Drops the pages of a writable segment that nobody has written: those that are still the file's, by bit 61 of pagemap
/// (the kernel's Documentation/admin-guide/mm/pagemap.rst).
static void drop_unwritten(int pagemap, uintptr_t start, uintptr_t end, uintptr_t page) {
    enum { BATCH = 64 };
    uint64_t entries[BATCH];
    while (start < end) {
        size_t count = (end - start) / page < BATCH ? (end - start) / page : BATCH;
        ssize_t size = pread(pagemap, entries, count * sizeof *entries, (off_t)(start / page * sizeof *entries));
        if (size != (ssize_t)(count * sizeof *entries)) return;
        for (size_t i = 0; i < count; i++, start += page)
            if (entries[i] >> 63 && entries[i] >> 61 & 1) madvise((void *)start, page, MADV_DONTNEED);
    }
}

static int drop_segments(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    uintptr_t page = (uintptr_t)getpagesize();
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD) continue;
        uintptr_t start = (info->dlpi_addr + segment->p_vaddr) & ~(page - 1);
        // Of the file only: what follows it in memory is nobody's but ours.
        uintptr_t end = (info->dlpi_addr + segment->p_vaddr + segment->p_filesz) & ~(page - 1);
        if (start >= end) continue;
        if (segment->p_flags & PF_W)
            drop_unwritten(*(int *)data, start, end, page);
        else
            madvise((void *)start, end - start, MADV_DONTNEED);
    }
    return 0;
}

int zn_poll_resting(void *pollfds, size_t count, int timeout_ms) {
    malloc_trim(0);
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    dl_iterate_phdr(drop_segments, &pagemap);
    if (pagemap >= 0) close(pagemap);
    // From here, so that nothing but this is executed again.
    int result = poll(pollfds, count, timeout_ms);
    return result < 0 ? -errno : result;
}
