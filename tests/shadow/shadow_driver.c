/*
 * A shadow at the end of a pipe: reads commands, one a line, and answers each with a line of JSON.
 *
 *     open URL                 ok
 *     submit COUNT             accepted: so many of COUNT texts, each a request of its own
 *     flush DEADLINE_MS        ok
 *     report                   ok, comparisons, dropped, cosine (the mean), message
 *     close                    ms
 *
 * The candidate answers the legacy side's vectors. Ends at the end of its input.
 */
#include "base/clock.h"
#include "shadow/shadow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIMENSION = 8 };

static emb_shadow *shadow;

static emb_status run(void *context, const emb_shadow_pair *pair, emb_arena *arena, emb_shadow_side *out,
                      emb_error *err)
{
    (void)context, (void)arena, (void)err;
    *out = pair->legacy;
    out->provider = "candidate";
    return EMB_OK;
}

static void open_it(const char *url)
{
    const emb_shadow_options options = {.queue = 100000, .window = 100, .run = run};
    emb_error err = {0};
    printf("{\"ok\": %s}\n", emb_shadow_open(url, &options, &shadow, &err) == EMB_OK ? "true" : "false");
}

static void submit(unsigned count)
{
    unsigned accepted = 0;
    for (unsigned i = 0; i < count; i++) {
        char text[32];
        float vector[DIMENSION];
        int length = snprintf(text, sizeof text, "text %u", i);
        emb_text t = {text, (size_t)length};
        for (int j = 0; j < DIMENSION; j++)
            vector[j] = (float)((i * 31 + (unsigned)j * 17) % 23) + 1;
        emb_shadow_pair pair = {.texts = &t,
                                .count = 1,
                                .category = "c",
                                .context = "batch",
                                .legacy = {.provider = "legacy",
                                           .model = "m",
                                           .space = "s",
                                           .vectors = vector,
                                           .dimension = DIMENSION,
                                           .latency_ns = 5}};
        accepted += emb_shadow_submit(shadow, &pair);
    }
    printf("{\"accepted\": %u}\n", accepted);
}

static void report(void)
{
    const emb_shadow_query query = {0};
    emb_shadow_report r;
    emb_arena arena;
    emb_error err = {0};
    emb_arena_init(&arena);
    if (emb_shadow_make_report(shadow, &query, &arena, &r, &err))
        printf("{\"ok\": false, \"status\": %d}\n", err.code);
    else
        printf(
            "{\"ok\": true, \"comparisons\": %llu, \"dropped\": %llu, \"cosine\": %.6f, \"overlap\": %.6f}\n",
            (unsigned long long)r.all.comparisons, (unsigned long long)r.dropped, r.all.cosine.mean,
            r.has_overlap ? r.overlap.mean : -1);
    emb_arena_fini(&arena);
}

int main(void)
{
    char line[1024], word[16], argument[1000];
    while (fgets(line, sizeof line, stdin)) {
        *argument = '\0';
        if (sscanf(line, "%15s %999s", word, argument) < 1)
            continue;
        uint64_t start = emb_now_ns();
        if (strcmp(word, "open") == 0) {
            open_it(argument);
        } else if (strcmp(word, "submit") == 0) {
            submit((unsigned)atoi(argument));
        } else if (strcmp(word, "flush") == 0) {
            bool done = emb_shadow_flush(shadow, start + (uint64_t)atoi(argument) * 1000000);
            printf("{\"ok\": %s}\n", done ? "true" : "false");
        } else if (strcmp(word, "report") == 0) {
            report();
        } else if (strcmp(word, "close") == 0) {
            emb_shadow_close(shadow);
            shadow = NULL;
            printf("{\"ms\": %.3f}\n", (double)(emb_now_ns() - start) / 1e6);
        }
        fflush(stdout);
    }
    emb_shadow_close(shadow);
    return 0;
}
