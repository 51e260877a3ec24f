/* The suite of ledger_conformance.h on the PostgreSQL of EMBEDD_TEST_POSTGRESQL, whose ledger it empties. */
#include "unit/ledger/ledger_conformance.h"

#include "store/postgresql.h"

static const char *url;

static void reset(void)
{
    static const emb_pg_statement drop[] = {
        {"drop_ledger", "DROP TABLE IF EXISTS embedd_ledger, embedd_ledger_writers"},
        {"drop_schema", "DROP TABLE IF EXISTS embedd_schema"}};
    emb_error err = {0};
    emb_pg *pg;
    assert_int_equal(emb_pg_open(url, NULL, &pg, &err), EMB_OK);
    for (int i = 0; i < 2; i++)
        if (emb_pg_call(pg, &drop[i], NULL, 0, ledger_soon(), NULL, &err) != EMB_OK)
            fail_msg("%s", err.message);
    emb_pg_close(pg);
}

int main(void)
{
    url = getenv("EMBEDD_TEST_POSTGRESQL");
    if (!url)
        return 77;
    return ledger_conformance(&(ledger_subject){url, reset});
}
