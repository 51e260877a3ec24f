/*
 * Request bodies of every route, from bytes to answer: the input is "METHOD PATH", perhaps lines of headers,
 * an empty line, and the body. The routes, the service and its registry are the real ones; the exchange is a
 * fake that releases the call's memory when it is answered, and embedding gives made-up vectors (linked with
 * --wrap), so that what is exercised is the reading of requests and the writing of answers.
 *
 * Whatever comes in, there is exactly one answer, never a 500, and what says that it is JSON is JSON.
 */
#include "support/api/fake.h"

#include "base/error.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

emb_status __wrap_emb_service_embed(emb_service *service, const emb_request *r, emb_arena *arena,
                                    emb_answer *a, emb_error *err);
bool __wrap_emb_service_embed_cached(emb_service *service, const emb_request *r, emb_arena *arena,
                                     emb_answer *a);

enum { DIMENSION = 384, TEXTS_MAX = 300 };
static emb_models *models;

/* Reads every byte that it was given, so that a sanitizer sees pointers that lead nowhere. */
static uint64_t touch(const emb_request *r)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < r->count; i++) {
        for (size_t j = 0; r->texts && j < r->texts[i].length; j++)
            sum = sum * 31 + (unsigned char)r->texts[i].data[j];
        for (size_t j = r->texts ? 0 : r->offsets[i]; !r->texts && j < r->offsets[i + 1]; j++)
            sum = sum * 31 + (uint64_t)r->ids[j];
    }
    return sum + (r->prompt_name ? strlen(r->prompt_name) : 0) + (r->category ? strlen(r->category) : 0);
}

emb_status __wrap_emb_service_embed(emb_service *service, const emb_request *r, emb_arena *arena,
                                    emb_answer *a, emb_error *err)
{
    (void)service;
    size_t dimension = r->dimensions ? r->dimensions : DIMENSION;
    uint64_t sum = touch(r);
    memset(a, 0, sizeof *a);
    if (r->count > TEXTS_MAX)
        return emb_fail(err, EMB_E_LIMIT, "input", "too many texts");
    if (dimension > DIMENSION)
        return emb_fail(err, EMB_E_INVALID, "dimensions", "dimensions is %zu; the model has %d", dimension,
                        DIMENSION);
    if (sum % 7 == 1 && r->truncation == EMB_TRUNCATE_NONE)
        return emb_fail(err, EMB_E_LIMIT, "input[0]", "input[0] is too long");
    emb_status status = emb_models_acquire(models, r->model, NULL, &a->served, err);
    if (status)
        return status;
    float *vectors = emb_arena_calloc(arena, r->count * dimension + 1, sizeof *vectors);
    uint32_t *tokens = emb_arena_calloc(arena, r->count + 1, sizeof *tokens);
    uint8_t *sources = emb_arena_calloc(arena, r->count + 1, sizeof *sources);
    if (!vectors || !tokens || !sources)
        abort();
    for (size_t i = 0; i < r->count * dimension; i++) {
        sum = sum * 6364136223846793005u + 1442695040888963407u;
        vectors[i] = (float)((double)(sum >> 11) * 0x1p-53 - 0.5);
    }
    for (size_t i = 0; i < r->count; i++) {
        tokens[i] = 3;
        sources[i] = EMB_CACHE_COMPUTED;
    }
    a->vectors = vectors;
    a->tokens = tokens;
    a->sources = sources;
    a->count = r->count;
    a->dimension = dimension;
    a->total_tokens = 3 * r->count;
    a->model = a->served->name;
    a->provider = "local";
    a->space = "local/fuzz";
    return EMB_OK;
}

bool __wrap_emb_service_embed_cached(emb_service *service, const emb_request *r, emb_arena *arena,
                                     emb_answer *a)
{
    emb_error err;
    return touch(r) % 2 && __wrap_emb_service_embed(service, r, arena, a, &err) == EMB_OK;
}

static emb_api *open_api(void)
{
    static char *environment[] = {
        "EMBEDD_MODELS=" EMB_SOURCE_DIR "/models", "EMBEDD_CACHE_URL=none", "HF_HOME=/nonexistent",
        "EMBEDD_DATA_DIR=/dev/null/none",          "EMBEDD_THREADS=1",      NULL};
    emb_config_sources sources = {.environment = environment};
    emb_config *config;
    emb_metrics *metrics;
    emb_service *service;
    emb_access *access;
    emb_api *api;
    emb_error err;
    if (emb_config_load(&sources, &config, &err) || emb_metrics_open(&metrics, &err) ||
        emb_service_open(config, metrics, &service, &err) || emb_access_open(config, &access, &err) ||
        emb_api_open(service, access, &api, &err)) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    models = emb_service_models(service);
    return api;
}

static void check(const fake_answer *a)
{
    emb_json *document;
    if (a->status == 500 || a->status < 200 || a->status > 599) {
        fprintf(stderr, "%d %.*s\n", a->status, (int)a->body.length, a->body.data);
        abort();
    }
    if (strcmp(a->type, "application/json") != 0 || !a->body.length)
        return;
    emb_error err;
    if (emb_json_open(a->body.data, a->body.length, "answer", &document, &err)) {
        fprintf(stderr, "%s\n%.*s\n", err.message, (int)a->body.length, a->body.data);
        abort();
    }
    emb_json_close(document);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static emb_api *api;
    static const char *const methods[] = {"GET", "POST", "PUT", "DELETE"};
    if (!api)
        api = open_api();
    char *head = malloc(size + 1);
    if (!head)
        abort();
    memcpy(head, data, size);
    head[size] = 0;
    char *end = memmem(head, size, "\n\n", 2);
    char *space = memchr(head, ' ', size), *line = memchr(head, '\n', size);
    const char *method = NULL;
    for (size_t i = 0; space && i < sizeof methods / sizeof *methods; i++)
        if (strlen(methods[i]) == (size_t)(space - head) &&
            memcmp(head, methods[i], (size_t)(space - head)) == 0)
            method = methods[i];
    /* the server hands over a path that starts with a slash and is text; heads are fuzz_http_head's business
     */
    if (end && method && line > space && space[1] == '/' && strlen(head) > (size_t)(end - head)) {
        fake_answer answer;
        *end = *line = 0;
        size_t at = (size_t)(end - head) + 2;
        fake_ask(api, method, space + 1, line < end ? line + 1 : NULL, head + at, size - at, &answer);
        check(&answer);
        fake_answer_fini(&answer);
    }
    free(head);
    return 0;
}
