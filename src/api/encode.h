/*
 * encode.h: vectors into a body. Internal to api/.
 *
 * JSON floats are the shortest text that reads back to the same float32; base64 is of the little-endian
 * floats, made straight from memory. Statuses are those of emb_buf; a float that is not finite is
 * EMB_E_INTERNAL and never written.
 */
#ifndef EMB_API_ENCODE_H
#define EMB_API_ENCODE_H

#include "api/call.h"

/* [0.1,-0.2,…] */
EMB_MUST_CHECK emb_status emb_encode_floats(emb_buf *buf, const float *values, size_t count);
/* "…base64…" with its quotes */
EMB_MUST_CHECK emb_status emb_encode_base64(emb_buf *buf, const float *values, size_t count);
/* [[…],[…]] */
EMB_MUST_CHECK emb_status emb_encode_rows(emb_buf *buf, const float *values, size_t count, size_t dimension);

/* Quantised as sentence-transformers does, with the fixed range -1..1 for each component: floor((x + 1) / (2
 * / 255)), held to 0..255; int8 is that less 128. ubinary: a bit for each x > 0, the first highest, eight to
 * a byte, zeros behind the last; binary is that less 128. As arrays of integers, [1,-2,…]. */
typedef enum emb_quantisation {
    EMB_QUANT_INT8,
    EMB_QUANT_UINT8,
    EMB_QUANT_BINARY,
    EMB_QUANT_UBINARY
} emb_quantisation;
EMB_MUST_CHECK emb_status emb_encode_quantised(emb_buf *buf, const float *values, size_t count,
                                               emb_quantisation kind);

#endif
