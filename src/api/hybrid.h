/*
 * hybrid.h: what the files of the hybrid system's family share. Internal to api/.
 *
 *     emb_hybrid_write_cache(&o, "cache", emb_service_cache(call->service));   // of a worker
 *
 * hybrid.c embeds, compares and reports; hybrid_cache.c has the cache's routes. Rules of ownership and
 * threads are those of call.h.
 */
#ifndef EMB_API_HYBRID_H
#define EMB_API_HYBRID_H

#include "api/out.h"

/* Which prompt, in the order of emb_role. */
#define EMB_INPUT_TYPES "none|query|document"

/* The body of a request to embed `texts`, all its options included; false: an error has been answered. */
EMB_MUST_CHECK bool emb_hybrid_decode(emb_api_call *call, emb_request *request);
/* Its schema. */
#define EMB_HYBRID_OPTION_MEMBERS                                                                           \
    "\"model\":{\"type\":[\"string\",\"null\"],\"maxLength\":1024,\"examples\":[\"all-MiniLM-L6-v2\"]},"    \
    "\"context\":{\"enum\":[\"realtime\",\"analysis\",\"batch\",\"sensitive\",\"default\",null]},"          \
    "\"preferred_provider\":{\"type\":[\"string\",\"null\"],\"maxLength\":128,\"examples\":[\"local\"],"    \
    "\"description\":"                                                                                      \
    "\"A provider's name or kind: no other answers. auto: the router chooses.\"},"                          \
    "\"user\":{\"type\":[\"string\",\"null\"],\"maxLength\":1024,\"description\":\"Whose request it is: "   \
    "the same user stays "                                                                                  \
    "on the same side of a rollout.\"},"                                                                    \
    "\"space\":{\"type\":[\"string\",\"null\"],\"maxLength\":1024,\"description\":\"Vectors of this space " \
    "or an error "                                                                                          \
    "(409).\"},\"input_type\":{\"enum\":[\"none\",\"query\",\"document\",null],\"description\":\"Which "    \
    "prompt of the "                                                                                        \
    "model goes before the texts.\"},"                                                                      \
    "\"use_cache\":{\"type\":[\"boolean\",\"null\"],\"default\":true},"                                     \
    "\"dimensions\":{\"type\":[\"integer\",\"null\"],\"minimum\":1,\"maximum\":65536},"                     \
    "\"prompt_name\":{\"type\":[\"string\",\"null\"],\"maxLength\":1024},\"normalize\":{\"type\":["         \
    "\"boolean\",\"null\"]},"                                                                               \
    "\"truncate\":{\"default\":true,\"enum\":[true,false,\"none\",\"start\",\"end\",null]},"                \
    "\"category\":{\"type\":[\"string\",\"null\"],\"maxLength\":1024}"
#define EMB_HYBRID_NOT_BLANK "{\"type\":\"string\",\"minLength\":1,\"pattern\":\"\\\\S\"}"
#define EMB_HYBRID_EMBED_REQUEST                                                                   \
    "{\"type\":\"object\",\"required\":[\"texts\"],\"properties\":{\"texts\":{\"anyOf\":"          \
    "[" EMB_HYBRID_NOT_BLANK ",{\"type\":\"array\",\"minItems\":1,\"items\":" EMB_HYBRID_NOT_BLANK \
    "}],\"examples\":[[\"Hello world\"]]}," EMB_HYBRID_OPTION_MEMBERS "}}"

/* Sizes, hits and state of both tiers; {"enabled":false} for NULL. May ask L2: of a worker. */
void emb_hybrid_write_cache(emb_out *out, const char *name, emb_cache *cache);
/* "providers", an array; see /health. */
void emb_hybrid_write_providers(emb_out *out, emb_api_call *call);
/* {"type":"integer","minimum":0} and the like, for schemas. */
#define EMB_HYBRID_COUNT "{\"type\":\"integer\",\"minimum\":0}"
#define EMB_HYBRID_AMOUNT "{\"type\":\"number\",\"minimum\":0}"

#define EMB_HYBRID_TIER_SCHEMA \
    "{\"type\":\"object\",\"required\":[\"hits\",\"misses\",\"hit_rate\",\"entries\",\"bytes\"]}"
#define EMB_HYBRID_CACHE_SCHEMA                                                                           \
    "{\"type\":\"object\",\"required\":[\"enabled\"],\"properties\":{\"enabled\":{\"type\":\"boolean\"}," \
    "\"l1\":" EMB_HYBRID_TIER_SCHEMA ",\"l2\":" EMB_HYBRID_TIER_SCHEMA                                    \
    ",\"hit_rate\":{\"type\":\"number\",\"minimum\":0,"                                                   \
    "\"maximum\":1}}}"

#endif
