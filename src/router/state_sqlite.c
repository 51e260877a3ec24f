/*
 * The schema of the shared state in SQLite.
 *
 * Amounts are nano-dollars; times are milliseconds since 1970 by this machine's clock, which all users of the
 * file share. `state` of a ticket: 0 reserved, 1 given up (its counted part is in `nusd`), 2 done, kept for a
 * while so that it is not done again.
 */
#include "router/state_sqlite.h"

static const char *const MIGRATIONS[] = {
    "CREATE TABLE budget_total ("
    " day INTEGER NOT NULL,"
    " scope TEXT NOT NULL,"
    " spent INTEGER NOT NULL,"
    " reserved INTEGER NOT NULL,"
    " PRIMARY KEY (day, scope)) WITHOUT ROWID;"
    "CREATE TABLE budget_ticket ("
    " id BLOB NOT NULL PRIMARY KEY,"
    " day INTEGER NOT NULL,"
    " nusd INTEGER NOT NULL,"
    " state INTEGER NOT NULL,"
    " until INTEGER NOT NULL,"
    " scopes BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE breaker ("
    " name TEXT NOT NULL PRIMARY KEY,"
    " version INTEGER NOT NULL,"
    " is_open INTEGER NOT NULL,"
    " until INTEGER NOT NULL,"
    " openings INTEGER NOT NULL,"
    " reason TEXT NOT NULL,"
    " prober BLOB,"
    " probe_until INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;",
};
const emb_sqlite_schema emb_state_schema = {0x656D6253, "embedd's shared state", MIGRATIONS, 1};
