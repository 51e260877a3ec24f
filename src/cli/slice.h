/*
 * slice.h: some texts with their vectors, the unit that travels through the pipeline.
 *
 *     emb_slice s; emb_slice_init(&s);
 *     st = emb_slice_add(&s, &record, err);
 *     st = emb_slice_embed(&s, model, dimension, &options, err);
 *     emb_slice_clear(&s);                     // keeps its memory for the next texts
 *
 * Owned by one thread at a time.
 */
#ifndef EMB_CLI_SLICE_H
#define EMB_CLI_SLICE_H

#include "cli/gate.h"
#include "cli/input.h"

typedef struct emb_slice_item {
    size_t text, length, id, id_length; /* offsets in bytes */
    uint64_t index;
    bool has_id, dropped; /* dropped: could not be embedded */
} emb_slice_item;

typedef struct emb_slice {
    emb_buf bytes;
    emb_slice_item *items;
    emb_text *texts;
    uint32_t *tokens;
    float *vectors; /* count × dimension */
    size_t count, capacity, vector_floats;
    emb_usage usage;
    uint64_t input_position; /* behind its last record */
} emb_slice;

void emb_slice_init(emb_slice *slice);
void emb_slice_fini(emb_slice *slice);
void emb_slice_clear(emb_slice *slice);
EMB_MUST_CHECK emb_status emb_slice_add(emb_slice *slice, const emb_record *record, emb_error *err);
/* Item i as the record it was. */
void emb_slice_record(const emb_slice *slice, size_t i, emb_record *record);

/* EMB_E_LIMIT: text *bad is too long and truncation is off; the ones before it are done. With a `drop`
 * function that text is marked, reported through it, and the rest goes on. */
typedef void (*emb_slice_drop)(void *context, const emb_record *record, const emb_error *err);
EMB_MUST_CHECK emb_status emb_slice_embed(emb_slice *slice, emb_model *model, size_t dimension,
                                          const emb_embed_options *options, emb_slice_drop drop,
                                          void *context, size_t *bad, emb_error *err);

/* The same through the gateway. After a failure the texts before *done are done; *is_text: the one at *done
 * is at fault: it is too long, the provider refuses it, or it is private and may not leave. `first_alone`:
 * where the run's space is not decided yet, the first text decides it, not all of them. */
EMB_MUST_CHECK emb_status emb_slice_embed_through(emb_slice *slice, emb_gate *gate, bool first_alone,
                                                  emb_slice_drop drop, void *context, size_t *done,
                                                  bool *is_text, emb_error *err);
/* Room for the vectors, and texts[] pointing to the records. */
EMB_MUST_CHECK emb_status emb_slice_prepare(emb_slice *slice, size_t dimension, emb_error *err);

#endif
