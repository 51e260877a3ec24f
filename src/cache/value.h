/*
 * value.h: a vector as it lies in a store: little-endian, with all that is needed to know whether it is
 * whole.
 *
 *     offset 0   "EMBV"
 *            4   version (1 byte), three zero bytes
 *            8   dimension        uint32
 *           12   tokens           uint32
 *           16   created          uint64, seconds since 1970
 *           24   expires          uint64, seconds since 1970; 0: never
 *           32   checksum         the first 8 bytes of SHA-256 over the key, bytes 0 to 31, and the floats
 *           40   dimension floats of 32 bits
 *
 *     void *bytes = malloc(emb_value_size(384));
 *     emb_value_pack(&key, &(emb_value){ vector, 384, tokens, now, 0 }, bytes);
 *     emb_value value; st = emb_value_unpack(&key, bytes, length, &value, vector, 384);
 *
 * The key is part of the checksum, so a value filed under another key does not check either. The checksum is
 * against accidents, not against somebody who can write to the store. Pure functions, thread-safe.
 */
#ifndef EMB_CACHE_VALUE_H
#define EMB_CACHE_VALUE_H

#include "cache/key.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "keys and values are written as the machine has them, which has to be little-endian"
#endif

enum { EMB_VALUE_HEADER = 40, EMB_VALUE_MAX_DIMENSION = 1 << 20 };

typedef struct emb_value {
    const float *vector;
    uint32_t dimension, tokens;
    uint64_t created_s, expires_s; /* seconds since 1970; expires 0: never */
} emb_value;

static inline size_t emb_value_size(uint32_t dimension)
{
    return EMB_VALUE_HEADER + (size_t)dimension * 4;
}

/* Whether every component is a number. */
bool emb_vector_is_finite(const float *vector, size_t dimension);

/* out has room for emb_value_size(value->dimension). false only when memory is short (crypto.h). */
EMB_MUST_CHECK bool emb_value_pack(const emb_cache_key *key, const emb_value *value, void *out);
/* The dimension that the header states, 0 if it is no header; nothing is verified beyond that it fits the
 * length. */
uint32_t emb_value_dimension(const void *data, size_t length);
/* Verifies everything and copies the floats to `vector`, which has room for exactly the dimension that is
 * expected. EMB_E_CORRUPT, or NOMEM (crypto.h); `vector` is untouched then. out->vector is `vector`. */
EMB_MUST_CHECK emb_status emb_value_unpack(const emb_cache_key *key, const void *data, size_t length,
                                           emb_value *out, float *vector, uint32_t dimension);

#endif
