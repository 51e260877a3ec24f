/* Which store a budget's URL means. */
#include "router/budget_store.h"

#include "base/error.h"
#include "store/url.h"

#include <time.h>

int64_t emb_budget_now_ms(const emb_budget_store_options *options)
{
    struct timespec t;
    if (options->now_s)
        return options->now_s() * 1000;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

emb_status emb_budget_store_open(const char *url, const emb_budget_store_options *options,
                                 emb_budget_store **out, emb_error *err)
{
    if (emb_url_is(url, "memory"))
        return emb_budget_memory_open(url, options, out, err);
    if (emb_url_is(url, "sqlite"))
        return emb_budget_sqlite_open(url, options, out, err);
    if (emb_url_is(url, "redis,rediss,unix"))
        return emb_budget_redis_open(url, options, out, err);
    if (emb_url_is(url, "postgresql,postgres"))
        return emb_budget_postgresql_open(url, options, out, err);
    return emb_fail(err, EMB_E_INVALID, "url",
                    "a budget is kept in memory:, sqlite:PATH, redis://… or postgresql://…");
}
