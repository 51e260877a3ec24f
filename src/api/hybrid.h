/*
 * hybrid.h: what the files of the hybrid system's family share. Internal to api/.
 *
 *     emb_hybrid_write_cache(&o, "cache", emb_service_cache(call->service));   // of a worker
 *
 * hybrid.c embeds, compares and reports; hybrid_cache.c has the cache's routes. Rules of ownership and threads are those
 * of call.h.
 */
#ifndef EMB_API_HYBRID_H
#define EMB_API_HYBRID_H

#include "api/out.h"

/* Which prompt, in the order of emb_role. */
#define EMB_INPUT_TYPES "none|query|document"

/* Sizes, hits and state of both tiers; {"enabled":false} for NULL. May ask L2: of a worker. */
void emb_hybrid_write_cache(emb_out *out, const char *name, emb_cache *cache);
/* {"type":"integer","minimum":0} and the like, for schemas. */
#define EMB_HYBRID_COUNT "{\"type\":\"integer\",\"minimum\":0}"
#define EMB_HYBRID_AMOUNT "{\"type\":\"number\",\"minimum\":0}"

#define EMB_HYBRID_TIER_SCHEMA                                                                                            \
    "{\"type\":\"object\",\"required\":[\"hits\",\"misses\",\"hit_rate\",\"entries\",\"bytes\"]}"
#define EMB_HYBRID_CACHE_SCHEMA                                                                                           \
    "{\"type\":\"object\",\"required\":[\"enabled\"],\"properties\":{\"enabled\":{\"type\":\"boolean\"},\"l1\":"           \
    EMB_HYBRID_TIER_SCHEMA ",\"l2\":" EMB_HYBRID_TIER_SCHEMA ",\"hit_rate\":{\"type\":\"number\",\"minimum\":0,"           \
    "\"maximum\":1}}}"

#endif
