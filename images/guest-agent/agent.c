// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: ZoneRuntime authors

// The first process of a micro machine of a foreign architecture: what zonectl is in those of its own. One poll loop, which
// waits for nobody else. It never ends: whatever goes wrong with it switches the machine off.
#define _GNU_SOURCE
#include "frame.h"
#include "machine.h"
#include "program.h"
#include "session.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_SESSIONS = 1024, MOST_DESCRIPTORS = 2 + 3 * MOST_SESSIONS };

struct agent {
    int port, signals;
    struct frame_reader reader;
    struct frame_queue queue;
    struct session *sessions;
    size_t session_count;
    // What was configured; NULL before.
    struct json_document document;
    const struct json *configuration;
    // The zone's first process: 0 before, -1 after.
    pid_t first;
    bool has_all_drivers;
    struct pollfd polled[MOST_DESCRIPTORS];
};

static void refuse(struct agent *agent, uint32_t session, const struct fault *fault) {
    queue_add_failed(&agent->queue, session, fault->code, fault->text);
}

// MARK: The end

static bool wait_for_all(int milliseconds) {
    int64_t end = now_milliseconds() + milliseconds;
    for (;;) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid < 0 && errno == ECHILD) return true;
        if (pid > 0) continue;
        if (now_milliseconds() > end) return false;
        pause_milliseconds(5);
    }
}

_Noreturn static void switch_off(void) {
    kill(-1, SIGTERM);
    if (!wait_for_all(300)) {
        kill(-1, SIGKILL);
        wait_for_all(3000);
    }
    close_root();
    for (;;) {
        reboot(RB_POWER_OFF);
        reboot(RB_AUTOBOOT);
        pause_milliseconds(1000);
    }
}

_Noreturn static void die(const char *reason) {
    // To the machine's console, which its monitor keeps.
    fprintf(stderr, "agent: %s\n", reason);
    switch_off();
}

// MARK: Configuration

static void set_clock(int64_t wanted) {
    struct timespec now, time = {.tv_sec = wanted / 1000, .tv_nsec = wanted % 1000 * 1000000L};
    clock_gettime(CLOCK_REALTIME, &now);
    // A second or less is the host's wish for a message in the past.
    if (wanted > 0 && llabs((long long)now.tv_sec - (long long)time.tv_sec) > 1) clock_settime(CLOCK_REALTIME, &time);
}

static int make_machine(const struct json *configuration, struct fault *fault) {
    set_clock(json_number(configuration, "time", 0));
    const char *name = json_text(configuration, "hostname", "");
    const struct json *interfaces = json_get(configuration, "interfaces");
    bool has_shares = json_flag(configuration, "shares");
    if (*name && sethostname(name, strlen(name)) < 0) return fail_errno(fault, "set the host name");
    if (load_modules("base", NULL, fault) < 0) return -1;
    if (json_first(interfaces) && load_modules("net", NULL, fault) < 0) return -1;
    if (has_shares && load_modules("share", NULL, fault) < 0) return -1;
    if (configure_network(interfaces, fault) < 0) return -1;
    if (has_shares && mount_shares(fault) < 0) return -1;
    if (write_files(json_get(configuration, "files"), fault) < 0) return -1;
    return mount_root(json_get(configuration, "root"), fault);
}

static void configure(struct agent *agent, const struct frame *frame) {
    struct fault fault = {0};
    if (agent->configuration) {
        fail(&fault, "the machine is configured already");
    } else {
        const struct json *parsed = json_parse(&agent->document, frame->payload, frame->length);
        if (!parsed) {
            fail(&fault, "the machine's configuration: %s", agent->document.reason);
        } else if (make_machine(parsed, &fault) < 0) {
            json_free(&agent->document);
        } else {
            agent->configuration = parsed;
            queue_add(&agent->queue, FRAME_CONFIGURED, 0, NULL, 0);
            return;
        }
    }
    refuse(agent, 0, &fault);
}

// MARK: Sessions

static struct session *find_session(struct agent *agent, uint32_t number) {
    struct session *session = agent->sessions;
    while (session && session->number != number) session = session->next;
    return session;
}

static bool is_number(const char *text) {
    return *text && strspn(text, "0123456789") == strlen(text);
}

// Processes but for the kernel's and the agent.
static unsigned long count_processes(void) {
    unsigned long count = 0;
    DIR *folder = opendir("/proc");
    struct dirent *entry;
    while (folder && (entry = readdir(folder))) {
        char path[300], text[512];
        if (!is_number(entry->d_name) || strcmp(entry->d_name, "1") == 0 || strcmp(entry->d_name, "2") == 0) continue;
        snprintf(path, sizeof path, "/proc/%.200s/stat", entry->d_name);
        if (read_file(path, text, sizeof text) < 0) continue;
        const char *end = strrchr(text, ')');
        int parent = 0;
        char state;
        // All of the kernel's are children of its second process.
        if (end && sscanf(end + 1, " %c %d", &state, &parent) == 2 && parent != 2) count++;
    }
    if (folder) closedir(folder);
    return count;
}

static unsigned long long memory_field(const char *text, const char *name) {
    const char *line = strstr(text, name);
    return line ? strtoull(line + strlen(name), NULL, 10) * 1024 : 0;
}

static void answer_statistics(struct agent *agent, uint32_t number) {
    char memory[4096] = "", text[256];
    read_file("/proc/meminfo", memory, sizeof memory);
    int length = snprintf(
        text, sizeof text, "{\"memoryTotal\":%llu,\"memoryAvailable\":%llu,\"processes\":%lu}",
        memory_field(memory, "MemTotal:"), memory_field(memory, "MemAvailable:"), count_processes());
    queue_add(&agent->queue, FRAME_ANSWER, number, text, (size_t)length);
    queue_add_number(&agent->queue, FRAME_EXITED, number, 0);
}

static int check_first(const struct agent *agent, bool is_run, struct fault *fault) {
    const char *name = json_text(agent->configuration, "zone", "");
    if (is_run) return agent->first == 0 ? 0 : fail(fault, "zone %s: its program was started before", name);
    if (agent->first == 0) return fail(fault, "exec: zone %s does not run yet", name);
    return agent->first > 0 ? 0 : fail(fault, "exec: zone %s has just ended", name);
}

static int open_program(struct agent *agent, uint32_t number, const struct json *request, bool is_run, struct fault *fault) {
    struct launch launch = {.configuration = agent->configuration, .is_interactive = json_flag(request, "interactive")};
    launch.process = json_get(is_run ? json_get(agent->configuration, "spec") : request, "process");
    if (!launch.process) return fail(fault, "the request: process: is missing");
    if (check_first(agent, is_run, fault) < 0) return -1;
    if (!is_run) launch.first = agent->first;
    struct program program;
    // A program that could not be started may have left mounts: it is not tried again.
    if (is_run) agent->first = -1;
    if (start_program(&launch, &program, fault) < 0) return -1;
    struct session *session = session_new(number, &program);
    if (!session) die("out of memory");
    if (is_run) agent->first = program.pid;
    session->next = agent->sessions;
    agent->sessions = session;
    agent->session_count++;
    queue_add_number(&agent->queue, FRAME_STARTED, number, (uint32_t)program.pid);
    return 0;
}

static int open_request(struct agent *agent, uint32_t number, const struct json *request, struct fault *fault) {
    const char *action = json_text(request, "action", "run");
    bool is_run = strcmp(action, "run") == 0;
    if (is_run || strcmp(action, "exec") == 0) return open_program(agent, number, request, is_run, fault);
    if (strcmp(action, "statistics") == 0) {
        answer_statistics(agent, number);
        return 0;
    }
    return fail(
        fault, "%s: machines of a foreign architecture cannot copy files\nshare a folder with the machine: zonectl run -v",
        action);
}

static void open_session(struct agent *agent, const struct frame *frame) {
    struct fault fault = {0};
    struct json_document document = {0};
    const struct json *request = json_parse(&document, frame->payload, frame->length);
    int result = -1;
    if (!agent->configuration) fail(&fault, "the machine is not configured");
    else if (frame->session == 0 || find_session(agent, frame->session))
        fail(&fault, "session %u is there already", frame->session);
    else if (agent->session_count >= MOST_SESSIONS) fail(&fault, "no more programs fit");
    else if (!request) fail(&fault, "the request: %s", document.reason);
    else result = open_request(agent, frame->session, request, &fault);
    if (result < 0) refuse(agent, frame->session, &fault);
    json_free(&document);
}

static void reap(struct agent *agent) {
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid == agent->first) agent->first = -1;
        for (struct session *session = agent->sessions; session; session = session->next)
            if (session->pid == pid && !session->has_ended) session_ended(session, status);
    }
}

static void finish_sessions(struct agent *agent) {
    for (struct session **place = &agent->sessions; *place;) {
        struct session *session = *place;
        if (session_finish(session, &agent->queue)) {
            *place = session->next;
            session_free(session);
            agent->session_count--;
        } else {
            place = &session->next;
        }
    }
}

// MARK: The host's words

// False where the machine is to be switched off.
static bool follow(struct agent *agent, const struct frame *frame) {
    struct session *session = find_session(agent, frame->session);
    const unsigned char *payload = frame->payload;
    size_t length = frame->length;
    switch (frame->kind) {
    case FRAME_CONFIGURE: configure(agent, frame); return true;
    case FRAME_OPEN: open_session(agent, frame); return true;
    case FRAME_DATA:
        if (!session || length == 0 || payload[0] != STREAM_INPUT) return true;
        return session_accept(session, payload + 1, length - 1, &agent->queue) == 0;
    case FRAME_END:
        if (session && length > 0) session_end_stream(session, payload[0], &agent->queue);
        return true;
    case FRAME_RESIZE:
        if (session && length >= 4) session_resize(session, read_u16(payload), read_u16(payload + 2));
        return true;
    case FRAME_SIGNAL:
        if (session && !session->has_ended && length >= 4) {
            uint32_t number = read_u32(payload);
            if (number >= 1 && number <= 64) kill(session->pid, (int)number);
        }
        return true;
    case FRAME_CREDIT: return !session || length < 5 || session_grant(session, payload[0], read_u32(payload + 1)) == 0;
    case FRAME_CLOSE:
        if (session) session_close(session);
        return true;
    // powerOff, and what no host says.
    default: return false;
    }
}

static bool listen_to_host(struct agent *agent) {
    if (reader_fill(&agent->reader, agent->port) < 0) return false;
    struct frame frame;
    int result;
    while ((result = reader_next(&agent->reader, &frame)) > 0)
        if (!follow(agent, &frame)) return false;
    return result == 0;
}

// MARK: The loop

static short events_of(const struct agent *agent, nfds_t index) {
    return agent->polled[index].revents;
}

static nfds_t add_descriptor(struct agent *agent, nfds_t count, int fd, short events) {
    agent->polled[count] = (struct pollfd){.fd = fd, .events = events};
    return count + 1;
}

// Those that are of no interest now are left out by a negative number, so that each has its place.
static nfds_t join_sessions(struct agent *agent, nfds_t count) {
    bool has_room = queue_count(&agent->queue) < MOST_WAITING;
    for (const struct session *session = agent->sessions; session; session = session->next) {
        const struct input *input = &session->input;
        count = add_descriptor(agent, count, input->begin < input->end ? input->fd : -1, POLLOUT);
        for (int i = 0; i < 2; i++) {
            const struct output *output = &session->outputs[i];
            count = add_descriptor(agent, count, has_room && output->credit > 0 ? output->fd : -1, POLLIN);
        }
    }
    return count;
}

static void serve_sessions(struct agent *agent, nfds_t index) {
    for (struct session *session = agent->sessions; session; session = session->next, index += 3) {
        if (events_of(agent, index)) session_write_input(session, &agent->queue);
        for (nfds_t i = 0; i < 2; i++)
            if (events_of(agent, index + 1 + i)) session_pass(session, &session->outputs[i], &agent->queue);
    }
}

static bool serve_round(struct agent *agent) {
    short wanted = queue_count(&agent->queue) > 0 ? POLLIN | POLLOUT : POLLIN;
    add_descriptor(agent, 0, agent->port, wanted);
    add_descriptor(agent, 1, agent->signals, POLLIN);
    nfds_t count = join_sessions(agent, 2);
    if (poll(agent->polled, count, -1) < 0) return errno == EINTR;
    // First, while the sessions are those that were asked about.
    serve_sessions(agent, 2);
    if (events_of(agent, 0) & ~POLLOUT && !listen_to_host(agent)) return false;
    struct signalfd_siginfo signal;
    while (events_of(agent, 1) && read(agent->signals, &signal, sizeof signal) > 0) {}
    reap(agent);
    finish_sessions(agent);
    if (queue_flush(&agent->queue, agent->port) < 0) return false;
    if (agent->sessions && !agent->has_all_drivers) {
        agent->has_all_drivers = true;
        load_modules_for_devices();
    }
    return true;
}

static int greet(struct agent *agent) {
    struct utsname name;
    char text[256];
    if (uname(&name) < 0) return -1;
    int length = snprintf(text, sizeof text, "{\"version\":%d,\"kernel\":\"%.64s\"}", PROTOCOL_VERSION, name.release);
    queue_add(&agent->queue, FRAME_HELLO, 0, text, (size_t)length);
    return queue_flush(&agent->queue, agent->port);
}

static void start(struct agent *agent) {
    struct fault fault = {0};
    sigset_t ended;
    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ended, NULL);
    signal(SIGPIPE, SIG_IGN);
    agent->signals = signalfd(-1, &ended, SFD_CLOEXEC | SFD_NONBLOCK);
    if (agent->signals < 0) die("no signals");
    if (mount_devices(&fault) < 0 || load_modules("base", "virtio_console.ko", &fault) < 0) die(fault.text);
    agent->port = open_port(&fault);
    if (agent->port < 0) die(fault.text);
    if (greet(agent) < 0) die("nobody listens");
    // While the host prepares what it wants.
    if (mount_rest(&fault) < 0 || load_modules("base", NULL, &fault) < 0) die(fault.text);
}

int main(void) {
    static struct agent agent;
    if (getpid() != 1) {
        fprintf(stderr, "agent: this is the first process of a virtual machine\n");
        return 1;
    }
    start(&agent);
    while (serve_round(&agent)) {}
    switch_off();
}
