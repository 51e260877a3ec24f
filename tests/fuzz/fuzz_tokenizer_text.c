/*
 * Any bytes as a text for the shipped model's tokenizer. Both paths through it must give the same ids, and
 * truncation their beginning or end.
 */
#include "tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const emb_tokenizer *shared_tokenizer(void)
{
    static emb_tokenizer *t;
    emb_error err;
    if (t == NULL && emb_tokenizer_open(EMB_SOURCE_DIR "/models/all-MiniLM-L6-v2", &t, &err) != EMB_OK) {
        fprintf(stderr, "%s: %s\n", err.where, err.message);
        exit(1);
    }
    return t;
}

static void encode(const uint8_t *data, size_t size, emb_encode_options options, emb_encoding *e)
{
    emb_error err;
    if (emb_tokenizer_encode(shared_tokenizer(), (const char *)data, size, &options, e, &err) != EMB_OK)
        abort();
}

static void same(const int32_t *a, const int32_t *b, size_t count)
{
    if (count > 0 && memcmp(a, b, count * sizeof *a) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    emb_encoding whole, other;
    emb_encoding_init(&whole);
    emb_encoding_init(&other);
    encode(data, size, (emb_encode_options){.offsets = true}, &whole);
    for (size_t i = 0; i < whole.count; i++)
        if (whole.ids[i] < 0 || whole.ids[i] >= 30522 || whole.starts[i] > whole.ends[i] ||
            whole.ends[i] > size)
            abort();
    for (int i = 0; i < 2; i++) { /* the second time out of the cache */
        encode(data, size, (emb_encode_options){.offsets = false}, &other);
        if (other.count != whole.count)
            abort();
        same(other.ids, whole.ids, whole.count);
    }
    for (int left = 0; left < 2; left++) {
        encode(data, size, (emb_encode_options){.max_tokens = 5, .truncate_left = left}, &other);
        if (other.count != (whole.count < 5 ? whole.count : 5))
            abort();
        same(other.ids, whole.ids + (left ? whole.count - other.count : 0), other.count);
    }
    emb_encoding_fini(&whole);
    emb_encoding_fini(&other);
    return 0;
}
