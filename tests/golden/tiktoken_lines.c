/*
 * tiktoken_lines: cl100k_base's ids of texts, for tiktoken_conformance.py.
 *
 *   tiktoken_lines DIRECTORY <texts >ids
 *
 * In: for each text its length as uint32 and its bytes. Out: the number of ids, the ids, and the result of
 * counting alone, all uint32.
 */
#include "tokenizer/tiktoken.h"

#include <stdio.h>
#include <stdlib.h>

static bool write_words(const void *words, size_t count)
{
    return fwrite(words, sizeof(uint32_t), count, stdout) == count;
}

static int fail(const emb_error *err)
{
    fprintf(stderr, "tiktoken_lines: %s: %s\n", err->where, err->message);
    return 1;
}

int main(int argc, char **argv)
{
    emb_tiktoken *t;
    emb_tiktoken_scratch *s, *counting;
    emb_tiktoken_ids ids = {0};
    emb_error err;
    char *text = NULL;
    uint32_t length;
    int result = 0;
    if (argc != 2)
        return 2;
    if (emb_tiktoken_open(argv[1], &t, &err) || emb_tiktoken_scratch_new(&s, &err) ||
        emb_tiktoken_scratch_new(&counting, &err))
        return fail(&err);
    while (result == 0 && fread(&length, sizeof length, 1, stdin) == 1) {
        char *grown = realloc(text, length ? length : 1);
        size_t alone;
        if (grown == NULL || fread(text = grown, 1, length, stdin) != length) {
            fprintf(stderr, "tiktoken_lines: cannot read\n");
            result = 1;
        } else if (emb_tiktoken_encode(t, s, text, length, &ids, &err) ||
                   emb_tiktoken_count(t, counting, text, length, &alone, &err)) {
            result = fail(&err);
        } else if (!write_words(&(uint32_t){(uint32_t)ids.count}, 1) || !write_words(ids.data, ids.count) ||
                   !write_words(&(uint32_t){(uint32_t)alone}, 1)) {
            fprintf(stderr, "tiktoken_lines: cannot write\n");
            result = 1;
        }
    }
    free(text);
    emb_tiktoken_ids_fini(&ids);
    emb_tiktoken_scratch_free(s);
    emb_tiktoken_scratch_free(counting);
    emb_tiktoken_close(t);
    return fflush(stdout) == 0 ? result : 1;
}
