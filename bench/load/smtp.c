/* SMTP sessions (RFC 5321): a few messages over one connection, each to the next account. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

enum { GREETING, EHLO, MAIL, RCPT, DATA, END_OF_DATA, QUIT };

static const char *const expected[] = {"220", "250", "250", "250", "354", "250", "221"};
static char *message;
static size_t message_length;
static char from[COMMAND_LIMIT - 2];
static long recipients;

void smtp_prepare(void) {
    static const char header[] = "From: Sender <sender@sender.test>\r\nTo: Recipient <recipient@example.test>\r\n"
                                 "Subject: A message of the usual length\r\nMessage-ID: <1@sender.test>\r\n\r\n";
    static const char line[] = "The quick brown fox jumps over the lazy dog, again and again and once more\r\n";
    message = malloc((size_t)options.size + sizeof header + sizeof line + 8);
    if (!message) abort();
    message_length = (size_t)sprintf(message, "%s", header);
    while (message_length < (size_t)options.size) message_length += (size_t)sprintf(message + message_length, "%s", line);
    message_length += (size_t)sprintf(message + message_length, ".\r\n");
    snprintf(from, sizeof from, "MAIL FROM:<%s>", options.sender);
}

static void mail(struct conn *c) {
    c->step = MAIL;
    c->lap = now_ns();
    say_command(c, from, "");
}

static void rcpt(struct conn *c) {
    char path[COMMAND_LIMIT - 16] = "<";
    int number = options.first + (int)(recipients++ % options.accounts);
    size_t length = 1 + name_of(options.name, number, path + 1, sizeof path - 2);
    path[length] = '>';
    path[length + 1] = 0;
    c->step = RCPT;
    say_command(c, "RCPT TO:", path);
}

static void message_accepted(struct conn *c) {
    sample(MESSAGE, c->lap);
    count_message((long)message_length - 3);
    if (++c->received < options.messages) {
        mail(c);
    } else {
        c->step = QUIT;
        say_command(c, "QUIT", "");
    }
}

void smtp_line(struct conn *c, const char *line, size_t length) {
    if (length < 3 || memcmp(line, expected[c->step], 3)) {
        session_failed(c, "refused", line, length);
        return;
    }
    if (length > 3 && line[3] == '-') return;
    switch (c->step) {
    case GREETING: c->step = EHLO, say_command(c, "EHLO client.test", ""); break;
    case EHLO: mail(c); break;
    case MAIL: rcpt(c); break;
    case RCPT: c->step = DATA, say_command(c, "DATA", ""); break;
    case DATA: c->step = END_OF_DATA, say(c, message, message_length); break;
    case END_OF_DATA: message_accepted(c); break;
    default: session_ended(c);
    }
}
