/* POP3 sessions (RFC 1939): what a client says after each reply. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

enum { GREETING, USER, PASS, STAT_REPLY, LIST_REPLY, UIDL_REPLY, RETR_REPLY, QUIT_REPLY };

enum { END_LENGTH = 5, LINE_END = 2 };
static const char end_of_body[] = "\r\n.\r\n";

static char *all_commands; /* RETR 1 .. RETR n, QUIT */
static size_t all_length;

void pop3_prepare(void) {
    all_commands = malloc((size_t)options.messages * 18 + 8);
    if (!all_commands) abort();
    for (int number = 1; number <= options.messages; number++)
        all_length += (size_t)sprintf(all_commands + all_length, "RETR %d\r\n", number);
    all_length += (size_t)sprintf(all_commands + all_length, "QUIT\r\n");
}

static void ask(struct conn *c, int step, const char *command, bool multi_line) {
    c->step = step;
    c->multi_line = multi_line;
    say_command(c, command, "");
}

static void quit(struct conn *c) { ask(c, QUIT_REPLY, "QUIT", false); }

static void log_in(struct conn *c, const char *greeting, size_t length) {
    char name[COMMAND_LIMIT / 2], secret[128], text[LINE_LIMIT];
    size_t name_length = name_of(c->name, c->account, name, sizeof name - 34);
    c->multi_line = false;
    if (options.user_pass) {
        c->step = USER;
        say_command(c, "USER ", name);
        return;
    }
    const char *from = memchr(greeting, '<', length);
    const char *to = from ? memchr(from, '>', (size_t)(greeting + length - from)) : NULL;
    if (!to) {
        session_failed(c, "no challenge", greeting, length);
        return;
    }
    size_t challenge = (size_t)(to - from) + 1;
    size_t secret_length = name_of(options.secret, c->account, secret, sizeof secret);
    memcpy(text, from, challenge);
    if (challenge + secret_length > sizeof text) secret_length = 0;
    memcpy(text + challenge, secret, secret_length);
    name[name_length] = ' ';
    md5_hex(text, challenge + secret_length, name + name_length + 1);
    c->step = PASS;
    say_command(c, "APOP ", name);
}

static void give_password(struct conn *c) {
    char secret[128];
    name_of(options.secret, c->account, secret, sizeof secret);
    c->step = PASS;
    say_command(c, "PASS ", secret);
}

static void retrieve(struct conn *c) {
    char command[32];
    if (c->received == options.messages) {
        c->lap = now_ns();
        if (options.pipelined)
            c->step = QUIT_REPLY, c->multi_line = false;
        else
            quit(c);
        return;
    }
    c->step = RETR_REPLY;
    c->multi_line = true;
    if (!options.pipelined) {
        snprintf(command, sizeof command, "RETR %d", c->received + 1);
        say_command(c, command, "");
    } else if (!c->received) {
        say(c, all_commands, all_length);
    }
}

static void logged_in(struct conn *c) {
    sample(LOGGED_IN, c->started);
    c->lap = now_ns();
    switch (c->work) {
    case IDLE: session_held(c); break;
    case RETR:
    case MIXED: retrieve(c); break;
    default: ask(c, STAT_REPLY, "STAT", false);
    }
}

static void time_step(struct conn *c, enum series series) {
    sample(series, c->lap);
    c->lap = now_ns();
}

/* A reply has come to its end. */
static void next_step(struct conn *c, const char *line, size_t length) {
    switch (c->step) {
    case GREETING: log_in(c, line, length); break;
    case USER: give_password(c); break;
    case PASS: logged_in(c); break;
    case STAT_REPLY:
        time_step(c, STAT);
        if (c->work == BIG)
            ask(c, LIST_REPLY, "LIST", true);
        else
            quit(c);
        break;
    case LIST_REPLY: time_step(c, LIST), ask(c, UIDL_REPLY, "UIDL", true); break;
    case UIDL_REPLY: time_step(c, UIDL), quit(c); break;
    case RETR_REPLY: retrieve(c); break;
    default:
        time_step(c, UPDATE);
        if (options.octets && (c->work == RETR || c->work == MIXED) && c->octets != options.octets)
            session_failed(c, "wrong number of octets", "", 0);
        else
            session_ended(c);
    }
}

void pop3_line(struct conn *c, const char *line, size_t length) {
    if (length < 3 || memcmp(line, "+OK", 3)) {
        session_failed(c, "refused", line, length);
    } else if (c->multi_line) {
        c->body = true;
        c->matched = LINE_END;
    } else {
        next_step(c, line, length);
    }
}

static int matched_after(int matched, char octet) {
    if (octet == end_of_body[matched]) return matched + 1;
    return octet == '\r';
}

/* Where the end mark that lies wholly in data ends; memchr for dots is many times faster than a search for CRLF.CRLF. */
static const char *whole_end(const char *data, size_t length) {
    const char *stop = data + length, *dot = data + 2;
    while (dot + 3 <= stop && (dot = memchr(dot, '.', (size_t)(stop - dot) - 2))) {
        if (dot[-1] == '\n' && dot[-2] == '\r' && dot[1] == '\r' && dot[2] == '\n') return dot + 3;
        dot++;
    }
    return NULL;
}

static void body_ended(struct conn *c, long octets) {
    c->body = false;
    c->octets += octets - 3; /* without the final dot line */
    if (c->step == RETR_REPLY) {
        c->received++;
        count_message(0);
    }
    next_step(c, "", 0);
}

size_t pop3_body(struct conn *c, const char *data, size_t length) {
    size_t used = 0;
    for (; used < length && used < END_LENGTH; used++) {
        c->matched = matched_after(c->matched, data[used]);
        if (c->matched == END_LENGTH) {
            body_ended(c, (long)used + 1);
            return used + 1;
        }
    }
    const char *end = length > used ? whole_end(data, length) : NULL;
    if (end) {
        body_ended(c, end - data);
        return (size_t)(end - data);
    }
    for (size_t at = length > used + END_LENGTH ? length - END_LENGTH : used; at < length; at++)
        c->matched = matched_after(at == length - END_LENGTH ? 0 : c->matched, data[at]);
    c->octets += (long)length;
    return length;
}
