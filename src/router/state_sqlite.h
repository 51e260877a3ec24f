/*
 * state_sqlite.h: the one file in which budget and breakers keep their shared state: they are given the same
 * URL, and a file has one schema. Internal to router/.
 */
#ifndef EMB_ROUTER_STATE_SQLITE_H
#define EMB_ROUTER_STATE_SQLITE_H

#include "store/sqlite.h"

/* url: "sqlite:PATH" or "sqlite://PATH". Does not touch the file. */
EMB_MUST_CHECK emb_status emb_state_sqlite_open(const char *url, unsigned connections, emb_sqlite_pool **out,
                                                emb_error *err);
/* Whether a URL has this scheme: "sqlite", "redis", "postgresql". */
bool emb_state_has_scheme(const char *url, const char *scheme);

#endif
