/*
 * A decoder driven by the lead byte's class; the second byte's range rules out overlong forms,
 * surrogates and values over U+10FFFF (Unicode 15, table 3-7). An invalid sequence consumes its maximal
 * subpart, so that replacement agrees with other decoders byte for byte.
 */
#include "base/utf8.h"

#include <string.h>

size_t emb_utf8_decode(const char *s, size_t n, uint32_t *code_point)
{
    const unsigned char *p = (const unsigned char *)s;
    unsigned lead = p[0], low = 0x80, high = 0xBF;
    size_t need;
    uint32_t c;
    if (lead < 0x80) {
        *code_point = lead;
        return 1;
    }
    *code_point = EMB_UTF8_REPLACEMENT;
    if (lead >= 0xC2 && lead <= 0xDF) {
        need = 1;
        c = lead & 0x1F;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        need = 2;
        c = lead & 0x0F;
        if (lead == 0xE0)
            low = 0xA0;
        else if (lead == 0xED)
            high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        need = 3;
        c = lead & 0x07;
        if (lead == 0xF0)
            low = 0x90;
        else if (lead == 0xF4)
            high = 0x8F;
    } else {
        return 1;
    }
    for (size_t i = 1; i <= need; i++, low = 0x80, high = 0xBF) {
        if (i >= n || p[i] < low || p[i] > high)
            return i;
        c = c << 6 | (p[i] & 0x3F);
    }
    *code_point = c;
    return need + 1;
}

size_t emb_utf8_encode(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

size_t emb_utf8_valid_prefix(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t word;
        while (n - i >= 8 && (memcpy(&word, s + i, 8), (word & 0x8080808080808080u) == 0))
            i += 8;
        while (i < n && (unsigned char)s[i] < 0x80)
            i++;
        if (i == n)
            break;
        uint32_t c;
        size_t taken = emb_utf8_decode(s + i, n - i, &c);
        /* a decoded U+FFFD is valid only as the three bytes EF BF BD */
        if (c == EMB_UTF8_REPLACEMENT && !(taken == 3 && memcmp(s + i, "\xEF\xBF\xBD", 3) == 0))
            return i;
        i += taken;
    }
    return n;
}

emb_status emb_utf8_repair(emb_buf *buf, const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t good = emb_utf8_valid_prefix(s + i, n - i);
        emb_status status = emb_buf_add(buf, s + i, good);
        if (status)
            return status;
        i += good;
        if (i < n) {
            uint32_t c;
            i += emb_utf8_decode(s + i, n - i, &c);
            if ((status = emb_buf_add(buf, "\xEF\xBF\xBD", 3)))
                return status;
        }
    }
    return EMB_OK;
}
