/*
 * input.h: texts one by one, from the command line, from lines, or from JSONL.
 *
 *     emb_input *in; emb_record r;
 *     if ((st = emb_input_open_file(&in, "data.jsonl", &options, err))) return st;
 *     while ((got = emb_input_next(in, &r, err)) == EMB_INPUT_RECORD) use(r.text, r.length);
 *     emb_input_close(in);
 *
 * Memory is bounded by the longest line, at most EMB_LINE_MAX bytes. A record's pointers live until the
 * next call. One thread at a time.
 */
#ifndef EMB_CLI_INPUT_H
#define EMB_CLI_INPUT_H

#include "base/buf.h"

#define EMB_LINE_MAX ((size_t)64 << 20)

typedef enum emb_input_format { EMB_INPUT_AUTO, EMB_INPUT_LINES, EMB_INPUT_JSONL } emb_input_format;

typedef struct emb_input_options {
    emb_input_format format; /* AUTO: JSONL for names that end in .jsonl or .ndjson, else lines */
    const char *text_key;    /* of JSONL */
    const char *id_key;      /* NULL: "id", which may be missing */
    bool skip_empty;         /* leave out lines (texts) without a character */
} emb_input_options;

typedef struct emb_record {
    const char *text;
    size_t length;
    const char *id; /* as JSON: "\"a\"" or "17"; NULL if there is none */
    size_t id_length;
    uint64_t index; /* 0-based number of the line, or of the argument */
} emb_record;

typedef enum emb_input_result {
    EMB_INPUT_RECORD,
    EMB_INPUT_END,
    EMB_INPUT_BAD,     /* err says what is wrong with this record; the next one can be read */
    EMB_INPUT_STOPPED, /* cli/stop.h */
    EMB_INPUT_FAILED   /* err says why; reading is over */
} emb_input_result;

typedef struct emb_input emb_input;

EMB_MUST_CHECK emb_status emb_input_open_arguments(emb_input **out, char **texts, size_t count,
                                                   const emb_input_options *options, emb_error *err);
/* path "-" is standard input. */
EMB_MUST_CHECK emb_status emb_input_open_file(emb_input **out, const char *path,
                                              const emb_input_options *options, emb_error *err);
void emb_input_close(emb_input *input);

emb_input_result emb_input_next(emb_input *input, emb_record *record, emb_error *err);
/* Whether the next record is there without waiting for whoever writes the input. */
bool emb_input_ready(emb_input *input);
/* "data.jsonl", "standard input", "argument" */
const char *emb_input_name(const emb_input *input);
/* Whether records come from a file or stream, so that index + 1 is a line's number. */
bool emb_input_has_lines(const emb_input *input);
/* Bytes that the records so far took, and of the whole input (0: unknown). */
uint64_t emb_input_position(const emb_input *input);
uint64_t emb_input_size(const emb_input *input);

#endif
