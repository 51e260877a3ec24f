/* hub_cache.c: see hub_cache.h. "$VAR" within these variables is not replaced, which Python does. */
#include "model/hub_cache.h"

#include "base/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *setting(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

char *emb_hub_expand(const char *path)
{
    const char *user = setting("HOME");
    char *copy = path[0] == '~' && (path[1] == '/' || !path[1]) && user
                     ? emb_path_join(user, path[1] ? path + 2 : "")
                     : strdup(path);
    if (!copy)
        errno = ENOMEM;
    return copy;
}

/* "directory/name" with "~" replaced. */
static char *under(const char *directory, const char *name)
{
    char *base = emb_hub_expand(directory);
    char *path = base ? emb_path_join(base, name) : NULL;
    free(base);
    if (!path)
        errno = ENOMEM;
    return path;
}

char *emb_hub_home_path(const char *name)
{
    const char *home = setting("HF_HOME"), *xdg = setting("XDG_CACHE_HOME"), *user = setting("HOME");
    if (home)
        return under(home, name);
    char *base = xdg ? under(xdg, "huggingface") : user ? under(user, ".cache/huggingface") : NULL;
    if (!base) {
        if (!xdg && !user)
            errno = 0;
        return NULL;
    }
    char *path = under(base, name);
    free(base);
    return path;
}

char *emb_hub_cache_directory(void)
{
    const char *cache = setting("HF_HUB_CACHE");
    if (!cache)
        cache = setting("HUGGINGFACE_HUB_CACHE");
    return cache ? emb_hub_expand(cache) : emb_hub_home_path("hub");
}
