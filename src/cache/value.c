/*
 * Packing and checking of stored vectors; the layout is value.h's.
 *
 * A truncated SHA-256 and not a CRC: it is there already, takes about a microsecond for 384 floats where the
 * CPU has SHA instructions (small beside any store's round trip), and leaves no pattern of damage unseen.
 * Floats are checked to be finite as well: a value that was written by something else and checks by its own
 * rules is still no poison.
 */
#include "cache/value.h"

#include <string.h>

static const unsigned char MAGIC[8] = {'E', 'M', 'B', 'V', 1, 0, 0, 0};

enum { AT_DIMENSION = 8, AT_TOKENS = 12, AT_CREATED = 16, AT_EXPIRES = 24, AT_CHECKSUM = 32, CHECKSUM = 8 };

bool emb_vector_is_finite(const float *vector, size_t dimension)
{
    uint32_t bad = 0; /* no early exit, so that the compiler can use vectors */
    for (size_t i = 0; i < dimension; i++) {
        uint32_t bits;
        memcpy(&bits, vector + i, sizeof bits);
        bad |= (bits & 0x7F800000u) == 0x7F800000u;
    }
    return !bad;
}

static bool checksum(const emb_cache_key *key, const unsigned char *data, size_t length,
                     unsigned char out[CHECKSUM])
{
    const emb_bytes pieces[] = {{key->bytes, sizeof key->bytes},
                                {data, AT_CHECKSUM},
                                {data + EMB_VALUE_HEADER, length - EMB_VALUE_HEADER}};
    uint8_t digest[EMB_SHA256_BYTES];
    if (!emb_sha256_pieces(pieces, 3, digest))
        return false;
    memcpy(out, digest, CHECKSUM);
    return true;
}

bool emb_value_pack(const emb_cache_key *key, const emb_value *value, void *out)
{
    unsigned char *p = out;
    memcpy(p, MAGIC, sizeof MAGIC);
    memcpy(p + AT_DIMENSION, &value->dimension, 4);
    memcpy(p + AT_TOKENS, &value->tokens, 4);
    memcpy(p + AT_CREATED, &value->created_s, 8);
    memcpy(p + AT_EXPIRES, &value->expires_s, 8);
    memcpy(p + EMB_VALUE_HEADER, value->vector, (size_t)value->dimension * 4);
    return checksum(key, p, emb_value_size(value->dimension), p + AT_CHECKSUM);
}

uint32_t emb_value_dimension(const void *data, size_t length)
{
    uint32_t dimension;
    if (length < EMB_VALUE_HEADER || memcmp(data, MAGIC, sizeof MAGIC) != 0)
        return 0;
    memcpy(&dimension, (const unsigned char *)data + AT_DIMENSION, 4);
    return dimension <= EMB_VALUE_MAX_DIMENSION && emb_value_size(dimension) == length ? dimension : 0;
}

emb_status emb_value_unpack(const emb_cache_key *key, const void *data, size_t length, emb_value *out,
                            float *vector, uint32_t dimension)
{
    const unsigned char *p = data;
    if (dimension == 0 || emb_value_dimension(data, length) != dimension)
        return EMB_E_CORRUPT;
    unsigned char sum[CHECKSUM];
    if (!checksum(key, p, length, sum))
        return EMB_E_NOMEM;
    if (memcmp(sum, p + AT_CHECKSUM, CHECKSUM) != 0)
        return EMB_E_CORRUPT;
    uint32_t bad = 0;
    for (size_t i = 0; i < dimension; i++) { /* data need not be aligned for floats */
        uint32_t bits;
        memcpy(&bits, p + EMB_VALUE_HEADER + 4 * i, 4);
        bad |= (bits & 0x7F800000u) == 0x7F800000u;
    }
    if (bad)
        return EMB_E_CORRUPT;
    memcpy(vector, p + EMB_VALUE_HEADER, (size_t)dimension * 4);
    out->vector = vector;
    out->dimension = dimension;
    memcpy(&out->tokens, p + AT_TOKENS, 4);
    memcpy(&out->created_s, p + AT_CREATED, 8);
    memcpy(&out->expires_s, p + AT_EXPIRES, 8);
    return EMB_OK;
}
