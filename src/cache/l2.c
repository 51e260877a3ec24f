/* Which store a URL means. */
#include "cache/l2.h"

#include <string.h>

static const emb_l2_kind *const KINDS[] = {&emb_l2_sqlite, &emb_l2_redis, &emb_l2_postgresql};

static bool lists(const char *schemes, const char *scheme, size_t length)
{
    for (const char *s = schemes; *s;) {
        size_t n = strcspn(s, ",");
        if (n == length && memcmp(s, scheme, n) == 0)
            return true;
        s += n + (s[n] == ',');
    }
    return false;
}

const emb_l2_kind *emb_l2_find(const char *url)
{
    const char *colon = url ? strchr(url, ':') : NULL;
    if (!colon)
        return NULL;
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (lists(KINDS[i]->schemes, url, (size_t)(colon - url)))
            return KINDS[i];
    return NULL;
}
