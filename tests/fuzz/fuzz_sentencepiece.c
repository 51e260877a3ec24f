/* The bytes of a SentencePiece model file: converted, opened, and used on a text. */
#include "tokenizer/sentencepiece.h"
#include "tokenizer/tokenizer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] =
        "Hello,  w\xc3\xb6rld \xef\xbc\xa1\xcc\x81 <mask> \xe4\xbd\xa0\xe5\xa5\xbd\r\n\x01 \xf0\x9f\x98\x80";
    char *json;
    size_t length;
    emb_error err;
    emb_tokenizer *t;
    emb_encoding e;
    if (emb_sentencepiece_json(data, size, "fuzz", &json, &length, &err) != EMB_OK)
        return 0;
    emb_status status = emb_tokenizer_open_json(json, length, "fuzz", &t, &err);
    free(json);
    if (status != EMB_OK)
        return 0;
    emb_encoding_init(&e);
    for (int offsets = 0; offsets < 2; offsets++) {
        emb_encode_options options = {.add_special_tokens = true, .offsets = offsets};
        status = emb_tokenizer_encode(t, text, sizeof text - 1, &options, &e, &err);
        for (size_t i = 0; status == EMB_OK && i < e.count; i++)
            if (e.ids[i] < 0 || (size_t)e.ids[i] >= emb_tokenizer_vocab_size(t) ||
                (offsets && (e.starts[i] > e.ends[i] || e.ends[i] > sizeof text - 1)))
                abort();
    }
    emb_encoding_fini(&e);
    emb_tokenizer_close(t);
    return 0;
}
