/*
 * storage.h: the cache as the configuration asks for it.
 *
 *     emb_storage_options o = { .config = config, .metrics = metrics, .l1 = true };
 *     emb_storage_open_cache(&o, &cache, err);
 *
 * The second level: cache.url; else Redis, if the configuration names one; else a SQLite file in the data
 * directory, which is made then, for this user alone.
 */
#ifndef EMB_SERVICE_STORAGE_H
#define EMB_SERVICE_STORAGE_H

#include "cache/cache.h"
#include "config/config.h"

typedef struct emb_storage_options {
    const emb_config *config;
    emb_metrics *metrics; /* or NULL */
    bool l1;              /* false: the second level alone, for tools */
} emb_storage_options;

/* A data directory that cannot be used is a warning in the log, and the cache opens without a second
 * level. */
EMB_MUST_CHECK emb_status emb_storage_open_cache(const emb_storage_options *options, emb_cache **out,
                                                 emb_error *err);
/* The part of the options that can change while running. */
void emb_storage_cache_options(const emb_storage_options *options, emb_cache_options *out);

/* Where a part of the kit keeps its rows: "sqlite:DATA/PART.db" in the data directory, which is made, or
 * data.store_url. `part`: "ledger", "shadow", "rollout", "alerts". *text is in *url, whose earlier content
 * goes. */
EMB_MUST_CHECK emb_status emb_storage_store_url(const emb_config *config, const char *part, emb_buf *url,
                                                const char **text, emb_error *err);
/* Where budget and breakers are shared: data.state_url, else Redis if the configuration names one, else as
 * above with "state". */
EMB_MUST_CHECK emb_status emb_storage_state_url(const emb_config *config, emb_buf *url, const char **text,
                                                emb_error *err);
/* Frees such a buffer and leaves no password in memory. */
void emb_storage_url_fini(emb_buf *url);

#endif
