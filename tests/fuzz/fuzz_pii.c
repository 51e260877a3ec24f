/* Any bytes through every recogniser and a custom pattern: findings are in order, inside of the text and
 * apart, and pages of one finding give what one call gives. */
#include "pii/pii.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static emb_pii *scanner;
    static const emb_pii_pattern pattern = {"ticket", "T[0-9]+(x|xx)*!"};
    emb_pii_options o = {.patterns = &pattern, .pattern_count = 1};
    emb_pii_finding f[16];
    emb_pii_progress p = {0};
    emb_error err;
    size_t last = 0;
    if (!scanner && emb_pii_open(&scanner, &o, &err))
        abort();
    for (size_t capacity = 1; p.next < size; capacity = capacity % 16 + 1) {
        size_t before = p.next, n = emb_pii_scan(scanner, (const char *)data, size, f, capacity, &p);
        if (n > capacity || p.next <= before || p.next > size)
            abort();
        for (size_t i = 0; i < n; last = f[i++].end)
            if (f[i].start < last || f[i].end <= f[i].start || f[i].end > size ||
                !emb_pii_kind_name(scanner, f[i].kind))
                abort();
    }
    return 0;
}
