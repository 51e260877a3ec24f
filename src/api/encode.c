/*
 * encode.c: vectors into a body, in one pass and without intermediate text.
 *
 * Room is reserved once per vector for its longest form, then written straight into the buffer; a batch grows
 * the buffer by doubling. base64 is checked for what is not finite as well, since nothing else would notice a
 * NaN there.
 */
#include "api/encode.h"

#include "base/base64.h"
#include "base/finite.h"
#include "base/json_write.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "base64 is of little-endian floats, straight from memory");

emb_status emb_encode_floats(emb_buf *buf, const float *values, size_t count)
{
    emb_status status = emb_json_write_floats(buf, values, count);
    return status == EMB_E_INVALID ? EMB_E_INTERNAL : status;
}

emb_status emb_encode_base64(emb_buf *buf, const float *values, size_t count)
{
    if (count > SIZE_MAX / 8)
        return EMB_E_LIMIT;
    if (!emb_all_finite(values, count))
        return EMB_E_INTERNAL;
    size_t bytes = count * sizeof *values;
    emb_status status = emb_buf_reserve(buf, emb_base64_size(bytes) + 2);
    if (status)
        return status;
    char *out = buf->data + buf->length;
    *out++ = '"';
    out += emb_base64_encode(values, bytes, out);
    *out++ = '"';
    buf->length = (size_t)(out - buf->data);
    return EMB_OK;
}

emb_status emb_encode_rows(emb_buf *buf, const float *values, size_t count, size_t dimension)
{
    emb_status status = emb_buf_add(buf, "[", 1);
    for (size_t i = 0; i < count && !status; i++) {
        if (i && (status = emb_buf_add(buf, ",", 1)))
            break;
        status = emb_encode_floats(buf, values + i * dimension, dimension);
    }
    return status ? status : emb_buf_add(buf, "]", 1);
}

/* ---- quantised ---- */

static int level_of(float x)
{
    double level = ((double)x + 1.0) * (255.0 / 2.0);
    return level < 0 ? 0 : level > 255 ? 255 : (int)level; /* the conversion rounds down */
}

static int bits_of(const float *values, size_t count)
{
    int byte = 0;
    for (size_t i = 0; i < 8; i++)
        byte = byte << 1 | (i < count && values[i] > 0);
    return byte;
}

static char *put_int(char *out, int value)
{
    if (value < 0) {
        *out++ = '-';
        value = -value;
    }
    if (value >= 100)
        *out++ = (char)('0' + value / 100);
    if (value >= 10)
        *out++ = (char)('0' + value / 10 % 10);
    *out++ = (char)('0' + value % 10);
    return out;
}

emb_status emb_encode_quantised(emb_buf *buf, const float *values, size_t count, emb_quantisation kind)
{
    bool bits = kind == EMB_QUANT_BINARY || kind == EMB_QUANT_UBINARY;
    int shift = kind == EMB_QUANT_INT8 || kind == EMB_QUANT_BINARY ? 128 : 0;
    if (count > SIZE_MAX / 16)
        return EMB_E_LIMIT;
    if (!emb_all_finite(values, count))
        return EMB_E_INTERNAL;
    size_t numbers = bits ? (count + 7) / 8 : count;
    emb_status status = emb_buf_reserve(buf, numbers * 5 + 2);
    if (status)
        return status;
    char *out = buf->data + buf->length;
    *out++ = '[';
    for (size_t i = 0; i < numbers; i++) {
        if (i)
            *out++ = ',';
        out = put_int(out, (bits ? bits_of(values + 8 * i, count - 8 * i) : level_of(values[i])) - shift);
    }
    *out++ = ']';
    buf->length = (size_t)(out - buf->data);
    return EMB_OK;
}
