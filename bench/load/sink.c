/* An SMTP server that takes every message and keeps none (RFC 5321, RFC 2920): it counts them, and says when all are there. */
#define _GNU_SOURCE /* accept4 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

enum { EVENTS = 256, REPLIES_SIZE = 1 << 16, NO_NUMBER = -1 };

struct guest {
    int fd;
    bool data;        /* within a message */
    int matched;      /* octets of CRLF.CRLF seen */
    int recipients;
    long number;      /* in the first recipient's address */
    int kept;         /* octets of an unfinished line */
    char line[LINE_LIMIT];
};

static const char offer[] = "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 52428800\r\n250 ENHANCEDSTATUSCODES\r\n";
static const char end_mark[] = "\r\n.\r\n";

static int epoll;
static char buffer[READ_SIZE + LINE_LIMIT], replies[REPLIES_SIZE];
static size_t replies_length;
static long wanted, taken, distinct, sessions, numbers;
static unsigned char *seen; /* by number: has a message for it come? */

static void answer(const char *text) {
    size_t length = strlen(text);
    if (replies_length + length > sizeof replies) abort(); /* more commands at once than any client of ours sends */
    memcpy(replies + replies_length, text, length);
    replies_length += length;
}

/* The first number in a RCPT command's address, so that a message is known again. */
static long number_in(const char *line, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (line[i] >= '0' && line[i] <= '9') return strtol(line + i, NULL, 10);
    return NO_NUMBER;
}

static void report_taken(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("{\"messages\": %ld, \"distinct\": %ld, \"sessions\": %ld, \"at\": %.6f, \"cpu\": %.6f}\n",
           taken, distinct, sessions, (double)now_ns() / 1e9, cpu);
    fflush(stdout);
}

/* Begin to count anew, until so many different messages have come. */
static void expect(long count) {
    wanted = count;
    taken = distinct = sessions = 0;
    memset(seen, 0, (size_t)numbers);
}

static void take_message(struct guest *g) {
    taken++;
    if (g->number >= 0 && g->number < numbers && !seen[g->number]) seen[g->number] = 1, distinct++;
    g->data = false;
    g->recipients = 0;
    answer("250 2.0.0 taken\r\n");
    if (distinct == wanted) wanted = 0, report_taken();
}

static bool is(const char *line, size_t length, const char *verb) {
    return length >= strlen(verb) && !strncasecmp(line, verb, strlen(verb));
}

/* False: the session has ended. */
static bool obey(struct guest *g, const char *line, size_t length) {
    if (is(line, length, "EHLO")) {
        answer(offer);
    } else if (is(line, length, "RCPT")) {
        if (!g->recipients++) g->number = number_in(line, length);
        answer("250 2.1.5 ok\r\n");
    } else if (is(line, length, "DATA")) {
        g->data = g->recipients > 0;
        g->matched = 2; /* the line end of DATA counts: a message may be empty */
        answer(g->data ? "354 go on\r\n" : "554 5.5.1 no recipients\r\n");
    } else if (is(line, length, "QUIT")) {
        answer("221 2.0.0 bye\r\n");
        return false;
    } else {
        if (is(line, length, "RSET") || is(line, length, "MAIL")) g->recipients = 0;
        answer("250 2.0.0 ok\r\n");
    }
    return true;
}

/* How much of the message's octets was used up; all, or up to its end. */
static size_t swallow(struct guest *g, const char *data, size_t length) {
    size_t at = 0;
    while (at < length) {
        if (!g->matched) {
            const char *next = memchr(data + at, '\r', length - at);
            if (!next) at = length;
            else at = (size_t)(next - data) + 1, g->matched = 1;
            continue;
        }
        char octet = data[at++];
        g->matched = octet == end_mark[g->matched] ? g->matched + 1 : octet == '\r';
        if (g->matched == (int)sizeof end_mark - 1) {
            take_message(g);
            break;
        }
    }
    return at;
}

static bool take(struct guest *g, const char *data, size_t length) {
    while (length) {
        size_t used;
        if (g->data) {
            used = swallow(g, data, length);
        } else {
            const char *end = memchr(data, '\n', length);
            if (!end) break;
            used = (size_t)(end - data) + 1;
            if (!obey(g, data, used)) return false;
        }
        data += used;
        length -= used;
    }
    if (length > sizeof g->line) return false;
    memcpy(g->line, data, length);
    g->kept = (int)length;
    return true;
}

static void serve_guest(struct guest *g) {
    memcpy(buffer, g->line, (size_t)g->kept);
    ssize_t length = recv(g->fd, buffer + g->kept, READ_SIZE, 0);
    if (length < 0 && errno == EAGAIN) return;
    size_t total = (size_t)g->kept + (length > 0 ? (size_t)length : 0);
    g->kept = 0;
    replies_length = 0;
    bool goes_on = length > 0 && take(g, buffer, total);
    if (replies_length && send(g->fd, replies, replies_length, MSG_NOSIGNAL) != (ssize_t)replies_length) goes_on = false;
    if (goes_on) return;
    close(g->fd);
    free(g);
}

static void greet_guests(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct guest *g = calloc(1, sizeof *g);
        int one = 1;
        if (!g) abort();
        g->fd = fd;
        sessions++;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = g};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        send(fd, "220 sink.test ESMTP\r\n", 21, MSG_NOSIGNAL);
    }
}

/* A line on standard input: the number of messages to count to; an empty one: say what there is. False: it has ended. */
static bool take_order(void) {
    char line[64];
    ssize_t length = read(0, line, sizeof line - 1);
    if (length <= 0) return false;
    line[length] = 0;
    if (line[0] == '\n') report_taken();
    else expect(atol(line)), printf("{}\n"), fflush(stdout);
    return true;
}

static int listen_on_port(void) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&options.server, sizeof options.server) || listen(listener, 1024)) {
        perror("listen");
        exit(1);
    }
    return listener;
}

int sink(void) {
    static int order_mark, listener_mark;
    struct epoll_event events[EVENTS], order = {.events = EPOLLIN, .data.ptr = &order_mark},
                                       guests = {.events = EPOLLIN, .data.ptr = &listener_mark};
    int listener = listen_on_port();
    numbers = options.accounts;
    seen = calloc((size_t)numbers, 1);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!seen) abort();
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &order);
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &guests);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &order_mark) {
                if (!take_order()) return 0;
            } else if (events[i].data.ptr == &listener_mark) {
                greet_guests(listener);
            } else {
                serve_guest(events[i].data.ptr);
            }
        }
    }
}
