/*
 * A model under the settings of a request: checked, resolved, and filed, so that the next request with the
 * same settings finds the scope of its keys in a few comparisons instead of hashing it.
 *
 * Everything that the model decides by default is resolved here and handed to the engine as decided: the
 * prompt as text, normalisation as on or off, the side of truncation. So a key can never say something else
 * than the vector that is filed under it, and requests that spell the same settings differently share their
 * entries.
 *
 * The table is a list that is only added to, at its head, by compare-and-swap: readers need no lock. Two
 * threads may add the same settings at once; the second is then never found, which does no harm. It holds at
 * most EMB_VARIANTS_MAX, so that requests cannot make it grow without end; settings beyond that are worked
 * out anew for each request.
 */
#include "base/error.h"
#include "engine/engine.h"
#include "service/models_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static const emb_variant *find(const emb_instance *instance, const emb_variant_key *key)
{
    const emb_variant *v = atomic_load_explicit(&instance->variants, memory_order_acquire);
    for (; v; v = v->next)
        if (v->key.role == key->role && v->key.dimensions == key->dimensions &&
            v->key.max_tokens == key->max_tokens && v->key.normalize == key->normalize &&
            v->key.truncation == key->truncation && same_text(v->key.prompt_name, key->prompt_name))
            return v;
    return NULL;
}

/* ---- resolving ------------------------------------------------------------------------------- */

static emb_status unknown_prompt(const emb_served *served, const char *name, emb_error *err)
{
    char known[256] = "";
    const char *each;
    size_t used = 0;
    for (size_t i = 0; emb_model_prompt(served->model, i, &each, NULL) && used < sizeof known; i++) {
        int n = snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", each);
        used += n > 0 ? (size_t)n : 0;
    }
    return emb_fail(err, EMB_E_INVALID, "prompt_name", "%s has no prompt \"%.100s\" (%s%s)", served->name,
                    name, *known ? "it has: " : "it has none", known);
}

static emb_status find_prompt(const emb_served *served, const char *name, const char **out, emb_error *err)
{
    const char *each;
    for (size_t i = 0; emb_model_prompt(served->model, i, &each, out); i++)
        if (strcmp(each, name) == 0)
            return EMB_OK;
    return unknown_prompt(served, name, err);
}

static emb_status resolve_prompt(const emb_served *served, const emb_variant_key *key, const char **out,
                                 emb_error *err)
{
    *out = "";
    if (key->prompt_name)
        return find_prompt(served, key->prompt_name, out, err);
    if (key->role != EMB_ROLE_NONE)
        *out = key->role == EMB_ROLE_QUERY ? served->info.query_prompt : served->info.document_prompt;
    else if (served->info.default_prompt)
        return find_prompt(served, served->info.default_prompt, out, err);
    return EMB_OK;
}

static emb_truncation resolve_truncation(const emb_served *served, emb_truncation truncation)
{
    if (truncation != EMB_TRUNCATE_MODEL)
        return truncation;
    return served->model->core->spec.truncate_left ? EMB_TRUNCATE_LEFT : EMB_TRUNCATE_RIGHT;
}

static emb_status check(const emb_served *served, const emb_variant_key *key, emb_error *err)
{
    if (key->dimensions > served->info.dimension)
        return emb_fail(err, EMB_E_INVALID, "dimensions", "dimensions is %zu, the vectors of %s have %zu",
                        key->dimensions, served->name, served->info.dimension);
    if (key->max_tokens > served->info.max_tokens)
        return emb_fail(err, EMB_E_INVALID, "max_tokens", "max_tokens is %zu, %s takes %zu", key->max_tokens,
                        served->name, served->info.max_tokens);
    return EMB_OK;
}

/* ---- making ---------------------------------------------------------------------------------- */

static bool make_scope(const emb_instance *instance, const char *prompt, emb_variant *v)
{
    const emb_served *served = &instance->served;
    emb_cache_scope_fields fields = {
        .namespace_ = instance->entry->models->key_namespace,
        .provider = "local",
        .model = served->name,
        .revision = served->revision,
        .precision = emb_precision_name(served->info.precision),
        .prompt = prompt,
        .prompt_length = strlen(prompt),
        .dimensions = v->dimension,
        .max_tokens = v->max_tokens,
        .pooling = (int)served->info.pooling,
        .normalize = (int)v->options.normalize,
        .truncation = (int)v->options.truncation,
    };
    return emb_cache_scope_make(&fields, &v->scope);
}

static emb_status make(const emb_instance *instance, const emb_variant_key *key, emb_variant *v,
                       emb_arena *arena, emb_error *err)
{
    const emb_served *served = &instance->served;
    const char *prompt;
    emb_status status = check(served, key, err);
    if (!status)
        status = resolve_prompt(served, key, &prompt, err);
    if (status)
        return status;
    *v = (emb_variant){.key = *key, .options = EMB_EMBED_OPTIONS_INIT};
    v->dimension = key->dimensions ? key->dimensions : served->info.dimension;
    v->max_tokens = key->max_tokens ? key->max_tokens : served->info.max_tokens;
    v->options.prompt = prompt;
    v->options.dimensions = v->dimension == served->info.dimension ? 0 : v->dimension;
    v->options.max_tokens = v->max_tokens;
    v->options.truncation = resolve_truncation(served, key->truncation);
    v->options.normalize = key->normalize;
    if (key->normalize == EMB_DEFAULT)
        v->options.normalize = served->info.normalize ? EMB_ON : EMB_OFF;
    v->space = emb_served_space(served, v->dimension, EMB_POOLING_MODEL, v->options.normalize, arena);
    if (!v->space || !make_scope(instance, prompt, v))
        return emb_fail_nomem(err, "scope of cache keys", sizeof *v);
    return EMB_OK;
}

/* A copy that lives as long as the instance, in its table; NULL if there is no room. */
static const emb_variant *keep(emb_instance *instance, const emb_variant *made)
{
    size_t space = strlen(made->space) + 1,
           name = made->key.prompt_name ? strlen(made->key.prompt_name) + 1 : 0;
    if (atomic_load_explicit(&instance->variant_count, memory_order_relaxed) >= EMB_VARIANTS_MAX)
        return NULL;
    emb_variant *v = malloc(sizeof *v + space + name);
    if (!v)
        return NULL;
    *v = *made;
    v->space = memcpy(v + 1, made->space, space);
    if (name)
        v->key.prompt_name = memcpy((char *)(v + 1) + space, made->key.prompt_name, name);
    v->next = atomic_load_explicit(&instance->variants, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&instance->variants, &v->next, v, memory_order_release,
                                                  memory_order_relaxed))
        ;
    atomic_fetch_add_explicit(&instance->variant_count, 1, memory_order_relaxed);
    return v;
}

emb_status emb_variant_get(emb_instance *instance, const emb_request *request, emb_arena *arena,
                           const emb_variant **out, emb_error *err)
{
    const emb_variant_key key = {
        .role = request->texts ? request->role : EMB_ROLE_NONE,
        .prompt_name = request->prompt_name,
        .dimensions = request->dimensions,
        .max_tokens = request->max_tokens,
        .normalize = request->normalize,
        .truncation = request->truncation,
    };
    *out = find(instance, &key);
    if (*out)
        return EMB_OK;
    emb_variant *made = emb_arena_alloc(arena, sizeof *made);
    if (!made)
        return emb_fail_nomem(err, "settings of a request", sizeof *made);
    emb_status status = make(instance, &key, made, arena, err);
    if (status)
        return status;
    *out = keep(instance, made);
    if (!*out)
        *out = made;
    return EMB_OK;
}

void emb_variants_free(emb_instance *instance)
{
    emb_variant *v = atomic_load(&instance->variants);
    while (v) {
        emb_variant *next = v->next;
        free(v);
        v = next;
    }
}
