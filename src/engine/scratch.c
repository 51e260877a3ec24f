/*
 * Memory for tokenizing, and one text's way to tokens.
 *
 * Calls take a scratch from the engine's free list and put it back, so that a warm call allocates
 * nothing; at most EMB_KEPT are kept, and a scratch that grew beyond EMB_KEPT_BYTES is not.
 *
 * A text is prepared as sentence-transformers does it: prompt and text are joined, white space at both
 * ends is taken off, and models whose settings say do_lower_case get lower case, before the tokenizer.
 */
#include "base/error.h"
#include "engine/engine.h"
#include "engine/prepare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EMB_KEPT = 64, EMB_KEPT_BYTES = 1 << 20, COUNTED_BYTES = 1 << 16 };

void emb_scratch_init(emb_scratch *scratch)
{
    memset(scratch, 0, sizeof *scratch);
    emb_encoding_init(&scratch->encoding);
    emb_buf_init(&scratch->text, SIZE_MAX / 2);
}

void emb_scratch_fini(emb_scratch *scratch)
{
    emb_encoding_fini(&scratch->encoding);
    emb_buf_fini(&scratch->text);
    free(scratch->ids);
    free(scratch->offsets);
}

emb_scratch *emb_scratch_get(emb_engine *engine, emb_error *err)
{
    pthread_mutex_lock(&engine->scratch_lock);
    emb_scratch *scratch = engine->free_scratch;
    if (scratch) {
        engine->free_scratch = scratch->next;
        engine->free_scratch_count--;
    }
    pthread_mutex_unlock(&engine->scratch_lock);
    if (!scratch) {
        if (!(scratch = malloc(sizeof *scratch))) {
            (void)emb_fail_nomem(err, "tokenizer memory", sizeof *scratch);
            return NULL;
        }
        emb_scratch_init(scratch);
    }
    scratch->ids_count = 0;
    scratch->offsets_count = 0;
    return scratch;
}

void emb_scratch_put(emb_engine *engine, emb_scratch *scratch)
{
    if (!scratch)
        return;
    bool keep = scratch->text.capacity <= EMB_KEPT_BYTES &&
                scratch->encoding.capacity <= EMB_KEPT_BYTES / 4 &&
                scratch->ids_capacity <= EMB_KEPT_BYTES / 4;
    pthread_mutex_lock(&engine->scratch_lock);
    keep = keep && engine->free_scratch_count < EMB_KEPT;
    if (keep) {
        scratch->next = engine->free_scratch;
        engine->free_scratch = scratch;
        engine->free_scratch_count++;
    }
    pthread_mutex_unlock(&engine->scratch_lock);
    if (!keep) {
        emb_scratch_fini(scratch);
        free(scratch);
    }
}

/* Room for `need` elements. */
static void *grow(void *array, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity)
        return array;
    size_t wanted = need < SIZE_MAX / 2 / size ? need + need / 2 + 64 : need;
    void *grown = need <= SIZE_MAX / size ? realloc(array, wanted * size) : NULL;
    if (grown)
        *capacity = wanted;
    return grown;
}

emb_status emb_scratch_add(emb_scratch *scratch, const int32_t *ids, size_t count, emb_error *err)
{
    int32_t *grown_ids =
        grow(scratch->ids, &scratch->ids_capacity, scratch->ids_count + count + 1, sizeof *scratch->ids);
    if (grown_ids)
        scratch->ids = grown_ids;
    size_t *grown_offsets = grow(scratch->offsets, &scratch->offsets_capacity, scratch->offsets_count + 2,
                                 sizeof *scratch->offsets);
    if (grown_offsets)
        scratch->offsets = grown_offsets;
    if (!grown_ids || !grown_offsets)
        return emb_fail_nomem(err, "tokens of a call", (scratch->ids_count + count) * sizeof *ids);
    if (!scratch->offsets_count)
        scratch->offsets[scratch->offsets_count++] = 0;
    if (count)
        memcpy(scratch->ids + scratch->ids_count, ids, count * sizeof *ids);
    scratch->ids_count += count;
    scratch->offsets[scratch->offsets_count++] = scratch->ids_count;
    return EMB_OK;
}

/* Tokens without a row in the embedding table: a tokenizer that is not this model's. */
static emb_status check_ids(const emb_core *core, const emb_encoding *encoding, emb_error *err)
{
    int32_t highest = 0, lowest = 0;
    for (size_t i = 0; i < encoding->count; i++) {
        int32_t id = encoding->ids[i];
        highest = id > highest ? id : highest;
        lowest = id < lowest ? id : lowest;
    }
    if (lowest >= 0 && (size_t)highest < core->spec.vocab_size)
        return EMB_OK;
    return emb_fail(err, EMB_E_CORRUPT, core->path,
                    "the tokenizer gave token %d, the model's vocabulary has %zu: files of different models?",
                    lowest < 0 ? lowest : highest, core->spec.vocab_size);
}

/* With the exact number of tokens, unless counting them takes long: the tokenizer stopped at the limit. */
static emb_status too_long(const emb_core *core, const emb_plan *plan, const char *data, size_t length,
                           size_t index, emb_scratch *scratch, emb_error *err)
{
    const emb_encode_options options = {.add_special_tokens = true};
    char where[32];
    snprintf(where, sizeof where, "texts[%zu]", index);
    emb_status status = EMB_OK;
    if (length <= COUNTED_BYTES)
        status = emb_tokenizer_encode(core->tokenizer, data, length, &options, &scratch->encoding, err);
    if (status)
        return status;
    return emb_fail(err, EMB_E_LIMIT, where, "%s%zu tokens, the limit is %zu and truncation is off",
                    length <= COUNTED_BYTES ? "" : "more than ",
                    length <= COUNTED_BYTES ? scratch->encoding.untruncated : plan->max_tokens,
                    plan->max_tokens);
}

emb_status emb_tokenize_text(const emb_core *core, const emb_plan *plan, const emb_text *text, size_t index,
                             emb_scratch *scratch, emb_error *err)
{
    const char *data = text->data;
    size_t length = text->length;
    if (plan->prompt_length || core->spec.lower_case) {
        emb_status status = emb_prepare(&scratch->text, plan->prompt, plan->prompt_length, data, length,
                                        core->spec.lower_case);
        if (status)
            return emb_fail_nomem(err, "text with prompt", plan->prompt_length + length);
        data = scratch->text.data;
        length = scratch->text.length;
    }
    emb_encode_options options = {
        .add_special_tokens = true,
        .max_tokens = plan->max_tokens,
        .truncate_left = plan->truncation == EMB_TRUNCATE_LEFT,
    };
    emb_status status =
        emb_tokenizer_encode(core->tokenizer, data ? data : "", length, &options, &scratch->encoding, err);
    if (status)
        return status;
    if (plan->truncation == EMB_TRUNCATE_NONE && scratch->encoding.untruncated > plan->max_tokens)
        return too_long(core, plan, data, length, index, scratch, err);
    return check_ids(core, &scratch->encoding, err);
}
