/*
 * A value from a store: whatever the bytes, unpacking says "corrupt" or gives a whole vector of numbers. The
 * input is a key (32 bytes) and a value; the checksum of half of them is put right first, so that what lies
 * behind it is reached too.
 */
#include "cache/value.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void unpack(const emb_cache_key *key, const unsigned char *value, size_t length)
{
    uint32_t dimension = emb_value_dimension(value, length);
    if (dimension && emb_value_size(dimension) != length)
        abort();
    uint32_t room = dimension ? dimension : 4;
    float *vector = malloc(room * sizeof *vector);
    emb_value out;
    if (!vector)
        return;
    if (emb_value_unpack(key, value, length, &out, vector, room) == EMB_OK) {
        unsigned char *again = malloc(length);
        if (!dimension || out.dimension != dimension || !emb_vector_is_finite(vector, dimension))
            abort();
        if (again && (!emb_value_pack(key, &out, again) || memcmp(again, value, length) != 0))
            abort();
        free(again);
    }
    if (emb_value_unpack(key, value, length, &out, vector, room - 1) == EMB_OK)
        abort();
    free(vector);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    emb_cache_key key;
    if (size < sizeof key.bytes)
        return 0;
    memcpy(key.bytes, data, sizeof key.bytes);
    const unsigned char *value = data + sizeof key.bytes;
    size_t length = size - sizeof key.bytes;
    unpack(&key, value, length);
    if (length >= EMB_VALUE_HEADER) {
        unsigned char *mended = malloc(length);
        uint8_t digest[EMB_SHA256_BYTES];
        if (!mended)
            return 0;
        memcpy(mended, value, length);
        const emb_bytes pieces[] = {{key.bytes, sizeof key.bytes},
                                    {mended, 32},
                                    {mended + EMB_VALUE_HEADER, length - EMB_VALUE_HEADER}};
        if (emb_sha256_pieces(pieces, 3, digest))
            memcpy(mended + 32, digest, 8);
        unpack(&key, mended, length);
        free(mended);
    }
    return 0;
}
