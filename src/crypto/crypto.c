/*
 * crypto.c: thin wrappers of OpenSSL's EVP.
 *
 * EVP_sha256() looks the implementation up on every use in OpenSSL 3, which costs more than hashing a short
 * text; so it is fetched once, and each thread keeps one context. SHA256() itself is deprecated there.
 * EVP_DecodeBlock takes white space and counts padding wrongly, hence a decoder of our own with a table.
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

/* ---- base64 and hex ---- */

size_t emb_base64_encode(const void *data, size_t length, char *out)
{
    enum { PIECE = 3 << 20 }; /* EVP_EncodeBlock counts in int, and writes a NUL behind each piece */
    const unsigned char *in = data;
    size_t written = 0;
    for (; length > PIECE; in += PIECE, length -= PIECE)
        written += (size_t)EVP_EncodeBlock((unsigned char *)out + written, in, PIECE);
    /* The last group goes through a buffer, so that the NUL does not land behind `out`. */
    size_t tail = length % 3 ? length % 3 : length ? 3 : 0, body = length - tail;
    if (body) {
        unsigned char last[5];
        EVP_EncodeBlock(last, in + body, (int)tail);
        written += (size_t)EVP_EncodeBlock((unsigned char *)out + written, in, (int)body);
        memcpy(out + written, last, 4);
        return written + 4;
    }
    if (tail) {
        unsigned char last[5];
        EVP_EncodeBlock(last, in, (int)tail);
        memcpy(out + written, last, 4);
        written += 4;
    }
    return written;
}

/* Values of the digits, -1 for what is none: a table, because vectors come in kilobytes of it. */
#define V(c, v) [c] = (v) + 1
static const unsigned char base64_values[256] = {
    V('A', 0),  V('B', 1),  V('C', 2),  V('D', 3),  V('E', 4),  V('F', 5),  V('G', 6),  V('H', 7),
    V('I', 8),  V('J', 9),  V('K', 10), V('L', 11), V('M', 12), V('N', 13), V('O', 14), V('P', 15),
    V('Q', 16), V('R', 17), V('S', 18), V('T', 19), V('U', 20), V('V', 21), V('W', 22), V('X', 23),
    V('Y', 24), V('Z', 25), V('a', 26), V('b', 27), V('c', 28), V('d', 29), V('e', 30), V('f', 31),
    V('g', 32), V('h', 33), V('i', 34), V('j', 35), V('k', 36), V('l', 37), V('m', 38), V('n', 39),
    V('o', 40), V('p', 41), V('q', 42), V('r', 43), V('s', 44), V('t', 45), V('u', 46), V('v', 47),
    V('w', 48), V('x', 49), V('y', 50), V('z', 51), V('0', 52), V('1', 53), V('2', 54), V('3', 55),
    V('4', 56), V('5', 57), V('6', 58), V('7', 59), V('8', 60), V('9', 61), V('+', 62), V('/', 63)};
#undef V

/* Four digits into 24 bits; bits above them where one is none (0 - 1 wraps). */
static inline uint32_t four_digits(const unsigned char *in)
{
    return (uint32_t)(base64_values[in[0]] - 1) << 18 | (uint32_t)(base64_values[in[1]] - 1) << 12 |
           (uint32_t)(base64_values[in[2]] - 1) << 6 | (uint32_t)(base64_values[in[3]] - 1);
}

bool emb_base64_decode(const char *text, size_t length, void *out, size_t *out_length)
{
    const unsigned char *in = (const unsigned char *)text;
    unsigned char *to = out;
    size_t padding = 0, n = 0;
    uint32_t wrong = 0;
    if (length % 4)
        return false;
    while (padding < 2 && padding < length && text[length - 1 - padding] == '=')
        padding++;
    size_t whole = padding ? length - 4 : length;
    for (size_t i = 0; i < whole; i += 4, n += 3) {
        uint32_t v = four_digits(in + i);
        wrong |= v;
        to[n] = (unsigned char)(v >> 16);
        to[n + 1] = (unsigned char)(v >> 8);
        to[n + 2] = (unsigned char)v;
    }
    if (padding) {
        const unsigned char last[4] = {in[whole], in[whole + 1], padding == 2 ? 'A' : in[whole + 2], 'A'};
        uint32_t v = four_digits(last);
        wrong |= v;
        if (v & (padding == 2 ? 0xFFFF : 0xFF)) /* bits that stand for nothing */
            return false;
        to[n++] = (unsigned char)(v >> 16);
        if (padding == 1)
            to[n++] = (unsigned char)(v >> 8);
    }
    if (wrong >> 24)
        return false;
    *out_length = n;
    return true;
}

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
