/*
 * state_sqlite.h: the one file in which budget and breakers keep their shared state: they are given the same
 * URL, and a file has one schema. Internal to router/.
 */
#ifndef EMB_ROUTER_STATE_SQLITE_H
#define EMB_ROUTER_STATE_SQLITE_H

#include "store/sqlite.h"

extern const emb_sqlite_schema emb_state_schema;

#endif
