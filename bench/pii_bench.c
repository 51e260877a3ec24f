/*
 * pii_bench.c: bytes a second of the PII scanner, on a text without findings and on one of nothing else.
 *     pii_bench [FILE]          the file's text instead of made-up prose
 */
#include "base/clock.h"
#include "base/file.h"
#include "pii/pii.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void measure(const emb_pii *s, const char *name, const char *text, size_t length)
{
    emb_pii_finding f[64];
    uint64_t best = UINT64_MAX;
    size_t found = 0;
    for (int round = 0; round < 5; round++) {
        emb_pii_progress p = {0};
        uint64_t begin = emb_now_ns();
        for (found = 0; p.next < length;)
            found += emb_pii_scan(s, text, length, f, 64, &p);
        uint64_t took = emb_now_ns() - begin;
        best = took < best ? took : best;
    }
    printf("%-8s %8.1f MB/s  %zu findings in %zu bytes\n", name, (double)length * 1e3 / (double)best, found,
           length);
}

static char *repeat(const char *piece, size_t length)
{
    size_t n = strlen(piece);
    char *text = malloc(length);
    for (size_t i = 0; text && i < length; i++)
        text[i] = piece[i % n];
    return text;
}

int main(int argc, char **argv)
{
    enum { LENGTH = 16 << 20 };
    static const char prose[] = "The committee met on Tuesday to discuss the new library. Its roof, which "
                                "had leaked since 1987, would be repaired "
                                "before winter; Karen asked whether the well-known firm from Jena could do "
                                "it. \"Surely,\" said Sam: the cost was "
                                "about 12,500 dollars, or 3.5 percent of the budget. Nobody objected. ";
    static const char dense[] =
        "ann@example.com 212-555-0199 4111 1111 1111 1111 203.0.113.7 742 Evergreen Terrace ";
    emb_pii_options o = {0};
    emb_pii *s;
    emb_error err;
    char *text = NULL;
    size_t length = LENGTH;
    if (emb_pii_open(&s, &o, &err) ||
        (argc > 1 && emb_read_file(argv[1], (size_t)1 << 30, &text, &length, &err))) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    char *many = repeat(dense, LENGTH);
    text = text ? text : repeat(prose, LENGTH);
    if (text && many) {
        measure(s, argc > 1 ? "file" : "prose", text, length);
        measure(s, "dense", many, LENGTH);
    }
    free(text);
    free(many);
    emb_pii_close(s);
    return 0;
}
