/*
 * encode.h: vectors into a body. Internal to api/.
 *
 * JSON floats are the shortest text that reads back to the same float32; base64 is of the little-endian floats, made
 * straight from memory. Statuses are those of emb_buf; a float that is not finite is EMB_E_INTERNAL and never written.
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

#endif
