/*
 * amx_tile.h: the AMX tile instructions, and the same in plain C for machines and tests without them.
 *
 *     emb_tile_config config = emb_tile_config_of(16, 16);
 *     emb_tile_load_config(&config);
 *     emb_tile_zero(0);
 *     emb_tile_load(4, a, a_stride);          // 16 rows of 64 bytes
 *     emb_tile_stream(6, b, 64);              // the same, for data that is read once
 *     emb_tile_dp_bf16(0, 4, 6);              // tile 0 += tile 4 · tile 6
 *     emb_tile_store(0, c, c_stride);
 *     emb_tile_release();
 *
 * Tile numbers are literals 0 to 7. Roles are fixed: 0-3 hold sums, 4 and 5 rows of A, 6 and 7 pieces of
 * B. With EMB_AMX_EMULATE defined the tiles are an array of the calling thread and every rule of the
 * instruction set that software can break is asserted: shapes that do not fit, a tile without a
 * configuration, one register used twice, a bad configuration.
 *
 * The real ones are asm statements of our own: gcc 12's intrinsics do not tell the compiler that a tile
 * load reads memory and that a configuration is 64 bytes long, and clang's want to choose registers.
 * "memory" on loads, stores and the configuration keeps them in order with ordinary stores. The state is
 * per thread; nothing is allocated.
 */
#ifndef EMB_KERNELS_AMX_TILE_H
#define EMB_KERNELS_AMX_TILE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The 64 bytes that LDTILECFG reads. */
typedef struct emb_tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} emb_tile_config;

/* Sums and A of `rows0` rows in tiles 0, 1, 4 and of `rows1` in 2, 3, 5 (both 1 to 16); B whole. */
static inline emb_tile_config emb_tile_config_of(size_t rows0, size_t rows1)
{
    emb_tile_config config;
    memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int tile = 0; tile < 8; tile++) {
        config.row_bytes[tile] = 64;
        config.rows[tile] = 16;
    }
    config.rows[0] = config.rows[1] = config.rows[4] = (uint8_t)rows0;
    config.rows[2] = config.rows[3] = config.rows[5] = (uint8_t)rows1;
    return config;
}

#ifndef EMB_AMX_EMULATE

static inline void emb_tile_load_config(const emb_tile_config *config)
{
    __asm__ volatile("ldtilecfg %0" : : "m"(*config) : "memory");
}

static inline void emb_tile_release(void)
{
    __asm__ volatile("tilerelease" : : : "memory");
}

#define EMB_TILE_STRING(x) #x
#define emb_tile_zero(t) __asm__ volatile("tilezero %tmm" EMB_TILE_STRING(t))
#define emb_tile_load(t, base, stride)                                  \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" EMB_TILE_STRING(t)    \
                     :                                                  \
                     : "r"((const void *)(base)), "r"((size_t)(stride)) \
                     : "memory")
#define emb_tile_stream(t, base, stride)                                \
    __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm" EMB_TILE_STRING(t)  \
                     :                                                  \
                     : "r"((const void *)(base)), "r"((size_t)(stride)) \
                     : "memory")
#define emb_tile_store(t, base, stride)                                  \
    __asm__ volatile("tilestored %%tmm" EMB_TILE_STRING(t) ", (%0,%1,1)" \
                     :                                                   \
                     : "r"((void *)(base)), "r"((size_t)(stride))        \
                     : "memory")
/* In AT&T order: B, A, sums. */
#define emb_tile_dp_bf16(c, a, b) \
    __asm__ volatile(             \
        "tdpbf16ps %tmm" EMB_TILE_STRING(b) ", %tmm" EMB_TILE_STRING(a) ", %tmm" EMB_TILE_STRING(c))
#define emb_tile_dp_int8(c, a, b) \
    __asm__ volatile(             \
        "tdpbssd %tmm" EMB_TILE_STRING(b) ", %tmm" EMB_TILE_STRING(a) ", %tmm" EMB_TILE_STRING(c))

#else /* EMB_AMX_EMULATE */

#include "kernels/amx_emulate.h"

#endif
#endif
