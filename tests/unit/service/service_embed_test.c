/* embed() with a fake model and the real cache: what each row holds, where it came from, errors, many
 * callers. */
#include "service_fixture.h"

#include "engine/engine.h"
#include "service/service_parts.h"

#include <math.h>
#include <openssl/err.h>

static emb_config *config;
static emb_metrics *metrics;
static emb_service *service;

static void start(emb_config *with)
{
    config = with;
    OK(emb_metrics_open(&metrics, err));
    OK(emb_service_open(config, metrics, &service, err));
}

static void stop(void)
{
    emb_service_close(service);
    emb_metrics_close(metrics);
    emb_config_release(config);
    assert_int_equal(fake.open_encoders, 0);
}

static int setup(void **state)
{
    (void)state;
    fake_model_reset();
    fake_model_make("one", NULL);
    return 0;
}

static const char *database(void)
{
    static char url[300];
    snprintf(url, sizeof url, "sqlite:%s/cache.db", fake_model_root());
    return url;
}

/* ---- asking ---------------------------------------------------------------------------------- */

enum { TEXTS_MAX = 64 };

typedef struct asked {
    emb_request request;
    emb_text texts[TEXTS_MAX];
    emb_arena arena;
    emb_answer answer;
    emb_error error;
    emb_status status;
} asked;

/* Words with '|' between. */
static void prepare(asked *a, const char *words)
{
    memset(a, 0, sizeof *a);
    emb_arena_init(&a->arena);
    a->request = (emb_request)EMB_REQUEST_INIT;
    a->request.texts = a->texts;
    for (const char *at = words; *at; at += *at == '|') {
        size_t n = strcspn(at, "|");
        a->texts[a->request.count++] = (emb_text){at, n};
        at += n;
    }
}

static void run(asked *a)
{
    a->status = emb_service_embed(service, &a->request, &a->arena, &a->answer, &a->error);
}

static void done(asked *a)
{
    emb_answer_done(&a->answer);
    emb_arena_fini(&a->arena);
}

/* Each row is the text's vector; its sources are as the letters say: 1, 2, c(omputed), s(hared). */
static void check(const asked *a, const char *sources)
{
    static const char letters[] = "-12cs";
    char found[TEXTS_MAX + 1] = "";
    if (a->status)
        fail_msg("%s", a->error.message);
    assert_int_equal(a->answer.count, a->request.count);
    assert_int_equal(a->answer.dimension, FAKE_DIMENSION);
    size_t tokens = 0;
    for (size_t i = 0; i < a->answer.count; i++) {
        float want[FAKE_DIMENSION];
        fake_vector(a->texts[i].data, a->texts[i].length, want);
        want[4] = EMB_OFF; /* the service resolves what the model does by default */
        assert_memory_equal(a->answer.vectors + i * FAKE_DIMENSION, want, sizeof want);
        assert_int_equal(a->answer.tokens[i], a->texts[i].length + 2);
        tokens += a->answer.tokens[i];
        found[i] = letters[a->answer.sources[i]];
    }
    assert_int_equal(a->answer.total_tokens, tokens);
    if (sources)
        assert_string_equal(found, sources);
}

static void ask(const char *words, const char *sources)
{
    asked a;
    prepare(&a, words);
    run(&a);
    check(&a, sources);
    done(&a);
}

static size_t passes(void)
{
    pthread_mutex_lock(&fake.lock);
    size_t n = fake.passes;
    pthread_mutex_unlock(&fake.lock);
    return n;
}

/* ---- what the rows hold ---------------------------------------------------------------------- */

static void hits_misses_and_doubles(void **state)
{
    (void)state;
    start(make_config("cache-url", database(), NULL));
    ask("red|green|blue", "ccc");
    ask("red|green|blue", "111");
    ask("black|red|white|red|black|green", "c1c1s1");
    ask("blue|white", "11");
    asked a;
    prepare(&a, "red|new");
    run(&a);
    check(&a, "1c");
    assert_int_equal(a.answer.cached, 1);
    assert_string_equal(a.answer.model, "one");
    assert_string_equal(a.answer.provider, "local");
    assert_non_null(strstr(a.answer.space, "local/one@"));
    assert_true(a.answer.total_ns > 0 && a.answer.compute_ns > 0);
    done(&a);
    prepare(&a, "red");
    a.request.cache_read = false;
    run(&a);
    check(&a, "c");
    done(&a);
    prepare(&a, "unkept");
    a.request.cache_write = false;
    run(&a);
    check(&a, "c");
    done(&a);
    ask("unkept", "c");
    ask("", "");
    stop();
    /* Another process, the same store. */
    start(make_config("cache-url", database(), NULL));
    ask("red|other|green", "2c2");
    ask("red|other|green", "111");
    stop();
}

static void private_texts_stay_here(void **state)
{
    (void)state;
    start(make_config("cache-url", database(), NULL));
    asked a;
    prepare(&a, "secret");
    a.request.is_private = true;
    run(&a);
    check(&a, "c");
    done(&a);
    ask("public", "c");
    stop();
    start(make_config("cache-url", database(), NULL));
    ask("secret|public", "c2");
    stop();
}

/* Other files, another revision: nothing of the old model is taken for the new one's. */
static void changed_files_are_another_model(void **state)
{
    (void)state;
    make_file("one/vocab.txt", "a");
    start(make_config("cache-url", database(), NULL));
    ask("red", "c");
    stop();
    start(make_config("cache-url", database(), NULL));
    ask("red", "2");
    stop();
    make_file("one/vocab.txt", "b");
    start(make_config("cache-url", database(), NULL));
    ask("red", "c");
    stop();
    start(make_config("cache-url", database(), "cache-namespace", "other", NULL));
    ask("red", "c");
    stop();
}

/* Weights come with the first text: when the files were changed since the model was opened, its vectors must
 * not be filed under the revision of the old ones. */
static void files_that_change_before_the_weights_come(void **state)
{
    (void)state;
    make_file("one/vocab.txt", "a");
    start(make_config("cache-url", database(), NULL));
    emb_served *before;
    OK(emb_models_acquire(service->models, NULL, NULL, &before, err));
    char revision[EMB_REVISION_MAX];
    strcpy(revision, before->revision);
    make_file("one/vocab.txt", "bb");
    asked a;
    prepare(&a, "red|green");
    run(&a);
    assert_int_equal(a.status, EMB_E_IO);
    assert_non_null(strstr(a.error.message, "changed"));
    done(&a);
    assert_null(emb_models_try_acquire(service->models, NULL));
    prepare(&a, "red"); /* waits for the old one to go */
    a.request.deadline_ns = emb_now_ns() + 20000000;
    run(&a);
    assert_int_equal(a.status, EMB_E_DEADLINE);
    done(&a);
    emb_models_release(before);
    prepare(&a, "red|green");
    run(&a);
    check(&a, "cc");
    assert_string_not_equal(a.answer.served->revision, revision);
    done(&a);
    stop();
}

/* What the engine gives for one text or sequence under the request's settings, past everything else. */
static void fresh(const emb_request *r, emb_model *model, size_t i, float *out, uint32_t *tokens)
{
    emb_embed_options o = EMB_EMBED_OPTIONS_INIT;
    o.role = r->role;
    o.prompt_name = r->prompt_name;
    o.dimensions = r->dimensions;
    o.max_tokens = r->max_tokens;
    o.truncation = r->truncation;
    o.normalize = r->normalize ? r->normalize : EMB_OFF;
    if (r->texts) {
        OK(emb_embed_counted(model, &r->texts[i], 1, &o, out, FAKE_DIMENSION, tokens, NULL, err));
        return;
    }
    emb_usage usage = EMB_USAGE_INIT;
    OK(emb_embed_ids(model, r->ids, r->offsets + i, 1, &o, out, FAKE_DIMENSION, &usage, err));
    *tokens = (uint32_t)usage.tokens;
}

static unsigned seed = 12345;
static size_t pick(size_t n)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 16) % n;
}

/* Requests of random texts, doubles, settings and models, cached, uncached and evicted: each position is the
 * vector of that text, to the bit. */
static void any_mix_gives_fresh_vectors(void **state)
{
    (void)state;
    static const char *const names[] = {"one", "prompted", "left"};
    static char pool[60][24];
    int32_t ids[TEXTS_MAX * 24];
    size_t offsets[TEXTS_MAX + 1], counts[5] = {0};
    fake_model_make("prompted", "prompts");
    fake_model_make("left", "left");
    for (size_t i = 0; i < 60; i++)
        for (size_t k = 0, n = pick(22); k < n; k++)
            pool[i][k] = (char)('a' + pick(26));
    start(make_config("cache-url", database(), "cache-l1_size", "60", NULL));
    emb_served *direct[3];
    for (size_t m = 0; m < 3; m++)
        OK(emb_models_acquire(service->models, names[m], NULL, &direct[m], err));
    for (size_t round = 0; round < 700; round++) {
        asked a;
        prepare(&a, "");
        emb_request *r = &a.request;
        size_t m = pick(3), dimension;
        r->model = names[m];
        r->count = 1 + pick(12);
        r->role = (emb_role)(m == 1 ? pick(3) : 0);
        r->prompt_name = m == 1 && pick(4) == 0 ? "query" : NULL;
        r->dimensions = pick(3) ? 0 : 1 + pick(FAKE_DIMENSION);
        r->max_tokens = pick(3) ? 0 : 6 + pick(10);
        r->normalize = (emb_switch)pick(3);
        r->truncation = (emb_truncation)pick(3);
        r->cache_read = pick(8) > 0;
        r->cache_write = pick(8) > 0;
        bool as_ids = pick(5) == 0;
        offsets[0] = 0;
        for (size_t i = 0; i < r->count; i++) {
            const char *text = pool[pick(60)];
            size_t length = strlen(text);
            a.texts[i] = (emb_text){text, length};
            offsets[i + 1] = offsets[i] + length + 1;
            ids[offsets[i]] = 256;
            for (size_t k = 0; k < length; k++)
                ids[offsets[i] + 1 + k] = (unsigned char)text[k];
        }
        if (as_ids) {
            r->texts = NULL;
            r->ids = ids;
            r->offsets = offsets;
        }
        if (pick(2) || !emb_service_embed_cached(service, r, &a.arena, &a.answer)) {
            run(&a);
            if (a.status)
                fail_msg("%s", a.error.message);
        }
        dimension = r->dimensions ? r->dimensions : FAKE_DIMENSION;
        assert_int_equal(a.answer.dimension, dimension);
        for (size_t i = 0; i < r->count; i++) {
            float want[FAKE_DIMENSION];
            uint32_t tokens = 0;
            fresh(r, direct[m]->model, i, want, &tokens);
            assert_memory_equal(a.answer.vectors + i * dimension, want, dimension * sizeof(float));
            assert_int_equal(a.answer.tokens[i], tokens);
            counts[a.answer.sources[i]]++;
        }
        done(&a);
        if (round % 16 == 0) /* what is written behind is found there, however busy the machine */
            assert_true(emb_cache_flush(emb_service_cache(service), emb_now_ns() + UINT64_C(60000000000)));
    }
    assert_int_equal(counts[EMB_CACHE_NONE], 0);
    for (size_t s = 1; s < 5; s++)
        assert_true(counts[s] > 20); /* all sources had their part in it */
    for (size_t m = 0; m < 3; m++)
        emb_models_release(direct[m]);
    stop();
}

static void settings_beyond_the_table(void **state)
{
    (void)state;
    start(make_config(NULL));
    for (size_t round = 0; round < 2; round++)
        for (size_t dimensions = 1; dimensions <= FAKE_DIMENSION; dimensions++)
            for (size_t tokens = 10; tokens < 40; tokens++) {
                asked a;
                prepare(&a, "words");
                a.request.dimensions = dimensions;
                a.request.max_tokens = tokens;
                run(&a);
                assert_int_equal(a.status, EMB_OK);
                assert_int_equal(a.answer.dimension, dimensions);
                assert_int_equal(a.answer.sources[0], round ? EMB_CACHE_L1 : EMB_CACHE_COMPUTED);
                char want[32];
                snprintf(want, sizeof want, ":%zu:mean:none", dimensions);
                assert_non_null(strstr(a.answer.space, want));
                done(&a);
            }
    stop();
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void expect_error(asked *a, emb_status status, const char *where, const char *words)
{
    run(a);
    if (a->status != status || strcmp(a->error.where, where) != 0 || !strstr(a->error.message, words))
        fail_msg("%s, %s: %s", emb_status_text(a->status), a->error.where, a->error.message);
    assert_null(a->answer.served);
    done(a);
}

static void errors_name_the_member(void **state)
{
    (void)state;
    static char longer[80];
    memset(longer, 'x', sizeof longer);
    start(make_config("server-max_inputs", "8", NULL));
    asked a;
    prepare(&a, "red");
    a.request.model = "absent";
    expect_error(&a, EMB_E_NOT_FOUND, "model", "absent");
    prepare(&a, "red");
    a.request.dimensions = 7;
    expect_error(&a, EMB_E_INVALID, "dimensions", "dimensions is 7, the vectors of one have 6");
    prepare(&a, "red");
    a.request.max_tokens = 65;
    expect_error(&a, EMB_E_INVALID, "max_tokens", "64");
    prepare(&a, "red");
    a.request.prompt_name = "quarry";
    expect_error(&a, EMB_E_INVALID, "prompt_name", "one has no prompt \"quarry\"");
    prepare(&a, "1|2|3|4|5|6|7|8|9");
    expect_error(&a, EMB_E_LIMIT, "input", "9 texts, the limit is 8 (server.max_inputs)");
    ask("1|3", "cc");
    for (size_t truncated = 0; truncated < 2;
         truncated++) { /* the second time with hits before the long one */
        prepare(&a, "1|2|3|4|5");
        a.request.truncation = EMB_TRUNCATE_NONE;
        a.texts[3] = (emb_text){longer, 80};
        expect_error(&a, EMB_E_LIMIT, "input[3]", "input[3]: 82 tokens, the limit is 64");
        prepare(&a, "1|2|3");
        a.request.truncation = EMB_TRUNCATE_NONE;
        run(&a);
        check(&a, NULL);
        done(&a);
    }
    int32_t ids[] = {256, 'a', 999, 257};
    size_t offsets[] = {0, 2, 4, 4};
    prepare(&a, "");
    a.request.texts = NULL;
    a.request.ids = ids;
    a.request.offsets = offsets;
    a.request.count = 2;
    expect_error(&a, EMB_E_INVALID, "input[1]", "999");
    prepare(&a, "");
    a.request.texts = NULL;
    a.request.ids = ids;
    a.request.offsets = offsets;
    a.request.count = 3;
    expect_error(&a, EMB_E_INVALID, "input[2]", "empty");
    emb_service_totals totals;
    emb_service_get_totals(service, &totals);
    assert_int_equal(totals.errors, 9);
    stop();
}

static void no_vector_that_is_not_finite(void **state)
{
    (void)state;
    start(make_config("cache-url", database(), NULL));
    atomic_store(&fake.nan_id, '!');
    asked a;
    prepare(&a, "good|bad!|fine");
    expect_error(&a, EMB_E_INTERNAL, "", "not finite");
    atomic_store(&fake.nan_id, 0);
    ask("bad!", "c"); /* was not kept */
    stop();
}

static void broken_weights_are_told(void **state)
{
    (void)state;
    fake_model_make("sad", "broken");
    start(make_config(NULL));
    asked a;
    prepare(&a, "red");
    a.request.model = "sad";
    run(&a);
    assert_int_equal(a.status, EMB_E_CORRUPT);
    assert_string_equal(a.error.where, "model");
    done(&a);
    ask("red", "c");
    stop();
}

/* ---- time and leaving ------------------------------------------------------------------------ */

typedef struct background {
    asked a;
    pthread_t thread;
    volatile int cancel;
    atomic_bool ended;
} background;

static void *run_background(void *context)
{
    background *b = context;
    run(&b->a);
    atomic_store(&b->ended, true);
    return NULL;
}

static void begin(background *b, const char *words)
{
    prepare(&b->a, words);
    b->cancel = 0;
    atomic_init(&b->ended, false);
    b->a.request.cancel = &b->cancel;
}

static void go(background *b)
{
    assert_int_equal(pthread_create(&b->thread, NULL, run_background, b), 0);
}

static void deadlines_and_cancelling(void **state)
{
    (void)state;
    start(make_config(NULL));
    background b;
    asked a;
    prepare(&a, "late");
    a.request.deadline_ns = 1;
    run(&a);
    assert_int_equal(a.status, EMB_E_DEADLINE);
    done(&a);
    fake_gate(true);
    begin(&b, "slow");
    go(&b);
    fake_wait_gate(1);
    prepare(&a, "behind");
    a.request.deadline_ns = emb_now_ns() + 30000000;
    run(&a);
    assert_int_equal(a.status, EMB_E_DEADLINE);
    done(&a);
    background c;
    begin(&c, "behind");
    go(&c);
    __atomic_store_n(&c.cancel, 1, __ATOMIC_RELAXED);
    UNTIL(atomic_load(&c.ended));
    pthread_join(c.thread, NULL);
    assert_int_equal(c.a.status, EMB_E_CANCELLED);
    done(&c.a);
    fake_gate(false);
    pthread_join(b.thread, NULL);
    check(&b.a, "c");
    done(&b.a);
    stop();
}

/* Many ask for one text at once: it is computed once; if the one who computes leaves, another takes over. */
static void one_computes_for_all(void **state)
{
    (void)state;
    start(make_config("models-threads", "2", NULL));
    background all[6];
    ask("loaded", "c");
    size_t before = passes();
    fake_gate(true);
    for (size_t i = 0; i < 6; i++) {
        begin(&all[i], "same|text");
        go(&all[i]);
    }
    fake_wait_gate(1);
    fake_gate(false);
    size_t computed = 0;
    for (size_t i = 0; i < 6; i++) {
        pthread_join(all[i].thread, NULL);
        check(&all[i].a, NULL);
        computed += all[i].a.answer.sources[0] == EMB_CACHE_COMPUTED;
        done(&all[i].a);
    }
    assert_int_equal(computed, 1);
    assert_true(passes() - before <= 2);
    fake_gate(true);
    for (size_t i = 0; i < 3; i++) {
        begin(&all[i], "again");
        go(&all[i]);
        if (i == 0)
            fake_wait_gate(1);
    }
    __atomic_store_n(&all[0].cancel, 1, __ATOMIC_RELAXED);
    fake_gate(false);
    for (size_t i = 0; i < 3; i++) {
        pthread_join(all[i].thread, NULL);
        assert_true(all[i].a.status == EMB_OK || (i == 0 && all[i].a.status == EMB_E_CANCELLED));
        if (!all[i].a.status)
            check(&all[i].a, NULL);
        done(&all[i].a);
    }
    stop();
}

/* Who waits for another's computation of a text that cannot be embedded is told its place in the own request.
 */
static void a_shared_error_names_ones_own_text(void **state)
{
    (void)state;
    static char longer[80];
    memset(longer, 'x', sizeof longer);
    start(make_config(NULL));
    ask("red", "c");
    background b;
    begin(&b, "red|long");
    b.a.request.truncation = EMB_TRUNCATE_NONE;
    b.a.texts[1] = (emb_text){longer, sizeof longer};
    /* The test is the other caller: it leads the same key. */
    emb_served *served;
    OK(emb_models_acquire(service->models, NULL, NULL, &served, err));
    const emb_variant *variant;
    OK(emb_variant_get((emb_instance *)served, &b.a.request, &b.a.arena, &variant, err));
    float vector[FAKE_DIMENSION];
    emb_cache_lookup lookup = {.vector = vector, .dimension = FAKE_DIMENSION};
    assert_true(emb_cache_key_of_text(&variant->scope, longer, sizeof longer, &lookup.key));
    emb_cache_policy policy = {.read = true, .write = true, .shared = true, .model = "one"};
    emb_cache_flight *flight;
    size_t todo, count;
    emb_status status;
    OK(emb_cache_begin(emb_service_cache(service), &lookup, 1, &policy, 0, NULL, &flight, err));
    emb_error error = {0};
    assert_true(emb_cache_next(flight, &todo, &count, &status, &error));
    go(&b);
    usleep(30000); /* most likely it waits by then; if not, the same is to come out */
    (void)emb_fail(&error, EMB_E_LIMIT, "input[7]", "input[7]: 82 tokens are too many");
    emb_cache_end(flight, EMB_E_LIMIT, &error);
    pthread_join(b.thread, NULL);
    assert_int_equal(b.a.status, EMB_E_LIMIT);
    assert_string_equal(b.a.error.where, "input[1]");
    assert_non_null(strstr(b.a.error.message, "input[1]: 82 tokens, the limit is 64"));
    done(&b.a);
    emb_models_release(served);
    stop();
}

/* Large requests give way: a small one that came later is computed first. */
static void large_requests_give_way(void **state)
{
    (void)state;
    start(make_config("hybrid-batch_size_threshold", "3", NULL));
    background blocking, large, small;
    fake_gate(true);
    begin(&blocking, "z");
    go(&blocking);
    fake_wait_gate(1);
    begin(&large, "aaaa|aaab|aaac|aaad");
    go(&large);
    UNTIL(atomic_load(&service->engine->waiting_calls) == 1);
    begin(&small, "q|qq");
    go(&small);
    UNTIL(atomic_load(&service->engine->waiting_calls) == 2);
    fake_gate(false);
    pthread_join(blocking.thread, NULL);
    pthread_join(large.thread, NULL);
    pthread_join(small.thread, NULL);
    size_t first_a = 0, first_q = 0;
    while (!fake.log[first_a].letters['a'])
        first_a++;
    while (!fake.log[first_q].letters['q'])
        first_q++;
    assert_true(first_q < first_a || (first_q == first_a && fake.log[first_q].first_id == 'q'));
    done(&blocking.a);
    done(&large.a);
    done(&small.a);
    stop();
}

/* ---- many callers ---------------------------------------------------------------------------- */

static void *hammer(void *context)
{
    static const char *const names[] = {"one", "two", "three", NULL};
    unsigned own = (unsigned)(uintptr_t)context;
    char words[16][12];
    size_t failures = 0;
    for (size_t round = 0; round < 120; round++) {
        asked a;
        prepare(&a, "");
        a.request.count = 1 + (own = own * 1103515245 + 12345, own >> 16) % 6;
        a.request.model = names[(own >> 20) % 4];
        for (size_t i = 0; i < a.request.count; i++) {
            own = own * 1103515245 + 12345;
            snprintf(words[i], sizeof words[i], "word %u", (own >> 16) % 40);
            a.texts[i] = (emb_text){words[i], strlen(words[i])};
        }
        if (!emb_service_embed_cached(service, &a.request, &a.arena, &a.answer))
            run(&a);
        failures += a.status != EMB_OK;
        for (size_t i = 0; i < a.request.count && !a.status; i++) {
            float want[FAKE_DIMENSION];
            fake_vector(words[i], strlen(words[i]), want);
            want[4] = EMB_OFF;
            failures += memcmp(a.answer.vectors + i * FAKE_DIMENSION, want, sizeof want) != 0;
        }
        done(&a);
    }
    return (void *)failures;
}

/* Models come and go, vectors are pushed out, settings change, and every answer is right. */
static void many_callers(void **state)
{
    (void)state;
    fake_model_make("two", NULL);
    fake_model_make("three", NULL);
    start(make_config("models-threads", "2", "models-memory", "4000", "cache-l1_size", "30", "cache-url",
                      database(), NULL));
    pthread_t threads[6];
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, (void *)(i + 1)), 0);
    emb_config *other =
        make_config("models-memory", "8000", "cache-l1_size", "50", "cache-url", database(), NULL);
    for (size_t i = 0; i < 20; i++) {
        emb_service_reconfigure(service, i % 2 ? config : other);
        emb_config *now = emb_service_config(service);
        assert_ptr_equal(now, i % 2 ? config : other);
        emb_config_release(now);
        usleep(1000);
    }
    for (size_t i = 0; i < 6; i++) {
        void *failures;
        pthread_join(threads[i], &failures);
        assert_null(failures);
    }
    emb_config_release(other);
    stop();
}

/* ---- answers in place ------------------------------------------------------------------------ */

static bool in_place(const char *words, void (*change)(emb_request *r))
{
    asked a;
    prepare(&a, words);
    if (change)
        change(&a.request);
    bool answered = emb_service_embed_cached(service, &a.request, &a.arena, &a.answer);
    if (answered)
        check(&a, NULL);
    else
        assert_null(a.answer.served);
    done(&a);
    return answered;
}

static void no_cache(emb_request *r)
{
    r->cache_read = false;
}

static void bad_dimensions(emb_request *r)
{
    r->dimensions = 99;
}

static void answers_in_place(void **state)
{
    (void)state;
    start(make_config(NULL));
    assert_false(in_place("red", NULL));
    ask("red|green", "cc");
    emb_service_totals before, after;
    emb_service_get_totals(service, &before);
    assert_false(in_place("red|blue", NULL));
    assert_false(in_place("red", no_cache));
    assert_false(in_place("red", bad_dimensions));
    emb_service_get_totals(service, &after);
    assert_int_equal(after.requests, before.requests);
    assert_int_equal(after.errors, before.errors);
    assert_true(in_place("green|red|red", NULL));
    emb_service_get_totals(service, &after);
    assert_int_equal(after.requests, before.requests + 1);
    assert_int_equal(after.l1_texts, before.l1_texts + 3);
    assert_int_equal(after.tokens, before.tokens + 7 + 5 + 5);
    stop();
}

static void caching_is_switched_while_running(void **state)
{
    (void)state;
    start(make_config("cache-enabled", "false", NULL));
    assert_null(emb_service_cache(service));
    ask("red", "c");
    ask("red|red", "cc");
    assert_false(in_place("red", NULL));
    emb_config *on = make_config("cache-enabled", "true", NULL);
    emb_service_reconfigure(service, on);
    assert_non_null(emb_service_cache(service));
    ask("red", "c");
    ask("red", "1");
    emb_service_reconfigure(service, config);
    assert_null(emb_service_cache(service));
    ask("red", "c");
    emb_service_reconfigure(service, on);
    ask("red", "1");
    emb_config_release(on);
    stop();
}

/* ---- account --------------------------------------------------------------------------------- */

static void totals_and_metrics(void **state)
{
    (void)state;
    start(make_config(NULL));
    ask("red|green", "cc");
    ask("red|blue|blue", "1cs");
    emb_service_totals t;
    emb_service_get_totals(service, &t);
    assert_int_equal(t.requests, 2);
    assert_int_equal(t.texts, 5);
    assert_int_equal(t.l1_texts, 1);
    assert_int_equal(t.cached_texts, 1);
    assert_int_equal(t.computed_texts, 3);
    assert_int_equal(t.shared_texts, 1);
    assert_int_equal(t.tokens, 5 + 7 + 5 + 6 + 6);
    assert_true(t.p50_ms > 0 && t.p99_ms >= t.p95_ms && t.p95_ms >= t.p50_ms);
    assert_int_equal(emb_metrics_sum(metrics, EMB_METRIC_TEXTS, 1, "computed"), 3);
    assert_int_equal(emb_metrics_sum(metrics, EMB_METRIC_TEXTS, 1, "l1"), 1);
    assert_int_equal(emb_metrics_sum(metrics, EMB_METRIC_TOKENS, 0, "one"), 5 + 7 + 6);
    assert_int_equal(emb_metrics_sum(metrics, EMB_METRIC_MODELS_LOADED, -1, NULL), 1);
    assert_int_equal(emb_metrics_sum(metrics, EMB_METRIC_MODEL_BYTES, 0, "one"), 4000);
    emb_service_reset_totals(service);
    emb_service_get_totals(service, &t);
    assert_int_equal(
        t.requests + t.texts + t.l1_texts + t.computed_texts + t.shared_texts + t.tokens + t.errors, 0);
    assert_true(t.since_seconds < 30);
    emb_config *quiet = make_config("hybrid-monitoring", "false", NULL);
    emb_service_reconfigure(service, quiet);
    emb_config_release(quiet);
    ask("black", "c");
    assert_int_equal(emb_metrics_sum(metrics, EMB_METRIC_TEXTS, 1, "computed"), 3);
    stop();
}

/* ---- opening --------------------------------------------------------------------------------- */

static void refuse_to_open(emb_status status, const char *words, emb_config *with)
{
    emb_service *none = NULL;
    FAILS(status, words, emb_service_open(with, NULL, &none, err));
    assert_null(none);
    emb_config_release(with);
}

static void what_cannot_be_served(void **state)
{
    (void)state;
    refuse_to_open(EMB_E_UNSUPPORTED, "cuda", make_config("models-device", "cuda", NULL));
    refuse_to_open(EMB_E_NOT_FOUND, "looked in", make_config("models-default", "absent", NULL));
    refuse_to_open(EMB_E_INVALID, "cache.warm", make_config("cache-warm", "finance,finances", NULL));
}

static void the_data_directory_is_made_for_us_alone(void **state)
{
    (void)state;
    char directory[300], file[320];
    struct stat info;
    snprintf(directory, sizeof directory, "%s/a/b/data", fake_model_root());
    start(make_config("cache-url", "", "data-dir", directory, NULL));
    ask("red", "c");
    stop();
    assert_int_equal(stat(directory, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    snprintf(file, sizeof file, "%s/cache.db", directory);
    assert_int_equal(stat(file, &info), 0);
    /* Where it cannot be made the service works in memory. */
    make_file("plain", "");
    snprintf(directory, sizeof directory, "%s/plain/data", fake_model_root());
    start(make_config("cache-url", "", "data-dir", directory, NULL));
    ask("red", "c");
    ask("red", "1");
    emb_cache_stats stats;
    emb_cache_get_stats(emb_service_cache(service), &stats);
    assert_string_equal(stats.l2_kind, "none");
    stop();
}

static void warming_up(void **state)
{
    (void)state;
    char list[300];
    fake_model_make("two", NULL);
    make_file("terms.txt", "# words\n\nred\n  green  \n");
    snprintf(list, sizeof list, "finance, %s/terms.txt", fake_model_root());
    start(make_config("models-preload", "two", "cache-warm", list, NULL));
    assert_false(emb_service_ready(service));
    assert_int_equal(emb_models_loaded(service->models), 0);
    volatile int stopped = 1;
    FAILS(EMB_E_CANCELLED, NULL, emb_service_warm_up(service, &stopped, err));
    assert_false(emb_service_ready(service));
    OK(emb_service_warm_up(service, NULL, err));
    assert_true(emb_service_ready(service));
    assert_int_equal(emb_models_loaded(service->models), 2);
    ask("red|green|Roth IRA|words", "111c");
    stop();
    start(make_config("models-preload", "absent", NULL));
    FAILS(EMB_E_NOT_FOUND, "absent", emb_service_warm_up(service, NULL, err));
    assert_false(emb_service_ready(service));
    stop();
}

/* ---- memory ---------------------------------------------------------------------------------- */

static emb_status embed_once(const char *words, bool write)
{
    asked a;
    prepare(&a, words);
    a.request.dimensions = 3; /* a variant that is new each time the model is opened */
    a.request.cache_write = write;
    run(&a);
    for (size_t i = 0; i < a.answer.count; i++) {
        float want[FAKE_DIMENSION];
        fake_vector(a.texts[i].data, a.texts[i].length, want);
        assert_memory_equal(a.answer.vectors + 3 * i, want, 3 * sizeof(float));
    }
    done(&a);
    return a.status;
}

/* What OpenSSL keeps for this thread is there, and nothing of what it notes about failures. */
static void settle_openssl(void)
{
    uint8_t digest[EMB_SHA256_BYTES];
    assert_true(emb_sha256("", 0, digest));
    ERR_clear_error();
}

/* A request with hits, misses and doubles: every allocation of it fails once; no answer is wrong, nothing
 * leaks. */
static void each_allocation_fails(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    start(make_config("data-dir", "/dev/null/none", "hybrid-monitoring", "false", NULL));
    ERR_raise(ERR_LIB_USER, ERR_R_MALLOC_FAILURE);
    assert_int_equal(embed_once("hit", true), EMB_OK);
    assert_int_equal(embed_once("hit|miss|other|miss", false), EMB_OK);
    fail_alloc_at(1); /* the first error of a kind makes its metric, which stays */
    assert_int_equal(embed_once("miss|hit|other|miss", false), EMB_E_NOMEM);
    assert_true(fail_alloc_stop());
    for (size_t n = 1;; n++) {
        settle_openssl();
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status status = embed_once("miss|hit|other|miss", false);
        bool failed = fail_alloc_stop();
        settle_openssl();
        if (fail_alloc_live() > live)
            fail_msg("allocation %zu: %s, %zu of %zu left", n, emb_status_text(status), fail_alloc_live(),
                     live);
        if (status && (!failed || status != EMB_E_NOMEM))
            fail_msg("allocation %zu: %s", n, emb_status_text(status));
        if (!failed)
            break;
    }
    stop();
}

static void each_allocation_of_opening_fails(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    emb_config *with = make_config("data-dir", "/dev/null/none", "hybrid-monitoring", "false", NULL);
    emb_service *none;
    OK(emb_service_open(with, NULL, &none, err));
    emb_service_close(none);
    for (size_t n = 1;; n++) {
        settle_openssl();
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status status = emb_service_open(with, NULL, &none, NULL);
        bool failed = fail_alloc_stop();
        emb_service_close(none);
        settle_openssl();
        if (fail_alloc_live() > live)
            fail_msg("allocation %zu: %s, %zu of %zu left", n, emb_status_text(status), fail_alloc_live(),
                     live);
        if (status && (!failed || status != EMB_E_NOMEM))
            fail_msg("allocation %zu: %s", n, emb_status_text(status));
        if (!failed)
            break;
    }
    emb_config_release(with);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(hits_misses_and_doubles, setup),
        cmocka_unit_test_setup(private_texts_stay_here, setup),
        cmocka_unit_test_setup(changed_files_are_another_model, setup),
        cmocka_unit_test_setup(files_that_change_before_the_weights_come, setup),
        cmocka_unit_test_setup(any_mix_gives_fresh_vectors, setup),
        cmocka_unit_test_setup(settings_beyond_the_table, setup),
        cmocka_unit_test_setup(errors_name_the_member, setup),
        cmocka_unit_test_setup(no_vector_that_is_not_finite, setup),
        cmocka_unit_test_setup(broken_weights_are_told, setup),
        cmocka_unit_test_setup(deadlines_and_cancelling, setup),
        cmocka_unit_test_setup(one_computes_for_all, setup),
        cmocka_unit_test_setup(a_shared_error_names_ones_own_text, setup),
        cmocka_unit_test_setup(large_requests_give_way, setup),
        cmocka_unit_test_setup(many_callers, setup),
        cmocka_unit_test_setup(answers_in_place, setup),
        cmocka_unit_test_setup(caching_is_switched_while_running, setup),
        cmocka_unit_test_setup(totals_and_metrics, setup),
        cmocka_unit_test_setup(what_cannot_be_served, setup),
        cmocka_unit_test_setup(the_data_directory_is_made_for_us_alone, setup),
        cmocka_unit_test_setup(warming_up, setup),
        cmocka_unit_test_setup(each_allocation_fails, setup),
        cmocka_unit_test_setup(each_allocation_of_opening_fails, setup),
    };
    setenv("HF_HOME", "/nonexistent", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
