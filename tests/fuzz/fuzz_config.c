/*
 * A whole model directory's JSON files from any bytes. The input is a sequence of files: a line with the
 * path, the text, a NUL byte. Whatever is read must be consistent enough for the encoder's arithmetic.
 */
#include "model/spec_parts.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct input {
    const char *data;
    size_t size;
} input;

static emb_status read_piece(void *context, const char *path, emb_json **out, emb_error *err)
{
    const input *in = context;
    size_t path_length = strlen(path), at = 0;
    while (at < in->size) {
        const char *piece = in->data + at, *end = memchr(piece, 0, in->size - at);
        size_t length = end ? (size_t)(end - piece) : in->size - at;
        const char *line = memchr(piece, '\n', length);
        if (line && (size_t)(line - piece) == path_length && memcmp(piece, path, path_length) == 0)
            return emb_json_open(line + 1, length - path_length - 1, path, out, err);
        at += length + 1;
    }
    return EMB_E_NOT_FOUND;
}

static void check(const emb_model_spec *s)
{
    size_t width = s->hidden * s->pooling_count;
    for (size_t i = 0; i < s->module_count; i++)
        if (s->modules[i].kind != EMB_MODULE_NORMALIZE) {
            if (s->modules[i].in_features != width)
                abort();
            width = s->modules[i].out_features;
        }
    if (!s->layers || !s->heads || !s->hidden || s->hidden % s->heads || !s->intermediate || !s->vocab_size ||
        !s->max_tokens || s->max_tokens > s->position_rows - s->position_offset || !s->pooling_count ||
        s->pooling != s->poolings[0] || s->dimension != width || !s->name || !s->directory || !s->transformer)
        abort();
    for (size_t i = 0; i < s->prompt_count; i++)
        if (!emb_model_spec_prompt(s, s->prompts[i].name))
            abort();
    if (s->default_prompt && !emb_model_spec_prompt(s, s->default_prompt))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {(const char *)data, size};
    emb_spec_source source = {read_piece, &in};
    emb_model_spec spec;
    emb_error err;
    if (emb_model_spec_read_from(&spec, "model", &source, &err) == EMB_OK) {
        check(&spec);
        emb_model_spec_fini(&spec);
    }
    return 0;
}
