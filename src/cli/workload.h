/*
 * workload.h: texts for measurements: common words, as many as the wanted number of tokens needs, all
 * different, the same in every run.
 *
 *     emb_workload w;
 *     emb_workload_open(&w, model, 128, 256, &err);      // 256 texts of 128 tokens; EMB_WORKLOAD_MIX: mixed lengths
 *     emb_workload_measure(&w, model, seconds, &figure, &err);
 *     emb_workload_close(&w);
 *
 * Repetition would make measurements easier than life, hence different texts; a mix is mostly short with a
 * tail of long ones, as in search queries with documents. Not thread-safe.
 */
#ifndef EMB_CLI_WORKLOAD_H
#define EMB_CLI_WORKLOAD_H

#include <embedd.h>

enum { EMB_WORKLOAD_MIX = 0 };

typedef struct emb_workload {
    emb_text *texts;
    size_t count;
    float *vectors; /* room for all of them */
    size_t floats;
} emb_workload;

typedef struct emb_workload_figure {
    size_t length; /* tokens of a text, as they came out */
    double texts_per_second, tokens_per_second;
} emb_workload_figure;

/* A small generator (xorshift); state must not be 0. */
uint64_t emb_workload_random(uint64_t *state);
/* `words` words with spaces between; malloc'ed, NUL-terminated, NULL when memory is short. */
char *emb_workload_text(size_t words, uint64_t *random, size_t *length);
/* A length of the mix, in tokens, at most `most`. */
size_t emb_workload_mixed_length(uint64_t *random, size_t most);

EMB_MUST_CHECK emb_status emb_workload_open(emb_workload *workload, emb_model *model, size_t tokens,
                                            size_t texts, emb_error *err);
void emb_workload_close(emb_workload *workload);
/* Embeds the texts again and again for `seconds`, after a warm-up that is not counted; ends with
 * EMB_E_CANCELLED when the program is told to stop (stop.h). */
EMB_MUST_CHECK emb_status emb_workload_measure(const emb_workload *workload, emb_model *model, double seconds,
                                               emb_workload_figure *out, emb_error *err);

#endif
