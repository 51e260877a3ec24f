/*
 * store.c: which database a URL means, and a row as the columns that both databases have.
 *
 * Cosines are integers in units of 1e-9, latencies nanoseconds, money nano-dollars: sums are exact and alike
 * everywhere, and a column of bytes or integers is all that is asked of src/store.
 */
#include "shadow/store.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

emb_status emb_shadow_store_open(const char *url, emb_shadow_store **out, emb_error *err)
{
    *out = NULL;
    if (strncmp(url, "sqlite:", 7) == 0) {
        const char *path = url + 7; /* sqlite:///absolute works too */
        return emb_shadow_store_open_sqlite(strncmp(path, "//", 2) == 0 ? path + 2 : path, out, err);
    }
    if (strncmp(url, "postgresql:", 11) == 0 || strncmp(url, "postgres:", 9) == 0)
        return emb_shadow_store_open_postgresql(url, out, err);
    return emb_fail(err, EMB_E_INVALID, "data.store_url",
                    "comparisons are kept at sqlite:PATH or postgresql://..., the URL given is neither");
}

const char *emb_shadow_row_text(const emb_shadow_row *row, int column)
{
    const char *const texts[EMB_SHADOW_TEXT_COLUMNS] = {row->role,
                                                        row->category,
                                                        row->context,
                                                        row->legacy_provider,
                                                        row->legacy_model,
                                                        row->legacy_space,
                                                        row->candidate_provider,
                                                        row->candidate_model,
                                                        row->candidate_space,
                                                        row->error};
    return texts[column];
}

int64_t emb_shadow_row_number(const emb_shadow_row *row, int column)
{
    const int64_t numbers[EMB_SHADOW_NUMBER_COLUMNS] = {
        row->time_s,           row->legacy_ns,        row->candidate_ns,        row->legacy_nusd,
        row->candidate_nusd,   row->legacy_dimension, row->candidate_dimension, row->legacy_cached,
        row->candidate_cached, row->cosine_e9};
    return numbers[column];
}

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

void emb_shadow_row_set(emb_shadow_row *row, const unsigned char *hash, size_t hash_length,
                        const char *const t[EMB_SHADOW_TEXT_COLUMNS],
                        const int64_t n[EMB_SHADOW_NUMBER_COLUMNS], bool has_cosine)
{
    *row = (emb_shadow_row){.role = or_empty(t[0]),
                            .category = or_empty(t[1]),
                            .context = or_empty(t[2]),
                            .legacy_provider = or_empty(t[3]),
                            .legacy_model = or_empty(t[4]),
                            .legacy_space = or_empty(t[5]),
                            .candidate_provider = or_empty(t[6]),
                            .candidate_model = or_empty(t[7]),
                            .candidate_space = or_empty(t[8]),
                            .error = t[9],
                            .time_s = n[0],
                            .legacy_ns = n[1],
                            .candidate_ns = n[2],
                            .legacy_nusd = n[3],
                            .candidate_nusd = n[4],
                            .legacy_dimension = n[5],
                            .candidate_dimension = n[6],
                            .legacy_cached = n[7],
                            .candidate_cached = n[8],
                            .cosine_e9 = has_cosine ? n[9] : 0,
                            .has_cosine = has_cosine};
    if (hash && hash_length == sizeof row->text)
        memcpy(row->text, hash, sizeof row->text);
}

void emb_shadow_state_numbers(const emb_shadow_state *s, int64_t out[EMB_SHADOW_STATE_NUMBERS])
{
    const int64_t numbers[EMB_SHADOW_STATE_NUMBERS] = {s->time_s,        s->window,        s->overlap_e9[0],
                                                       s->overlap_e9[1], s->overlap_e9[2], s->rank_e9[0],
                                                       s->rank_e9[1],    s->rank_e9[2],    s->dropped};
    memcpy(out, numbers, sizeof numbers);
}

void emb_shadow_state_set(emb_shadow_state *s, const int64_t n[EMB_SHADOW_STATE_NUMBERS], const char *pair)
{
    *s = (emb_shadow_state){.time_s = n[0], .window = n[1], .dropped = n[8]};
    memcpy(s->overlap_e9, n + 2, sizeof s->overlap_e9);
    memcpy(s->rank_e9, n + 5, sizeof s->rank_e9);
    snprintf(s->pair, sizeof s->pair, "%s", or_empty(pair));
}
