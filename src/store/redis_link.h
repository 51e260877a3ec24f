/*
 * redis_link.h: one connection to a Redis server; redis.c pools them.
 *
 *     emb_redis_link *link;
 *     emb_redis_link_dial(&address, deadline_ns, stop, &link, err);
 *     emb_redis_link_exchange(link, bytes, length, commands, deadline_ns, &replies, &fault, err);
 *     emb_redis_link_hang_up(link);
 *
 * After a failure the link can only be hung up. Not thread-safe.
 */
#ifndef EMB_STORE_REDIS_LINK_H
#define EMB_STORE_REDIS_LINK_H

#include "store/redis.h"

#include <stdatomic.h>

typedef struct emb_redis_link emb_redis_link;

typedef struct emb_redis_address {
    char *host, *socket_path, *user, *password; /* one of the first two */
    unsigned port, database;
    char where[128]; /* "Redis at host:port" */
} emb_redis_address;

/* Connects, authenticates, selects the database. */
EMB_MUST_CHECK emb_status emb_redis_link_dial(const emb_redis_address *address, uint64_t deadline_ns,
                                              const atomic_bool *stop, emb_redis_link **out, emb_error *err);
bool emb_redis_link_alive(emb_redis_link *link);
void emb_redis_link_hang_up(emb_redis_link *link);

/* Sends all and reads `count` replies. *gone: the server had closed the connection before it answered
 * anything. */
EMB_MUST_CHECK emb_status emb_redis_link_exchange(emb_redis_link *link, const emb_buf *out, size_t count,
                                                  uint64_t deadline_ns, emb_redis_replies *replies,
                                                  bool *gone, emb_error *err);

/* The first word of an error's text and what the server said, as a sentence. */
emb_status emb_redis_link_refusal(const char *where, const emb_redis_reply *reply, emb_error *err);

#endif
