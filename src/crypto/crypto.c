/*
 * crypto.c: thin wrappers of OpenSSL's EVP.
 *
 * EVP_sha256() looks the implementation up on every use in OpenSSL 3, which costs more than hashing a short
 * text; so it is fetched once, and each thread keeps one context. SHA256() itself is deprecated there.
 */
#include "crypto/crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <string.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t context_key;
static EVP_MD *sha256;
static bool key_made;
static _Thread_local EVP_MD_CTX *thread_context;

static void free_context(void *context)
{
    EVP_MD_CTX_free(context);
}

static void begin(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    key_made = pthread_key_create(&context_key, free_context) == 0;
}

static EVP_MD_CTX *context(void)
{
    if (thread_context)
        return thread_context;
    pthread_once(&once, begin);
    if (!sha256 || !key_made)
        return NULL;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    if (c && pthread_setspecific(context_key, c) != 0) { /* it would not be freed with the thread */
        EVP_MD_CTX_free(c);
        c = NULL;
    }
    return thread_context = c;
}

bool emb_sha256_pieces(const emb_bytes *pieces, size_t count, uint8_t digest[EMB_SHA256_BYTES])
{
    EVP_MD_CTX *c = context();
    if (!c || !EVP_DigestInit_ex2(c, sha256, NULL))
        return false;
    for (size_t i = 0; i < count; i++)
        if (pieces[i].length && !EVP_DigestUpdate(c, pieces[i].data, pieces[i].length))
            return false;
    return EVP_DigestFinal_ex(c, digest, NULL) == 1;
}

bool emb_sha256(const void *data, size_t length, uint8_t digest[EMB_SHA256_BYTES])
{
    return emb_sha256_pieces(&(emb_bytes){data, length}, 1, digest);
}

struct emb_sha256_state {
    EVP_MD_CTX *context;
};

emb_sha256_state *emb_sha256_open(void)
{
    pthread_once(&once, begin);
    emb_sha256_state *s = OPENSSL_zalloc(sizeof *s);
    if (!s)
        return NULL;
    s->context = EVP_MD_CTX_new();
    if (!sha256 || !s->context || !EVP_DigestInit_ex2(s->context, sha256, NULL)) {
        emb_sha256_close(s);
        return NULL;
    }
    return s;
}

void emb_sha256_add(emb_sha256_state *s, const void *data, size_t length)
{
    if (length)
        EVP_DigestUpdate(s->context, data, length);
}

void emb_sha256_end(emb_sha256_state *s, uint8_t digest[EMB_SHA256_BYTES])
{
    EVP_DigestFinal_ex(s->context, digest, NULL);
    EVP_DigestInit_ex2(s->context, sha256, NULL);
}

void emb_sha256_close(emb_sha256_state *s)
{
    if (s)
        EVP_MD_CTX_free(s->context);
    OPENSSL_free(s);
}

bool emb_random_bytes(void *out, size_t length)
{
    return length <= INT32_MAX && RAND_bytes(out, (int)length) == 1;
}

bool emb_equal_in_constant_time(const void *a, const void *b, size_t length)
{
    return CRYPTO_memcmp(a, b, length) == 0;
}

/* ---- hex ---- */

void emb_hex(const void *data, size_t length, char *out)
{
    const unsigned char *in = data;
    for (size_t i = 0; i < length; i++) {
        out[2 * i] = "0123456789abcdef"[in[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[in[i] & 15];
    }
    out[2 * length] = 0;
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool emb_unhex(const char *text, void *out, size_t length)
{
    unsigned char *to = out;
    for (size_t i = 0; i < length; i++) {
        int high = hex_value(text[2 * i]), low = high < 0 ? -1 : hex_value(text[2 * i + 1]);
        if (low < 0)
            return false;
        to[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}
