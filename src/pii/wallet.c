/*
 * wallet.c: addresses of Bitcoin and Ethereum, by their checksums.
 *
 * Base58check: 25 bytes, the last four of which begin the double SHA-256 of the others. Bech32 (witness
 * version 0) and bech32m (others): BIP 173, BIP 350. An Ethereum address has no checksum unless its letters
 * are of both cases (EIP-55): then it must hold, otherwise the form counts. When memory is too short for
 * SHA-256, the form counts.
 */
#include "pii/parts.h"

#include "crypto/crypto.h"

/* ---- Keccak-256, as Ethereum has it: the padding is not that of SHA-3 ---- */

static uint64_t rotate(uint64_t x, unsigned n)
{
    return n ? x << n | x >> (64 - n) : x;
}

static void keccak_f(uint64_t a[25])
{
    static const unsigned char turns[24] = {1,  3,  6,  10, 15, 21, 28, 36, 45, 55, 2,  14,
                                            27, 41, 56, 8,  25, 43, 62, 18, 39, 61, 20, 44};
    static const unsigned char lanes[24] = {10, 7,  11, 17, 18, 3, 5,  16, 8,  21, 24, 4,
                                            15, 23, 19, 13, 12, 2, 20, 14, 22, 9,  6,  1};
    unsigned lfsr = 1;
    for (int round = 0; round < 24; round++) {
        uint64_t c[5], t = a[1];
        for (int x = 0; x < 5; x++)
            c[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
        for (int i = 0; i < 25; i++)
            a[i] ^= c[(i + 4) % 5] ^ rotate(c[(i + 1) % 5], 1);
        t = a[1];
        for (int i = 0; i < 24; i++) {
            uint64_t next = a[lanes[i]];
            a[lanes[i]] = rotate(t, turns[i]);
            t = next;
        }
        for (int y = 0; y < 25; y += 5) {
            memcpy(c, a + y, sizeof c);
            for (int x = 0; x < 5; x++)
                a[y + x] = c[x] ^ (~c[(x + 1) % 5] & c[(x + 2) % 5]);
        }
        for (int j = 0; j < 7; j++) { /* the round's constant, bit by bit */
            if (lfsr & 1)
                a[0] ^= (uint64_t)1 << ((1u << j) - 1);
            lfsr = lfsr << 1 ^ (lfsr & 0x80 ? 0x171 : 0);
        }
    }
}

void emb_pii_keccak256(const void *data, size_t length, uint8_t digest[32])
{
    uint64_t a[25] = {0};
    uint8_t block[136] = {0};
    memcpy(block, data, length < 135 ? length : 135);
    block[length < 135 ? length : 135] ^= 0x01;
    block[135] ^= 0x80;
    for (size_t i = 0; i < sizeof block; i++)
        a[i / 8] ^= (uint64_t)block[i] << (i % 8 * 8);
    keccak_f(a);
    for (size_t i = 0; i < 32; i++)
        digest[i] = (uint8_t)(a[i / 8] >> (i % 8 * 8));
}

/* ---- Ethereum ---- */

static void ethereum(emb_pii_view *v, size_t at)
{
    char small[40];
    uint8_t digest[32];
    bool upper = false, lower = false, nonzero = false;
    if (v->length - at < 42 || emb_pii_word(emb_pii_before(v, at)) || emb_pii_word(emb_pii_at(v, at + 42)))
        return;
    const unsigned char *s = v->s + at + 2;
    for (size_t i = 0; i < 40; i++) {
        if (emb_pii_hex(s[i]) < 0)
            return;
        upper = upper || emb_pii_upper(s[i]);
        lower = lower || emb_pii_lower(s[i]);
        nonzero = nonzero || s[i] != '0';
        small[i] = (char)(emb_pii_alpha(s[i]) ? s[i] | 0x20 : s[i]);
    }
    if (!nonzero)
        return;
    bool checked = upper && lower;
    if (checked)
        emb_pii_keccak256(small, sizeof small, digest);
    for (size_t i = 0; i < 40 && checked; i++)
        if (emb_pii_alpha(s[i]) && emb_pii_upper(s[i]) != (digest[i / 2] >> (i % 2 ? 0 : 4) >> 3 & 1))
            return;
    emb_pii_add(v, EMB_PII_CRYPTO_WALLET, at, at + 42, checked ? EMB_PII_BY_CHECKSUM : EMB_PII_BY_PATTERN);
}

/* ---- Bitcoin ---- */

static int place_of(const char *alphabet, unsigned char c)
{
    const char *p = c ? strchr(alphabet, c) : NULL;
    return p ? (int)(p - alphabet) : -1;
}

static void base58(emb_pii_view *v, size_t at)
{
    static const char alphabet[] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    uint8_t bytes[25] = {0}, digest[EMB_SHA256_BYTES];
    size_t n = 0;
    if (emb_pii_word(emb_pii_before(v, at)))
        return;
    while (n < 36 && place_of(alphabet, emb_pii_at(v, at + n)) >= 0)
        n++;
    if (n < 26 || n > 35 || emb_pii_word(emb_pii_at(v, at + n)))
        return;
    for (size_t i = 0; i < n; i++) {
        unsigned carry = (unsigned)place_of(alphabet, v->s[at + i]);
        for (size_t j = sizeof bytes; j-- > 0; carry >>= 8)
            bytes[j] = (uint8_t)(carry += bytes[j] * 58u);
        if (carry)
            return;
    }
    if (bytes[0] != (v->s[at] == '1' ? 0 : 5))
        return;
    bool hashed = emb_sha256(bytes, 21, digest) && emb_sha256(digest, sizeof digest, digest);
    if (!hashed || memcmp(digest, bytes + 21, 4) == 0)
        emb_pii_add(v, EMB_PII_CRYPTO_WALLET, at, at + n, hashed ? EMB_PII_BY_CHECKSUM : EMB_PII_BY_PATTERN);
}

static uint32_t polymod(uint32_t c, unsigned value)
{
    static const uint32_t generator[5] = {0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3};
    uint32_t top = c >> 25;
    c = (c & 0x1ffffff) << 5 ^ value;
    for (int i = 0; i < 5; i++)
        c ^= top >> i & 1 ? generator[i] : 0;
    return c;
}

/* "bc1…", the digit of which is at `at` */
static void bech32(emb_pii_view *v, size_t at)
{
    static const char alphabet[] = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    uint32_t c = 1;
    size_t n = 0, start = at - 2;
    bool upper = emb_pii_upper(v->s[start]);
    if (emb_pii_word(emb_pii_before(v, start)) || emb_pii_upper(v->s[start + 1]) != upper)
        return;
    c = polymod(polymod(c, 3), 3);
    c = polymod(polymod(polymod(c, 0), 'b' & 31), 'c' & 31);
    int version = -1;
    for (; n < 75; n++) {
        unsigned char byte = emb_pii_at(v, at + 1 + n);
        if (emb_pii_alpha(byte) && emb_pii_upper(byte) != upper)
            break;
        int value = place_of(alphabet, emb_pii_alpha(byte) ? byte | 0x20 : byte);
        if (value < 0)
            break;
        c = polymod(c, (unsigned)value);
        version = n == 0 ? value : version;
    }
    if (n >= 14 && !emb_pii_word(emb_pii_at(v, at + 1 + n)) && version <= 16 &&
        c == (version == 0 ? 1 : 0x2bc830a3))
        emb_pii_add(v, EMB_PII_CRYPTO_WALLET, start, at + 1 + n, EMB_PII_BY_CHECKSUM);
}

void emb_pii_wallet(emb_pii_view *v, size_t at)
{
    unsigned char c = v->s[at];
    if (c == '0' && (emb_pii_at(v, at + 1) | 0x20) == 'x')
        ethereum(v, at);
    else if (c == '1' && at >= 2 && (v->s[at - 1] | 0x20) == 'c' && (v->s[at - 2] | 0x20) == 'b')
        bech32(v, at);
    else if (c == '1' || c == '3')
        base58(v, at);
}
