/*
 * compare.c: a job and the candidate's answer become rows of the batch, and vectors of the window.
 *
 * A cosine is taken where both vectors have the same dimension, in double precision. A candidate whose vector
 * is not finite or all zero failed, whatever it said. Costs of a request are shared out to the nano-dollar,
 * so that sums over rows are what was paid.
 *
 * Of a text nothing goes on but its hash; names are cut to NAME_MAX bytes of valid UTF-8, since a database
 * refuses the whole batch for one bad byte. What there is no memory for is counted as dropped.
 */
#include "shadow/parts.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "crypto/crypto.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 256, ROWS_MAX = 1 << 20 };

bool emb_shadow_cosine(const float *a, const float *b, size_t dimension, double *out)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < dimension; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    double c = ab / (sqrt(aa) * sqrt(bb));
    if (!isfinite(c))
        return false;
    *out = c > 1 ? 1 : c < -1 ? -1 : c;
    return true;
}

static bool usable(const float *vector, size_t dimension)
{
    double ignored;
    return vector && dimension && emb_shadow_cosine(vector, vector, dimension, &ignored);
}

bool emb_shadow_pair_name(const char *legacy_space, const char *candidate_space,
                          char out[EMB_SHADOW_HASH_BYTES * 2 + 1])
{
    uint8_t digest[EMB_SHA256_BYTES];
    const emb_bytes pieces[] = {{legacy_space, strlen(legacy_space) + 1},
                                {candidate_space, strlen(candidate_space)}};
    if (!emb_sha256_pieces(pieces, 2, digest))
        return false;
    emb_hex(digest, EMB_SHADOW_HASH_BYTES, out);
    return true;
}

/* ---- names ---- */

static const char *keep(emb_arena *arena, const char *text, bool *failed)
{
    size_t length = text ? strnlen(text, NAME_MAX_BYTES) : 0;
    char *copy = emb_arena_strndup(arena, text ? text : "", length ? emb_utf8_valid_prefix(text, length) : 0);
    if (!copy)
        *failed = true;
    return copy;
}

static const char *role_name(emb_role role)
{
    return role == EMB_ROLE_QUERY ? "query" : role == EMB_ROLE_DOCUMENT ? "document" : "none";
}

/* What the rows of a job have in common; false when memory is short. */
static bool fill_names(emb_arena *arena, const emb_shadow_pair *pair, const emb_shadow_side *candidate,
                       emb_shadow_row *row)
{
    bool failed = false;
    row->role = role_name(pair->role);
    row->category = keep(arena, pair->category, &failed);
    row->context = keep(arena, pair->context, &failed);
    row->legacy_provider = keep(arena, pair->legacy.provider, &failed);
    row->legacy_model = keep(arena, pair->legacy.model, &failed);
    row->legacy_space = keep(arena, pair->legacy.space, &failed);
    row->candidate_provider = keep(arena, candidate->provider, &failed);
    row->candidate_model = keep(arena, candidate->model, &failed);
    row->candidate_space = keep(arena, candidate->space, &failed);
    return !failed;
}

static int64_t bounded(uint64_t value)
{
    return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

static void fill_numbers(const emb_shadow *s, const emb_shadow_pair *pair, const emb_shadow_side *candidate,
                         emb_shadow_row *row)
{
    row->time_s = emb_shadow_now_s(s);
    row->legacy_ns = bounded(pair->legacy.latency_ns);
    row->candidate_ns = bounded(candidate->latency_ns);
    row->legacy_dimension = bounded(pair->legacy.dimension);
    row->candidate_dimension = bounded(candidate->dimension);
    row->legacy_cached = pair->legacy.cached;
    row->candidate_cached = candidate->cached;
}

/* ---- one text ---- */

static int64_t share_of(uint64_t nusd, size_t count, size_t index)
{
    return bounded(nusd / count + (index < nusd % count));
}

static void add_to_window(emb_shadow *s, const emb_shadow_row *row, const float *legacy,
                          const float *candidate, const char *pair_name)
{
    emb_shadow_item item = {.pair = pair_name,
                            .vectors = {legacy, candidate},
                            .dimensions = {(size_t)row->legacy_dimension, (size_t)row->candidate_dimension}};
    memcpy(item.text, row->text, sizeof item.text);
    (void)emb_shadow_window_add(s->window, &item); /* without it the row still counts */
}

static void compare_vectors(emb_shadow *s, emb_shadow_row *row, const float *legacy, const float *candidate,
                            const char *pair_name)
{
    double cosine;
    if (!usable(candidate, (size_t)row->candidate_dimension)) {
        row->error = emb_status_text(EMB_E_CORRUPT);
        return;
    }
    if (!usable(legacy, (size_t)row->legacy_dimension))
        return;
    if (row->legacy_dimension == row->candidate_dimension &&
        emb_shadow_cosine(legacy, candidate, (size_t)row->legacy_dimension, &cosine)) {
        row->has_cosine = true;
        row->cosine_e9 = llround(cosine * 1e9);
        emb_series_observe(s->series.similarity, cosine);
    }
    if (*pair_name)
        add_to_window(s, row, legacy, candidate, pair_name);
}

static bool hash_text(emb_text text, unsigned char out[EMB_SHADOW_HASH_BYTES])
{
    uint8_t digest[EMB_SHA256_BYTES];
    if (!emb_sha256(text.data ? text.data : "", text.length, digest))
        return false;
    memcpy(out, digest, EMB_SHADOW_HASH_BYTES);
    return true;
}

static bool reserve(emb_shadow_batch *b, size_t more)
{
    size_t wanted = b->count + more;
    if (more > ROWS_MAX || wanted > ROWS_MAX)
        return false;
    if (wanted <= b->capacity)
        return true;
    size_t capacity = wanted < 256 ? 256 : wanted;
    emb_shadow_row *rows = realloc(b->rows, capacity * sizeof *rows);
    if (!rows)
        return false;
    b->rows = rows;
    b->capacity = capacity;
    return true;
}

static void lose(emb_shadow *s, size_t count)
{
    atomic_fetch_add(&s->dropped, count);
    emb_series_add(s->series.dropped, (double)count);
}

void emb_shadow_compare(emb_shadow *s, const emb_shadow_pair *pair, const emb_shadow_side *candidate,
                        emb_status status)
{
    emb_shadow_batch *b = &s->batch;
    emb_shadow_row common = {.error = status ? emb_status_text(status) : NULL};
    char pair_name[EMB_SHADOW_HASH_BYTES * 2 + 1] = "";
    if (!reserve(b, pair->count) || !fill_names(&b->strings, pair, candidate, &common)) {
        lose(s, pair->count);
        return;
    }
    fill_numbers(s, pair, candidate, &common);
    if (!status && !emb_shadow_pair_name(common.legacy_space, common.candidate_space, pair_name))
        *pair_name = '\0';
    if (b->count == 0)
        b->since_ns = emb_now_ns();
    for (size_t i = 0; i < pair->count; i++) {
        emb_shadow_row *row = &b->rows[b->count];
        *row = common;
        row->legacy_nusd = share_of(pair->legacy.nusd, pair->count, i);
        row->candidate_nusd = share_of(candidate->nusd, pair->count, i);
        if (!hash_text(pair->texts[i], row->text)) {
            lose(s, 1);
            continue;
        }
        if (!status)
            compare_vectors(s, row,
                            pair->legacy.vectors ? pair->legacy.vectors + i * pair->legacy.dimension : NULL,
                            candidate->vectors + i * candidate->dimension, pair_name);
        emb_series_add(row->error ? s->series.failed : s->series.compared, 1);
        b->count++;
        s->compared += row->error == NULL;
    }
}
