/*
 * Joining and lowering. Nothing else is done to a text: sentence-transformers took white space off its ends
 * until version 5, and no longer does (6.2); only byte-level tokenizers see the difference. Lower case is
 * Unicode's full mapping: U+0130 becomes two code points, and a capital sigma at the end of a word becomes
 * final sigma. Invalid UTF-8 is read as U+FFFD, which the tokenizer would do anyway.
 */
#include "engine/prepare.h"

#include "base/utf8.h"

#include <string.h>
#include <utf8proc.h>

/* Start of the character that ends at `end`. */
static size_t previous(const char *s, size_t end)
{
    size_t at = end - 1;
    while (at > 0 && end - at < 4 && ((unsigned char)s[at] & 0xC0) == 0x80)
        at--;
    uint32_t c;
    return at + emb_utf8_decode(s + at, end - at, &c) == end ? at : end - 1;
}

static bool is_cased(uint32_t c)
{
    return utf8proc_toupper((utf8proc_int32_t)c) != (utf8proc_int32_t)c ||
           utf8proc_tolower((utf8proc_int32_t)c) != (utf8proc_int32_t)c;
}

static bool is_case_ignorable(uint32_t c)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF ||
           k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK || c == '\'' || c == '.' || c == ':' ||
           c == 0xB7 || c == 0x2018 || c == 0x2019 || c == 0x2024 || c == 0x2027;
}

/* Unicode's Final_Sigma for the sigma at s[at .. at+2): a cased letter before it and none after it, case
 * ignorable characters in between. */
static bool sigma_is_final(const char *s, size_t length, size_t at)
{
    uint32_t c;
    bool cased = false;
    for (size_t i = at; i > 0 && !cased;) {
        i = previous(s, i);
        emb_utf8_decode(s + i, length - i, &c);
        if (is_case_ignorable(c))
            continue;
        if (!is_cased(c))
            return false;
        cased = true;
    }
    if (!cased)
        return false;
    for (size_t i = at + 2; i < length;) {
        i += emb_utf8_decode(s + i, length - i, &c);
        if (!is_case_ignorable(c))
            return !is_cased(c);
    }
    return true;
}

static emb_status add_lower(emb_buf *buf, const char *s, size_t length)
{
    for (size_t i = 0; i < length;) {
        uint32_t c;
        size_t n = emb_utf8_decode(s + i, length - i, &c);
        char bytes[8];
        size_t written;
        if (c == 0x3A3) {
            written = emb_utf8_encode(sigma_is_final(s, length, i) ? 0x3C2 : 0x3C3, bytes);
        } else if (c == 0x130) {
            written = emb_utf8_encode('i', bytes);
            written += emb_utf8_encode(0x307, bytes + written);
        } else {
            written = emb_utf8_encode((uint32_t)utf8proc_tolower((utf8proc_int32_t)c), bytes);
        }
        emb_status status = emb_buf_add(buf, bytes, written);
        if (status)
            return status;
        i += n;
    }
    return EMB_OK;
}

emb_status emb_prepare(emb_buf *buf, const char *prompt, size_t prompt_length, const char *text,
                       size_t length, bool lower)
{
    emb_buf_clear(buf);
    emb_status status = emb_buf_reserve(buf, prompt_length + length + 1);
    if (status)
        return status;
    if (lower) {
        status = add_lower(buf, prompt, prompt_length);
        return status ? status : add_lower(buf, text, length);
    }
    status = emb_buf_add(buf, prompt, prompt_length);
    return status || !length ? status : emb_buf_add(buf, text, length);
}
