/* Which store a URL of breakers means. */
#include "router/breaker_store.h"

#include "base/error.h"
#include "store/url.h"

emb_status emb_breaker_store_open(const char *url, emb_breaker_store **out, emb_error *err)
{
    *out = NULL;
    if (emb_url_is(url, "memory"))
        return EMB_OK;
    if (emb_url_is(url, "redis,rediss,unix"))
        return emb_breaker_redis_open(url, out, err);
    if (emb_url_is(url, "sqlite,postgresql,postgres"))
        return emb_breaker_sql_open(url, out, err);
    return emb_fail(err, EMB_E_INVALID, "url",
                    "breakers are kept in memory:, sqlite:PATH, redis://… or postgresql://…");
}
