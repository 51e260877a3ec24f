/* Which store a URL means. */
#include "cache/l2.h"

#include "store/url.h"

static const emb_l2_kind *const KINDS[] = {&emb_l2_sqlite, &emb_l2_redis, &emb_l2_postgresql};

const emb_l2_kind *emb_l2_find(const char *url)
{
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (emb_url_is(url, KINDS[i]->schemes))
            return KINDS[i];
    return NULL;
}
