/* What was counted and timed, as one line of JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "load.h"

static const char *names[SERIES_COUNT] = {"session", "beside", "login", "stat", "list", "uidl", "update", "message"};
static struct {
    uint64_t *at;
    size_t used, room;
} samples[SERIES_COUNT];
static long sessions, messages, octets, failed;
static char first_error[256];

void sample(enum series series, uint64_t since) {
    if (samples[series].used == samples[series].room) {
        samples[series].room = samples[series].room ? 2 * samples[series].room : 1024;
        samples[series].at = realloc(samples[series].at, samples[series].room * sizeof *samples[series].at);
        if (!samples[series].at) abort();
    }
    samples[series].at[samples[series].used++] = now_ns() - since;
}

void count_message(long size) { messages++, octets += size; }

void count_session(long size) { sessions++, octets += size; }

void count_error(const char *why, const char *line, size_t length) {
    if (failed++) return;
    int used = snprintf(first_error, sizeof first_error, "%s: ", why);
    for (size_t i = 0; i < length && used < (int)sizeof first_error - 1; i++)
        if (line[i] >= ' ' && line[i] <= '~' && line[i] != '"' && line[i] != '\\') first_error[used++] = line[i];
    first_error[used] = 0;
}

long errors(void) { return failed; }

static int by_size(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static double percentile(enum series series, double part) {
    size_t index = (size_t)(part * (double)(samples[series].used - 1) + 0.5);
    return (double)samples[series].at[index] / 1e6;
}

static void print_series(enum series series, bool first) {
    qsort(samples[series].at, samples[series].used, sizeof *samples[series].at, by_size);
    printf("%s\"%s\": {\"count\": %zu, \"p50\": %.4f, \"p95\": %.4f, \"p99\": %.4f, \"max\": %.4f}", first ? "" : ", ",
           names[series], samples[series].used, percentile(series, 0.5), percentile(series, 0.95),
           percentile(series, 0.99), percentile(series, 1));
}

void report(double seconds, uint64_t bytes, int held) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("{\"work\": \"%s\", \"seconds\": %.6f, \"sessions\": %ld, \"messages\": %ld, \"octets\": %ld, "
           "\"bytes\": %llu, \"held\": %d, \"errors\": %ld, \"first_error\": \"%s\", \"client_cpu\": %.6f, \"ms\": {",
           options.work_name, seconds, sessions, messages, octets, (unsigned long long)bytes, held, failed,
           first_error, cpu);
    bool first = true;
    for (int series = 0; series < SERIES_COUNT; series++)
        if (samples[series].used) print_series(series, first), first = false;
    printf("}}\n");
    fflush(stdout);
}
