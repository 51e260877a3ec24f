/*
 * A comma is due unless the last byte opens something or ends a name: that one byte of memory, the buffer's
 * own, stands for a stack of states. Rejected: building a tree and printing it, which copies every vector.
 */
#include "api/out.h"

#include "api/encode.h"
#include "base/float_text.h"
#include "base/json_write.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void put(emb_out *out, const char *text, size_t length)
{
    if (!out->status)
        out->status = emb_buf_add(&out->body, text, length);
}

static void put_name(emb_out *out, const char *name)
{
    char last = out->body.length ? out->body.data[out->body.length - 1] : '{';
    if (last != '{' && last != '[')
        put(out, ",", 1);
    if (!name)
        return;
    put(out, "\"", 1);
    put(out, name, strlen(name));
    put(out, "\":", 2);
}

void emb_out_begin(emb_out *out, emb_api_call *call)
{
    emb_call_body(call, &out->body);
    out->status = EMB_OK;
}

void emb_out_open(emb_out *out, const char *name, char bracket)
{
    put_name(out, name);
    put(out, &bracket, 1);
}

void emb_out_close(emb_out *out, char bracket)
{
    put(out, &bracket, 1);
}

void emb_out_bytes(emb_out *out, const char *name, const char *value, size_t length)
{
    put_name(out, name);
    if (!out->status)
        out->status = emb_json_write_string(&out->body, value, length);
}

void emb_out_text(emb_out *out, const char *name, const char *value)
{
    if (value)
        emb_out_bytes(out, name, value, strlen(value));
    else
        emb_out_null(out, name);
}

void emb_out_count(emb_out *out, const char *name, uint64_t value)
{
    char text[24];
    put_name(out, name);
    put(out, text, (size_t)snprintf(text, sizeof text, "%" PRIu64, value));
}

void emb_out_real(emb_out *out, const char *name, double value, int digits)
{
    char text[340];
    if (!isfinite(value)) {
        emb_out_null(out, name);
        return;
    }
    put_name(out, name);
    size_t length = (size_t)snprintf(text, sizeof text, "%.*f", digits, value);
    char *point = memchr(text, ',', length); /* some locales' */
    if (point)
        *point = '.';
    while (memchr(text, '.', length) && (text[length - 1] == '0' || text[length - 1] == '.'))
        length--;
    put(out, strncmp(text, "-0", length) == 0 ? "0" : text, strncmp(text, "-0", length) == 0 ? 1 : length);
}

void emb_out_float(emb_out *out, const char *name, float value)
{
    char text[EMB_FLOAT_TEXT_MAX];
    if (!isfinite(value)) {
        emb_out_null(out, name);
        return;
    }
    put_name(out, name);
    put(out, text, emb_float_text(value, text));
}

void emb_out_bool(emb_out *out, const char *name, bool value)
{
    put_name(out, name);
    put(out, value ? "true" : "false", value ? 4 : 5);
}

void emb_out_null(emb_out *out, const char *name)
{
    put_name(out, name);
    put(out, "null", 4);
}

void emb_out_usd(emb_out *out, const char *name, uint64_t nusd)
{
    char text[40];
    put_name(out, name);
    size_t length =
        (size_t)snprintf(text, sizeof text, "%" PRIu64 ".%09" PRIu64, nusd / 1000000000, nusd % 1000000000);
    while (text[length - 1] == '0')
        length--;
    put(out, text, length - (text[length - 1] == '.'));
}

void emb_out_floats(emb_out *out, const char *name, const float *values, size_t count)
{
    put_name(out, name);
    if (!out->status)
        out->status = emb_encode_floats(&out->body, values, count);
}

void emb_out_rows(emb_out *out, const char *name, const float *values, size_t count, size_t dimension)
{
    put_name(out, name);
    if (!out->status)
        out->status = emb_encode_rows(&out->body, values, count, dimension);
}

void emb_out_reply(emb_out *out, emb_api_call *call, const emb_answer *answer)
{
    emb_call_finish(call, answer, &out->body, out->status);
}
