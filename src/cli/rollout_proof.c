/*
 * rollout_proof.c: load, a rollback in the middle of it, and what the answers say.
 *
 * The judge is the answer's own route.path and not the share that the service reports: what is to be proved
 * is what requests see. Times are of the beginning of a request, since one that was on its way when the
 * rollback came may well be answered by the hybrid path.
 *
 * The load is a closed loop on libcurl, not the load client: that counts and measures answers but does not
 * read them, and reading them is the point here. Texts are few, so that they are in the cache after a moment
 * and the proof costs little where the hybrid path is a paid one; the plan is made before the cache is asked.
 *
 * What was there is read first and put back last, on every way out and after a signal, too. A schedule goes
 * on with the step that it was in, for the time that this had left.
 */
#include "cli/rollout_proof.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/json_write.h"
#include "cli/stop.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_MAX = 4 << 20, TEXTS = 50, TIMEOUT_MS = 30000, THREADS_MAX = 256, STEPS_MAX = 32 };
#define ROUTE "/api/v1/embeddings"

typedef struct prover {
    const emb_rollout_proof_plan *plan;
    atomic_bool stop;
    atomic_uint_fast64_t serial;
    pthread_mutex_t lock;    /* of what follows */
    uint64_t rolled_back_ns; /* 0: not yet */
    uint64_t last_hybrid_ns; /* when the last that the hybrid path answered began */
    emb_rollout_proof *proof;
} prover;

/* ---- one request ---- */

typedef struct client {
    CURL *easy;
    struct curl_slist *headers;
    emb_buf answer;
    char url[1024], problem[CURL_ERROR_SIZE];
} client;

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    emb_buf *buf = context;
    return emb_buf_add(buf, data, size * count) == EMB_OK ? size * count : 0;
}

static void client_fini(client *c)
{
    curl_easy_cleanup(c->easy);
    curl_slist_free_all(c->headers);
    emb_buf_fini(&c->answer);
}

static bool add_header(client *c, const char *text)
{
    struct curl_slist *list = curl_slist_append(c->headers, text);
    if (list)
        c->headers = list;
    return list != NULL;
}

static emb_status client_init(client *c, const emb_rollout_proof_plan *plan, const char *route,
                              emb_error *err)
{
    char bearer[1100];
    size_t length = strlen(plan->url);
    memset(c, 0, sizeof *c);
    emb_buf_init(&c->answer, ANSWER_MAX);
    while (length && plan->url[length - 1] == '/')
        length--;
    if ((size_t)snprintf(c->url, sizeof c->url, "%.*s%s", (int)length, plan->url, route) >= sizeof c->url)
        return emb_fail(err, EMB_E_INVALID, "--url", "the address is longer than %zu bytes",
                        sizeof c->url - 40);
    int n = snprintf(bearer, sizeof bearer, "Authorization: Bearer %s", plan->api_key ? plan->api_key : "");
    if (n < 0 || (size_t)n >= sizeof bearer)
        return emb_fail(err, EMB_E_INVALID, "--api-key", "the key is longer than %zu bytes",
                        sizeof bearer - 30);
    c->easy = curl_easy_init();
    bool good = c->easy && add_header(c, "Content-Type: application/json") && add_header(c, "Expect:") &&
                (!plan->api_key || add_header(c, bearer)) &&
                curl_easy_setopt(c->easy, CURLOPT_URL, c->url) == CURLE_OK &&
                curl_easy_setopt(c->easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
                curl_easy_setopt(c->easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
                curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers) == CURLE_OK &&
                curl_easy_setopt(c->easy, CURLOPT_USERAGENT, "embedd/" EMB_VERSION_STRING) == CURLE_OK &&
                curl_easy_setopt(c->easy, CURLOPT_TIMEOUT_MS, (long)TIMEOUT_MS) == CURLE_OK &&
                curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->problem) == CURLE_OK &&
                curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
                curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, &c->answer) == CURLE_OK;
    if (good && plan->insecure)
        good = curl_easy_setopt(c->easy, CURLOPT_SSL_VERIFYPEER, 0L) == CURLE_OK &&
               curl_easy_setopt(c->easy, CURLOPT_SSL_VERIFYHOST, 0L) == CURLE_OK;
    explicit_bzero(bearer, sizeof bearer);
    return good ? EMB_OK : emb_fail_nomem(err, "a client", sizeof *c);
}

/* What an error answer says, or its beginning. */
static void describe(const client *c, char *out, size_t size)
{
    emb_json *document;
    emb_json_value detail;
    const char *text;
    size_t length;
    snprintf(out, size, "%.*s", (int)(c->answer.length < 120 ? c->answer.length : 120),
             c->answer.data ? c->answer.data : "no body");
    if (!c->answer.length || emb_json_open(c->answer.data, c->answer.length, "answer", &document, NULL))
        return;
    if (emb_json_get(emb_json_root(document), "detail", &detail) && emb_json_string(detail, &text, &length))
        snprintf(out, size, "%.*s", (int)(length < 200 ? length : 200), text);
    emb_json_close(document);
}

/* body NULL: GET. A 200 answer, parsed: to be closed. */
static emb_status request(client *c, const char *body, emb_json **out, emb_error *err)
{
    long status = 0;
    char said[220];
    emb_buf_clear(&c->answer);
    c->problem[0] = 0;
    if (body) {
        curl_easy_setopt(c->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, body);
    } else {
        curl_easy_setopt(c->easy, CURLOPT_HTTPGET, 1L);
    }
    CURLcode code = curl_easy_perform(c->easy);
    if (code != CURLE_OK)
        return emb_fail(err, EMB_E_IO, c->url, "%s", c->problem[0] ? c->problem : curl_easy_strerror(code));
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200)
        return emb_json_open(c->answer.data ? c->answer.data : "", c->answer.length, c->url, out, err);
    describe(c, said, sizeof said);
    return emb_fail(err, EMB_E_PROVIDER, c->url, "status %ld: %s", status, said);
}

/* ---- what an answer says ---- */

typedef enum answer_path { HYBRID, LEGACY } answer_path;

/* HYBRID if any of the results is. */
static emb_status read_path(const emb_json *document, answer_path *out, emb_error *err)
{
    emb_json_value results, result, route, value;
    *out = LEGACY;
    if (!emb_json_get(emb_json_root(document), "results", &results) || emb_json_count(results) == 0)
        return emb_fail(err, EMB_E_PROVIDER, "results", "an answer has no results");
    emb_json_iter it = emb_json_begin(results);
    while (emb_json_next(&it, NULL, NULL, &result)) {
        if (!emb_json_get(result, "route", &route) || !emb_json_get(route, "path", &value))
            return emb_fail(err, EMB_E_PROVIDER, "route.path",
                            "an answer does not say by which path it came");
        if (emb_json_string_is(value, "hybrid"))
            *out = HYBRID;
        else if (!emb_json_string_is(value, "legacy"))
            return emb_fail(err, EMB_E_PROVIDER, "route.path", "an answer came by neither hybrid nor legacy");
    }
    return EMB_OK;
}

static void count(prover *p, uint64_t began, emb_status status, answer_path path, const emb_error *err)
{
    emb_rollout_proof *proof = p->proof;
    pthread_mutex_lock(&p->lock);
    bool after = p->rolled_back_ns && began >= p->rolled_back_ns;
    proof->requests++;
    if (status != EMB_OK) {
        if (!proof->failed++)
            snprintf(proof->complaint, sizeof proof->complaint, "%.280s", err->message);
    } else if (path == LEGACY) {
        *(after ? &proof->legacy_after : &proof->legacy_before) += 1;
    } else {
        *(after ? &proof->hybrid_after : &proof->hybrid_before) += 1;
        if (after && began - p->rolled_back_ns > EMB_ROLLOUT_PROOF_GRACE_S * UINT64_C(1000000000))
            proof->hybrid_late++;
        if (after && began > p->last_hybrid_ns)
            p->last_hybrid_ns = began;
    }
    pthread_mutex_unlock(&p->lock);
}

static void *send_requests(void *context)
{
    prover *p = context;
    client c;
    emb_error err = {0};
    emb_status status = client_init(&c, p->plan, ROUTE, &err);
    if (status != EMB_OK)
        count(p, emb_now_ns(), status, HYBRID, &err);
    while (status == EMB_OK && !atomic_load(&p->stop)) {
        uint64_t serial = atomic_fetch_add(&p->serial, 1), began = emb_now_ns();
        char body[160];
        emb_json *document = NULL;
        answer_path path = HYBRID;
        snprintf(body, sizeof body,
                 "{\"texts\":[\"rollback proof %" PRIu64 "\"],\"user\":\"rollback-proof-%" PRIu64 "\"}",
                 serial % TEXTS, serial);
        emb_status one = request(&c, body, &document, &err);
        if (one == EMB_OK)
            one = read_path(document, &path, &err);
        count(p, began, one, path, &err);
        emb_json_close(document);
        if (one != EMB_OK) { /* a service that is down is not hammered */
            struct timespec pause = {0, 20000000};
            nanosleep(&pause, NULL);
        }
    }
    client_fini(&c);
    return NULL;
}

/* ---- the state before, and back to it ---- */

static bool read_steps(emb_json_value root, int64_t first, int64_t left_s, emb_buf *out)
{
    emb_json_value steps, step, value;
    double percentage;
    int64_t hold, number = 0;
    bool any = false;
    if (!emb_json_get(root, "schedule", &steps))
        return false;
    emb_json_iter it = emb_json_begin(steps);
    while (emb_json_next(&it, NULL, NULL, &step)) {
        if (++number < first)
            continue;
        if (!emb_json_get(step, "percentage", &value) || !emb_json_double(value, &percentage) ||
            !emb_json_get(step, "hold_seconds", &value) || !emb_json_int(value, &hold))
            return false;
        if (number == first && left_s < hold)
            hold = left_s > 0 ? left_s : 1;
        if (emb_buf_addf(out, "%s{\"percentage\":%.9g,\"hold_seconds\":%" PRId64 "}", any ? "," : "",
                         percentage, hold))
            return false;
        any = true;
    }
    return any;
}

static int64_t read_int(emb_json_value root, const char *member)
{
    emb_json_value value;
    int64_t number = 0;
    return emb_json_get(root, member, &value) && emb_json_int(value, &number) ? number : 0;
}

/* The body that puts this state back. */
static bool write_restore(emb_json_value root, double percentage, emb_buf *out)
{
    static const char reason[] = "\"reason\":\"back to the state before the proof of the rollback\"";
    emb_json_value mode;
    if (!emb_json_get(root, "mode", &mode))
        return false;
    if (emb_json_string_is(mode, "configured"))
        return emb_buf_addf(out, "{\"action\":\"clear\",%s}", reason) == EMB_OK;
    if (!emb_json_string_is(mode, "scheduled"))
        return emb_buf_addf(out, "{\"action\":\"set\",\"percentage\":%.9g,%s}", percentage, reason) == EMB_OK;
    int64_t left = read_int(root, "step_until") - (int64_t)time(NULL);
    return emb_buf_addf(out, "{\"action\":\"schedule\",%s,\"steps\":[", reason) == EMB_OK &&
           read_steps(root, read_int(root, "step"), left, out) && emb_buf_add_str(out, "]}") == EMB_OK;
}

static emb_status read_before(client *control, emb_rollout_proof *proof, emb_buf *restore, emb_error *err)
{
    emb_json *document;
    emb_json_value value;
    emb_status status = request(control, NULL, &document, err);
    if (status != EMB_OK)
        return status;
    emb_json_value root = emb_json_root(document);
    if (!emb_json_get(root, "percentage", &value) || !emb_json_double(value, &proof->percentage) ||
        !write_restore(root, proof->percentage, restore) || !emb_buf_cstr(restore))
        status = emb_fail(err, EMB_E_PROVIDER, control->url,
                          "the state of the rollout cannot be read from the answer");
    else if (!(proof->percentage > 0))
        status = emb_fail(err, EMB_E_INVALID, control->url,
                          "nobody is on the hybrid path (0 %%), so there is nothing to roll back");
    emb_json_close(document);
    return status;
}

static emb_status post(client *control, const char *body, emb_error *err)
{
    emb_json *document;
    emb_status status = request(control, body, &document, err);
    if (status == EMB_OK)
        emb_json_close(document);
    return status;
}

static emb_status post_action(client *control, const char *action, const char *reason, emb_error *err)
{
    emb_buf body = EMB_BUF_INIT(4096);
    emb_status status = emb_buf_addf(&body, "{\"action\":\"%s\",\"reason\":", action);
    if (status == EMB_OK)
        status = emb_json_write_string(&body, reason, strlen(reason));
    if (status == EMB_OK)
        status = emb_buf_add_str(&body, "}");
    const char *text = status == EMB_OK ? emb_buf_cstr(&body) : NULL;
    status = text ? post(control, text, err) : emb_fail_nomem(err, "a request", body.length);
    emb_buf_fini(&body);
    return status;
}

/* ---- the proof ---- */

static void wait_until(uint64_t ns)
{
    while (!emb_stopped() && emb_now_ns() < ns) {
        struct timespec pause = {0, 10000000};
        nanosleep(&pause, NULL);
    }
}

/* Rolls back in the middle of the load; *touched: the service's state is another now, or may be. */
static emb_status roll_back_under_load(prover *p, client *control, bool *touched, emb_error *err)
{
    uint64_t start = emb_now_ns(), second = UINT64_C(1000000000);
    size_t tail = EMB_ROLLOUT_PROOF_GRACE_S + 1, before = (p->plan->seconds - tail) / 2;
    wait_until(start + (before ? before : 1) * second);
    if (emb_stopped())
        return emb_fail(err, EMB_E_CANCELLED, "rollout verify", "stopped before the rollback");
    *touched = true;
    emb_status status =
        post_action(control, "rollback", p->plan->reason ? p->plan->reason : "proof of the rollback", err);
    if (status != EMB_OK)
        return status;
    pthread_mutex_lock(&p->lock);
    p->rolled_back_ns = emb_now_ns();
    pthread_mutex_unlock(&p->lock);
    wait_until(start + p->plan->seconds * second);
    return emb_stopped() ? emb_fail(err, EMB_E_CANCELLED, "rollout verify", "stopped before the end")
                         : EMB_OK;
}

static emb_status run_load(prover *p, client *control, bool *touched, emb_error *err)
{
    pthread_t threads[THREADS_MAX];
    size_t started = 0, wanted = p->plan->concurrency < THREADS_MAX ? p->plan->concurrency : THREADS_MAX;
    emb_status status = EMB_OK;
    while (started < wanted && pthread_create(&threads[started], NULL, send_requests, p) == 0)
        started++;
    if (started < wanted)
        status = emb_fail(err, EMB_E_NOMEM, "--concurrency", "%zu threads could be started, not %zu", started,
                          wanted);
    if (status == EMB_OK)
        status = roll_back_under_load(p, control, touched, err);
    atomic_store(&p->stop, true);
    for (size_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    return status;
}

static void judge(const prover *p)
{
    emb_rollout_proof *r = p->proof;
    char first[200];
    if (p->last_hybrid_ns > p->rolled_back_ns)
        r->settled_ms = (double)(p->last_hybrid_ns - p->rolled_back_ns) / 1e6;
    if (r->failed) {
        snprintf(first, sizeof first, "%.190s", r->complaint);
        snprintf(r->complaint, sizeof r->complaint,
                 "%" PRIu64 " of %" PRIu64 " requests failed; the first: %s", r->failed, r->requests, first);
    } else if (!r->hybrid_before) {
        snprintf(r->complaint, sizeof r->complaint,
                 "none of %" PRIu64 " requests was on the hybrid path before the "
                 "rollback (%g %%): a longer run, or a larger share, proves something",
                 r->legacy_before, r->percentage);
    } else if (r->hybrid_late) {
        snprintf(r->complaint, sizeof r->complaint,
                 "%" PRIu64 " requests were on the hybrid path more than %d s after the "
                 "rollback, the last after %.0f ms",
                 r->hybrid_late, EMB_ROLLOUT_PROOF_GRACE_S, r->settled_ms);
    } else if (!r->legacy_after) {
        snprintf(r->complaint, sizeof r->complaint, "no request was answered after the rollback");
    } else {
        r->proved = true;
    }
}

static emb_status note(client *control, const emb_rollout_proof *r, emb_error *err)
{
    char report[190];
    snprintf(report, sizeof report,
             "%" PRIu64 " requests, none failed; the last on the hybrid path began %.0f ms after it, "
             "%" PRIu64 " on the legacy path followed",
             r->requests, r->settled_ms, r->legacy_after);
    return post_action(control, "verified", report, err);
}

/* Between reading the state and having put it back. */
static emb_status prove(prover *p, client *control, emb_error *err)
{
    emb_buf restore = EMB_BUF_INIT(16384);
    emb_error problem = {0};
    bool touched = false;
    emb_status status = read_before(control, p->proof, &restore, err);
    if (status == EMB_OK)
        status = run_load(p, control, &touched, err);
    if (touched && post(control, emb_buf_cstr(&restore), &problem) != EMB_OK)
        status =
            emb_fail(err, problem.code, problem.where, "the earlier state (%g %%) could not be put back: %s",
                     p->proof->percentage, problem.message);
    emb_buf_fini(&restore);
    if (status != EMB_OK)
        return status;
    judge(p);
    return p->proof->proved ? note(control, p->proof, err) : EMB_OK;
}

emb_status emb_rollout_prove(const emb_rollout_proof_plan *plan, emb_rollout_proof *out, emb_error *err)
{
    client control;
    prover p = {.plan = plan, .proof = out};
    memset(out, 0, sizeof *out);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return emb_fail(err, EMB_E_INTERNAL, "rollout verify", "libcurl cannot be initialised");
    pthread_mutex_init(&p.lock, NULL);
    emb_status status = client_init(&control, plan, ROUTE "/rollout", err);
    if (status == EMB_OK)
        status = prove(&p, &control, err);
    client_fini(&control);
    pthread_mutex_destroy(&p.lock);
    curl_global_cleanup();
    return status;
}
