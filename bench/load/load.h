/* A load generator for mail servers, and what they deliver to: one process, one epoll loop, many connections. */
#ifndef LOAD_H
#define LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LINE_LIMIT = 1024,   /* octets of a reply line; RFC 1939 and RFC 5321 allow 512 */
    COMMAND_LIMIT = 512, /* octets of a command line with the longest name or address we make */
    READ_SIZE = 1 << 18  /* octets read at once, into one buffer for all connections */
};

enum work { LOGIN, RETR, BIG, IDLE, MIXED, SMTP, SINK };

/* What is timed; the report gives each one's percentiles. */
enum series { SESSION, BESIDE, LOGGED_IN, STAT, LIST, UIDL, UPDATE, MESSAGE, SERIES_COUNT };

struct options {
    enum work work;
    const char *work_name;
    struct sockaddr_in server;
    int connections;  /* at once */
    long sessions;    /* begin no more than these; 0: no limit */
    double seconds;   /* begin none after these; 0: no limit */
    double patience;  /* seconds without any progress that end the run */
    const char *name; /* of account N: "%d" stands for N */
    const char *sender; /* of every message (SMTP) */
    const char *secret;
    bool user_pass;       /* USER and PASS in place of APOP */
    int accounts, first;  /* the accounts are first .. first + accounts - 1 */
    int messages;         /* in a maildrop (RETR), or to send over one connection (SMTP) */
    bool pipelined;       /* all RETR at once */
    long octets;          /* of all message lines of one session, as on the wire; 0: not checked */
    int size;             /* octets of a message to send */
    int beside;           /* login clients beside the downloads (MIXED) */
    const char *beside_name; /* and their accounts */
    int beside_accounts;
};

struct conn {
    int fd;
    enum work work;
    const char *name; /* pattern of its accounts' names */
    int step;
    int account;      /* the current one, and the range that belongs to this connection alone: */
    int low, count;
    long turn;        /* sessions begun */
    bool body;        /* within a multi-line reply */
    bool multi_line;  /* the reply that is awaited is one */
    int matched;      /* octets of CRLF.CRLF seen at the end of what was read */
    int received;     /* messages in this session */
    long octets;      /* of message lines in this session */
    uint64_t started, lap;
    const char *unsent;
    size_t unsent_length;
    int kept;         /* octets of an unfinished line */
    char line[LINE_LIMIT];
    char command[COMMAND_LIMIT];
};

extern struct options options;

/* loop.c */
void say(struct conn *c, const char *data, size_t length);
void say_command(struct conn *c, const char *verb, const char *argument);
void session_ended(struct conn *c);
void session_failed(struct conn *c, const char *why, const char *line, size_t length);
void session_held(struct conn *c);
uint64_t now_ns(void);

/* pop3.c, smtp.c: one reply line, without its CRLF; a piece of a multi-line reply, how much of it was used up */
void pop3_prepare(void);
void pop3_line(struct conn *c, const char *line, size_t length);
size_t pop3_body(struct conn *c, const char *data, size_t length);
void smtp_prepare(void);
void smtp_line(struct conn *c, const char *line, size_t length);

/* report.c */
void sample(enum series series, uint64_t since);
void count_message(long octets);
void count_session(long octets);
void count_error(const char *why, const char *line, size_t length);
long errors(void);
void report(double seconds, uint64_t bytes, int held);

/* md5.c */
void md5_hex(const char *data, size_t length, char hex[33]);

/* main.c: the pattern with N in place of "%d" */
size_t name_of(const char *pattern, int number, char *into, size_t room);
#endif
