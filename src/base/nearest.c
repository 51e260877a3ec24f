/*
 * Damerau's distance (optimal string alignment) with three rows on the stack. Candidates are few and short,
 * so each is compared in full; a BK-tree would be faster for dictionaries, which these are not.
 */
#include "base/nearest.h"

#include <stdbool.h>
#include <string.h>

enum { WORD_MAX = 64 };

size_t emb_edit_distance(const char *a, const char *b)
{
    size_t n = strnlen(a, WORD_MAX), m = strnlen(b, WORD_MAX);
    size_t rows[3][WORD_MAX + 1];
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = rows[i % 3], *before = rows[(i + 2) % 3], *earlier = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = before[j - 1] + (a[i - 1] != b[j - 1]);
            if (before[j] + 1 < best)
                best = before[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && earlier[j - 2] + 1 < best)
                best = earlier[j - 2] + 1;
            now[j] = best;
        }
    }
    return rows[n % 3][m];
}

const char *emb_nearest(const char *word, const char *const *candidates, size_t count)
{
    const char *best = NULL;
    size_t length = strlen(word), best_distance = length / 3 + 1; /* further away is no spelling mistake */
    for (size_t i = 0; i < count; i++) {
        size_t distance = emb_edit_distance(word, candidates[i]);
        bool prefix = length >= 3 && strncmp(candidates[i], word, length) == 0;
        if (prefix)
            distance = 0;
        if (distance < best_distance || (distance == best_distance && !best)) {
            best = candidates[i];
            best_distance = distance;
        }
    }
    return best;
}
