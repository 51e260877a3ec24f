/*
 * counter.c: how many tokens a text has at a provider, before it is sent.
 *
 * Exact with cl100k_base (OpenAI's embedding models), else estimated as half of the bytes and two, which text
 * passes only where every letter is a word. Budgets are hard, so they reserve twice an estimate: no text has
 * more tokens than bytes and marks at its ends. What a call really took is settled by the provider's own
 * word.
 *
 * Ids spell bytes, and a list may end in the middle of a character: clients cut long texts by tokens. What is
 * scanned for personal data then has U+FFFD in that place.
 *
 * A scratch is some kilobytes and belongs to one thread at a time; they wait in a stack.
 */
#include "base/error.h"
#include "base/log.h"
#include "base/utf8.h"
#include "engine/locate.h"
#include "service/gateway.h"
#include "tokenizer/tiktoken.h"

#include <stdio.h>

#include <stdlib.h>
#include <string.h>

enum { IDLE_SCRATCHES = 16 };

typedef struct emb_token_counter {
    emb_tiktoken *tiktoken;
    pthread_mutex_t lock;
    emb_tiktoken_scratch *idle[IDLE_SCRATCHES];
    size_t count;
} emb_token_counter;

emb_token_counter *emb_token_counter_open(const char *models_path)
{
    emb_token_counter *c = calloc(1, sizeof *c);
    char *directory = NULL;
    emb_error err;
    if (!c)
        return NULL;
    pthread_mutex_init(&c->lock, NULL);
    if (emb_locate_data("cl100k_base", EMB_TIKTOKEN_FILE, *models_path ? models_path : NULL, &directory,
                        &err) ||
        emb_tiktoken_open(directory, &c->tiktoken, &err)) {
        emb_log(EMB_LOG_WARN, "tokens are estimated from bytes: the ranks of cl100k_base are not here",
                EMB_LOG_TEXT("error", err.message));
        emb_token_counter_close(c);
        c = NULL;
    }
    free(directory);
    return c;
}

void emb_token_counter_close(emb_token_counter *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->count; i++)
        emb_tiktoken_scratch_free(c->idle[i]);
    emb_tiktoken_close(c->tiktoken);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static emb_status take_scratch(emb_token_counter *c, emb_tiktoken_scratch **out, emb_error *err)
{
    *out = NULL;
    pthread_mutex_lock(&c->lock);
    if (c->count)
        *out = c->idle[--c->count];
    pthread_mutex_unlock(&c->lock);
    return *out ? EMB_OK : emb_tiktoken_scratch_new(out, err);
}

static void give_scratch(emb_token_counter *c, emb_tiktoken_scratch *scratch)
{
    pthread_mutex_lock(&c->lock);
    if (c->count < IDLE_SCRATCHES) {
        c->idle[c->count++] = scratch;
        scratch = NULL;
    }
    pthread_mutex_unlock(&c->lock);
    emb_tiktoken_scratch_free(scratch);
}

static uint32_t clamp(size_t n)
{
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

bool emb_counts_exactly(const emb_gateway *g, const emb_remote_model *model)
{
    return g->counter && strcmp(model->config->encoding, "cl100k_base") == 0;
}

emb_status emb_count_tokens(emb_gateway *g, const emb_remote_model *model, const emb_text *texts,
                            size_t count, uint32_t *tokens, uint64_t *total, emb_error *err)
{
    emb_token_counter *c = emb_counts_exactly(g, model) ? g->counter : NULL;
    emb_tiktoken_scratch *scratch = NULL;
    emb_status status = c ? take_scratch(c, &scratch, err) : EMB_OK;
    *total = 0;
    for (size_t i = 0; i < count && !status; i++) {
        size_t n = texts[i].length / 2 + 2;
        if (c)
            status = emb_tiktoken_count(c->tiktoken, scratch, texts[i].data, texts[i].length, &n, err);
        tokens[i] = clamp(n);
        *total += tokens[i];
    }
    if (scratch)
        give_scratch(c, scratch);
    return status;
}

/* ---- ids ---- */

/* The bytes of the tokens; *whole: they are valid UTF-8. */
static emb_status spell(const emb_token_counter *c, const int32_t *ids, size_t count, emb_arena *arena,
                        size_t at, emb_text *out, bool *whole, emb_error *err)
{
    size_t total = 0, n;
    for (size_t i = 0; i < count; i++) {
        char where[32];
        if (!emb_tiktoken_token(c->tiktoken, ids[i], &n)) {
            snprintf(where, sizeof where, "input[%zu]", at);
            return emb_fail(err, EMB_E_INVALID, where, "input[%zu]: cl100k_base has no token %d", at,
                            (int)ids[i]);
        }
        total += n;
    }
    char *bytes = emb_arena_alloc(arena, total + 1);
    if (!bytes)
        return emb_fail_nomem(err, "texts of token ids", total);
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        const char *token = emb_tiktoken_token(c->tiktoken, ids[i], &n);
        memcpy(bytes + length, token, n);
        length += n;
    }
    *whole = emb_utf8_valid_prefix(bytes, length) == length;
    *out = (emb_text){bytes, length};
    return EMB_OK;
}

static emb_status repair(emb_text *text, emb_arena *arena, emb_error *err)
{
    emb_buf repaired = EMB_BUF_INIT((size_t)1 << 31);
    emb_status status = emb_utf8_repair(&repaired, text->data, text->length);
    char *copy = status ? NULL : emb_arena_strndup(arena, repaired.data, repaired.length);
    if (copy)
        *text = (emb_text){copy, repaired.length};
    emb_buf_fini(&repaired);
    return copy ? EMB_OK : emb_fail_nomem(err, "texts of token ids", text->length);
}

static emb_status look_whether_plain(const emb_token_counter *c, emb_tiktoken_scratch *scratch,
                                     const int32_t *ids, size_t count, emb_tiktoken_ids *made, emb_spelled *s,
                                     emb_error *err)
{
    if (!s->is_whole || !count)
        return EMB_OK;
    emb_status status = emb_tiktoken_encode(c->tiktoken, scratch, s->text.data, s->text.length, made, err);
    s->is_plain = !status && made->count == count && memcmp(made->data, ids, count * sizeof *ids) == 0;
    return status;
}

static emb_status spell_all(const emb_token_counter *c, emb_tiktoken_scratch *scratch, const emb_request *r,
                            emb_arena *arena, emb_spelled *out, emb_error *err)
{
    emb_tiktoken_ids made = {0};
    emb_status status = EMB_OK;
    for (size_t i = 0; i < r->count && !status; i++) {
        const int32_t *ids = r->ids + r->offsets[i];
        size_t count = r->offsets[i + 1] - r->offsets[i];
        status = spell(c, ids, count, arena, i, &out[i].text, &out[i].is_whole, err);
        if (!status && scratch)
            status = look_whether_plain(c, scratch, ids, count, &made, &out[i], err);
        if (!status && !out[i].is_whole)
            status = repair(&out[i].text, arena, err);
    }
    emb_tiktoken_ids_fini(&made);
    return status;
}

emb_status emb_spell_ids(emb_gateway *g, const emb_request *r, bool with_plain, emb_arena *arena,
                         emb_spelled **out, emb_error *err)
{
    emb_tiktoken_scratch *scratch = NULL;
    *out = NULL;
    if (!g->counter)
        return emb_fail(err, EMB_E_UNSUPPORTED, "input",
                        "token ids cannot be read here: the ranks of cl100k_base are missing; send texts");
    emb_spelled *spelled = emb_arena_calloc(arena, r->count ? r->count : 1, sizeof *spelled);
    if (!spelled)
        return emb_fail_nomem(err, "texts of token ids", r->count * sizeof *spelled);
    emb_status status = with_plain ? take_scratch(g->counter, &scratch, err) : EMB_OK;
    if (!status)
        status = spell_all(g->counter, scratch, r, arena, spelled, err);
    if (scratch)
        give_scratch(g->counter, scratch);
    if (!status)
        *out = spelled;
    return status;
}
