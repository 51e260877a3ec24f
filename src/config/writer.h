/*
 * writer.h: a document as a list of pieces, which goes on only while all is well.
 *
 *     emb_writer w = {.out = out};
 *     emb_add(&w, "name: ");
 *     emb_add_string(&w, text);
 *     return w.status;
 */
#ifndef EMB_CONFIG_WRITER_H
#define EMB_CONFIG_WRITER_H

#include "base/buf.h"
#include "base/json_write.h"

#include <string.h>

typedef struct emb_writer {
    emb_buf *out;
    emb_status status;
} emb_writer;

static inline void emb_add_bytes(emb_writer *w, const char *text, size_t length)
{
    if (!w->status)
        w->status = emb_buf_add(w->out, text, length);
}

static inline void emb_add(emb_writer *w, const char *text)
{
    emb_add_bytes(w, text, strlen(text));
}

/* In quotes, as JSON and YAML write it. */
static inline void emb_add_string(emb_writer *w, const char *text)
{
    if (!w->status)
        w->status = emb_json_write_string(w->out, text, strlen(text));
}

/* ---- document.c ---- */

struct emb_setting;
/* A text in YAML: plain where nobody could read it as anything else, otherwise in quotes. */
void emb_add_yaml_text(emb_writer *w, const char *text);
/* The type and range in a JSON schema; `"type":"integer",…` */
void emb_add_schema_type(emb_writer *w, const struct emb_setting *setting);
/* `,"default":…` */
void emb_add_schema_default(emb_writer *w, const struct emb_setting *setting);
/* A cell of a table in Markdown: *, | and < escaped. */
void emb_add_cell(emb_writer *w, const char *text);

#endif
