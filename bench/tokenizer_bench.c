/*
 * tokenizer_bench: how fast a tokenizer is, one thread.
 *
 *   tokenizer_bench DIRECTORY FILE [repeats]
 *
 * Each line of FILE is a text. Prints one line for each run over all texts: path, seconds, tokens, bytes.
 * Paths: "ids" (what embedding uses), "offsets" (stage by stage), "first128" (ids, cut after 128 tokens).
 * With repeats 0 it waits for a line on standard input before each round of paths, so that a driver can
 * put another program's runs in between.
 */
#include "base/clock.h"
#include "base/file.h"
#include "tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const emb_error *err)
{
    fprintf(stderr, "tokenizer_bench: %s: %s\n", err->where, err->message);
    exit(1);
}

static void run(const emb_tokenizer *t, const char *name, const char *text, size_t length,
                const emb_encode_options *options, emb_encoding *e)
{
    emb_error err;
    size_t tokens = 0;
    uint64_t start = emb_now_ns();
    for (size_t i = 0; i < length;) {
        const char *newline = memchr(text + i, '\n', length - i);
        size_t end = newline ? (size_t)(newline - text) : length;
        if (emb_tokenizer_encode(t, text + i, end - i, options, e, &err) != EMB_OK)
            fail(&err);
        tokens += e->count;
        i = end + 1;
    }
    printf("%s %.6f %zu %zu\n", name, (double)(emb_now_ns() - start) * 1e-9, tokens, length);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    emb_tokenizer *t;
    emb_encoding e;
    emb_error err;
    char *text, line[16];
    size_t length;
    if (argc < 3) {
        fprintf(stderr, "usage: tokenizer_bench DIRECTORY FILE [repeats]\n");
        return 2;
    }
    long repeats = argc > 3 ? strtol(argv[3], NULL, 10) : 5;
    uint64_t start = emb_now_ns();
    if (emb_tokenizer_open(argv[1], &t, &err) != EMB_OK)
        fail(&err);
    printf("open %.6f 0 0\n", (double)(emb_now_ns() - start) * 1e-9);
    fflush(stdout);
    if (emb_read_file(argv[2], (size_t)1 << 30, &text, &length, &err) != EMB_OK)
        fail(&err);
    emb_encoding_init(&e);
    for (long i = 0; repeats == 0 ? fgets(line, sizeof line, stdin) != NULL : i < repeats; i++) {
        run(t, "ids", text, length, &(emb_encode_options){.add_special_tokens = true}, &e);
        run(t, "offsets", text, length, &(emb_encode_options){.add_special_tokens = true, .offsets = true},
            &e);
        run(t, "first128", text, length, &(emb_encode_options){.add_special_tokens = true, .max_tokens = 128},
            &e);
    }
    emb_encoding_fini(&e);
    emb_tokenizer_close(t);
    free(text);
    return 0;
}
