/*
 * digest.h: the hash by which the hub names a file: SHA-256 of its bytes for large files, git's SHA-1 ("blob
 * SIZE\0" and then the bytes) for small ones; which of them shows in the length.
 *
 *     emb_hub_digest *d = emb_hub_digest_open(expected, size);   // NULL: memory is short
 *     emb_hub_digest_add(d, data, n);
 *     same = emb_hub_digest_matches(d, actual);                  // actual: hex, for the message
 *     emb_hub_digest_close(d);
 *
 * A name that is neither (some mirrors have their own) has nothing to be checked by: kind NONE, always a
 * match.
 */
#ifndef EMB_HUB_DIGEST_H
#define EMB_HUB_DIGEST_H

#include <embedd.h>

typedef enum emb_hub_digest_kind {
    EMB_HUB_DIGEST_NONE,
    EMB_HUB_DIGEST_GIT,
    EMB_HUB_DIGEST_SHA256
} emb_hub_digest_kind;
typedef struct emb_hub_digest emb_hub_digest;

emb_hub_digest_kind emb_hub_digest_of(const char *expected);
/* git's hash begins with the size, so a file of unknown size (EMB_HUB_SIZE_UNKNOWN) cannot be checked by
 * it. */
emb_hub_digest *emb_hub_digest_open(const char *expected, uint64_t size);
void emb_hub_digest_add(emb_hub_digest *digest, const void *data, size_t length);
/* Back to the beginning. */
EMB_MUST_CHECK bool emb_hub_digest_restart(emb_hub_digest *digest);
/* Ends the digest. */
EMB_MUST_CHECK bool emb_hub_digest_matches(emb_hub_digest *digest, char actual[65]);
void emb_hub_digest_close(emb_hub_digest *digest);

#endif
