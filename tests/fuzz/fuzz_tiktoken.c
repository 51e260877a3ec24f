/*
 * Any bytes as a file of ranks and as a text for cl100k_base. The tokens of a text must be its bytes again,
 * and counting must agree.
 */
#include "base/utf8.h"
#include "tokenizer/tiktoken.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const emb_tiktoken *shared(void)
{
    static emb_tiktoken *t;
    emb_error err;
    if (t == NULL && emb_tiktoken_open(EMB_SOURCE_DIR "/models/cl100k_base", &t, &err) != EMB_OK) {
        fprintf(stderr, "%s: %s\n", err.where, err.message);
        exit(1);
    }
    return t;
}

static void check(const emb_tiktoken *t, emb_tiktoken_scratch *s, const char *text, size_t size)
{
    emb_tiktoken_ids ids = {0};
    emb_buf clean = EMB_BUF_INIT((size_t)1 << 30);
    emb_error err;
    size_t count, at = 0, length;
    if (emb_tiktoken_encode(t, s, text, size, &ids, &err) != EMB_OK ||
        emb_tiktoken_count(t, s, text, size, &count, &err) != EMB_OK || count != ids.count ||
        emb_utf8_repair(&clean, text, size) != EMB_OK)
        abort();
    for (size_t i = 0; i < ids.count; i++, at += length) {
        const char *token = emb_tiktoken_token(t, ids.data[i], &length);
        if (token == NULL || length > clean.length - at || memcmp(token, clean.data + at, length) != 0)
            abort();
    }
    if (at != clean.length)
        abort();
    emb_buf_fini(&clean);
    emb_tiktoken_ids_fini(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    emb_tiktoken *own;
    emb_tiktoken_scratch *s;
    emb_error err;
    if (emb_tiktoken_scratch_new(&s, &err) != EMB_OK)
        return 0;
    check(shared(), s, (const char *)data, size);
    emb_tiktoken_scratch_free(s);
    if (emb_tiktoken_open_ranks(data, size, "ranks", &own, &err) != EMB_OK)
        return 0;
    if (emb_tiktoken_scratch_new(&s, &err) == EMB_OK) {
        check(own, s, (const char *)data, size);
        emb_tiktoken_scratch_free(s);
    }
    emb_tiktoken_close(own);
    return 0;
}
