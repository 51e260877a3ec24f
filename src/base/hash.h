/* hash.h: a fast 64-bit hash of bytes for in-memory tables (not for files, not against attackers with
 * a seed of 0; tables that hold outside data take a random seed). */
#ifndef EMB_BASE_HASH_H
#define EMB_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t emb_hash_mix(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Multiply-and-fold over 16-byte steps, after the idea of wyhash. */
static inline uint64_t emb_hash(const void *data, size_t length, uint64_t seed)
{
    const unsigned char *p = data;
    uint64_t h = seed ^ (0x9E3779B97F4A7C15u + length), a, b;
    size_t n = length;
    for (; n > 16; n -= 16, p += 16) {
        memcpy(&a, p, 8);
        memcpy(&b, p + 8, 8);
        h = emb_hash_mix(a ^ 0xA0761D6478BD642Fu, b ^ h);
    }
    if (n >= 8) {
        memcpy(&a, p, 8);
        memcpy(&b, p + n - 8, 8);
    } else if (n >= 4) {
        uint32_t lo, hi;
        memcpy(&lo, p, 4);
        memcpy(&hi, p + n - 4, 4);
        a = lo;
        b = hi;
    } else if (n > 0) {
        a = (uint64_t)p[0] << 16 | (uint64_t)p[n >> 1] << 8 | p[n - 1];
        b = 0;
    } else {
        a = b = 0;
    }
    h = emb_hash_mix(a ^ 0xE7037ED1A0B428DBu, b ^ h);
    return emb_hash_mix(h ^ 0x8EBC6AF09C88C6E3u, 0x589965CC75374CC3u);
}

#endif
