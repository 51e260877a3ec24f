/* Which store a budget's URL means. */
#include "router/budget_store.h"

#include "base/error.h"
#include "router/state_sqlite.h"

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
    static const struct {
        const char *scheme;
        emb_status (*open)(const char *, const emb_budget_store_options *, emb_budget_store **, emb_error *);
    } KINDS[] = {{"memory", emb_budget_memory_open},      {"sqlite", emb_budget_sqlite_open},
                 {"redis", emb_budget_redis_open},        {"unix", emb_budget_redis_open},
                 {"rediss", emb_budget_redis_open},       {"postgresql", emb_budget_postgresql_open},
                 {"postgres", emb_budget_postgresql_open}};
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (emb_state_has_scheme(url, KINDS[i].scheme))
            return KINDS[i].open(url, options, out, err);
    return emb_fail(err, EMB_E_INVALID, "url",
                    "a budget is kept in memory:, sqlite:PATH, redis://… or postgresql://…");
}
