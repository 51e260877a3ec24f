/* A character map and a text: two bytes with the map's length, the map, the text. The text must come out as
 * valid UTF-8, the same with and without alignments, which must stay inside of it. */
#include "base/buf.h"
#include "base/utf8.h"
#include "tokenizer/precompiled.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fill(emb_span_text *text, emb_span_text *spare, const emb_buf *from, bool align)
{
    emb_span_text_restart(text, align);
    emb_span_text_restart(spare, align);
    for (size_t i = 0, n; i < from->length; i += n) {
        uint32_t c;
        n = emb_utf8_decode(from->data + i, from->length - i, &c);
        if (emb_span_text_add(text, from->data + i, n, (uint32_t)i, (uint32_t)(i + n)) != EMB_OK)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t map = data[0] | (size_t)data[1] << 8;
    if (map > size - 2)
        map = size - 2;
    emb_arena arena;
    emb_normalizer *normalizer;
    emb_error err;
    emb_arena_init(&arena);
    emb_buf text = EMB_BUF_INIT(1 << 22);
    if (emb_precompiled_from_bytes(data + 2, map, &arena, "fuzz", &normalizer, &err) == EMB_OK &&
        emb_utf8_repair(&text, (const char *)data + 2 + map, size - 2 - map) == EMB_OK) {
        emb_span_text plain, marked, spare;
        emb_span_text_init(&plain, false);
        emb_span_text_init(&marked, true);
        emb_span_text_init(&spare, false);
        fill(&plain, &spare, &text, false);
        emb_status first = normalizer->apply(normalizer, &plain, &spare, &err);
        fill(&marked, &spare, &text, true);
        emb_status second = normalizer->apply(normalizer, &marked, &spare, &err);
        if (first != EMB_OK || second != EMB_OK || plain.length != marked.length ||
            (plain.length > 0 && memcmp(plain.data, marked.data, plain.length) != 0) ||
            emb_utf8_valid_prefix(plain.data, plain.length) != plain.length)
            abort();
        for (size_t i = 0; i < marked.length; i++)
            if (marked.align[i].start > marked.align[i].end || marked.align[i].end > text.length)
                abort();
        emb_span_text_fini(&plain);
        emb_span_text_fini(&marked);
        emb_span_text_fini(&spare);
    }
    emb_buf_fini(&text);
    emb_arena_fini(&arena);
    return 0;
}
