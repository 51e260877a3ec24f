/*
 * param.h: a parameter of a statement, the same for SQLite and PostgreSQL.
 *
 *     const emb_param values[] = {emb_param_text(name), emb_param_int(count), emb_param_bytes(id, 16)};
 *     st = emb_sql_call(db, "UPDATE t SET n = ?2 WHERE name = ?1 AND id = ?3", values, 3, err);
 *     st = emb_pg_call(pg, &UPDATE, values, 3, deadline_ns, NULL, err);
 *
 * Bytes and texts are borrowed until the statement has run. NULL is SQL's NULL.
 */
#ifndef EMB_STORE_PARAM_H
#define EMB_STORE_PARAM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct emb_param {
    enum { EMB_PARAM_BYTES, EMB_PARAM_TEXT, EMB_PARAM_INT, EMB_PARAM_INT4 } kind;
    const void *data; /* BYTES, TEXT */
    size_t length;
    int64_t integer; /* INT, INT4 */
} emb_param;

static inline emb_param emb_param_bytes(const void *data, size_t length)
{
    return (emb_param){EMB_PARAM_BYTES, data, data ? length : 0, 0};
}

static inline emb_param emb_param_text(const char *text)
{
    return (emb_param){EMB_PARAM_TEXT, text, text ? strlen(text) : 0, 0};
}

/* One that need not end with NUL. */
static inline emb_param emb_param_text_of(const char *text, size_t length)
{
    return (emb_param){EMB_PARAM_TEXT, text, text ? length : 0, 0};
}

static inline emb_param emb_param_int(int64_t value)
{
    return (emb_param){EMB_PARAM_INT, NULL, 0, value};
}

/* Where PostgreSQL's statement says int4. */
static inline emb_param emb_param_int4(int32_t value)
{
    return (emb_param){EMB_PARAM_INT4, NULL, 0, value};
}

#endif
