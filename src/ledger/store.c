/* store.c: which store a URL means, and the names of kinds and dimensions. */
#include "ledger/parts.h"

#include "base/error.h"
#include "store/url.h"

#include <string.h>

static const char *const KINDS[EMB_LEDGER_KINDS] = {"api", "cache", "local", "shadow"};

const char *emb_ledger_kind_name(emb_ledger_kind kind)
{
    return (unsigned)kind < EMB_LEDGER_KINDS ? KINDS[kind] : "";
}

bool emb_ledger_kind_parse(const char *name, emb_ledger_kind *out)
{
    for (int kind = 0; kind < EMB_LEDGER_KINDS; kind++)
        if (strcmp(KINDS[kind], name) == 0) {
            *out = (emb_ledger_kind)kind;
            return true;
        }
    return false;
}

bool emb_ledger_by_parse(const char *name, emb_ledger_by *out)
{
    int by = EMB_BY_TOTAL;
    size_t length = strlen(name);
    for (const char *s = EMB_LEDGER_BY_NAMES; *s; by++) {
        size_t n = strcspn(s, "|");
        if (n == length && memcmp(s, name, n) == 0) {
            *out = (emb_ledger_by)by;
            return true;
        }
        s += n + (s[n] == '|');
    }
    return false;
}

emb_status emb_ledger_store_open(const char *url, bool read_only, emb_ledger_store **out, emb_error *err)
{
    if (emb_url_is(url, "sqlite"))
        return emb_ledger_sqlite_open(url, read_only, out, err);
    if (emb_url_is(url, "postgresql,postgres"))
        return emb_ledger_postgresql_open(url, read_only, out, err);
    return emb_fail(err, EMB_E_INVALID, "data.store_url",
                    "the ledger is kept in sqlite:PATH or postgresql://…; this URL has another scheme");
}
