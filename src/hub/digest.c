/* digest.c: see digest.h. SHA-1 comes from OpenSSL directly: nothing else in the project needs it. */
#include "hub/digest.h"

#include "crypto/crypto.h"
#include "hub/hub.h"
#include "hub/place.h"

#include <inttypes.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct emb_hub_digest {
    emb_hub_digest_kind kind;
    char expected[65];
    uint64_t size;
    bool broken; /* OpenSSL failed, which counts as no match */
    EVP_MD_CTX *context;
};

emb_hub_digest_kind emb_hub_digest_of(const char *expected)
{
    return emb_hub_is_hex(expected, 64)   ? EMB_HUB_DIGEST_SHA256
           : emb_hub_is_hex(expected, 40) ? EMB_HUB_DIGEST_GIT
                                          : EMB_HUB_DIGEST_NONE;
}

bool emb_hub_digest_restart(emb_hub_digest *d)
{
    if (d->kind == EMB_HUB_DIGEST_NONE)
        return true;
    const EVP_MD *md = d->kind == EMB_HUB_DIGEST_SHA256 ? EVP_sha256() : EVP_sha1();
    d->broken = EVP_DigestInit_ex(d->context, md, NULL) != 1;
    if (!d->broken && d->kind == EMB_HUB_DIGEST_GIT) {
        char head[40];
        int n = snprintf(head, sizeof head, "blob %" PRIu64, d->size);
        d->broken = EVP_DigestUpdate(d->context, head, (size_t)n + 1) != 1;
    }
    return !d->broken;
}

emb_hub_digest *emb_hub_digest_open(const char *expected, uint64_t size)
{
    emb_hub_digest *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    d->kind = emb_hub_digest_of(expected);
    if (d->kind == EMB_HUB_DIGEST_GIT && size == EMB_HUB_SIZE_UNKNOWN)
        d->kind = EMB_HUB_DIGEST_NONE;
    if (d->kind != EMB_HUB_DIGEST_NONE)
        memcpy(d->expected, expected, strlen(expected) + 1);
    d->size = size;
    d->context = EVP_MD_CTX_new();
    if (!d->context || !emb_hub_digest_restart(d)) {
        emb_hub_digest_close(d);
        return NULL;
    }
    return d;
}

void emb_hub_digest_add(emb_hub_digest *d, const void *data, size_t length)
{
    if (d->kind != EMB_HUB_DIGEST_NONE && EVP_DigestUpdate(d->context, data, length) != 1)
        d->broken = true;
}

bool emb_hub_digest_matches(emb_hub_digest *d, char actual[65])
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    actual[0] = 0;
    if (d->kind == EMB_HUB_DIGEST_NONE)
        return true;
    if (d->broken || EVP_DigestFinal_ex(d->context, bytes, &length) != 1 || length > 32)
        return false;
    emb_hex(bytes, length, actual);
    return strcmp(actual, d->expected) == 0;
}

void emb_hub_digest_close(emb_hub_digest *d)
{
    if (!d)
        return;
    if (d->broken || !d->context)
        /* the thread's list of errors would hold memory, and confuse TLS in the same thread */
        ERR_clear_error();
    EVP_MD_CTX_free(d->context);
    free(d);
}
