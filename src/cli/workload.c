/*
 * workload.c: the texts, and how long embedding them takes.
 *
 * How many words make a token is measured with the model's own tokenizer, once, on a long text. A measured
 * call is as large as it must be to take a good part of a second, so that threads are kept busy and slow
 * machines are not kept far beyond the time given.
 */
#include "cli/workload.h"

#include "base/clock.h"
#include "base/error.h"
#include "cli/stop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const words[] = {
    "time",     "people",    "water",     "number",   "world",   "house",   "school",   "small",
    "large",    "under",     "never",     "place",    "where",   "after",   "little",   "round",
    "three",    "sentence",  "great",     "think",    "through", "before",  "follow",   "around",
    "another",  "because",   "different", "picture",  "again",   "change",  "animal",   "point",
    "mother",   "earth",     "father",    "plant",    "food",    "country", "city",     "story",
    "night",    "light",     "music",     "those",    "both",    "paper",   "together", "group",
    "often",    "important", "until",     "children", "river",   "second",  "begin",    "idea",
    "mountain", "color",     "morning",   "science",  "winter",  "measure", "market",   "machine",
};
enum { WORDS = sizeof words / sizeof *words };

uint64_t emb_workload_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

char *emb_workload_text(size_t word_count, uint64_t *random, size_t *length)
{
    char *text = malloc(word_count * 12 + 1);
    size_t n = 0;
    for (size_t i = 0; text && i < word_count; i++)
        n += (size_t)sprintf(text + n, "%s%s", i ? " " : "", words[emb_workload_random(random) % WORDS]);
    if (text)
        text[n] = 0;
    *length = n;
    return text;
}

/* How many of the words above make a token with this model's tokenizer. */
static emb_status words_per_token(emb_model *model, double *ratio, emb_error *err)
{
    enum { PROBE = 512 };
    uint64_t random = 1;
    size_t bytes;
    emb_tokens tokens;
    char *probe = emb_workload_text(PROBE, &random, &bytes);
    *ratio = 1;
    if (!probe)
        return emb_fail_nomem(err, "text", PROBE * 12);
    emb_status status = emb_tokenize(model, probe, bytes, false, 0, &tokens, err);
    free(probe);
    if (status)
        return status;
    if (tokens.count > 0)
        *ratio = PROBE / (double)tokens.count;
    emb_tokens_free(&tokens);
    return EMB_OK;
}

size_t emb_workload_mixed_length(uint64_t *random, size_t most)
{
    size_t length = 8;
    while (length < most && emb_workload_random(random) % 100 < 65)
        length *= 2;
    length += emb_workload_random(random) % length;
    return length < most ? length : most;
}

void emb_workload_close(emb_workload *w)
{
    for (size_t i = 0; w->texts && i < w->count; i++)
        free((char *)w->texts[i].data);
    free(w->texts);
    free(w->vectors);
    memset(w, 0, sizeof *w);
}

static emb_status fill(emb_workload *w, emb_model *model, const emb_model_info *info, size_t length,
                       size_t count, emb_error *err)
{
    size_t most = info->max_tokens;
    uint64_t random = 0x9E3779B97F4A7C15u + length;
    double ratio;
    emb_status status = words_per_token(model, &ratio, err);
    if (status)
        return status;
    w->texts = calloc(count, sizeof *w->texts);
    w->floats = count * info->dimension;
    w->vectors = malloc(w->floats * sizeof *w->vectors);
    if (!w->texts || !w->vectors)
        return emb_fail_nomem(err, "workload", w->floats * sizeof *w->vectors);
    for (; w->count < count; w->count++) {
        size_t tokens = length == EMB_WORKLOAD_MIX ? emb_workload_mixed_length(&random, most)
                        : length < most            ? length
                                                   : most;
        size_t words_wanted =
            (size_t)((double)(tokens > 2 ? tokens - 2 : 1) * ratio + 0.5); /* 2 are special */
        emb_text *text = &w->texts[w->count];
        text->data = emb_workload_text(words_wanted ? words_wanted : 1, &random, &text->length);
        if (!text->data)
            return emb_fail_nomem(err, "workload", tokens * 12);
    }
    return EMB_OK;
}

emb_status emb_workload_open(emb_workload *w, emb_model *model, size_t tokens, size_t texts, emb_error *err)
{
    emb_model_info info = EMB_MODEL_INFO_INIT;
    memset(w, 0, sizeof *w);
    emb_model_get_info(model, &info);
    emb_status status = fill(w, model, &info, tokens, texts, err);
    if (status)
        emb_workload_close(w);
    return status;
}

/* ---- measuring ---- */

static emb_status run_batch(const emb_workload *w, emb_model *model, size_t count, emb_usage *usage,
                            emb_error *err)
{
    emb_embed_options o = EMB_EMBED_OPTIONS_INIT;
    o.cancel = emb_stop_flag();
    o.priority = EMB_PRIORITY_BULK;
    *usage = (emb_usage)EMB_USAGE_INIT;
    return emb_embed(model, w->texts, count, &o, w->vectors, w->floats, usage, err);
}

static emb_status choose_count(const emb_workload *w, emb_model *model, double seconds, size_t *count,
                               emb_error *err)
{
    enum { LONGEST_CALL_NS = 200000000 };
    uint64_t enough = seconds > 1 ? LONGEST_CALL_NS : (uint64_t)(seconds * LONGEST_CALL_NS);
    emb_usage usage;
    *count = w->count < 8 ? w->count : 8;
    for (;;) {
        uint64_t start = emb_now_ns();
        emb_status status = run_batch(w, model, *count, &usage, err);
        if (status || *count == w->count || emb_now_ns() - start > enough)
            return status;
        *count = *count * 2 < w->count ? *count * 2 : w->count;
    }
}

emb_status emb_workload_measure(const emb_workload *w, emb_model *model, double seconds,
                                emb_workload_figure *out, emb_error *err)
{
    emb_usage usage;
    size_t count = 0;
    emb_status status = choose_count(w, model, seconds, &count, err);
    uint64_t start = emb_now_ns(), now = start, texts = 0, tokens = 0;
    while (!status && (double)(now - start) < seconds * 1e9) {
        status = run_batch(w, model, count, &usage, err);
        texts += count;
        tokens += usage.tokens;
        now = emb_now_ns();
    }
    if (status || now == start)
        return status;
    double elapsed = (double)(now - start) / 1e9;
    out->length = (size_t)((double)tokens / (double)texts + 0.5);
    out->texts_per_second = (double)texts / elapsed;
    out->tokens_per_second = (double)tokens / elapsed;
    return EMB_OK;
}
