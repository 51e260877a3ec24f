/*
 * breaker_store.h: what processes tell one another of their breakers. Internal to router/.
 *
 * A record a breaker: open until when, or closed; how often in a row; why. Its version counts its changes.
 * Beside it stands who may probe, and until when. Times are the store's own; they go in and out as what is
 * left of them. Every call may be repeated after an answer was lost. Thread-safe.
 */
#ifndef EMB_ROUTER_BREAKER_STORE_H
#define EMB_ROUTER_BREAKER_STORE_H

#include "router/breaker.h"

enum {
    EMB_BREAKER_NAME = 128,
    EMB_BREAKER_REASON = 120,
    EMB_BREAKER_PROBER = 16,
    EMB_BREAKER_SLACK_MS = 250
}; /* a probe may begin so much before the store's time for it: writing took a while */

typedef struct emb_breaker_record {
    const char *name;
    uint64_t version;
    bool is_open;
    int64_t left_ms; /* until a probe is due; 0 or less: it is */
    unsigned openings;
    const char *reason;
} emb_breaker_record;

/* Strings live for the call. */
typedef void (*emb_breaker_seen)(void *context, const emb_breaker_record *record);

typedef struct emb_breaker_store emb_breaker_store;

typedef struct emb_breaker_store_ops {
    /* Writes an opening; or a closing, that only if the version still is record->version, or `force`.
     * *version: after it; 0: it was not written, since somebody else was faster. */
    emb_status (*write)(emb_breaker_store *store, const emb_breaker_record *record, bool force,
                        uint64_t *version, uint64_t deadline_ns, emb_error *err);
    emb_status (*read)(emb_breaker_store *store, emb_breaker_seen seen, void *context, uint64_t deadline_ns,
                       emb_error *err);
    /* Not granted while another has it, while it is open for longer, or when it was closed. */
    emb_status (*probe)(emb_breaker_store *store, const char *name, const uint8_t prober[EMB_BREAKER_PROBER],
                        uint32_t probe_s, bool *granted, uint64_t deadline_ns, emb_error *err);
    emb_status (*release)(emb_breaker_store *store, const char *name,
                          const uint8_t prober[EMB_BREAKER_PROBER], uint64_t deadline_ns, emb_error *err);
    void (*close)(emb_breaker_store *store);
} emb_breaker_store_ops;

struct emb_breaker_store {
    const emb_breaker_store_ops *ops;
};

/* "memory:" has none: *out is NULL. */
EMB_MUST_CHECK emb_status emb_breaker_store_open(const char *url, emb_breaker_store **out, emb_error *err);
EMB_MUST_CHECK emb_status emb_breaker_redis_open(const char *url, emb_breaker_store **out, emb_error *err);
EMB_MUST_CHECK emb_status emb_breaker_sql_open(const char *url, emb_breaker_store **out, emb_error *err);

#endif
