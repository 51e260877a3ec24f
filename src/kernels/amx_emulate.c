/*
 * The AMX tile instructions in software, exactly, for tests on machines without them.
 *
 * Follows the operation sections of Intel's Software Developer's Manual, volume 2:
 * - TDPBF16PS keeps two fp32 sums per element, one of the even and one of the odd inputs, each a chain of
 *   fused multiply-adds from zero; it adds the two, then adds that to the destination. Every operation
 *   rounds to nearest even with denormal operands and results as zero, whatever MXCSR says. Here the
 *   same comes from AVX-512 with MXCSR set for the duration.
 * - TDPBSSD adds four signed byte products to int32, wrapping.
 * - Loads clear what lies beyond a tile's rows and bytes; a configuration clears all tiles.
 *
 * Compiled only with EMB_AMX_EMULATE; in the library this file is empty.
 */
#include "kernels/amx_tile.h"

typedef int emb_amx_emulate_is_not_empty;

#if defined(__x86_64__) && defined(EMB_AMX_EMULATE)
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>

enum { TILES = 8, MAX_ROWS = 16, MAX_BYTES = 64 };

static _Thread_local struct {
    emb_tile_config config;
    uint8_t data[TILES][MAX_ROWS][MAX_BYTES];
} tiles;

static void require(int condition, const char *what, int t)
{
    if (condition)
        return;
    fprintf(stderr, "AMX fault: %s (tile %d)\n", what, t);
    abort();
}

static void require_tile(int t)
{
    require(tiles.config.palette == 1, "tiles are not configured", t);
    require(t >= 0 && t < TILES, "no such tile", t);
    require(tiles.config.rows[t] > 0, "tile is not configured", t);
}

void emb_tile_load_config(const emb_tile_config *config)
{
    emb_tile_config zero = {0};
    require(config->palette == 1 && config->start_row == 0, "palette or start row", -1);
    require(!memcmp(config->reserved, zero.reserved, sizeof zero.reserved), "reserved bytes", -1);
    for (int t = 0; t < 16; t++) {
        if (t >= TILES)
            require(!config->rows[t] && !config->row_bytes[t], "shape of a tile that does not exist", t);
        require(config->rows[t] <= MAX_ROWS && config->row_bytes[t] <= MAX_BYTES, "shape too large", t);
        require(!config->rows[t] == !config->row_bytes[t], "rows without bytes or bytes without rows", t);
    }
    memset(&tiles, 0, sizeof tiles);
    tiles.config = *config;
}

void emb_tile_release(void)
{
    memset(&tiles, 0, sizeof tiles);
}

void emb_tile_zero(int t)
{
    require_tile(t);
    memset(tiles.data[t], 0, sizeof tiles.data[t]);
}

void emb_tile_load(int t, const void *base, size_t stride)
{
    require_tile(t);
    memset(tiles.data[t], 0, sizeof tiles.data[t]);
    for (size_t row = 0; row < tiles.config.rows[t]; row++)
        memcpy(tiles.data[t][row], (const char *)base + row * stride, tiles.config.row_bytes[t]);
}

void emb_tile_store(int t, void *base, size_t stride)
{
    require_tile(t);
    for (size_t row = 0; row < tiles.config.rows[t]; row++)
        memcpy((char *)base + row * stride, tiles.data[t][row], tiles.config.row_bytes[t]);
}

static void require_product(int c, int a, int b)
{
    const emb_tile_config *config = &tiles.config;
    require_tile(c);
    require_tile(a);
    require_tile(b);
    require(c != a && c != b && a != b, "one tile in two roles", c);
    require(config->row_bytes[c] % 4 == 0 && config->row_bytes[a] % 4 == 0, "bytes of a row", c);
    require(config->rows[c] == config->rows[a], "rows of sums and A", c);
    require(config->row_bytes[c] == config->row_bytes[b], "columns of sums and B", c);
    require(config->row_bytes[a] / 4 == config->rows[b], "inputs of A and B", b);
}

void emb_tile_dp_bf16(int c, int a, int b)
{
    require_product(c, a, b);
    unsigned saved = _mm_getcsr();
    _mm_setcsr(0x9fc0);
    __m512i high = _mm512_set1_epi32((int)0xffff0000u);
    for (size_t row = 0; row < tiles.config.rows[c]; row++) {
        __m512 even = _mm512_setzero_ps(), odd = even;
        for (size_t k = 0; k < tiles.config.row_bytes[a] / 4u; k++) {
            uint32_t pair;
            memcpy(&pair, tiles.data[a][row] + 4 * k, sizeof pair);
            __m512i x = _mm512_set1_epi32((int)pair), w = _mm512_loadu_si512(tiles.data[b][k]);
            even = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(x, 16)),
                                   _mm512_castsi512_ps(_mm512_slli_epi32(w, 16)), even);
            odd = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(x, high)),
                                  _mm512_castsi512_ps(_mm512_and_si512(w, high)), odd);
        }
        float *sums = (float *)tiles.data[c][row];
        __m512 sum = _mm512_add_ps(_mm512_loadu_ps(sums), _mm512_add_ps(even, odd));
        _mm512_mask_storeu_ps(sums, (__mmask16)((1u << tiles.config.row_bytes[c] / 4) - 1), sum);
    }
    _mm_setcsr(saved);
}

void emb_tile_dp_int8(int c, int a, int b)
{
    require_product(c, a, b);
    /* Pairs of products in 16 columns × 2 lanes; the pair sums fit, and the additions wrap. */
    __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for (size_t row = 0; row < tiles.config.rows[c]; row++) {
        __m512i low = _mm512_setzero_si512(), high = low;
        for (size_t k = 0; k < tiles.config.row_bytes[a] / 4u; k++) {
            int32_t four;
            memcpy(&four, tiles.data[a][row] + 4 * k, sizeof four);
            __m512i x = _mm512_cvtepi8_epi16(_mm256_set1_epi32(four)),
                    w = _mm512_loadu_si512(tiles.data[b][k]);
            __m512i w0 = _mm512_cvtepi8_epi16(_mm512_castsi512_si256(w));
            __m512i w1 = _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(w, 1));
            low = _mm512_add_epi32(low, _mm512_madd_epi16(x, w0));
            high = _mm512_add_epi32(high, _mm512_madd_epi16(x, w1));
        }
        __m512i sum = _mm512_add_epi32(_mm512_permutex2var_epi32(low, even, high),
                                       _mm512_permutex2var_epi32(low, odd, high));
        void *sums = tiles.data[c][row];
        _mm512_mask_storeu_epi32(sums, (__mmask16)((1u << tiles.config.row_bytes[c] / 4) - 1),
                                 _mm512_add_epi32(sum, _mm512_loadu_si512(sums)));
    }
}
#endif
