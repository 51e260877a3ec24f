/* The suite of shadow_conformance.h on the PostgreSQL of EMBEDD_TEST_POSTGRESQL, whose comparisons it
 * removes. */
#include "unit/shadow/shadow_conformance.h"

#include "store/postgresql.h"

static const char *url;

static void reset(void)
{
    static const emb_pg_statement drop[] = {
        {"drop_shadow", "DROP TABLE IF EXISTS embedd_shadow, embedd_shadow_state"},
        {"drop_schema", "DROP TABLE IF EXISTS embedd_schema"},
    };
    emb_pg *pg;
    ok(emb_pg_open(url, NULL, &pg, ERR));
    for (int i = 0; i < 2; i++)
        ok(emb_pg_call(pg, &drop[i], NULL, 0, soon(), NULL, ERR));
    emb_pg_close(pg);
}

int main(void)
{
    url = getenv("EMBEDD_TEST_POSTGRESQL");
    if (!url)
        return 77;
    const shadow_subject subject = {url, reset};
    return shadow_conformance(&subject);
}
