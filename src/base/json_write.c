/* Strings are written in runs: bytes that need no escape are copied together. */
#include "base/json_write.h"

#include "base/float_text.h"
#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

static emb_status write_escaped(emb_buf *buf, unsigned char c)
{
    static const char letters[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
    const char *found = c ? strchr(letters, c) : NULL;
    char text[8];
    int n = found ? snprintf(text, sizeof text, "\\%c", names[found - letters])
                  : snprintf(text, sizeof text, "\\u%04x", c);
    return emb_buf_add(buf, text, (size_t)n);
}

emb_status emb_json_write_string(emb_buf *buf, const char *text, size_t length)
{
    emb_status status = emb_buf_add(buf, "\"", 1);
    for (size_t i = 0; i < length && !status;) {
        size_t run = i;
        while (run < length && is_plain((unsigned char)text[run]))
            run++;
        if ((status = emb_buf_add(buf, text + i, run - i)))
            break;
        i = run;
        if (i == length)
            break;
        if ((unsigned char)text[i] < 0x80) {
            status = write_escaped(buf, (unsigned char)text[i++]);
        } else {
            uint32_t c;
            char encoded[4];
            i += emb_utf8_decode(text + i, length - i, &c);
            status = emb_buf_add(buf, encoded, emb_utf8_encode(c, encoded));
        }
    }
    return status ? status : emb_buf_add(buf, "\"", 1);
}

emb_status emb_json_write_member(emb_buf *buf, const char *name, const char *text)
{
    bool first = buf->length > 0 && buf->data[buf->length - 1] == '{';
    emb_status status = emb_buf_addf(buf, "%s\"%s\":", first ? "" : ",", name);
    if (status)
        return status;
    return text ? emb_json_write_string(buf, text, strlen(text)) : emb_buf_add_str(buf, "null");
}

emb_status emb_json_write_floats(emb_buf *buf, const float *values, size_t count)
{
    if (count > (SIZE_MAX - 2) / (EMB_FLOAT_TEXT_MAX + 1))
        return EMB_E_LIMIT;
    emb_status status = emb_buf_reserve(buf, count * (EMB_FLOAT_TEXT_MAX + 1) + 2);
    if (status)
        return status;
    char *out = buf->data + buf->length;
    *out++ = '[';
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(values[i]))
            return EMB_E_INVALID;
        if (i)
            *out++ = ',';
        out += emb_float_text(values[i], out);
    }
    *out++ = ']';
    buf->length = (size_t)(out - buf->data);
    return EMB_OK;
}
