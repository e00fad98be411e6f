/* The event loop: connections are opened, read, written, and begin again until the limits are reached. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

enum {
    EVENTS = 256,
    RAMP = 64,        /* idle connections that log in at the same time */
    ERRORS_LIMIT = 50 /* failed sessions after which none is begun: the server is broken, not slow */
};

static int epoll, active, held, downloading, next_idle;
static long begun;
static uint64_t started, finished, last_progress, bytes_received;
static struct conn *conns;
static char buffer[READ_SIZE + LINE_LIMIT];

uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double since(uint64_t then) { return (double)(now_ns() - then) / 1e9; }

static void watch(struct conn *c, int operation, bool writable) {
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll, operation, c->fd, &event);
}

/* A failed send is not looked at: what the server said before it hung up is still to be read. */
static void send_unsent(struct conn *c) {
    ssize_t sent = send(c->fd, c->unsent, c->unsent_length, MSG_NOSIGNAL);
    if (sent < 0) sent = errno == EAGAIN ? 0 : (ssize_t)c->unsent_length;
    c->unsent += sent;
    c->unsent_length -= (size_t)sent;
}

void say(struct conn *c, const char *data, size_t length) {
    c->unsent = data;
    c->unsent_length = length;
    send_unsent(c);
    if (c->unsent_length) watch(c, EPOLL_CTL_MOD, true);
}

void say_command(struct conn *c, const char *verb, const char *argument) {
    int length = snprintf(c->command, sizeof c->command, "%s%s\r\n", verb, argument);
    say(c, c->command, (size_t)length);
}

static void hang_up(struct conn *c) {
    close(c->fd);
    c->fd = -1;
}

static bool enough(const struct conn *c) {
    if (errors() >= ERRORS_LIMIT) return true;
    if (options.work == MIXED) return c->work == MIXED ? c->turn > 0 : !downloading;
    if (options.sessions && begun >= options.sessions) return true;
    if (options.seconds > 0 && since(started) >= options.seconds) return true;
    return options.work == IDLE && c->turn > 0;
}

static void connect_to_server(struct conn *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        perror("socket");
        exit(1);
    }
    c->started = now_ns();
    if (connect(c->fd, (struct sockaddr *)&options.server, sizeof options.server) && errno != EINPROGRESS) {
        session_failed(c, "connect", strerror(errno), strlen(strerror(errno)));
        return;
    }
    watch(c, EPOLL_CTL_ADD, false);
}

/* Begin a session, unless the limits are reached: the connection then has nothing more to do. */
static void begin(struct conn *c) {
    while (c->fd < 0 && !enough(c)) {
        c->account = c->low + (int)(c->turn++ % c->count);
        c->step = c->received = c->kept = 0;
        c->octets = 0;
        c->body = c->multi_line = false;
        c->unsent_length = 0;
        begun++;
        connect_to_server(c);
    }
    if (c->fd < 0) active--;
}

static void begin_idle(void) {
    if (next_idle < options.connections) {
        active++;
        begin(&conns[next_idle++]);
    }
}

void session_ended(struct conn *c) {
    if (options.work == MIXED)
        sample(c->work == MIXED ? SESSION : BESIDE, c->started);
    else
        sample(SESSION, c->started);
    if (c->work == MIXED) downloading--;
    if (c->work == options.work) {
        count_session(c->work == SMTP ? 0 : c->octets);
        finished = now_ns();
    }
    hang_up(c);
}

void session_failed(struct conn *c, const char *why, const char *line, size_t length) {
    count_error(why, line, length);
    if (c->work == MIXED) downloading--;
    hang_up(c);
    if (options.work != IDLE) return;
    if (c->step < 0) held--, active++; /* it was counted out when it was held */
    begin_idle();
}

void session_held(struct conn *c) {
    c->step = -1;
    held++;
    active--;
    count_session(0);
    finished = now_ns();
    begin_idle();
}

static size_t one_line(struct conn *c, const char *data, size_t length) {
    const char *end = memchr(data, '\n', length);
    if (!end) return 0;
    size_t text = (size_t)(end - data);
    if (text && data[text - 1] == '\r') text--;
    if (options.work == SMTP)
        smtp_line(c, data, text);
    else
        pop3_line(c, data, text);
    return (size_t)(end - data) + 1;
}

static void take(struct conn *c, const char *data, size_t length) {
    while (length && c->fd >= 0) {
        size_t used = c->body ? pop3_body(c, data, length) : one_line(c, data, length);
        if (!used) break;
        data += used;
        length -= used;
    }
    if (c->fd < 0) return;
    if (length > sizeof c->line) {
        session_failed(c, "a line is too long", "", 0);
        return;
    }
    memcpy(c->line, data, length);
    c->kept = (int)length;
}

static void read_from(struct conn *c) {
    memcpy(buffer, c->line, (size_t)c->kept);
    ssize_t length = recv(c->fd, buffer + c->kept, READ_SIZE, 0);
    if (length < 0 && errno == EAGAIN) return;
    if (length <= 0) {
        session_failed(c, "closed by the server", length ? strerror(errno) : "", length ? strlen(strerror(errno)) : 0);
        return;
    }
    bytes_received += (uint64_t)length;
    size_t total = (size_t)(c->kept + length);
    c->kept = 0;
    take(c, buffer, total);
}

static void serve(struct conn *c, uint32_t events) {
    if (events & EPOLLOUT) {
        send_unsent(c);
        if (!c->unsent_length) watch(c, EPOLL_CTL_MOD, false);
    }
    if (events & ~(uint32_t)EPOLLOUT) {
        read_from(c);
        if (c->fd < 0) begin(c);
    }
}

static void wait_once(void) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll, events, EVENTS, 1000);
    if (count > 0) last_progress = now_ns();
    for (int i = 0; i < count; i++) serve(events[i].data.ptr, events[i].events);
    if (since(last_progress) > options.patience) {
        count_error("stalled", "", 0);
        active = 0;
    }
}

/* The part of the accounts that belongs to the one connection of these, so that no maildrop is opened twice at once. */
static void prepare_conn(struct conn *c, int index, int of, int first, int accounts) {
    int low = (int)((long)accounts * index / of), high = (int)((long)accounts * (index + 1) / of);
    c->fd = -1;
    c->low = first + low;
    c->count = high > low ? high - low : 1;
}

static void prepare_conns(void) {
    int total = options.connections + (options.work == MIXED ? options.beside : 0);
    conns = calloc((size_t)total, sizeof *conns);
    if (!conns) abort();
    for (int i = 0; i < options.connections; i++) {
        prepare_conn(&conns[i], i, options.connections, options.first, options.accounts);
        conns[i].work = options.work;
        conns[i].name = options.name;
    }
    for (int i = options.connections; i < total; i++) {
        prepare_conn(&conns[i], i - options.connections, options.beside, 0, options.beside_accounts);
        conns[i].work = LOGIN;
        conns[i].name = options.beside_name;
    }
    active = options.work == IDLE ? 0 : total;
    downloading = options.work == MIXED ? options.connections : 0;
    started = finished = last_progress = now_ns();
    if (options.work == IDLE)
        for (int i = 0; i < RAMP; i++) begin_idle();
    else
        for (int i = 0; i < total; i++) begin(&conns[i]);
}

/* Hold all connections until our standard input ends; the second report says how many are still there. */
static void hold(void) {
    char ignored[64];
    report((double)(finished - started) / 1e9, bytes_received, held);
    while (read(0, ignored, sizeof ignored) > 0) {}
    struct epoll_event events[EVENTS];
    int count;
    while ((count = epoll_wait(epoll, events, EVENTS, 0)) > 0)
        for (int i = 0; i < count; i++) read_from(events[i].data.ptr);
}

int run(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    prepare_conns();
    while (active > 0) wait_once();
    if (options.work == IDLE) hold();
    report((double)(finished - started) / 1e9, bytes_received, held);
    return errors() ? 1 : 0;
}
