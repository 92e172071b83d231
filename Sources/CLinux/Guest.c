// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

#define _GNU_SOURCE
#include "Guest.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RESULT(call) ({ __typeof__(call) r_ = (call); r_ < 0 ? -errno : r_; })

int zn_load_module(int fd) {
    return RESULT((int)syscall(SYS_finit_module, fd, "", 0));
}
int zn_set_clock(int64_t milliseconds) {
    struct timespec time = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000};
    return RESULT(clock_settime(CLOCK_REALTIME, &time));
}
pid_t zn_ended_child(void) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    int result = RESULT(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT));
    return result < 0 ? result : info.si_pid;
}
int zn_reap(pid_t pid) {
    return RESULT(waitpid(pid, NULL, WNOHANG));
}
int zn_kill(pid_t pid, int signal) {
    return RESULT(kill(pid, signal));
}
int zn_signal_after(int signal, int milliseconds) {
    static timer_t timer;
    static bool is_made;
    if (!is_made) {
        struct sigevent event;
        memset(&event, 0, sizeof event);
        event.sigev_notify = SIGEV_SIGNAL;
        event.sigev_signo = signal;
        int result = RESULT(timer_create(CLOCK_MONOTONIC, &event, &timer));
        if (result < 0) return result;
        is_made = true;
    }
    struct itimerspec time;
    memset(&time, 0, sizeof time);
    time.it_value.tv_sec = milliseconds / 1000;
    time.it_value.tv_nsec = milliseconds % 1000 * 1000000L;
    return RESULT(timer_settime(timer, 0, &time, NULL));
}
int zn_waiting_bytes(int fd, int *count) {
    return RESULT(ioctl(fd, FIONREAD, count));
}
int zn_umount(const char *path) {
    return RESULT(umount2(path, 0));
}
void zn_switch_off(void) {
    reboot(RB_POWER_OFF);
    reboot(RB_AUTOBOOT);
}
