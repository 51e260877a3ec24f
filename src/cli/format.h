/*
 * format.h: vectors as JSON, JSON lines, NumPy's .npy, base64 or plain numbers.
 *
 *     emb_formatter f = { .format = EMB_FORMAT_JSONL, .model = "all-MiniLM-L6-v2", .dimension = 384 };
 *     st = emb_format_begin(&f, &buf);
 *     st = emb_format_vector(&f, &buf, &record, tokens, vector);    // for each
 *     st = emb_format_end(&f, &buf);
 *
 * Everything is appended to a buffer that the caller writes out and clears as it likes. The start of an
 * .npy file holds the number of rows: emb_format_npy_header makes it again once that is known.
 */
#ifndef EMB_CLI_FORMAT_H
#define EMB_CLI_FORMAT_H

#include "cli/input.h"

typedef enum emb_format {
    EMB_FORMAT_JSON,
    EMB_FORMAT_JSONL,
    EMB_FORMAT_NPY,
    EMB_FORMAT_BASE64,
    EMB_FORMAT_TEXT
} emb_format;
#define EMB_FORMAT_NAMES "json|jsonl|npy|base64|text"

typedef struct emb_formatter {
    emb_format format;
    bool array;        /* JSON: in brackets, which any number but a single text takes */
    bool without_text; /* leave "text" out */
    const char *model;
    const char *space; /* of what came through the gateway; NULL: not told */
    size_t dimension;
    uint64_t written; /* vectors so far */
} emb_formatter;

EMB_MUST_CHECK emb_status emb_format_begin(emb_formatter *f, emb_buf *out);
EMB_MUST_CHECK emb_status emb_format_vector(emb_formatter *f, emb_buf *out, const emb_record *record,
                                            uint32_t tokens, const float *vector);
EMB_MUST_CHECK emb_status emb_format_end(emb_formatter *f, emb_buf *out);
/* What a JSON line of this record starts with, up to the number of tokens. */
EMB_MUST_CHECK emb_status emb_format_prefix(const emb_formatter *f, emb_buf *out, const emb_record *record);

#define EMB_NPY_HEADER_BYTES 128
EMB_MUST_CHECK emb_status emb_format_npy_header(emb_buf *out, uint64_t rows, size_t dimension);

#endif
