/*
 * postgresql_link.h: one connection to a PostgreSQL server; postgresql.c pools them.
 *
 *     emb_pg_link *link;
 *     emb_pg_link_dial(url, where, deadline_ns, stop, &link, err);
 *     emb_pg_link_prepared(link, &statement, params, n, deadline_ns, &result, err);   // or _plain
 *     if (emb_pg_link_usable(link)) … again … else emb_pg_link_hang_up(link);
 *
 * Not thread-safe.
 */
#ifndef EMB_STORE_POSTGRESQL_LINK_H
#define EMB_STORE_POSTGRESQL_LINK_H

#include "store/postgresql.h"

#include <stdatomic.h>

typedef struct emb_pg_link emb_pg_link;

EMB_MUST_CHECK emb_status emb_pg_link_dial(const char *url, const char *where, uint64_t deadline_ns,
                                           const atomic_bool *stop, emb_pg_link **out, emb_error *err);
/* For the time of setting up; NULL afterwards. */
void emb_pg_link_set_stop(emb_pg_link *link, const atomic_bool *stop);
int emb_pg_link_version(const emb_pg_link *link); /* of the server: 150004 */
bool emb_pg_link_alive(emb_pg_link *link);
/* After a call: it failed in no way that leaves the connection in doubt, and is in no transaction. */
bool emb_pg_link_usable(const emb_pg_link *link);
void emb_pg_link_hang_up(emb_pg_link *link);

/* Statements without parameters, ';' between them; the last one's result. */
EMB_MUST_CHECK emb_status emb_pg_link_plain(emb_pg_link *link, const char *sql, uint64_t deadline_ns,
                                            emb_pg_result **out, emb_error *err);
EMB_MUST_CHECK emb_status emb_pg_link_params(emb_pg_link *link, const char *sql, const emb_param *params,
                                             size_t count, uint64_t deadline_ns, emb_pg_result **out,
                                             emb_error *err);
EMB_MUST_CHECK emb_status emb_pg_link_prepared(emb_pg_link *link, const emb_pg_statement *statement,
                                               const emb_param *params, size_t count, uint64_t deadline_ns,
                                               emb_pg_result **out, emb_error *err);
/* Integers travel with the most significant byte first. */
void emb_pg_big_endian(uint64_t value, size_t bytes, unsigned char *out);
/* SQLSTATE of the last failure, "" if it was none of the server's. */
const char *emb_pg_link_sqlstate(const emb_pg_link *link);
/* The last failure was expected and puts the connection in no doubt. */
void emb_pg_link_trust(emb_pg_link *link);
/* The connection was lost before anything was answered. */
bool emb_pg_link_gone(const emb_pg_link *link);

#endif
