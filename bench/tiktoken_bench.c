/*
 * tiktoken_bench: how fast cl100k_base is, one thread; bench/tiktoken_bench.py drives it.
 *
 *   tiktoken_bench DIRECTORY FILE
 *
 * Each line of FILE is a text. For each line on standard input it prints two runs over all texts: path ("ids"
 * or "count"), seconds, tokens.
 */
#include "base/clock.h"
#include "base/file.h"
#include "tokenizer/tiktoken.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const emb_error *err)
{
    fprintf(stderr, "tiktoken_bench: %s: %s\n", err->where, err->message);
    exit(1);
}

static void run(const emb_tiktoken *t, emb_tiktoken_scratch *s, const char *text, size_t length,
                bool with_ids)
{
    emb_tiktoken_ids ids = {0};
    emb_error err;
    size_t tokens = 0;
    uint64_t start = emb_now_ns();
    for (size_t i = 0, count; i < length; tokens += count) {
        const char *newline = memchr(text + i, '\n', length - i);
        size_t end = newline ? (size_t)(newline - text) : length;
        if (with_ids ? emb_tiktoken_encode(t, s, text + i, end - i, &ids, &err)
                     : emb_tiktoken_count(t, s, text + i, end - i, &count, &err))
            fail(&err);
        if (with_ids)
            count = ids.count;
        i = end + 1;
    }
    printf("%s %.6f %zu\n", with_ids ? "ids" : "count", (double)(emb_now_ns() - start) * 1e-9, tokens);
    fflush(stdout);
    emb_tiktoken_ids_fini(&ids);
}

int main(int argc, char **argv)
{
    emb_tiktoken *t;
    emb_tiktoken_scratch *s;
    emb_error err;
    char *text, line[16];
    size_t length;
    if (argc != 3) {
        fprintf(stderr, "usage: tiktoken_bench DIRECTORY FILE\n");
        return 2;
    }
    uint64_t start = emb_now_ns();
    if (emb_tiktoken_open(argv[1], &t, &err) || emb_tiktoken_scratch_new(&s, &err))
        fail(&err);
    printf("open %.6f 0\n", (double)(emb_now_ns() - start) * 1e-9);
    fflush(stdout);
    if (emb_read_file(argv[2], (size_t)1 << 30, &text, &length, &err))
        fail(&err);
    while (fgets(line, sizeof line, stdin) != NULL) {
        run(t, s, text, length, true);
        run(t, s, text, length, false);
    }
    emb_tiktoken_scratch_free(s);
    emb_tiktoken_close(t);
    free(text);
    return 0;
}
