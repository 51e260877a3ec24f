/*
 * vectors.h: rows of an answer, from JSON numbers or base64, checked before anybody sees them.
 *
 *     emb_vectors v;
 *     if ((st = emb_vectors_init(&v, rows, count, dimension, err))) return st;
 *     st = emb_vectors_put(&v, index, row, err);   // for each item of the answer, in any order
 *     st = emb_vectors_check(&v, err);             // all there
 *     emb_vectors_fini(&v);
 *
 * A row that is not finite, of another dimension, twice there, out of range or missing is EMB_E_PROVIDER.
 * dimension 0 is learned from the first row; rows NULL: checked, not kept. Not thread-safe.
 */
#ifndef EMB_PROVIDER_VECTORS_H
#define EMB_PROVIDER_VECTORS_H

#include "base/json.h"

#define EMB_VECTORS_MAX_DIMENSION 65536u

typedef struct emb_vectors {
    float *rows;
    size_t count, dimension, seen_count;
    unsigned char *seen;     /* a flag for each row */
    unsigned char small[64]; /* what seen points to, of a small call */
    void *scratch;           /* decoded base64 */
    size_t scratch_bytes;
} emb_vectors;

EMB_MUST_CHECK emb_status emb_vectors_init(emb_vectors *v, float *rows, size_t count, size_t dimension,
                                           emb_error *err);
void emb_vectors_fini(emb_vectors *v);
/* row: an array of numbers, or a string: base64 of little-endian float32. */
EMB_MUST_CHECK emb_status emb_vectors_put(emb_vectors *v, int64_t index, emb_json_value row, emb_error *err);
/* row: an array of rows, a token each, of which the mean is taken; normalize: to unit length afterwards. */
EMB_MUST_CHECK emb_status emb_vectors_put_tokens(emb_vectors *v, int64_t index, emb_json_value tokens,
                                                 bool normalize, emb_error *err);
/* rows: an array of `count` rows in the order of the texts. */
EMB_MUST_CHECK emb_status emb_vectors_put_all(emb_vectors *v, emb_json_value rows, emb_error *err);
EMB_MUST_CHECK emb_status emb_vectors_check(const emb_vectors *v, emb_error *err);

#endif
