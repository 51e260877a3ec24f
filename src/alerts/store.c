/*
 * store.c: the store that a URL means.
 */
#include "alerts/parts.h"
#include "base/error.h"

#include <string.h>

static bool begins(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

emb_status emb_alert_store_open(const char *url, emb_alert_store **out, emb_error *err)
{
    *out = NULL;
    if (begins(url, "sqlite:"))
        return emb_alert_store_open_sqlite(url, out, err);
    if (begins(url, "postgresql:") || begins(url, "postgres:"))
        return emb_alert_store_open_postgresql(url, out, err);
    return emb_fail(err, EMB_E_INVALID, "data.store_url",
                    "the store of alerts is sqlite:PATH or postgresql://…, not this");
}
