// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors
//
// What stands in for an operating system that starts by EFI and may not be passed on: says that it is up, on the screen
// and on the first serial line, and turns the machine off at a key, or after ten minutes.

#define EFI_CALL __attribute__((ms_abi))

typedef unsigned short Char16;
typedef unsigned char UInt8;
typedef unsigned int UInt32;
typedef unsigned long long UInt64;

typedef struct {
    Char16 scan_code, character;
} Key;

typedef struct Input {
    void *reset;
    UInt64 (EFI_CALL *read_key)(struct Input *, Key *);
} Input;

typedef struct Output {
    void *reset;
    UInt64 (EFI_CALL *write)(struct Output *, const Char16 *);
} Output;

typedef struct {
    char header[24];
    void *before[28];
    UInt64 (EFI_CALL *stall)(UInt64 microseconds);
    UInt64 (EFI_CALL *set_watchdog)(UInt64 seconds, UInt64 code, UInt64 size, const Char16 *data);
} BootServices;

typedef struct {
    char header[24];
    void *before[10];
    void (EFI_CALL *reset)(int kind, UInt64 status, UInt64 size, void *data);
} RuntimeServices;

typedef struct {
    char header[24];
    Char16 *vendor;
    UInt32 revision;
    void *input_handle;
    Input *input;
    void *output_handle;
    Output *output;
    void *error_handle;
    Output *error;
    RuntimeServices *runtime;
    BootServices *boot;
} SystemTable;

static void serial(const char *text) {
    for (; *text; text++) {
        __asm__ volatile("outb %0, %1" ::"a"(*text), "Nd"((Char16)0x3f8));
    }
}

EFI_CALL UInt64 efi_main(void *image, SystemTable *system) {
    (void)image;
    Key key;
    system->boot->set_watchdog(0, 0, 0, 0);
    system->output->write(system->output, u"ZONECTL EFI GUEST UP\r\n");
    serial("EFI-GUEST-UP (raw serial)\r\n");
    // What was typed before counts for nothing.
    while (system->input->read_key(system->input, &key) == 0) {
    }
    for (int tenths = 0; tenths < 6000; tenths++) {
        if (system->input->read_key(system->input, &key) == 0) break;
        system->boot->stall(100000);
    }
    serial("EFI-GUEST-OFF\r\n");
    // 2: off
    system->runtime->reset(2, 0, 0, 0);
    return 0;
}
