/*
 * peer.c: see peer.h.
 *
 * One space is learned for each model, that of vectors as they come, with the question for the dimension.
 * Those of other dimensions and of other lengths follow from it, since the name of a space is made of parts:
 * "maker/model@revision:dimension:where:length". Asking for each combination was rejected: a client that
 * tries dimensions would cause as many questions. A wrong guess cannot go unseen: each call names the space
 * that it wants, and the other side refuses what it does not make (wire_embedd.c checks the answer, too).
 */
#include "service/peer.h"

#include "base/error.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct emb_peer {
    pthread_mutex_t lock;
    bool is_known;
    char space[EMB_PROVIDER_SPACE_BYTES];
};

emb_status emb_peer_open(emb_peer **out, emb_error *err)
{
    emb_peer *p = calloc(1, sizeof *p);
    *out = p;
    if (!p)
        return emb_fail_nomem(err, "the space of a provider", sizeof *p);
    pthread_mutex_init(&p->lock, NULL);
    return EMB_OK;
}

void emb_peer_close(emb_peer *p)
{
    if (!p)
        return;
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* ":dimension:where:length" at the end: where each part begins. */
typedef struct parts {
    const char *dimension, *where, *length;
} parts;

static const char *part_before(const char *begin, const char *end)
{
    while (end > begin && end[-1] != ':')
        end--;
    return end > begin ? end : NULL;
}

static bool split(const char *space, parts *p)
{
    const char *slash = strchr(space, '/'), *at = strrchr(space, '@');
    p->length = slash && at > slash ? part_before(at, space + strlen(space)) : NULL;
    p->where = p->length ? part_before(at, p->length - 1) : NULL;
    p->dimension = p->where ? part_before(at, p->where - 1) : NULL;
    return p->dimension && strspn(p->dimension, "0123456789") == (size_t)(p->where - 1 - p->dimension) &&
           p->where - 1 > p->dimension;
}

bool emb_peer_is_known(emb_peer *p)
{
    pthread_mutex_lock(&p->lock);
    bool known = p->is_known;
    pthread_mutex_unlock(&p->lock);
    return known;
}

void emb_peer_learn(emb_peer *p, const char *space)
{
    parts ignored;
    bool usable = split(space, &ignored) && strlen(space) < sizeof p->space;
    pthread_mutex_lock(&p->lock);
    snprintf(p->space, sizeof p->space, "%s", usable ? space : "");
    p->is_known = true;
    pthread_mutex_unlock(&p->lock);
}

/* The same but for dimension and length. */
static bool is_kin(const char *a, const char *b)
{
    parts x, y;
    if (!split(a, &x) || !split(b, &y))
        return false;
    size_t n = (size_t)(x.dimension - a), m = (size_t)(x.length - x.where);
    return n == (size_t)(y.dimension - b) && memcmp(a, b, n) == 0 && m == (size_t)(y.length - y.where) &&
           memcmp(x.where, y.where, m) == 0;
}

void emb_peer_forget(emb_peer *p, const char *space)
{
    pthread_mutex_lock(&p->lock);
    if (!space || !p->space[0] || is_kin(p->space, space))
        p->is_known = false;
    pthread_mutex_unlock(&p->lock);
}

static const char *length_of(const parts *p, emb_switch normalize)
{
    bool is_unit = strcmp(p->length, "l2") == 0;
    if (normalize == EMB_DEFAULT || (normalize == EMB_ON) == is_unit)
        return p->length;
    return normalize == EMB_ON ? "l2" : strncmp(p->where, "remote:", 7) == 0 ? "api" : "none";
}

bool emb_peer_space(emb_peer *p, size_t dimensions, emb_switch normalize, char out[EMB_PROVIDER_SPACE_BYTES])
{
    parts s;
    int n = -1;
    pthread_mutex_lock(&p->lock);
    if (p->is_known && split(p->space, &s)) {
        char dimension[32];
        snprintf(dimension, sizeof dimension, "%zu", dimensions);
        if (!dimensions)
            snprintf(dimension, sizeof dimension, "%.*s", (int)(s.where - 1 - s.dimension), s.dimension);
        n = snprintf(out, EMB_PROVIDER_SPACE_BYTES, "%.*s%s:%.*s%s", (int)(s.dimension - p->space), p->space,
                     dimension, (int)(s.length - s.where), s.where, length_of(&s, normalize));
    }
    pthread_mutex_unlock(&p->lock);
    return n > 0 && n < EMB_PROVIDER_SPACE_BYTES;
}
