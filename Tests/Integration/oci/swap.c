// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// Exchanges the two names of each pair as fast as it can until SIGTERM, then prints how often it did.
// `swap A B [C D …]`

#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

static volatile sig_atomic_t over;
static void stop(int number) {
    (void)number;
    over = 1;
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    unsigned long count = 0, failed = 0;
    while (!over)
        for (int i = 1; i + 1 < argc; i += 2)
            if (renameat2(AT_FDCWD, argv[i], AT_FDCWD, argv[i + 1], RENAME_EXCHANGE) == 0) count++;
            else failed++;
    printf("%lu %lu\n", count, failed);
    return 0;
}
