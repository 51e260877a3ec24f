/*
 * yaml.h: a YAML file as a small tree, with the line of everything in it.
 *
 *     emb_yaml *y;
 *     if ((st = emb_yaml_open("embedd.yaml", 1 << 20, &y, err))) return st;
 *     for (const emb_yaml_node *n = emb_yaml_root(y)->first; n; n = n->next)
 *         printf("%s:%zu: %s\n", path, n->line, n->key->text);
 *     emb_yaml_close(y);
 *
 * What configuration needs and no more: one document of mappings, sequences and scalars, in UTF-8. Keys are
 * scalars and none may stand twice in a mapping; tags and merge keys (<<) are refused; anchors, depth and
 * size are bounded. Errors say FILE:LINE and the reason, and never the text of the file, which may hold
 * secrets. Strings are NUL-terminated and live until emb_yaml_close. Read-only once it is open.
 */
#ifndef EMB_CONFIG_YAML_H
#define EMB_CONFIG_YAML_H

#include <embedd.h>

typedef enum emb_yaml_kind { EMB_YAML_SCALAR, EMB_YAML_SEQUENCE, EMB_YAML_MAPPING } emb_yaml_kind;

typedef struct emb_yaml_node {
    emb_yaml_kind kind;
    bool empty;                        /* a scalar without value: nothing, ~ or null */
    size_t line, length;               /* from 1; of text */
    const char *text;                  /* of a scalar */
    size_t count;                      /* of children */
    const struct emb_yaml_node *first; /* child of a sequence or mapping; then `next` of each */
    const struct emb_yaml_node *next;
    const struct emb_yaml_node *key; /* of a child of a mapping */
} emb_yaml_node;

typedef struct emb_yaml emb_yaml;

EMB_MUST_CHECK emb_status emb_yaml_open(const char *path, size_t max_bytes, emb_yaml **out, emb_error *err);
/* From memory; `name` is that of messages. */
EMB_MUST_CHECK emb_status emb_yaml_parse(const char *name, const char *text, size_t length, emb_yaml **out,
                                         emb_error *err);
void emb_yaml_close(emb_yaml *yaml); /* takes NULL */
/* NULL for a file without content. */
const emb_yaml_node *emb_yaml_root(const emb_yaml *yaml);
/* "mapping", "list", "value" */
const char *emb_yaml_kind_name(emb_yaml_kind kind);
/* "NAME:LINE: " and the message; returns EMB_E_INVALID. */
emb_status emb_yaml_fail(emb_error *err, const char *name, size_t line, const char *format, ...)
    __attribute__((format(printf, 4, 5), cold));

#endif
