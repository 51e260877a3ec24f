/*
 * A tokenizer.json from anyone: opening it may fail, using it may fail, nothing else may happen. The input
 * is the file, up to the first NUL byte; what follows is the text to tokenize.
 */
#include "tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char usual_text[] =
    "Hello, the caf\xc3\xa9 [MASK] <s>x</s> \xe4\xb8\xad\xe6\x96\x87 e\xcc\x81 12.5\n\t\xf0\x9f\x98\x80 \xff";

static void use(const emb_tokenizer *t, const char *text, size_t length)
{
    static const emb_encode_options options[] = {
        {.add_special_tokens = true},
        {.add_special_tokens = true, .offsets = true},
        {.offsets = true, .max_tokens = 3},
        {.offsets = false, .max_tokens = 3, .truncate_left = true},
    };
    emb_encoding e;
    emb_error err;
    emb_encoding_init(&e);
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        if (emb_tokenizer_encode(t, text, length, &options[i], &e, &err) != EMB_OK)
            continue;
        if (options[i].max_tokens > 0 && e.count > options[i].max_tokens)
            abort();
        for (size_t k = 0; options[i].offsets && k < e.count; k++)
            if (e.starts[k] > length || e.ends[k] > length)
                abort();
    }
    emb_encoding_fini(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t json_length = nul ? (size_t)(nul - data) : size;
    emb_tokenizer *t;
    emb_error err;
    if (emb_tokenizer_open_json((const char *)data, json_length, "fuzz", &t, &err) != EMB_OK)
        return 0;
    size_t token_length;
    emb_tokenizer_token(t, 0, &token_length);
    emb_tokenizer_id(t, "a", 1);
    if (nul != NULL)
        use(t, (const char *)nul + 1, size - json_length - 1);
    else
        use(t, usual_text, sizeof usual_text - 1);
    emb_tokenizer_close(t);
    return 0;
}
