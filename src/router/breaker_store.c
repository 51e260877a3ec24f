/* Which store a URL of breakers means. */
#include "router/breaker_store.h"

#include "base/error.h"
#include "router/state_sqlite.h"

emb_status emb_breaker_store_open(const char *url, emb_breaker_store **out, emb_error *err)
{
    *out = NULL;
    if (emb_state_has_scheme(url, "memory"))
        return EMB_OK;
    if (emb_state_has_scheme(url, "sqlite"))
        return emb_breaker_sqlite_open(url, out, err);
    if (emb_state_has_scheme(url, "redis") || emb_state_has_scheme(url, "rediss") ||
        emb_state_has_scheme(url, "unix"))
        return emb_breaker_redis_open(url, out, err);
    if (emb_state_has_scheme(url, "postgresql") || emb_state_has_scheme(url, "postgres"))
        return emb_breaker_postgresql_open(url, out, err);
    return emb_fail(err, EMB_E_INVALID, "url",
                    "breakers are kept in memory:, sqlite:PATH, redis://… or postgresql://…");
}
