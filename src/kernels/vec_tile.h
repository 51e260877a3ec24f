/*
 * vec_tile.h: the measure that all vector templates share. Needs VW. No code.
 */
#ifndef EMB_KERNELS_VEC_TILE_H
#define EMB_KERNELS_VEC_TILE_H

#include "kernels/layout.h"

enum {
    TILE = 64, /* columns of a row that are finished together, one int8 group */
    TILE_VECTORS = TILE / VW
};

#endif
