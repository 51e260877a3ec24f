/* The suite of l2_conformance.h on the PostgreSQL of EMBEDD_TEST_POSTGRESQL, whose cache it empties. */
#include "unit/cache/l2_conformance.h"

#include "store/postgresql.h"

static const char *url;

/* Dropped tables are the hardest: those who are connected have to notice. */
static void reset(void)
{
    static const emb_pg_statement drop[] = {
        {"drop_cache", "DROP TABLE IF EXISTS embedd_cache, embedd_cache_uses"},
        {"drop_schema", "DROP TABLE IF EXISTS embedd_schema"}};
    emb_error err = {0};
    emb_pg *pg;
    assert_int_equal(emb_pg_open(url, NULL, &pg, &err), EMB_OK);
    for (int i = 0; i < 2; i++)
        if (emb_pg_call(pg, &drop[i], NULL, 0, l2_soon(), NULL, &err) != EMB_OK)
            fail_msg("%s", err.message);
    emb_pg_close(pg);
}

int main(void)
{
    url = getenv("EMBEDD_TEST_POSTGRESQL");
    if (!url)
        return 77;
    const l2_subject subject = {&emb_l2_postgresql, url, reset, .has_tidy = true};
    return l2_conformance(&subject);
}
