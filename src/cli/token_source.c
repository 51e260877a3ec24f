/*
 * token_source.c: one face for the engine's tokenizers and for tiktoken's. The engine is not asked for hosted
 * models: it would look for their weights.
 */
#include "cli/token_source.h"

#include "base/error.h"
#include "engine/locate.h"

#include <stdlib.h>
#include <string.h>

static const char *encoding_of(const char *name, const emb_catalog_entry **entry)
{
    *entry = emb_catalog_find(name);
    const char *encoding = *entry ? emb_catalog_encoding(*entry) : NULL;
    if (!encoding)
        *entry = NULL;
    return encoding ? encoding : strcmp(name, "cl100k_base") == 0 ? "cl100k_base" : NULL;
}

static emb_status open_encoding(emb_token_source *source, emb_error *err)
{
    char *directory;
    emb_status status = emb_locate_data(source->encoding, EMB_TIKTOKEN_FILE, NULL, &directory, err);
    if (status)
        return status;
    status = emb_tiktoken_open(directory, &source->tiktoken, err);
    free(directory);
    if (!status)
        status = emb_tiktoken_scratch_new(&source->scratch, err);
    if (status)
        emb_token_source_close(source);
    return status;
}

emb_status emb_token_source_open(emb_token_source *source, const emb_model_settings *settings, emb_error *err)
{
    *source = (emb_token_source){.name = settings->model};
    source->encoding = encoding_of(settings->model, &source->entry);
    if (source->encoding) {
        source->limit = source->entry ? source->entry->max_tokens : 0;
        return open_encoding(source, err);
    }
    emb_status status = emb_session_open(&source->session, settings, true, err);
    if (!status) {
        source->name = source->session.info.name;
        source->limit = source->session.info.max_tokens;
    }
    return status;
}

void emb_token_source_close(emb_token_source *source)
{
    if (!source->encoding) {
        emb_session_close(&source->session);
        return;
    }
    emb_tiktoken_ids_fini(&source->ids);
    emb_tiktoken_scratch_free(source->scratch);
    emb_tiktoken_close(source->tiktoken);
    source->scratch = NULL;
    source->tiktoken = NULL;
}

emb_status emb_token_source_tokenize(emb_token_source *source, const char *text, size_t length, bool special,
                                     size_t max_tokens, emb_tokens *tokens, emb_error *err)
{
    if (!source->encoding)
        return emb_tokenize(source->session.model, text, length, special, max_tokens, tokens, err);
    *tokens = (emb_tokens){NULL, 0, false};
    emb_status status =
        emb_tiktoken_encode(source->tiktoken, source->scratch, text, length, &source->ids, err);
    if (status)
        return status;
    size_t count = source->ids.count;
    tokens->truncated = max_tokens && count > max_tokens;
    if (tokens->truncated)
        count = max_tokens;
    tokens->data = malloc((count ? count : 1) * sizeof *tokens->data);
    if (!tokens->data)
        return emb_fail_nomem(err, "tokens", count * sizeof *tokens->data);
    tokens->count = count;
    uint32_t at = 0;
    for (size_t i = 0; i < count; i++) {
        size_t size;
        emb_tiktoken_token(source->tiktoken, source->ids.data[i], &size);
        tokens->data[i] = (emb_token){source->ids.data[i], at, at + (uint32_t)size, false};
        at += (uint32_t)size;
    }
    return EMB_OK;
}

void emb_token_source_release(emb_token_source *source, emb_tokens *tokens)
{
    if (!source->encoding) {
        emb_tokens_free(tokens);
        return;
    }
    free(tokens->data);
    *tokens = (emb_tokens){NULL, 0, false};
}

emb_status emb_token_source_count(emb_token_source *source, const char *text, size_t length, bool special,
                                  size_t max_tokens, size_t *count, emb_error *err)
{
    emb_tokens tokens;
    emb_status status;
    *count = 0;
    if (source->encoding) {
        status = emb_tiktoken_count(source->tiktoken, source->scratch, text, length, count, err);
        if (max_tokens && *count > max_tokens)
            *count = max_tokens;
        return status;
    }
    status = emb_tokenize(source->session.model, text, length, special, max_tokens, &tokens, err);
    if (status)
        return status;
    *count = tokens.count;
    emb_tokens_free(&tokens);
    return EMB_OK;
}

const char *emb_token_source_text(const emb_token_source *source, int32_t id, size_t *length)
{
    return source->encoding ? emb_tiktoken_token(source->tiktoken, id, length)
                            : emb_token_text(source->session.model, id, length);
}
