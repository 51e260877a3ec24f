/*
 * format.c: see format.h. Numbers are the shortest decimals that read back to the same float32, so JSON
 * loses nothing against the binary formats.
 */
#include "cli/format.h"

#include "base/float_text.h"
#include "base/json_write.h"

#include <stdio.h>
#include <string.h>

emb_status emb_format_npy_header(emb_buf *out, uint64_t rows, size_t dimension)
{
    /* Version 1.0: magic, two bytes of version, the length of what follows, a Python dict padded with
     * spaces and ended with a newline. A fixed length leaves room for any number of rows. */
    char header[EMB_NPY_HEADER_BYTES + 1];
    int n = snprintf(header, sizeof header,
                     "%c%s%c%c%c%c{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %zu), }", 0x93,
                     "NUMPY", 1, 0, EMB_NPY_HEADER_BYTES - 10, 0, (unsigned long long)rows, dimension);
    if (n < 0 || n >= EMB_NPY_HEADER_BYTES)
        return EMB_E_INTERNAL;
    memset(header + n, ' ', EMB_NPY_HEADER_BYTES - (size_t)n);
    header[EMB_NPY_HEADER_BYTES - 1] = '\n';
    return emb_buf_add(out, header, EMB_NPY_HEADER_BYTES);
}

emb_status emb_format_begin(emb_formatter *f, emb_buf *out)
{
    if (f->format == EMB_FORMAT_NPY)
        return emb_format_npy_header(out, 0, f->dimension);
    if (f->format == EMB_FORMAT_JSON && f->array)
        return emb_buf_add(out, "[", 1);
    return EMB_OK;
}

emb_status emb_format_end(emb_formatter *f, emb_buf *out)
{
    if (f->format == EMB_FORMAT_JSON && f->array)
        return emb_buf_add_str(out, f->written ? "\n]\n" : "]\n");
    return EMB_OK;
}

emb_status emb_format_prefix(const emb_formatter *f, emb_buf *out, const emb_record *record)
{
    emb_status status = emb_buf_addf(out, "{\"index\":%llu,", (unsigned long long)record->index);
    if (!status && record->id) {
        status = emb_buf_add_str(out, "\"id\":");
        if (!status)
            status = emb_buf_add(out, record->id, record->id_length);
        if (!status)
            status = emb_buf_add(out, ",", 1);
    }
    if (!status && !f->without_text) {
        status = emb_buf_add_str(out, "\"text\":");
        if (!status)
            status = emb_json_write_string(out, record->text, record->length);
        if (!status)
            status = emb_buf_add(out, ",", 1);
    }
    if (!status)
        status = emb_buf_add_str(out, "\"model\":");
    if (!status)
        status = emb_json_write_string(out, f->model, strlen(f->model));
    if (!status && f->space)
        status = emb_buf_add_str(out, ",\"space\":");
    if (!status && f->space)
        status = emb_json_write_string(out, f->space, strlen(f->space));
    return status ? status : emb_buf_addf(out, ",\"dimension\":%zu,\"tokens\":", f->dimension);
}

static emb_status add_object(const emb_formatter *f, emb_buf *out, const emb_record *record, uint32_t tokens,
                             const float *vector)
{
    emb_status status = emb_format_prefix(f, out, record);
    if (!status)
        status = emb_buf_addf(out, "%u,\"embedding\":", tokens);
    if (!status)
        status = emb_json_write_floats(out, vector, f->dimension);
    return status ? status : emb_buf_add(out, "}", 1);
}

/* A float's bytes with the lowest first, whatever the machine's order. */
static void little_endian(float value, unsigned char bytes[4])
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    for (int i = 0; i < 4; i++)
        bytes[i] = (unsigned char)(bits >> (8 * i));
}

static emb_status add_binary(emb_buf *out, const float *vector, size_t n)
{
    emb_status status = emb_buf_reserve(out, n * 4);
    for (size_t i = 0; i < n && !status; i++, out->length += 4)
        little_endian(vector[i], (unsigned char *)out->data + out->length);
    return status;
}

static emb_status add_base64(emb_buf *out, const float *vector, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t total = n * 4;
    emb_status status = emb_buf_reserve(out, (total + 2) / 3 * 4 + 1);
    if (status)
        return status;
    char *to = out->data + out->length;
    for (size_t at = 0; at < total; at += 3, to += 4) {
        uint32_t group = 0;
        size_t have = total - at < 3 ? total - at : 3;
        for (size_t i = 0; i < 3; i++) {
            unsigned char bytes[4] = {0};
            if (i < have)
                little_endian(vector[(at + i) / 4], bytes);
            group = group << 8 | bytes[(at + i) % 4];
        }
        for (int i = 0; i < 4; i++)
            to[i] = (size_t)i <= have ? digits[group >> (18 - 6 * i) & 63] : '=';
    }
    *to++ = '\n';
    out->length = (size_t)(to - out->data);
    return EMB_OK;
}

static emb_status add_numbers(emb_buf *out, const float *vector, size_t n)
{
    emb_status status = emb_buf_reserve(out, n * (EMB_FLOAT_TEXT_MAX + 1));
    if (status)
        return status;
    for (size_t i = 0; i < n; i++) {
        out->length += emb_float_text(vector[i], out->data + out->length);
        out->data[out->length++] = i + 1 < n ? ' ' : '\n';
    }
    return EMB_OK;
}

emb_status emb_format_vector(emb_formatter *f, emb_buf *out, const emb_record *record, uint32_t tokens,
                             const float *vector)
{
    emb_status status = EMB_OK;
    bool first = f->written++ == 0;
    switch (f->format) {
    case EMB_FORMAT_JSON:
        if (f->array)
            status = emb_buf_add_str(out, first ? "\n" : ",\n");
        if (!status)
            status = add_object(f, out, record, tokens, vector);
        return status || f->array ? status : emb_buf_add(out, "\n", 1);
    case EMB_FORMAT_JSONL:
        status = add_object(f, out, record, tokens, vector);
        return status ? status : emb_buf_add(out, "\n", 1);
    case EMB_FORMAT_NPY:
        return add_binary(out, vector, f->dimension);
    case EMB_FORMAT_BASE64:
        return add_base64(out, vector, f->dimension);
    case EMB_FORMAT_TEXT:
        return add_numbers(out, vector, f->dimension);
    }
    return EMB_E_INTERNAL;
}
