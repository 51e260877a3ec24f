/*
 * pipeline.h: records in, vectors out, with reading and writing beside the computing.
 *
 *     emb_pipeline_result result;
 *     st = emb_pipeline_run(&(emb_pipeline_options){ .session = &session, … }, &result, err);
 *
 * Starts its own threads and ends them before it returns; what the options point to is theirs meanwhile.
 * Memory is bounded: four slices of a few MB (a longer line makes its slice larger for a while), through the
 * gateway a dozen.
 */
#ifndef EMB_CLI_PIPELINE_H
#define EMB_CLI_PIPELINE_H

#include "cli/format.h"
#include "cli/gate.h"
#include "cli/session.h"
#include "cli/sink.h"

typedef struct emb_pipeline_options {
    const char *command; /* for messages */
    const emb_session *session;
    emb_gate *gate; /* instead of the session, or NULL; tells the formatter what the vectors are of */
    emb_input *input;
    emb_sink *sink;
    emb_formatter *formatter;
    const emb_embed_options *embed; /* of the session; its cancel flag is set by the pipeline */
    size_t batch_texts;             /* most texts in a slice; 0: as many as are good */
    bool skip_bad;                  /* report records that cannot be embedded and go on */
    bool quiet;
} emb_pipeline_options;

typedef struct emb_pipeline_result {
    uint64_t texts, tokens, truncated, skipped;
    uint64_t resumed; /* texts that were there already; not in `texts` */
    double seconds;
} emb_pipeline_result;

/* On failure what came before is written, though not committed. EMB_E_CANCELLED after a signal. *result
 * is filled either way. */
EMB_MUST_CHECK emb_status emb_pipeline_run(const emb_pipeline_options *options, emb_pipeline_result *result,
                                           emb_error *err);

#endif
