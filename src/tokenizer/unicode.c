/*
 * unicode.c: lookups in generated tables.
 *
 * Properties lie in a two-stage table: the upper bits of a code point choose a block of 128 one-byte
 * indices, shared by all equal blocks, and the index chooses one of less than 256 distinct records.
 * Everything a script uses stays in a few cache lines. utf8proc was rejected: its normalization is that of
 * one Unicode version and the reference's that of another (more than a thousand code points differ), and
 * an exception list on top of it would have been as large as the tables and slower.
 *
 * Hangul syllables are composed and decomposed by arithmetic, as the standard defines it.
 */
#include "tokenizer/unicode.h"

#include "tokenizer/unicode_tables.h"

_Static_assert(UNICODE_LONGEST_DECOMPOSITION <= EMB_UNICODE_DECOMPOSITION_MAX, "buffer of callers");

enum {
    HANGUL_S = 0xAC00,
    HANGUL_L = 0x1100,
    HANGUL_V = 0x1161,
    HANGUL_T = 0x11A7,
    HANGUL_L_COUNT = 19,
    HANGUL_V_COUNT = 21,
    HANGUL_T_COUNT = 28,
    HANGUL_S_COUNT = HANGUL_L_COUNT * HANGUL_V_COUNT * HANGUL_T_COUNT
};

const emb_unicode_info *emb_unicode_lookup(uint32_t c)
{
    if (c > 0x10FFFF)
        c = 0xE000;
    return &unicode_infos[unicode_info_index[(unicode_info_blocks[c >> 7] << 7) | (c & 127)]];
}

size_t emb_unicode_lowercase(uint32_t c, uint32_t out[2])
{
    if (c < 128) {
        out[0] = c - 'A' < 26u ? c + 32 : c;
        return 1;
    }
    if (c == 0x130) {
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    out[0] = c;
    if (c <= 0x10FFFF)
        out[0] += (uint32_t)unicode_lower_deltas[(unicode_lower_blocks[c >> 7] << 7) | (c & 127)];
    return 1;
}

static size_t decompose_hangul(uint32_t index, uint32_t *out)
{
    out[0] = HANGUL_L + index / (HANGUL_V_COUNT * HANGUL_T_COUNT);
    out[1] = HANGUL_V + index / HANGUL_T_COUNT % HANGUL_V_COUNT;
    if (index % HANGUL_T_COUNT == 0)
        return 2;
    out[2] = HANGUL_T + index % HANGUL_T_COUNT;
    return 3;
}

size_t emb_unicode_decompose(uint32_t c, bool compatible, uint32_t out[EMB_UNICODE_DECOMPOSITION_MAX])
{
    uint32_t at = 0;
    if (c - HANGUL_S < HANGUL_S_COUNT)
        return decompose_hangul(c - HANGUL_S, out);
    if (c >= 128 && c <= 0x10FFFF)
        at = compatible ? unicode_compatible_offsets[(unicode_compatible_blocks[c >> 6] << 6) | (c & 63)]
                        : unicode_canonical_offsets[(unicode_canonical_blocks[c >> 6] << 6) | (c & 63)];
    if (at == 0) {
        out[0] = c;
        return 1;
    }
    size_t count = unicode_decompositions[at];
    for (size_t i = 0; i < count; i++)
        out[i] = unicode_decompositions[at + 1 + i];
    return count;
}

uint32_t emb_unicode_compose(uint32_t first, uint32_t second)
{
    if (first - HANGUL_L < HANGUL_L_COUNT && second - HANGUL_V < HANGUL_V_COUNT)
        return HANGUL_S + ((first - HANGUL_L) * HANGUL_V_COUNT + (second - HANGUL_V)) * HANGUL_T_COUNT;
    if (first - HANGUL_S < HANGUL_S_COUNT && (first - HANGUL_S) % HANGUL_T_COUNT == 0 &&
        second - (HANGUL_T + 1) < HANGUL_T_COUNT - 1)
        return first + (second - HANGUL_T);

    uint64_t key = (uint64_t)first << 32 | second;
    size_t low = 0, high = sizeof(unicode_compose_keys) / sizeof(*unicode_compose_keys);
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (unicode_compose_keys[middle] < key)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < sizeof(unicode_compose_keys) / sizeof(*unicode_compose_keys) &&
        unicode_compose_keys[low] == key)
        return unicode_compose_values[low];
    return 0;
}
