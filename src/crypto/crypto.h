/*
 * crypto.h: what we take of OpenSSL: SHA-256, random bytes, comparison in constant time, and hex.
 *
 *     uint8_t digest[32];
 *     emb_sha256(data, n, digest);
 *     emb_sha256_state *s = emb_sha256_open();      // a long input, piece by piece
 *     emb_sha256_add(s, data, n); emb_sha256_end(s, digest); emb_sha256_close(s);
 *
 * Thread-safe, apart from a state, which one thread uses at a time. The one-shot form keeps a context for
 * each thread and allocates only on a thread's first use.
 */
#ifndef EMB_CRYPTO_CRYPTO_H
#define EMB_CRYPTO_CRYPTO_H

#include <embedd.h>

#define EMB_SHA256_BYTES 32

/* Aborts nothing: false only when memory is short on a thread's first use. */
EMB_MUST_CHECK bool emb_sha256(const void *data, size_t length, uint8_t digest[EMB_SHA256_BYTES]);
/* Of several pieces, one after another. */
typedef struct emb_bytes {
    const void *data;
    size_t length;
} emb_bytes;
EMB_MUST_CHECK bool emb_sha256_pieces(const emb_bytes *pieces, size_t count,
                                      uint8_t digest[EMB_SHA256_BYTES]);

typedef struct emb_sha256_state emb_sha256_state;
emb_sha256_state *emb_sha256_open(void); /* NULL when memory is short */
void emb_sha256_add(emb_sha256_state *state, const void *data, size_t length);
void emb_sha256_end(emb_sha256_state *state, uint8_t digest[EMB_SHA256_BYTES]); /* ready for another input */
void emb_sha256_close(emb_sha256_state *state);

/* false when the system has no randomness to give. */
EMB_MUST_CHECK bool emb_random_bytes(void *out, size_t length);
bool emb_equal_in_constant_time(const void *a, const void *b, size_t length);

/* Lower case; out has room for 2 × length + 1, NUL included. */
void emb_hex(const void *data, size_t length, char *out);
EMB_MUST_CHECK bool emb_unhex(const char *text, void *out, size_t length); /* text has 2 × length digits */

#endif
