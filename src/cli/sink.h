/*
 * sink.h: where output goes: standard output, a file that appears whole or not at all, or a file that
 * grows under the name FILE.partial so that a later run can go on with it.
 *
 *     emb_sink sink;
 *     if ((st = emb_sink_open_file(&sink, "out.jsonl", err))) return st;
 *     st = emb_sink_write(&sink, data, n, err);
 *     st = st ? (emb_sink_abort(&sink), st) : emb_sink_commit(&sink, err);
 *
 * One thread at a time. Every open sink ends with commit or abort; abort removes what was not committed,
 * except a partial file.
 */
#ifndef EMB_CLI_SINK_H
#define EMB_CLI_SINK_H

#include "base/file.h"

typedef enum emb_sink_form {
    EMB_SINK_STREAM,  /* standard output, or a device or pipe named as the output */
    EMB_SINK_SPOOLED, /* the same by way of an unlinked file, so that the start can be written last */
    EMB_SINK_ATOMIC,
    EMB_SINK_PARTIAL
} emb_sink_form;

typedef struct emb_sink {
    emb_sink_form kind;
    const char *name; /* for messages */
    int fd, target;   /* where to write; SPOOLED: where to copy to in the end */
    bool owned;       /* fd is to be closed */
    emb_atomic_file atomic;
    char *path, *partial; /* PARTIAL; path with links resolved */
    char *last_line;      /* PARTIAL: the last whole line that was there, or NULL */
    size_t last_length;
    uint64_t verified_end; /* PARTIAL: bytes before the last line */
} emb_sink;

/* `rewinds` where emb_sink_write_at will be used. */
EMB_MUST_CHECK emb_status emb_sink_open_stdout(emb_sink *sink, bool rewinds, emb_error *err);
EMB_MUST_CHECK emb_status emb_sink_open_file(emb_sink *sink, const char *path, bool rewinds, emb_error *err);
/* Opens path.partial, cuts off a torn last line and stands before the last whole line, which is kept in
 * last_line: the caller writes it again and so proves that it would have been the same. A second process
 * on the same file is EMB_E_BUSY. */
EMB_MUST_CHECK emb_status emb_sink_open_partial(emb_sink *sink, const char *path, emb_error *err);

/* EMB_E_CANCELLED when the work is to stop (cli/stop.h) before everything was written. */
EMB_MUST_CHECK emb_status emb_sink_write(emb_sink *sink, const void *data, size_t length, emb_error *err);
/* Overwrites bytes at the start. */
EMB_MUST_CHECK emb_status emb_sink_write_at(emb_sink *sink, const void *data, size_t length, emb_error *err);
EMB_MUST_CHECK emb_status emb_sink_commit(emb_sink *sink, emb_error *err);
void emb_sink_abort(emb_sink *sink);

#endif
