/*
 * resume.h: checking what a killed run left in FILE.partial against the input that is read again.
 *
 *     emb_resume r;
 *     if ((st = emb_resume_open(&r, sink.partial, sink.verified_end, err))) return st;
 *     if (emb_resume_active(&r)) st = emb_resume_check(&r, &formatter, &record, false, &there, err);
 *     emb_resume_close(&r);
 *
 * One thread at a time.
 */
#ifndef EMB_CLI_RESUME_H
#define EMB_CLI_RESUME_H

#include "cli/format.h"

#include <stdio.h>

typedef struct emb_resume {
    FILE *stream;
    const char *name;
    uint64_t position, end, lines;
    char *line; /* the one to be checked next, or NULL */
    size_t capacity;
    ptrdiff_t length;
    emb_buf prefix;
} emb_resume;

/* The file is read up to `end`. */
EMB_MUST_CHECK emb_status emb_resume_open(emb_resume *resume, const char *path, uint64_t end, emb_error *err);
void emb_resume_close(emb_resume *resume);
/* Whether lines are left to be checked. */
bool emb_resume_active(const emb_resume *resume);
/* Compares the next line with the record. Anything but equal is EMB_E_INVALID; with `gaps` a record that
 * the line's index jumps over was skipped by the former run too, and *there is false. */
EMB_MUST_CHECK emb_status emb_resume_check(emb_resume *resume, const emb_formatter *formatter,
                                           const emb_record *record, bool gaps, bool *there, emb_error *err);

#endif
