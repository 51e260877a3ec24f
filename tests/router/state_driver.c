/*
 * A budget and a breaker at the end of a pipe: reads commands, one a line, and answers each with one line of
 * JSON.
 *
 *     open URL RESERVATION_S COMMAND_MS    status
 *     storm THREADS CALLS SCOPE LIMIT NUSD granted, refused, failed, worst (ms); reservations are kept
 *     reserve SCOPE LIMIT NUSD             status, ms; kept
 *     settle NUSD                          count: all kept reservations, at this cost each, written
 *     read SCOPE                           status, spent, reserved
 *     call NAME s|f|F                      allowed, probe, ms: a call of the breaker that ends so
 *     view NAME                            state, openings
 *     up                                   budget, breakers
 */
#include "base/clock.h"
#include "router/breaker.h"
#include "router/budget.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 100000 };

static emb_budget *budget;
static emb_breakers *breakers;
static emb_budget_ticket *tickets;
static atomic_uint kept;

typedef struct storm {
    char scope[128];
    uint64_t limit, nusd;
    atomic_int left, granted, refused, failed;
    _Atomic uint64_t worst_ns;
} storm;

static emb_status reserve(const char *scope, uint64_t limit, uint64_t nusd, uint64_t *took_ns)
{
    emb_budget_scope s[] = {{"global", UINT64_MAX}, {scope, limit}};
    emb_budget_ticket t;
    emb_error err;
    uint64_t start = emb_now_ns();
    emb_status st = emb_budget_reserve(budget, s, 2, nusd, 0, &t, &err);
    *took_ns = emb_now_ns() - start;
    if (st == EMB_OK)
        tickets[atomic_fetch_add(&kept, 1) % MOST] = t;
    return st;
}

static void *storm_run(void *context)
{
    storm *s = context;
    uint64_t took;
    while (atomic_fetch_sub(&s->left, 1) > 0) {
        emb_status st = reserve(s->scope, s->limit, s->nusd, &took);
        atomic_fetch_add(st == EMB_OK ? &s->granted : st == EMB_E_BUDGET ? &s->refused : &s->failed, 1);
        uint64_t worst = atomic_load(&s->worst_ns);
        while (took > worst && !atomic_compare_exchange_weak(&s->worst_ns, &worst, took))
            ;
    }
    return NULL;
}

static void do_storm(const char *line)
{
    storm s = {.scope = ""};
    unsigned threads = 0;
    int calls = 0;
    pthread_t ids[64];
    sscanf(line, "storm %u %d %127s %" SCNu64 " %" SCNu64, &threads, &calls, s.scope, &s.limit, &s.nusd);
    atomic_store(&s.left, calls);
    for (unsigned i = 0; i < threads && i < 64; i++)
        if (pthread_create(&ids[i], NULL, storm_run, &s) != 0)
            exit(1);
    for (unsigned i = 0; i < threads && i < 64; i++)
        pthread_join(ids[i], NULL);
    printf("{\"granted\": %d, \"refused\": %d, \"failed\": %d, \"worst\": %.1f}\n", s.granted, s.refused,
           s.failed, (double)s.worst_ns / 1e6);
}

static void do_open(const char *line)
{
    char url[512] = "";
    emb_error err;
    emb_budget_options b = {0};
    emb_breakers_options o = {.probe_s = 5};
    sscanf(line, "open %511s %u %u", url, &b.reservation_s, &b.command_ms);
    o.command_ms = b.command_ms;
    emb_status st = emb_budget_open(url, &b, &budget, &err);
    if (st == EMB_OK)
        st = emb_breakers_open(url, &o, &breakers, &err);
    printf("{\"status\": %d}\n", st);
}

static void do_settle(const char *line)
{
    uint64_t nusd = 0;
    unsigned count = atomic_exchange(&kept, 0);
    sscanf(line, "settle %" SCNu64, &nusd);
    for (unsigned i = 0; i < count; i++)
        emb_budget_settle(budget, &tickets[i], nusd);
    if (!emb_budget_flush(budget, emb_now_ns() + UINT64_C(60000000000)))
        count = 0;
    printf("{\"count\": %u}\n", count);
}

static void do_reserve(const char *line)
{
    char scope[128] = "";
    uint64_t limit = 0, nusd = 0, took;
    sscanf(line, "reserve %127s %" SCNu64 " %" SCNu64, scope, &limit, &nusd);
    emb_status st = reserve(scope, limit, nusd, &took);
    printf("{\"status\": %d, \"ms\": %.1f}\n", st, (double)took / 1e6);
}

static void do_read(const char *line)
{
    char scope[128] = "";
    emb_budget_use use;
    emb_error err;
    sscanf(line, "read %127s", scope);
    emb_status st = emb_budget_read(budget, scope, emb_now_ns() + UINT64_C(5000000000), &use, &err);
    printf("{\"status\": %d, \"spent\": %" PRIu64 ", \"reserved\": %" PRIu64 "}\n", st, use.spent_nusd,
           use.reserved_nusd);
}

static emb_breaker *breaker_of(const char *name)
{
    static const emb_breaker_rules RULES = {
        .failure_threshold = 1, .window_s = 60, .recovery_timeout_s = 1, .recovery_longest_s = 3};
    emb_breaker *b;
    emb_error err;
    if (emb_breaker_get(breakers, name, &RULES, &b, &err) != EMB_OK)
        exit(1);
    return b;
}

static void do_call(const char *line)
{
    char name[128] = "", how = 's';
    emb_breaker_permit p = {0};
    sscanf(line, "call %127s %c", name, &how);
    emb_breaker *b = breaker_of(name);
    uint64_t start = emb_now_ns();
    bool allowed = emb_breaker_allow(b, start, &p);
    if (allowed)
        emb_breaker_report(b, p,
                           how == 's'   ? EMB_BREAKER_SUCCESS
                           : how == 'f' ? EMB_BREAKER_FAILURE
                                        : EMB_BREAKER_FATAL,
                           0, "driver", emb_now_ns());
    printf("{\"allowed\": %d, \"probe\": %d, \"ms\": %.1f}\n", allowed, p.probe,
           (double)(emb_now_ns() - start) / 1e6);
}

static void do_view(const char *line)
{
    char name[128] = "";
    emb_breaker_view v;
    sscanf(line, "view %127s", name);
    emb_breaker_view_get(breaker_of(name), emb_now_ns(), &v);
    printf("{\"state\": \"%s\", \"openings\": %u}\n", emb_breaker_state_name(v.state), v.openings);
}

static void do_up(const char *line)
{
    (void)line;
    printf("{\"budget\": %d, \"breakers\": %d}\n", emb_budget_is_up(budget),
           emb_breakers_store_is_up(breakers));
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(const char *line);
    } COMMANDS[] = {{"open ", do_open},     {"storm ", do_storm}, {"reserve ", do_reserve},
                    {"settle ", do_settle}, {"read ", do_read},   {"call ", do_call},
                    {"view ", do_view},     {"up", do_up}};
    char line[1024];
    tickets = calloc(MOST, sizeof *tickets);
    while (tickets && fgets(line, sizeof line, stdin)) {
        for (size_t i = 0; i < sizeof COMMANDS / sizeof *COMMANDS; i++)
            if (strncmp(line, COMMANDS[i].name, strlen(COMMANDS[i].name)) == 0)
                COMMANDS[i].run(line);
        fflush(stdout);
    }
    emb_budget_close(budget);
    emb_breakers_close(breakers);
    free(tickets);
    return 0;
}
