/*
 * amx_emulate.h: the tile instructions as functions, for builds with EMB_AMX_EMULATE. See amx_tile.h.
 *
 *     emb_tile_load_config(&config);       // as amx_tile.h's example; the names are the same
 *
 * A violated rule of an instruction, which the chip would answer with a fault, ends the program with a
 * message: these builds are for tests only. State is per thread.
 */
#ifndef EMB_KERNELS_AMX_EMULATE_H
#define EMB_KERNELS_AMX_EMULATE_H

void emb_tile_load_config(const emb_tile_config *config);
void emb_tile_release(void);
void emb_tile_zero(int t);
void emb_tile_load(int t, const void *base, size_t stride);
void emb_tile_store(int t, void *base, size_t stride);
void emb_tile_dp_bf16(int c, int a, int b);
void emb_tile_dp_int8(int c, int a, int b);
#define emb_tile_stream emb_tile_load

#endif
