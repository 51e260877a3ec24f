/* service.c: the service's interfaces as fake.h's world has them. */
#include "support/api/fake.h"

#include "base/error.h"
#include "base/hash.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static emb_config config;
static emb_served served;
static char caller, models;

void fake_reset(void)
{
    memset(&fake, 0, sizeof fake);
    fake.dimension = 4;
    fake.max_inputs = 100;
}

float fake_component(const char *text, size_t length, size_t j)
{
    uint64_t h = emb_hash(text, length, j + 1);
    return (float)((double)(h >> 11) * 0x1p-53 * 2 - 1);
}

emb_config *emb_service_config(emb_service *s)
{
    (void)s;
    fake.held++;
    config.max_inputs = fake.max_inputs;
    config.request_timeout_ms = 1000;
    config.max_concurrent_requests = 3;
    config.model = "fake-model";
    config.open_health = true;
    return &config;
}

void emb_config_release(emb_config *c)
{
    fake.held -= c != NULL;
}

emb_metrics *emb_service_metrics(emb_service *s)
{
    (void)s;
    return NULL;
}

emb_series *emb_metrics_series(emb_metrics *m, emb_metric family, ...)
{
    (void)m;
    (void)family;
    fake.series++;
    return NULL;
}

void emb_series_add(emb_series *s, double amount)
{
    (void)s;
    (void)amount;
}

void emb_series_set(emb_series *s, double value)
{
    (void)s;
    (void)value;
}

void emb_series_observe(emb_series *s, double value)
{
    (void)s;
    (void)value;
}

emb_status emb_metrics_on_collect(emb_metrics *m, emb_metrics_collect collect, void *context)
{
    (void)m;
    (void)collect;
    (void)context;
    return EMB_OK;
}

emb_models *emb_service_models(emb_service *s)
{
    (void)s;
    return (emb_models *)&models;
}

const char *emb_models_default_name(emb_models *m)
{
    (void)m;
    return "fake-model";
}

emb_status emb_models_acquire(emb_models *m, const char *name, const volatile int *cancel, emb_served **out,
                              emb_error *err)
{
    (void)m;
    (void)cancel;
    if (name && *name && strcmp(name, "fake-model") != 0 && strcmp(name, "org/fake-model") != 0)
        return emb_fail(err, EMB_E_NOT_FOUND, "model", "there is no model %s", name);
    served.name = "fake-model";
    served.repository = "org/fake-model";
    served.revision = "abc";
    served.info.architecture = "bert";
    served.info.dimension = fake.dimension;
    fake.held++;
    *out = &served;
    return EMB_OK;
}

emb_served *emb_models_try_acquire(emb_models *m, const char *name)
{
    emb_served *out = NULL;
    emb_error err;
    return fake.cached && emb_models_acquire(m, name, NULL, &out, &err) == EMB_OK ? out : NULL;
}

void emb_models_release(emb_served *s)
{
    fake.held -= s != NULL;
}

bool emb_service_is_remote(emb_service *s, const char *model)
{
    (void)s;
    (void)model;
    return false;
}

emb_status emb_service_list_models(emb_service *s, emb_arena *arena, emb_model_listing **out, size_t *count,
                                   emb_error *err)
{
    (void)s;
    (void)err;
    *out = emb_arena_calloc(arena, 2, sizeof **out);
    for (int i = 0; i < 2; i++)
        (*out)[i] = (emb_model_listing){.name = i ? "other/m" : "fake-model",
                                        .repository = i ? "other/m" : "org/fake-model",
                                        .provider = "local",
                                        .path = "/x",
                                        .revision = "abc",
                                        .created = 1700000000};
    *count = 2;
    return EMB_OK;
}

emb_access_verdict emb_access_check(emb_access *a, const char *key, size_t length, uint64_t now_ns,
                                    emb_caller **out, uint64_t *retry_after_ms)
{
    (void)a;
    (void)now_ns;
    *out = NULL;
    if (!fake.key)
        return EMB_ACCESS_GRANTED;
    if (!key)
        return EMB_ACCESS_MISSING;
    if (length != strlen(fake.key) || memcmp(key, fake.key, length) != 0)
        return EMB_ACCESS_UNKNOWN;
    if (fake.limited) {
        *retry_after_ms = 1500;
        return EMB_ACCESS_LIMITED;
    }
    fake.held++;
    *out = (emb_caller *)&caller;
    return EMB_ACCESS_GRANTED;
}

bool emb_caller_may_use(const emb_caller *c, const char *model)
{
    return !c || !fake.only_model || strcmp(model, fake.only_model) == 0;
}

void emb_caller_count_tokens(emb_caller *c, uint64_t tokens, uint64_t now_ns)
{
    (void)c;
    (void)tokens;
    (void)now_ns;
}

unsigned emb_caller_rights(const emb_caller *c)
{
    (void)c;
    return EMB_RIGHT_ANY;
}

const char *emb_caller_name(const emb_caller *c)
{
    return c ? "tester" : "";
}

void emb_caller_release(emb_caller *c)
{
    fake.held -= c != NULL;
}

static bool fill(const emb_request *r, emb_arena *arena, emb_answer *a)
{
    size_t dimension = r->dimensions ? r->dimensions : fake.dimension;
    float *v = emb_arena_calloc(arena, r->count * dimension + 1, sizeof *v);
    if (!v)
        return false;
    memset(a, 0, sizeof *a);
    for (size_t i = 0; i < r->count; i++)
        for (size_t j = 0; j < dimension; j++)
            v[i * dimension + j] =
                r->texts ? fake_component(r->texts[i].data, r->texts[i].length, j)
                         : fake_component((const char *)(r->ids + r->offsets[i]),
                                          (r->offsets[i + 1] - r->offsets[i]) * sizeof *r->ids, j);
    if (fake.not_finite)
        v[0] = NAN;
    a->vectors = v;
    a->count = r->count;
    a->dimension = dimension;
    a->total_tokens = 7;
    a->cached = fake.cached ? r->count : 0;
    a->model = "fake-model";
    a->provider = "local";
    a->space = "local/fake";
    a->path = "hybrid";
    a->rule = "context";
    a->reason = "it is a fake";
    a->compute_ns = 1234567;
    served.name = "fake-model";
    served.repository = "org/fake-model";
    a->served = &served;
    fake.held++;
    return true;
}

static void see(const emb_request *r)
{
    fake.seen = *r;
    snprintf(fake.seen_model, sizeof fake.seen_model, "%s", r->model ? r->model : "");
    snprintf(fake.seen_prompt, sizeof fake.seen_prompt, "%s", r->prompt_name ? r->prompt_name : "");
    if (r->texts && r->count)
        snprintf(fake.seen_first, sizeof fake.seen_first, "%.*s", (int)r->texts[0].length, r->texts[0].data);
}

emb_status emb_service_embed(emb_service *s, const emb_request *r, emb_arena *arena, emb_answer *a,
                             emb_error *err)
{
    (void)s;
    see(r);
    fake.embeds++;
    if (fake.fail.code) {
        *err = fake.fail;
        return err->code;
    }
    if (r->dimensions > fake.dimension)
        return emb_fail(err, EMB_E_INVALID, "dimensions", "dimensions is %zu, the model has %zu",
                        r->dimensions, fake.dimension);
    return fill(r, arena, a) ? EMB_OK : emb_fail_nomem(err, "vectors", 0);
}

bool emb_service_embed_cached(emb_service *s, const emb_request *r, emb_arena *arena, emb_answer *a)
{
    (void)s;
    if (!fake.cached || fake.fail.code)
        return false;
    see(r);
    fake.cached_embeds++;
    return fill(r, arena, a);
}

void emb_answer_done(emb_answer *a)
{
    (void)a;
    fake.held--;
}
