/*
 * pattern.h: literal texts and regular expressions of tokenizer files (Split, Replace).
 *
 *     emb_pattern *p; emb_pattern_scan scan; bool found; size_t start, end;
 *     if ((st = emb_pattern_parse(json, arena, where, &p, err))) return st;   // {"String": "…"} or {"Regex": "…"}
 *     st = emb_pattern_scan_begin(&scan, p, text, length, err);
 *     while (!st && !(st = emb_pattern_scan_next(&scan, &found, &start, &end, err)) && found) ...
 *     emb_pattern_scan_end(&scan);
 *     emb_pattern_release(p);
 *
 * Matches come in order and do not overlap; empty ones are reported, except right behind the last match.
 * A pattern is immutable and shared; a scan belongs to one thread. The pattern's memory is the arena's
 * but for what _release releases (NULL is allowed).
 */
#ifndef EMB_TOKENIZER_PATTERN_H
#define EMB_TOKENIZER_PATTERN_H

#include "base/arena.h"
#include "base/json.h"

typedef struct emb_pattern emb_pattern;

/* A bare string counts as literal. EMB_E_CORRUPT for a pattern that does not compile. */
EMB_MUST_CHECK emb_status emb_pattern_parse(emb_json_value json, emb_arena *arena, const char *where,
                                            emb_pattern **out, emb_error *err);
void emb_pattern_release(emb_pattern *pattern);

typedef struct emb_pattern_scan {
    const emb_pattern *pattern;
    const char *text; /* valid UTF-8 */
    size_t length, at;
    size_t last_end; /* of the last match; SIZE_MAX before the first */
    void *match_data;
} emb_pattern_scan;

EMB_MUST_CHECK emb_status emb_pattern_scan_begin(emb_pattern_scan *scan, const emb_pattern *pattern,
                                                 const char *text, size_t length, emb_error *err);
/* EMB_E_LIMIT if the expression takes unreasonably many steps on this text. */
EMB_MUST_CHECK emb_status emb_pattern_scan_next(emb_pattern_scan *scan, bool *found, size_t *start,
                                                size_t *end, emb_error *err);
void emb_pattern_scan_end(emb_pattern_scan *scan);

#endif
