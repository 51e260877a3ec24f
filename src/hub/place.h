/*
 * place.h: what a pull is about: which repository, revision and hub, with what token, and where its files go.
 *
 *     emb_hub_place p;
 *     if ((st = emb_hub_place_init(&p, options, &arena, err))) return st;
 *     path = emb_hub_path(&arena, p.folder, "blobs", etag, NULL);
 *
 * Strings live in the arena. Also the rules for names that come from outside, and for origins.
 */
#ifndef EMB_HUB_PLACE_H
#define EMB_HUB_PLACE_H

#include "base/arena.h"
#include "hub/hub.h"

enum { EMB_HUB_MAX_NAME = 1024, EMB_HUB_MAX_URL = 8192 };

typedef struct emb_hub_place {
    const char *repository; /* "BAAI/bge-m3" */
    const char *revision;   /* "main" */
    const char *endpoint;   /* without a slash at its end */
    const char *token;      /* NULL: none */
    const char *cache;      /* the cache's directory */
    const char *folder;     /* cache/models--BAAI--bge-m3 */
    const char *locks;      /* cache/.locks/models--BAAI--bge-m3 */
} emb_hub_place;

EMB_MUST_CHECK emb_status emb_hub_place_init(emb_hub_place *place, const emb_hub_options *options,
                                             emb_arena *arena, emb_error *err);

/* The parts (const char *, NULL at the end) with '/' between; NULL when memory is short. */
char *emb_hub_path(emb_arena *arena, const char *first, ...) __attribute__((sentinel));
/* mkdir -p. */
EMB_MUST_CHECK emb_status emb_hub_make_directories(const char *path, emb_error *err);
/* The same for the directory in which `path` is to be. */
EMB_MUST_CHECK emb_status emb_hub_make_parent(const char *path, emb_error *err);

/* Whether a repository's file may have this name: relative, no "." or "..", no backslash, no control
 * characters. */
bool emb_hub_name_is_safe(const char *name, size_t length);
/* Whether it can name a blob: letters, digits, '.', '_', '-', not a dot first. */
bool emb_hub_etag_is_safe(const char *etag);
/* 40 hex digits (or 64, of repositories with SHA-256). */
bool emb_hub_is_commit(const char *text);
bool emb_hub_is_hex(const char *text, size_t digits);
/* Percent-encodes all but unreserved characters and, if slashes is set, '/'; NULL when memory is short. */
char *emb_hub_encode(emb_arena *arena, const char *text, bool slashes);
/* Whether two addresses have the same scheme, host and port; not if one of them is none. EMB_OK or
 * EMB_E_NOMEM. */
EMB_MUST_CHECK emb_status emb_hub_same_origin(const char *a, const char *b, bool *same, emb_error *err);

#endif
