/*
 * A ledger under the control of a test: reads commands from stdin, a line each, and answers each with a line
 * of JSON.
 *
 *     open URL [TIMEZONE]                              {"status":0,"message":""}
 *     add TIME KIND PROVIDER CATEGORY NUSD SAVED       {}       TIME is Unix time; "-" an empty name
 *     flood THREADS N                                  {}       N additions of 1 nano-dollar by each thread, at TIME of add
 *     flush MS                                         {"written":true,"up":true}
 *     total                                            {"status":0,"nusd":7,"calls":3,"month":7}
 *     close                                            {"ms":12}
 */
#include "base/clock.h"
#include "ledger/ledger.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static emb_ledger *ledger;
static _Atomic int64_t now;
static uint64_t per_thread;

static int64_t now_s(void)
{
    return atomic_load(&now);
}

static const char *name_of(const char *word)
{
    return word && strcmp(word, "-") != 0 ? word : "";
}

static void open_ledger(const char *url, const char *zone)
{
    emb_error err = {0};
    const emb_ledger_options o = {.timezone = zone, .now_s = now_s};
    emb_status st = emb_ledger_open(url ? url : "", &o, &ledger, &err);
    printf("{\"status\":%d,\"message\":\"%s\"}\n", st, st ? err.message : "");
}

static void add(char **w)
{
    emb_ledger_kind kind = EMB_LEDGER_API;
    while (kind < EMB_LEDGER_SHADOW && strcmp(emb_ledger_kind_name(kind), w[2]) != 0)
        kind++;
    atomic_store(&now, strtoll(w[1], NULL, 10));
    emb_ledger_add(ledger, &(emb_ledger_entry){.kind = kind,
                                               .provider = name_of(w[3]),
                                               .model = "m",
                                               .category = name_of(w[4]),
                                               .calls = 1,
                                               .texts = 2,
                                               .tokens = 20,
                                               .nusd = strtoull(w[5], NULL, 10),
                                               .saved_nusd = strtoull(w[6], NULL, 10)});
    printf("{}\n");
}

static void *add_many(void *unused)
{
    for (uint64_t i = 0; i < per_thread; i++)
        emb_ledger_add(
            ledger, &(emb_ledger_entry){.kind = EMB_LEDGER_API, .provider = "flood", .calls = 1, .nusd = 1});
    return unused;
}

static void flood(unsigned threads, uint64_t n)
{
    pthread_t ids[16];
    unsigned started = 0;
    per_thread = n;
    while (started < threads && started < 16 && pthread_create(&ids[started], NULL, add_many, NULL) == 0)
        started++;
    for (unsigned i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
    printf("{}\n");
}

static void total(void)
{
    emb_arena arena;
    emb_error err = {0};
    emb_ledger_report r;
    emb_arena_init(&arena);
    emb_status st =
        emb_ledger_make_report(ledger, &(emb_ledger_query){.by = {EMB_BY_TOTAL}}, &arena, &r, &err);
    printf("{\"status\":%d,\"nusd\":%" PRIu64 ",\"calls\":%" PRIu64 ",\"month\":%" PRIu64 "}\n", st,
           r.total.nusd, r.total.calls, emb_ledger_month_nusd(ledger));
    emb_arena_fini(&arena);
}

static void close_ledger(void)
{
    uint64_t start = emb_now_ns();
    emb_ledger_close(ledger);
    ledger = NULL;
    printf("{\"ms\":%" PRIu64 "}\n", (emb_now_ns() - start) / 1000000);
}

static bool obey(char **w, int count)
{
    if (strcmp(w[0], "open") == 0)
        open_ledger(w[1], w[2]);
    else if (strcmp(w[0], "add") == 0 && count == 7)
        add(w);
    else if (strcmp(w[0], "flood") == 0 && count == 3)
        flood((unsigned)atoi(w[1]), strtoull(w[2], NULL, 10));
    else if (strcmp(w[0], "flush") == 0 && count == 2) {
        bool written = emb_ledger_flush(ledger, emb_now_ns() + strtoull(w[1], NULL, 10) * 1000000);
        printf("{\"written\":%s,\"up\":%s}\n", written ? "true" : "false",
               emb_ledger_is_up(ledger) ? "true" : "false");
    } else if (strcmp(w[0], "total") == 0)
        total();
    else if (strcmp(w[0], "close") == 0)
        close_ledger();
    else
        return false;
    return true;
}

int main(void)
{
    char line[1024];
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        char *w[8] = {0}, *rest = NULL;
        int count = 0;
        for (char *word = strtok_r(line, " \n", &rest); word && count < 7;
             word = strtok_r(NULL, " \n", &rest))
            w[count++] = word;
        if (!count || !obey(w, count)) {
            fprintf(stderr, "ledger_driver: what is this? %s\n", w[0] ? w[0] : "");
            return 1;
        }
    }
    emb_ledger_close(ledger);
    return 0;
}
