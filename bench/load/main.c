/* load WORK key=value...: see the keys below; prints what it counted as one line of JSON. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

int run(void);
int sink(void);

struct options options = {
    .server = {.sin_family = AF_INET},
    .connections = 1,
    .patience = 60,
    .name = "user%d@example.test",
    .sender = "sender@sender.test",
    .secret = "secret%d",
    .beside_name = "user%d@example.test",
    .accounts = 1,
    .messages = 1,
    .size = 4096,
    .beside_accounts = 1,
};

static const char *const works[] = {"login", "retr", "big", "idle", "mixed", "smtp", "sink"};

size_t name_of(const char *pattern, int number, char *into, size_t room) {
    const char *mark = strstr(pattern, "%d");
    int length = mark ? snprintf(into, room, "%.*s%d%s", (int)(mark - pattern), pattern, number, mark + 2)
                      : snprintf(into, room, "%s", pattern);
    if (length < 0 || (size_t)length >= room) {
        fprintf(stderr, "load: a name or secret is too long\n");
        exit(2);
    }
    return (size_t)length;
}

static bool take_text(const char *key, const char *value) {
    if (!strcmp(key, "host")) return inet_pton(AF_INET, value, &options.server.sin_addr) == 1;
    if (!strcmp(key, "name")) return options.name = value, true;
    if (!strcmp(key, "sender")) return options.sender = value, true;
    if (!strcmp(key, "beside_name")) return options.beside_name = value, true;
    if (!strcmp(key, "secret")) return options.secret = value, true;
    if (!strcmp(key, "seconds")) return options.seconds = atof(value), true;
    if (!strcmp(key, "patience")) return options.patience = atof(value), true;
    if (!strcmp(key, "port")) return options.server.sin_port = htons((uint16_t)atoi(value)), true;
    if (!strcmp(key, "auth")) return options.user_pass = !strcmp(value, "pass"), true;
    return false;
}

static bool take_number(const char *key, long value) {
    if (!strcmp(key, "connections")) return options.connections = (int)value, value > 0;
    if (!strcmp(key, "sessions")) return options.sessions = value, true;
    if (!strcmp(key, "accounts")) return options.accounts = (int)value, value > 0;
    if (!strcmp(key, "first")) return options.first = (int)value, true;
    if (!strcmp(key, "messages")) return options.messages = (int)value, value > 0;
    if (!strcmp(key, "pipelined")) return options.pipelined = value, true;
    if (!strcmp(key, "octets")) return options.octets = value, true;
    if (!strcmp(key, "size")) return options.size = (int)value, value > 0;
    if (!strcmp(key, "beside")) return options.beside = (int)value, true;
    if (!strcmp(key, "beside_accounts")) return options.beside_accounts = (int)value, value > 0;
    return false;
}

static bool take_option(char *argument) {
    char *equals = strchr(argument, '=');
    if (!equals) return false;
    *equals = 0;
    return take_text(argument, equals + 1) || take_number(argument, atol(equals + 1));
}

int main(int count, char **arguments) {
    bool known = false;
    for (int work = 0; count > 1 && work < (int)(sizeof works / sizeof *works); work++)
        if (!strcmp(arguments[1], works[work])) {
            options.work = (enum work)work;
            options.work_name = works[work];
            known = true;
        }
    if (!known) {
        fprintf(stderr, "usage: load login|retr|big|idle|mixed|smtp|sink host=ADDRESS port=PORT [key=value ...]\n");
        return 2;
    }
    for (int i = 2; i < count; i++)
        if (!take_option(arguments[i])) {
            fprintf(stderr, "load: what is %s?\n", arguments[i]);
            return 2;
        }
    if (options.work == SINK) return sink();
    if (options.work == SMTP)
        smtp_prepare();
    else
        pop3_prepare();
    return run();
}
