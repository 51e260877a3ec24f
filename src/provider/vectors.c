/*
 * vectors.c: see vectors.h.
 *
 * A provider's answer is outside data. Nothing of it is believed: the index says where a row goes (the order
 * of items is not relied on where they carry one), each place is filled once, and a number that is not finite
 * as a float32 ends the answer. Numbers are parsed as doubles and rounded to float32; a float32 printed with
 * nine digits comes back exactly.
 *
 * Cost: one pass over the numbers. base64 is decoded into the row itself; where its length is not the row's,
 * or there is no row, into a scratch buffer that is kept over the rows of an answer.
 */
#include "provider/vectors.h"

#include "base/base64.h"
#include "base/error.h"
#include "base/finite.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

emb_status emb_vectors_init(emb_vectors *v, float *rows, size_t count, size_t dimension, emb_error *err)
{
    *v = (emb_vectors){.rows = rows, .count = count, .dimension = dimension};
    v->seen = count <= sizeof v->small ? v->small : calloc(count, 1);
    return v->seen ? EMB_OK : emb_fail_nomem(err, "the rows of an answer", count);
}

void emb_vectors_fini(emb_vectors *v)
{
    if (v->seen != v->small)
        free(v->seen);
    free(v->scratch);
    v->seen = NULL;
    v->scratch = NULL;
}

static emb_status scratch(emb_vectors *v, size_t bytes, emb_error *err)
{
    if (bytes <= v->scratch_bytes)
        return EMB_OK;
    void *p = realloc(v->scratch, bytes);
    if (!p)
        return emb_fail_nomem(err, "a vector", bytes);
    v->scratch = p;
    v->scratch_bytes = bytes;
    return EMB_OK;
}

static emb_status claim(emb_vectors *v, int64_t index, emb_error *err)
{
    if (index < 0 || (uint64_t)index >= v->count)
        return emb_fail(err, EMB_E_PROVIDER, "index",
                        "the answer has a vector with index %" PRId64 " for %zu texts", index, v->count);
    if (v->seen[index])
        return emb_fail(err, EMB_E_PROVIDER, "index", "the answer has two vectors with index %" PRId64,
                        index);
    v->seen[index] = 1;
    v->seen_count++;
    return EMB_OK;
}

static emb_status check_dimension(emb_vectors *v, size_t length, emb_error *err)
{
    if (!v->dimension && length > 0 && length <= EMB_VECTORS_MAX_DIMENSION)
        v->dimension = length;
    if (length == v->dimension && length > 0)
        return EMB_OK;
    return emb_fail(err, EMB_E_PROVIDER, "dimension",
                    "the answer has a vector of %zu numbers, %zu are expected", length, v->dimension);
}

static emb_status not_finite(int64_t index, emb_error *err)
{
    return emb_fail(err, EMB_E_PROVIDER, "embedding",
                    "vector %" PRId64 " of the answer holds what is not a finite number", index);
}

/* The row's numbers into `out` (NULL: only looked at). */
static emb_status read_numbers(emb_json_value row, int64_t index, float *out, emb_error *err)
{
    emb_json_iter it = emb_json_begin(row);
    emb_json_value item;
    double number;
    for (size_t i = 0; emb_json_next(&it, NULL, NULL, &item); i++) {
        if (!emb_json_double(item, &number) || !(fabs(number) <= FLT_MAX))
            return not_finite(index, err);
        if (out)
            out[i] = (float)number;
    }
    return EMB_OK;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "base64 is of little-endian floats, straight into memory");

static emb_status put_base64(emb_vectors *v, int64_t index, const char *text, size_t length, emb_error *err)
{
    size_t bytes = 0;
    emb_status status;
    bool fits = v->rows && v->dimension && length == emb_base64_size(v->dimension * sizeof(float));
    if (length > EMB_VECTORS_MAX_DIMENSION * sizeof(float) * 2)
        return check_dimension(v, length / 4 * 3 / sizeof(float), err);
    if (!fits && (status = scratch(v, length / 4 * 3 + 4, err)))
        return status;
    float *to = fits ? v->rows + (size_t)index * v->dimension : v->scratch;
    if (!emb_base64_decode(text, length, to, &bytes) || bytes % sizeof(float) != 0)
        return emb_fail(err, EMB_E_PROVIDER, "embedding",
                        "vector %" PRId64 " of the answer is not base64 of float32", index);
    if ((status = check_dimension(v, bytes / sizeof(float), err)))
        return status;
    if (!emb_all_finite(to, v->dimension))
        return not_finite(index, err);
    if (!fits && v->rows)
        memcpy(v->rows + (size_t)index * v->dimension, to, bytes);
    return EMB_OK;
}

emb_status emb_vectors_put(emb_vectors *v, int64_t index, emb_json_value row, emb_error *err)
{
    const char *text;
    size_t length;
    emb_status status = claim(v, index, err);
    if (status)
        return status;
    if (emb_json_string(row, &text, &length))
        return put_base64(v, index, text, length, err);
    if (emb_json_type_of(row) != EMB_JSON_ARRAY)
        return emb_fail(err, EMB_E_PROVIDER, "embedding",
                        "vector %" PRId64 " of the answer is %s, not numbers", index,
                        emb_json_type_name(emb_json_type_of(row)));
    if ((status = check_dimension(v, emb_json_count(row), err)))
        return status;
    return read_numbers(row, index, v->rows ? v->rows + (size_t)index * v->dimension : NULL, err);
}

/* ---- the mean of tokens ---- */

static emb_status write_mean(emb_vectors *v, int64_t index, const double *sum, size_t tokens, bool normalize,
                             emb_error *err)
{
    double square = 0, scale = 1 / (double)tokens;
    for (size_t i = 0; i < v->dimension; i++)
        square += sum[i] * scale * sum[i] * scale;
    if (normalize && square > 0)
        scale /= sqrt(square);
    for (size_t i = 0; i < v->dimension; i++) {
        double mean = sum[i] * scale;
        if (!(fabs(mean) <= FLT_MAX))
            return not_finite(index, err);
        if (v->rows)
            v->rows[(size_t)index * v->dimension + i] = (float)mean;
    }
    return EMB_OK;
}

static emb_status add_row(double *sum, emb_json_value row, int64_t index, emb_error *err)
{
    emb_json_iter it = emb_json_begin(row);
    emb_json_value item;
    double number;
    for (size_t i = 0; emb_json_next(&it, NULL, NULL, &item); i++) {
        if (!emb_json_double(item, &number) || !(fabs(number) <= FLT_MAX))
            return not_finite(index, err);
        sum[i] += number;
    }
    return EMB_OK;
}

emb_status emb_vectors_put_tokens(emb_vectors *v, int64_t index, emb_json_value tokens, bool normalize,
                                  emb_error *err)
{
    size_t count = 0;
    emb_json_iter it = emb_json_begin(tokens);
    emb_json_value row;
    emb_status status = claim(v, index, err);
    for (; !status && emb_json_next(&it, NULL, NULL, &row); count++) {
        if (emb_json_type_of(row) != EMB_JSON_ARRAY)
            return emb_fail(err, EMB_E_PROVIDER, "embedding",
                            "vector %" PRId64 " of the answer is not rows of numbers", index);
        status = check_dimension(v, emb_json_count(row), err);
        if (!status && count == 0 && !(status = scratch(v, v->dimension * sizeof(double), err)))
            memset(v->scratch, 0, v->dimension * sizeof(double));
        if (!status)
            status = add_row(v->scratch, row, index, err);
    }
    if (status)
        return status;
    if (!count)
        return check_dimension(v, 0, err);
    return write_mean(v, index, v->scratch, count, normalize, err);
}

/* ---- whole answers ---- */

emb_status emb_vectors_put_all(emb_vectors *v, emb_json_value rows, emb_error *err)
{
    emb_json_iter it = emb_json_begin(rows);
    emb_json_value row;
    emb_status status = EMB_OK;
    if (emb_json_type_of(rows) != EMB_JSON_ARRAY)
        return emb_fail(err, EMB_E_PROVIDER, "embeddings", "the answer's vectors are %s, not an array",
                        emb_json_type_name(emb_json_type_of(rows)));
    if (emb_json_count(rows) != v->count)
        return emb_fail(err, EMB_E_PROVIDER, "embeddings", "the answer has %zu vectors for %zu texts",
                        emb_json_count(rows), v->count);
    for (int64_t i = 0; !status && emb_json_next(&it, NULL, NULL, &row); i++)
        status = emb_vectors_put(v, i, row, err);
    return status;
}

emb_status emb_vectors_check(const emb_vectors *v, emb_error *err)
{
    if (v->seen_count == v->count)
        return EMB_OK;
    return emb_fail(err, EMB_E_PROVIDER, "embeddings", "the answer has %zu vectors for %zu texts",
                    v->seen_count, v->count);
}
