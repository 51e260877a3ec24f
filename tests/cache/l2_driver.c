/*
 * A second level at the end of a pipe: reads commands, one a line, and answers each with one line of JSON, so
 * that a test in Python can do to the server what it likes in between.
 *
 *     open URL CONNECT_MS                  status, message
 *     put FIRST COUNT DEADLINE_MS TTL_S    status, ms, message
 *     get FIRST COUNT DEADLINE_MS          the same with found, and wrong: values that are not the key's
 *     remove MODEL|- DEADLINE_MS           the same with count
 *     stats DEADLINE_MS                    the same with count, bytes
 *     most LIMIT DEADLINE_MS               the same with count
 *     tidy DEADLINE_MS                     status, ms, message
 *     flood THREADS MS DEADLINE_MS         gets of 20 keys for so long: calls, ok, late, failed, wrong, worst (ms)
 *     close                                ms
 *     memory                               count: the most resident memory so far, in KiB
 *
 * Key number n holds a vector that only n has. Ends at the end of its input.
 */
#include "base/clock.h"
#include "cache/l2.h"
#include "cache/value.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { DIMENSION = 384, MOST = 200000, FLOOD_KEYS = 20 };

static emb_l2 *l2;
static emb_error err;

static uint64_t after_ms(unsigned long ms)
{
    return emb_now_ns() + (uint64_t)ms * 1000000u;
}
static double ms_since(uint64_t start)
{
    return (double)(emb_now_ns() - start) / 1e6;
}

static emb_cache_key key_of(unsigned n)
{
    emb_cache_key key;
    if (!emb_sha256(&n, sizeof n, key.bytes))
        abort();
    return key;
}

static void vector_of(unsigned n, float out[DIMENSION])
{
    for (unsigned i = 0; i < DIMENSION; i++)
        out[i] = (float)(n % 65536) + (float)i / DIMENSION;
}

/* ---- answers ---- */

static void say_text(const char *text)
{
    putchar('"');
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7F)
            printf("\\u%04x", (unsigned char)*text);
        else
            putchar(*text);
    putchar('"');
}

static void say(emb_status st, double ms, const char *name, uint64_t count)
{
    printf("{\"status\": %d, \"ms\": %.3f, \"message\": ", st, ms);
    say_text(st == EMB_OK ? "" : err.message);
    if (name)
        printf(", \"%s\": %llu", name, (unsigned long long)count);
}

/* ---- commands ---- */

static void put(unsigned first, unsigned count, unsigned long deadline_ms, unsigned long ttl_s)
{
    size_t size = emb_value_size(DIMENSION);
    emb_cache_key *keys = malloc(count * sizeof *keys);
    emb_l2_item *items = calloc(count, sizeof *items);
    char *values = malloc(count * size);
    if (!keys || !items || !values)
        abort();
    for (unsigned i = 0; i < count; i++) {
        float vector[DIMENSION];
        emb_value value = {vector, DIMENSION, 1, (uint64_t)time(NULL), 0};
        keys[i] = key_of(first + i);
        vector_of(first + i, vector);
        if (!emb_value_pack(&keys[i], &value, values + i * size))
            abort();
        items[i] = (emb_l2_item){&keys[i], values + i * size, size, ttl_s, "m", NULL, 0};
    }
    uint64_t start = emb_now_ns();
    emb_status st = l2->ops->put_many(l2, items, count, after_ms(deadline_ms), &err);
    say(st, ms_since(start), NULL, 0);
    free(values);
    free(items);
    free(keys);
}

typedef struct getting {
    unsigned first, found, wrong;
} getting;

static void on_found(void *context, size_t index, const void *data, size_t length)
{
    getting *g = context;
    float vector[DIMENSION], expected[DIMENSION];
    emb_value value;
    emb_cache_key key = key_of(g->first + (unsigned)index);
    vector_of(g->first + (unsigned)index, expected);
    g->found++;
    if (emb_value_unpack(&key, data, length, &value, vector, DIMENSION) != EMB_OK ||
        memcmp(vector, expected, sizeof vector) != 0)
        g->wrong++;
}

static emb_status get(getting *g, unsigned count, unsigned long deadline_ms, double *ms, emb_error *e)
{
    emb_cache_key *keys = malloc((count + 1) * sizeof *keys);
    const emb_cache_key **pointers = malloc((count + 1) * sizeof *pointers);
    if (!keys || !pointers)
        abort();
    for (unsigned i = 0; i < count; i++) {
        keys[i] = key_of(g->first + i);
        pointers[i] = &keys[i];
    }
    uint64_t start = emb_now_ns();
    emb_status st = l2->ops->get_many(l2, pointers, count, after_ms(deadline_ms), on_found, g, e);
    *ms = ms_since(start);
    free(pointers);
    free(keys);
    return st;
}

static bool on_visit(void *context, const emb_cache_key *key, const char *model, const void *value,
                     size_t length, const char *text, size_t text_length)
{
    (void)key, (void)model, (void)value, (void)length, (void)text, (void)text_length;
    ++*(uint64_t *)context;
    return true;
}

typedef struct flooding {
    pthread_t thread;
    uint64_t until_ns;
    unsigned long deadline_ms;
    unsigned calls, ok, late, failed, wrong;
    double worst;
} flooding;

static void *flood_one(void *argument)
{
    flooding *f = argument;
    emb_error e;
    for (; emb_now_ns() < f->until_ns; f->calls++) {
        getting g = {0};
        double ms;
        emb_status st = get(&g, FLOOD_KEYS, f->deadline_ms, &ms, &e);
        f->ok += st == EMB_OK;
        f->late += st == EMB_E_DEADLINE;
        f->failed += st != EMB_OK && st != EMB_E_DEADLINE;
        f->wrong += g.wrong;
        if (ms > f->worst)
            f->worst = ms;
        if (st != EMB_OK && st != EMB_E_DEADLINE) /* refused at once: no storm */
            nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    return NULL;
}

static void flood(unsigned threads, unsigned long ms, unsigned long deadline_ms)
{
    flooding all = {0}, f[32];
    threads = threads > 32 ? 32 : threads;
    for (unsigned i = 0; i < threads; i++) {
        f[i] = (flooding){.until_ns = after_ms(ms), .deadline_ms = deadline_ms};
        if (pthread_create(&f[i].thread, NULL, flood_one, &f[i]))
            abort();
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(f[i].thread, NULL);
        all.calls += f[i].calls;
        all.ok += f[i].ok;
        all.late += f[i].late;
        all.failed += f[i].failed;
        all.wrong += f[i].wrong;
        all.worst = f[i].worst > all.worst ? f[i].worst : all.worst;
    }
    printf("{\"calls\": %u, \"ok\": %u, \"late\": %u, \"failed\": %u, \"wrong\": %u, \"worst\": %.3f",
           all.calls, all.ok, all.late, all.failed, all.wrong, all.worst);
}

static void open_store(const char *url, unsigned connect_ms)
{
    const emb_l2_kind *kind = emb_l2_find(url);
    emb_l2_options options = {0, connect_ms};
    uint64_t start = emb_now_ns();
    if (!kind) {
        fprintf(stderr, "l2_driver: no kind of store has this URL\n");
        exit(2);
    }
    emb_status st = kind->open(url, &options, &l2, &err);
    say(st, ms_since(start), NULL, 0);
}

static bool obey(const char *line)
{
    static char word[4096];
    unsigned a, b;
    unsigned long ms, ttl;
    uint64_t count = 0, start = emb_now_ns();
    emb_cache_tier_stats stats = {0};
    double took;
    if (sscanf(line, "open %4095s %u", word, &a) == 2)
        open_store(word, a);
    else if (sscanf(line, "put %u %u %lu %lu", &a, &b, &ms, &ttl) == 4 && b <= MOST)
        put(a, b, ms, ttl);
    else if (sscanf(line, "get %u %u %lu", &a, &b, &ms) == 3 && b <= MOST) {
        getting g = {.first = a};
        emb_status st = get(&g, b, ms, &took, &err);
        say(st, took, "found", g.found);
        printf(", \"wrong\": %u", g.wrong);
    } else if (sscanf(line, "remove %4095s %lu", word, &ms) == 2) {
        emb_cache_filter filter = {.model = strcmp(word, "-") == 0 ? NULL : word};
        emb_status st = l2->ops->remove(l2, &filter, after_ms(ms), &count, &err);
        say(st, ms_since(start), "count", count);
    } else if (sscanf(line, "stats %lu", &ms) == 1) {
        emb_status st = l2->ops->stats(l2, after_ms(ms), &stats, &err);
        say(st, ms_since(start), "count", stats.entries);
        printf(", \"bytes\": %llu", (unsigned long long)stats.bytes);
    } else if (sscanf(line, "most %u %lu", &a, &ms) == 2) {
        emb_status st = l2->ops->most_used(l2, a, after_ms(ms), on_visit, &count, &err);
        say(st, ms_since(start), "count", count);
    } else if (sscanf(line, "tidy %lu", &ms) == 1) {
        emb_status st = l2->ops->tidy ? l2->ops->tidy(l2, after_ms(ms), &err) : EMB_OK;
        say(st, ms_since(start), NULL, 0);
    } else if (sscanf(line, "flood %u %lu %lu", &a, &ms, &ttl) == 3)
        flood(a, ms, ttl);
    else if (strncmp(line, "close", 5) == 0) {
        l2->ops->close(l2);
        l2 = NULL;
        say(EMB_OK, ms_since(start), NULL, 0);
    } else if (strncmp(line, "memory", 6) == 0) {
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        say(EMB_OK, 0, "count", (uint64_t)usage.ru_maxrss);
    } else
        return false;
    printf("}\n");
    fflush(stdout);
    return true;
}

int main(void)
{
    static char line[8192];
    while (fgets(line, sizeof line, stdin))
        if (!obey(line)) {
            fprintf(stderr, "l2_driver: what is this? %s", line);
            return 2;
        }
    if (l2)
        l2->ops->close(l2);
    return 0;
}
