/*
 * ledger_compaction.h: merging old rows changes no report: random rows in zones with all kinds of offsets and
 * clocks, reports that run meanwhile, several processes, a process that is killed. Of ledger_conformance.h.
 */
#ifndef EMB_TESTS_LEDGER_COMPACTION_H
#define EMB_TESTS_LEDGER_COMPACTION_H

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COMPACT_ROWS = 2400, COMPACT_DAYS = 900, COMPACT_BATCH = 500 };

static uint64_t compact_seed = 88172645463325252u;

static inline uint64_t compact_random(uint64_t below)
{
    compact_seed ^= compact_seed << 13;
    compact_seed ^= compact_seed >> 7;
    compact_seed ^= compact_seed << 17;
    return compact_seed % below;
}

static inline emb_ledger_store *compact_store(void)
{
    emb_ledger_store *store;
    emb_error err = {0};
    if (emb_ledger_store_open(ledger_of->url, false, &store, &err) != EMB_OK)
        fail_msg("%s", err.message);
    return store;
}

static inline emb_ledger_row *compact_row(int64_t minute_s)
{
    static const char *const words[][3] = {{"openai", "cohere", "local"},
                                           {"m", "large", "m"},
                                           {"", "search", "crawler"},
                                           {"faq", "", "docs"},
                                           {"default", "default", "batch"}};
    emb_ledger_id id = {.minute_s = minute_s, .kind = (emb_ledger_kind)compact_random(EMB_LEDGER_KINDS)};
    for (int i = 0; i < EMB_LEDGER_NAMES; i++) {
        id.names[i] = words[i][compact_random(3)];
        id.lengths[i] = (uint8_t)strlen(id.names[i]);
    }
    emb_ledger_row *row = emb_ledger_row_make(&id, emb_ledger_id_hash(&id, 1));
    assert_non_null(row);
    row->amounts = (emb_ledger_amounts){.calls = 1,
                                        .texts = 1 + compact_random(9),
                                        .tokens = compact_random(1000),
                                        .nusd = compact_random(1000000),
                                        .saved_nusd = compact_random(1000)};
    return row;
}

/* On one of some days (a transaction of a real file takes its time): at any time, near the turn of a day, or
 * near where clocks are changed. */
static inline int64_t compact_minute(const emb_zone *zone)
{
    static const char *const changes[] = {"2026-10-25", "2026-03-29", "2025-10-05", "2026-04-05",
                                          "2024-11-03"};
    int32_t today = emb_zone_day(zone, ledger_now()),
            day = today - (int32_t)compact_random(COMPACT_DAYS / 30) * 30;
    int64_t s;
    if (compact_random(3) == 0)
        assert_true(emb_day_parse(changes[compact_random(5)], &day));
    if (compact_random(2))
        s = emb_zone_day_start(zone, day) + (int64_t)compact_random(14400) - 7200;
    else
        s = emb_zone_day_start(zone, day) + (int64_t)compact_random(86400);
    return s - s % 60;
}

static inline void compact_write(emb_ledger_store *store, emb_ledger_table *table, int64_t sequence)
{
    static emb_ledger_row *rows[COMPACT_BATCH];
    emb_error err = {0};
    emb_ledger_batch batch = {.writer = "random", .sequence = sequence, .now_s = ledger_now(), .rows = rows};
    while (batch.count < COMPACT_BATCH && (rows[batch.count] = emb_ledger_table_pop(table)))
        batch.count++;
    if (store->ops->write(store, &batch, ledger_soon(), &err) != EMB_OK)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < batch.count; i++)
        free(rows[i]);
}

static inline void compact_fill(const char *zone_name, size_t count)
{
    emb_ledger_table table;
    emb_error err = {0};
    emb_zone *zone;
    ledger_of->reset();
    ledger_at("2026-11-27 12:00");
    emb_ledger_store *store = compact_store();
    assert_int_equal(emb_zone_open(zone_name, &zone, &err), EMB_OK);
    assert_true(emb_ledger_table_init(&table, 1024));
    for (size_t i = 0; i < count; i++)
        (void)!emb_ledger_table_put(&table, compact_row(compact_minute(zone)));
    for (int64_t sequence = 1; table.count; sequence++)
        compact_write(store, &table, sequence);
    emb_ledger_table_fini(&table);
    emb_zone_close(zone);
    store->ops->close(store);
}

/* ---- reports ---- */

static inline void compact_report(emb_ledger *l, const emb_ledger_query *query, emb_buf *out)
{
    emb_error err = {0};
    emb_ledger_report r;
    emb_arena arena;
    emb_arena_init(&arena);
    if (emb_ledger_make_report(l, query, &arena, &r, &err) != EMB_OK)
        fail_msg("%s", err.message);
    assert_int_equal(emb_buf_addf(out, "%s..%s\n", r.from, r.to), EMB_OK);
    for (size_t i = 0; i <= r.count; i++) {
        const emb_ledger_sum *s = i < r.count ? &r.rows[i] : &r.total;
        assert_int_equal(emb_buf_addf(out, "%s|%s %llu %llu %llu %llu %llu %llu %llu %llu\n",
                                      i < r.count ? s->name[0] : "", i < r.count ? s->name[1] : "",
                                      (unsigned long long)s->calls, (unsigned long long)s->texts,
                                      (unsigned long long)s->cached_texts, (unsigned long long)s->local_texts,
                                      (unsigned long long)s->tokens, (unsigned long long)s->nusd,
                                      (unsigned long long)s->saved_cache_nusd,
                                      (unsigned long long)s->saved_local_nusd),
                         EMB_OK);
    }
    emb_arena_fini(&arena);
}

/* All that can be asked, as a text. */
static inline emb_buf compact_reports(const char *zone)
{
    static const emb_ledger_query queries[] = {
        {.by = {EMB_BY_DAY, EMB_BY_KIND}, .with_shadow = true},
        {.by = {EMB_BY_WEEK, EMB_BY_KEY}},
        {.by = {EMB_BY_MONTH, EMB_BY_PROVIDER}},
        {.by = {EMB_BY_MODEL, EMB_BY_CATEGORY}},
        {.by = {EMB_BY_CONTEXT}, .from = "2025-03-30", .to = "2026-10-25"},
        {.by = {EMB_BY_DAY}, .from = "2026-10-25", .to = "2026-10-25", .key = "search"},
        {.by = {EMB_BY_TOTAL}, .from = "2025-10-05", .to = "2025-10-05", .with_shadow = true},
        {.by = {EMB_BY_DAY}, .category = "faq", .model = "m", .provider = "local"}};
    emb_buf out;
    emb_ledger_projection p;
    emb_error err = {0};
    emb_buf_init(&out, 64 << 20);
    emb_ledger *l = ledger_open(zone);
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++)
        compact_report(l, &queries[i], &out);
    assert_int_equal(emb_ledger_project(l, &p, &err), EMB_OK);
    assert_int_equal(emb_buf_addf(&out, "%s %llu %llu %u\n", p.month, (unsigned long long)p.spent_nusd,
                                  (unsigned long long)p.projected_nusd, p.days_of_history),
                     EMB_OK);
    emb_ledger_close(l);
    assert_non_null(emb_buf_cstr(&out));
    return out;
}

static inline void compact_expect(emb_buf *before, const char *zone, const char *what)
{
    emb_buf after = compact_reports(zone);
    const char *a = before->data, *b = after.data;
    if (strcmp(a, b) != 0) {
        size_t at = 0;
        while (a[at] == b[at])
            at++;
        at -= at < 80 ? at : 80;
        fail_msg("%s, %s: \"%.120s\" became \"%.120s\"", zone, what, a + at, b + at);
    }
    emb_buf_fini(&after);
}

/* ---- compacting ---- */

typedef struct compaction {
    emb_ledger_store *store;
    emb_zone *zone;
    emb_ledger_compactor *c;
} compaction;

static inline compaction compact_open(const char *zone, unsigned minutes_days, unsigned quarters_days,
                                      size_t chunk)
{
    emb_error err = {0};
    compaction k = {.store = compact_store()};
    assert_int_equal(emb_zone_open(zone, &k.zone, &err), EMB_OK);
    const emb_ledger_compact_options o = {.store = k.store,
                                          .zone = k.zone,
                                          .now_s = ledger_now,
                                          .minutes_days = minutes_days,
                                          .quarters_days = quarters_days,
                                          .chunk = chunk};
    assert_int_equal(emb_ledger_compactor_open(&o, &k.c, &err), EMB_OK);
    return k;
}

static inline void compact_close(compaction *k)
{
    emb_ledger_compactor_close(k->c);
    k->store->ops->close(k->store);
    emb_zone_close(k->zone);
}

/* To the end, or `steps`; how many rows were moved. */
static inline size_t compact_run(compaction *k, size_t steps)
{
    size_t sum = 0, moved;
    bool done = false;
    for (size_t i = 0; !done && i < steps; i++) {
        emb_error err = {0};
        emb_status st = emb_ledger_compact_step(k->c, &moved, &done, &err);
        if (st == EMB_E_BUSY) /* another one is at it */
            continue;
        if (st != EMB_OK)
            fail_msg("%s", err.message);
        sum += moved;
    }
    return sum;
}

static inline size_t compact_all(const char *zone, unsigned minutes_days, unsigned quarters_days,
                                 size_t chunk)
{
    compaction k = compact_open(zone, minutes_days, quarters_days, chunk);
    size_t moved = compact_run(&k, SIZE_MAX);
    compact_close(&k);
    return moved;
}

static inline emb_status compact_count(void *context, const emb_ledger_group *group, emb_error *err)
{
    (void)group;
    (void)err;
    ++*(size_t *)context;
    return EMB_OK;
}

/* How many rows, or groups of some, there are. */
static inline size_t compact_between(emb_ledger_store *store, int64_t from_s, int64_t to_s)
{
    size_t count = 0;
    emb_error err = {0};
    const emb_ledger_scan scan = {.from_s = from_s, .to_s = to_s, .with_shadow = true};
    if (from_s < to_s && store->ops->scan(store, &scan, compact_count, &count, ledger_soon(), &err) != EMB_OK)
        fail_msg("%s", err.message);
    return count;
}

static inline void compact_check_places(const char *zone_name)
{
    emb_error err = {0};
    emb_zone *zone;
    emb_ledger_store *store = compact_store();
    assert_int_equal(emb_zone_open(zone_name, &zone, &err), EMB_OK);
    int32_t today = emb_zone_day(zone, ledger_now());
    for (int n = 0; n < 20; n++) { /* quarters: nothing between them */
        int32_t day = today - 36 - (int32_t)compact_random(364);
        for (int64_t at = emb_zone_day_start(zone, day); at < emb_zone_day_start(zone, day + 1); at += 900)
            assert_int_equal(compact_between(store, at + 60, at + 900), 0);
    }
    for (int32_t day = today - COMPACT_DAYS; day < today - 400; day++) { /* one place, or two */
        int64_t from = emb_zone_day_start(zone, day), to = emb_zone_day_start(zone, day + 1);
        if (emb_zone_offset(zone, from) == emb_zone_offset(zone, to - 1)) {
            int64_t middle = from + (to - from) / 2;
            middle -= middle % 60;
            assert_int_equal(compact_between(store, from, middle), 0);
            assert_int_equal(compact_between(store, middle + 60, to), 0);
        }
    }
    emb_zone_close(zone);
    store->ops->close(store);
}

/* ---- tests ---- */

static inline void ledger_test_compaction_keeps_reports(void **state)
{
    (void)state;
    static const char *const zones[] = {"UTC",
                                        "Europe/Berlin",
                                        "America/New_York",
                                        "Asia/Kathmandu",
                                        "Australia/Lord_Howe",
                                        "Pacific/Chatham",
                                        "America/Havana",
                                        "Pacific/Kiritimati"};
    for (size_t i = 0; i < sizeof zones / sizeof *zones; i++) {
        compact_fill(zones[i], COMPACT_ROWS);
        emb_buf before = compact_reports(zones[i]);
        assert_true(compact_all(zones[i], 35, 0, 1 + compact_random(300)) > COMPACT_ROWS / 2);
        compact_expect(&before, zones[i], "quarters");
        assert_true(compact_all(zones[i], 35, 400, 20 + compact_random(300)) > COMPACT_ROWS / 4);
        compact_expect(&before, zones[i], "days");
        compact_check_places(zones[i]);
        assert_int_equal(compact_all(zones[i], 35, 400, 0), 0);
        emb_buf_fini(&before);
    }
}

/* As long as there are quarters, another zone is as exact. */
static inline void ledger_test_compaction_and_another_zone(void **state)
{
    (void)state;
    compact_fill("Europe/Berlin", COMPACT_ROWS);
    emb_buf berlin = compact_reports("Europe/Berlin"), kathmandu = compact_reports("Asia/Kathmandu");
    assert_true(compact_all("Europe/Berlin", 1, 0, 0) > 0);
    compact_expect(&kathmandu, "Asia/Kathmandu", "quarters of Berlin");
    assert_int_equal(compact_all("Asia/Kathmandu", 1, 0, 0), 0);
    compact_expect(&berlin, "Europe/Berlin", "quarters");
    emb_buf_fini(&berlin);
    emb_buf_fini(&kathmandu);
}

static inline void ledger_test_compaction_leaves_new_rows(void **state)
{
    (void)state;
    ledger_of->reset();
    ledger_at("2026-11-27 12:00");
    assert_int_equal(compact_all("UTC", 35, 400, 0), 0); /* an empty store */
    emb_ledger *l = ledger_open("UTC");
    ledger_spend(l, "2026-10-22 00:07", 1); /* 36 days old */
    ledger_spend(l, "2026-10-22 23:59", 1);
    ledger_spend(l, "2026-10-23 00:07", 1); /* 35 */
    assert_true(emb_ledger_flush(l, ledger_soon()));
    ledger_at("2026-11-27 12:00");
    assert_int_equal(compact_all("UTC", 35, 0, 0), 0 + 2);
    assert_int_equal(compact_all("UTC", 0, 36, 0), 0);
    assert_int_equal(compact_all("UTC", 0, 35, 0), 2);
    emb_ledger_store *store = compact_store();
    assert_int_equal(compact_between(store, ledger_time("2026-10-22 12:00"), ledger_time("2026-10-22 12:01")),
                     1);
    assert_int_equal(compact_between(store, ledger_time("2026-10-23 00:07"), ledger_time("2026-10-23 00:08")),
                     1);
    store->ops->close(store);
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_DAY}}, "2026-10-22=2 2026-10-23=1");
    emb_ledger_close(l);
}

static inline void *compact_in_thread(void *argument)
{
    compact_run(argument, SIZE_MAX);
    return NULL;
}

/* Two at once, and a report again and again; then rows that come late. */
static inline void ledger_test_compaction_meanwhile(void **state)
{
    (void)state;
    pthread_t threads[2];
    compaction k[2];
    emb_buf first, now;
    compact_fill("Europe/Berlin", COMPACT_ROWS / 4);
    emb_ledger *l = ledger_open("Europe/Berlin");
    const emb_ledger_query query = {.by = {EMB_BY_DAY, EMB_BY_KEY}};
    emb_buf_init(&first, 16 << 20);
    emb_buf_init(&now, 16 << 20);
    compact_report(l, &query, &first);
    for (int i = 0; i < 2; i++) {
        k[i] = compact_open("Europe/Berlin", 35, 400, 10);
        assert_int_equal(pthread_create(&threads[i], NULL, compact_in_thread, &k[i]), 0);
    }
    for (int i = 0; i < 30; i++) {
        emb_buf_clear(&now);
        compact_report(l, &query, &now);
        assert_string_equal(emb_buf_cstr(&now), emb_buf_cstr(&first));
    }
    uint64_t late = 0;
    for (int i = 0; i < 50; i++, late += 7)
        ledger_spend(l, i % 2 ? "2026-06-01 10:07" : "2025-02-01 10:03", 7);
    assert_true(emb_ledger_flush(l, ledger_soon()));
    ledger_at("2026-11-27 12:00");
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        compact_close(&k[i]);
    }
    compact_all("Europe/Berlin", 35, 400, 0);
    emb_ledger_report r = ledger_report(l, &(emb_ledger_query){.by = {EMB_BY_TOTAL}});
    emb_buf_clear(&now);
    assert_int_equal(emb_buf_addf(&now, " %llu ", (unsigned long long)(r.total.nusd - late)), EMB_OK);
    assert_non_null(strstr(strrchr(first.data, '|'), emb_buf_cstr(&now)));
    emb_ledger_close(l);
    emb_buf_fini(&first);
    emb_buf_fini(&now);
}

/* A child that tells each step; killed at times of its own choosing and never asked to end. */
static inline void compact_child(int told)
{
    compaction k = compact_open("Asia/Kathmandu", 35, 400, 40);
    size_t moved;
    bool done = false;
    emb_error err;
    while (!done) {
        if (emb_ledger_compact_step(k.c, &moved, &done, &err) != EMB_OK && err.code != EMB_E_BUSY)
            _exit(1);
        if (write(told, done ? "d" : "s", 1) != 1)
            _exit(1);
    }
    for (;;)
        pause();
}

/* Whether it was done when it was killed. */
static inline bool compact_and_kill(uint64_t steps)
{
    int pipes[2];
    char word = 's';
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        compact_child(pipes[1]);
    close(pipes[1]);
    for (uint64_t i = 0; word == 's' && i < steps; i++)
        if (read(pipes[0], &word, 1) != 1)
            word = 'x';
    kill(child, SIGKILL);
    close(pipes[0]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_not_equal(word, 'x');
    return word == 'd';
}

static inline void ledger_test_compaction_killed(void **state)
{
    (void)state;
    compact_fill("Asia/Kathmandu", COMPACT_ROWS / 4);
    emb_buf before = compact_reports("Asia/Kathmandu");
    for (int i = 0; i < 12; i++) {
        compact_and_kill(compact_random(8));
        compact_expect(&before, "Asia/Kathmandu", "killed");
    }
    while (!compact_and_kill(1000)) {
    }
    compact_expect(&before, "Asia/Kathmandu", "done");
    assert_int_equal(compact_all("Asia/Kathmandu", 35, 400, 0), 0);
    emb_buf_fini(&before);
}

static inline void ledger_test_compaction_by_itself(void **state)
{
    (void)state;
    emb_error err = {0};
    ledger_of->reset();
    emb_ledger *l = ledger_open("UTC");
    for (int i = 0; i < 5; i++)
        ledger_spend(l, i % 2 ? "2026-06-01 10:07" : "2025-02-01 10:03", 7);
    assert_true(emb_ledger_flush(l, ledger_soon()));
    ledger_at("2026-11-27 12:00");
    compaction k = compact_open("UTC", 35, 400, 0);
    emb_ledger_compactor_close(k.c);
    const emb_ledger_compact_options o = {.store = k.store,
                                          .zone = k.zone,
                                          .now_s = ledger_now,
                                          .minutes_days = 35,
                                          .quarters_days = 400,
                                          .thread = true,
                                          .begin_ns = 1};
    assert_int_equal(emb_ledger_compactor_open(&o, &k.c, &err), EMB_OK);
    uint64_t deadline = ledger_soon();
    while (!compact_between(k.store, ledger_time("2026-06-01 10:00"), ledger_time("2026-06-01 10:01")) ||
           !compact_between(k.store, ledger_time("2025-02-01 12:00"), ledger_time("2025-02-01 12:01"))) {
        assert_true(emb_now_ns() < deadline);
        usleep(1000);
    }
    compact_close(&k);
    ledger_expect(l, &(emb_ledger_query){.by = {EMB_BY_DAY}}, "2025-02-01=21 2026-06-01=14");
    emb_ledger_close(l);
}

#define LEDGER_COMPACTION_TESTS                                    \
    cmocka_unit_test(ledger_test_compaction_keeps_reports),        \
        cmocka_unit_test(ledger_test_compaction_and_another_zone), \
        cmocka_unit_test(ledger_test_compaction_leaves_new_rows),  \
        cmocka_unit_test(ledger_test_compaction_meanwhile),        \
        cmocka_unit_test(ledger_test_compaction_by_itself), cmocka_unit_test(ledger_test_compaction_killed)

#endif
