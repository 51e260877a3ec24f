/*
 * tokenize_lines: a tokenizer as a filter, for tests that compare it with the reference.
 *
 *   tokenize_lines DIRECTORY [max_tokens [left]] < texts > tokens
 *
 * In: records of a little-endian uint32 length and that many bytes. Out, for each text: the number of
 * tokens, then for each token id, start, end and whether it is special, all uint32; then the number of
 * tokens and the ids of a second run without offsets, which takes another path through the code.
 */
#include "tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool write_words(const uint32_t *words, size_t count)
{
    return fwrite(words, sizeof *words, count, stdout) == count;
}

/* Encodes one text both ways and writes both results. */
static emb_status tokenize(const emb_tokenizer *t, const char *text, uint32_t length,
                           emb_encode_options options, emb_encoding *e, emb_error *err)
{
    options.offsets = true;
    emb_status status = emb_tokenizer_encode(t, text, length, &options, e, err);
    if (status != EMB_OK)
        return status;
    uint32_t count = (uint32_t)e->count;
    bool written = write_words(&count, 1);
    for (size_t i = 0; i < e->count; i++)
        written &= write_words((uint32_t[]){(uint32_t)e->ids[i], e->starts[i], e->ends[i], e->special[i]}, 4);
    options.offsets = false;
    status = emb_tokenizer_encode(t, text, length, &options, e, err);
    if (status != EMB_OK)
        return status;
    count = (uint32_t)e->count;
    written &= write_words(&count, 1);
    written &= write_words((const uint32_t *)e->ids, e->count);
    if (!written) {
        err->code = EMB_E_IO;
        snprintf(err->message, sizeof err->message, "cannot write");
        return EMB_E_IO;
    }
    return EMB_OK;
}

int main(int argc, char **argv)
{
    emb_tokenizer *t;
    emb_error err;
    emb_encoding e;
    char *text = NULL;
    uint32_t length;
    if (argc < 2)
        return 2;
    if (emb_tokenizer_open(argv[1], &t, &err) != EMB_OK) {
        fprintf(stderr, "tokenize_lines: %s: %s\n", err.where, err.message);
        return 1;
    }
    emb_encode_options options = {.add_special_tokens = true,
                                  .max_tokens = argc > 2 ? strtoul(argv[2], NULL, 10) : 0,
                                  .truncate_left = argc > 3 && strcmp(argv[3], "left") == 0};
    emb_encoding_init(&e);
    int result = 0;
    while (result == 0 && fread(&length, sizeof length, 1, stdin) == 1) {
        char *grown = realloc(text, length ? length : 1);
        if (grown == NULL || fread(text = grown, 1, length, stdin) != length) {
            fprintf(stderr, "tokenize_lines: cannot read\n");
            result = 1;
        } else if (tokenize(t, text, length, options, &e, &err) != EMB_OK) {
            fprintf(stderr, "tokenize_lines: %s: %s\n", err.where, err.message);
            result = 1;
        }
    }
    free(text);
    emb_encoding_fini(&e);
    emb_tokenizer_close(t);
    return fflush(stdout) == 0 ? result : 1;
}
