/*
 * lanes.c: see lanes.h.
 *
 * libcurl's connection caches cannot be shared between threads, and one thread for all exchanges would put
 * two wake-ups into each call. So each call takes a lane: a multi handle with its own connections and
 * exchanges, used by the calling thread alone and given back afterwards. Lanes are a stack: a steady load
 * uses the same few, whose connections stay warm; those that nobody took for two minutes are closed, from the
 * bottom. TLS sessions and resolved names are shared by all of a provider's lanes, so a new connection
 * resumes.
 *
 * What does not change between requests (headers, options) is set when an exchange is made; a request costs
 * the body, the address if it is another, and libcurl's own work. Expect: is switched off: it would cost a
 * round trip on each larger body.
 *
 * A connection of HTTP/2 outlives the exchanges that gave up on it, so one that died without a word (a load
 * balancer forgot it) would swallow every retry until TCP gives up, a quarter of an hour later. A lane in
 * which an exchange waited in vain and nothing else was heard is doubtful: what starts in it opens a
 * connection of its own, and the lane is closed when it is given back.
 *
 * Never: redirects (a key would follow them), proxies for loopback, certificates unchecked, TLS before 1.2,
 * proxies that the configuration does not know of (libcurl would take http_proxy and all_proxy), the system's
 * authorities where there is a ca_file.
 */
#include "provider/lanes.h"

#include "base/clock.h"
#include "base/duty.h"
#include "base/error.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
    DUTY_MS = 2,
    KEPT_BYTES = 1 << 20,
    MOST_IDLE_LANES = 64,
    READ_BYTES = 64 << 10,
    MOST_BODY_BYTES = 1 << 30
};
#define IDLE_NS UINT64_C(120000000000)
#define SILENT_NS UINT64_C(100000000)

struct emb_lane {
    CURLM *multi;
    emb_lanes *lanes;
    emb_lane_exchange **exchanges;
    size_t count;
    uint64_t given_ns, heard_ns; /* the last answer's beginning */
    bool doubtful;
    struct emb_lane *below, *above;
};

struct emb_lanes {
    const emb_provider_config *config; /* the provider's copy */
    CURLSH *share;
    pthread_mutex_t share_locks[CURL_LOCK_DATA_LAST];
    struct curl_slist *headers;
    char *no_proxy, *user_agent;
    bool is_https;
    pthread_mutex_t lock;
    emb_lane *top, *bottom;
    size_t idle, most_idle;
};

/* ---- opening ---- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static CURLcode global;

static void init_global(void)
{
    global = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void lock_share(CURL *easy, curl_lock_data data, curl_lock_access access, void *context)
{
    emb_lanes *h = context;
    (void)easy;
    (void)access;
    pthread_mutex_lock(&h->share_locks[data]);
}

static void unlock_share(CURL *easy, curl_lock_data data, void *context)
{
    emb_lanes *h = context;
    (void)easy;
    pthread_mutex_unlock(&h->share_locks[data]);
}

static bool open_share(emb_lanes *h)
{
    h->share = curl_share_init();
    return h->share && curl_share_setopt(h->share, CURLSHOPT_USERDATA, h) == CURLSHE_OK &&
           curl_share_setopt(h->share, CURLSHOPT_LOCKFUNC, lock_share) == CURLSHE_OK &&
           curl_share_setopt(h->share, CURLSHOPT_UNLOCKFUNC, unlock_share) == CURLSHE_OK &&
           curl_share_setopt(h->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS) == CURLSHE_OK &&
           curl_share_setopt(h->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) == CURLSHE_OK;
}

static bool is_clean(const char *text)
{
    for (; *text; text++)
        if (((unsigned char)*text < 0x20 && *text != '\t') || *text == 0x7F)
            return false;
    return true;
}

static bool is_name(const char *text)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~";
    return *text && strspn(text, allowed) == strlen(text);
}

static emb_status add_header(emb_lanes *h, const char *before, const char *between, const char *value,
                             emb_error *err)
{
    emb_buf line = EMB_BUF_INIT(65536);
    emb_status status = emb_buf_addf(&line, "%s%s%s", before, between, value);
    const char *text = status ? NULL : emb_buf_cstr(&line);
    struct curl_slist *list = text ? curl_slist_append(h->headers, text) : NULL;
    if (line.data)
        explicit_bzero(line.data, line.length);
    emb_buf_fini(&line);
    if (!list)
        return emb_fail_nomem(err, "a header", strlen(value));
    h->headers = list;
    return EMB_OK;
}

static emb_status add_headers(emb_lanes *h, const char *key_header, emb_error *err)
{
    const emb_provider_config *c = h->config;
    if (!is_clean(c->api_key))
        return emb_fail(err, EMB_E_INVALID, "api_key",
                        "the key of provider %s has a line break or control character", c->name);
    emb_status status = add_header(h, "Content-Type", ": ", "application/json", err);
    if (!status)
        status = add_header(h, "Accept", ": ", "application/json", err);
    if (!status)
        status = add_header(h, "Expect", ":", "", err);
    if (!status && *c->api_key)
        status = add_header(h, key_header, "", c->api_key, err);
    for (size_t i = 0; i < c->header_count && !status; i++) {
        if (!is_name(c->headers[i].name) || !is_clean(c->headers[i].value))
            return emb_fail(err, EMB_E_INVALID, "headers", "header %zu of provider %s is not a valid one",
                            i + 1, c->name);
        /* libcurl reads "Name:" as taking a header away; an empty one ends with a semicolon */
        bool empty = !*c->headers[i].value;
        status = add_header(h, c->headers[i].name, empty ? ";" : ": ", c->headers[i].value, err);
    }
    return status;
}

static bool set_no_proxy(emb_lanes *h)
{
    const char *value = getenv("no_proxy");
    if (!value || !*value)
        value = getenv("NO_PROXY");
    bool some = value && *value;
    if (some && strcmp(value, "*") == 0) /* libcurl knows the star only alone */
        return (h->no_proxy = strdup(value)) != NULL;
    return asprintf(&h->no_proxy, "%s%slocalhost,127.0.0.0/8,::1", some ? value : "", some ? "," : "") >= 0 ||
           (h->no_proxy = NULL);
}

emb_status emb_lanes_open(const emb_provider_config *config, const char *user_agent, const char *key_header,
                          emb_lanes **out, emb_error *err)
{
    pthread_once(&once, init_global);
    emb_lanes *h = global == CURLE_OK ? calloc(1, sizeof *h) : NULL;
    if (!h)
        return emb_fail_nomem(err, "a provider's connections", sizeof *h);
    h->config = config;
    h->is_https = strncasecmp(config->base_url, "https:", 6) == 0;
    h->most_idle = config->concurrency < MOST_IDLE_LANES ? config->concurrency : MOST_IDLE_LANES;
    pthread_mutex_init(&h->lock, NULL);
    for (size_t i = 0; i < CURL_LOCK_DATA_LAST; i++)
        pthread_mutex_init(&h->share_locks[i], NULL);
    emb_status status = add_headers(h, key_header, err);
    if (!status && (!(h->user_agent = strdup(user_agent && *user_agent ? user_agent : "embedd")) ||
                    !set_no_proxy(h) || !open_share(h)))
        status = emb_fail_nomem(err, "a provider's connections", sizeof *h);
    if (status) {
        emb_lanes_close(h);
        return status;
    }
    *out = h;
    return EMB_OK;
}

/* ---- exchanges ---- */

static size_t on_header(char *data, size_t size, size_t count, void *context)
{
    emb_lane_exchange *x = context;
    size_t length = size * count;
    char *colon = memchr(data, ':', length);
    if (length >= 5 && memcmp(data, "HTTP/", 5) == 0) {
        emb_retry_hints_init(&x->hints); /* after a 1xx or a proxy's CONNECT */
        x->lane->heard_ns = emb_now_ns();
    } else if (colon)
        emb_retry_header(&x->hints, data, (size_t)(colon - data), colon + 1,
                         length - (size_t)(colon - data) - 1, (int64_t)time(NULL));
    return length;
}

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    emb_lane_exchange *x = context;
    return emb_buf_add(&x->answer, data, size * count) == EMB_OK ? size * count : 0;
}

/* Before each request is written. libcurl sends a request once more by itself when a connection that was used
 * before ends without an answer; the first may have been computed and billed, so it has to be counted: our
 * own retry does that. */
static int on_request(void *context, char *to, char *from, int to_port, int from_port)
{
    emb_lane_exchange *x = context;
    (void)to;
    (void)from;
    (void)to_port;
    (void)from_port;
    return ++x->requests > 1 ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

static bool set_transport(const emb_lanes *h, CURL *easy)
{
    const emb_provider_config *c = h->config;
    long version = c->http2 ? (long)CURL_HTTP_VERSION_2TLS : (long)CURL_HTTP_VERSION_1_1;
    return curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L) == CURLE_OK &&
           /* a call that ends while a name is being resolved does not wait for the resolver */
           curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, version) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PIPEWAIT, h->is_https && c->http2 ? 1L : 0L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                            (long)(c->connect_timeout_ms ? c->connect_timeout_ms : 10000)) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(c->timeout_ms ? c->timeout_ms : 60000)) ==
               CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SHARE, h->share) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROXY, c->proxy) == CURLE_OK && /* "": none */
           curl_easy_setopt(easy, CURLOPT_NOPROXY, h->no_proxy) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L) == CURLE_OK &&
           (!*c->ca_file || (curl_easy_setopt(easy, CURLOPT_CAINFO, c->ca_file) == CURLE_OK &&
                             curl_easy_setopt(easy, CURLOPT_CAPATH, NULL) == CURLE_OK));
}

static bool set_options(const emb_lanes *h, emb_lane_exchange *x)
{
    CURL *easy = x->easy;
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)READ_BYTES); /* only speed */
    return set_transport(h, easy) && curl_easy_setopt(easy, CURLOPT_USERAGENT, h->user_agent) == CURLE_OK &&
           (!h->config->compress || curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip") == CURLE_OK) &&
           curl_easy_setopt(easy, CURLOPT_HTTPHEADER, h->headers) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, x->problem) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HEADERDATA, x) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_request) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PREREQDATA, x) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEDATA, x) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PRIVATE, x) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_POST, 1L) == CURLE_OK;
}

static void close_exchange(emb_lane_exchange *x)
{
    curl_easy_cleanup(x->easy);
    emb_buf_fini(&x->url);
    emb_buf_fini(&x->body);
    emb_buf_fini(&x->answer);
    free(x);
}

static emb_lane_exchange *open_exchange(emb_lane *lane)
{
    emb_lane_exchange **grown = realloc(lane->exchanges, (lane->count + 1) * sizeof *grown);
    if (!grown)
        return NULL;
    lane->exchanges = grown;
    emb_lane_exchange *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->lane = lane;
    emb_buf_init(&x->url, 16384);
    emb_buf_init(&x->body, MOST_BODY_BYTES);
    emb_buf_init(&x->answer, 0);
    x->easy = curl_easy_init();
    if (!x->easy || !set_options(lane->lanes, x)) {
        close_exchange(x);
        return NULL;
    }
    lane->exchanges[lane->count++] = x;
    return x;
}

emb_lane_exchange *emb_lane_spare(emb_lane *lane)
{
    emb_lane_exchange *x = NULL;
    for (size_t i = 0; i < lane->count && !x; i++)
        if (!lane->exchanges[i]->busy)
            x = lane->exchanges[i];
    if (!x)
        x = open_exchange(lane);
    if (x) {
        x->busy = true;
        emb_buf_clear(&x->url);
        emb_buf_clear(&x->body);
    }
    return x;
}

static bool prepare(emb_lane_exchange *x, bool get)
{
    const char *url = emb_buf_cstr(&x->url);
    CURLcode code = url ? curl_easy_setopt(x->easy, CURLOPT_URL, url) : CURLE_OUT_OF_MEMORY;
    if (get != x->get && !code)
        code = curl_easy_setopt(x->easy, get ? CURLOPT_HTTPGET : CURLOPT_POST, 1L);
    x->get = get;
    if (!get && !code)
        code = curl_easy_setopt(x->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->body.length);
    if (!get && !code)
        code = curl_easy_setopt(x->easy, CURLOPT_POSTFIELDS, x->body.data ? x->body.data : "");
    return code == CURLE_OK;
}

/* Whether somebody has waited in this lane for some time and heard nothing: a hedge is to have a connection
 * of its own, since on one of HTTP/2 that is dead it would wait as well. */
static bool is_silent(const emb_lane *lane, uint64_t now)
{
    const emb_lanes *h = lane->lanes;
    if (!h->is_https || !h->config->http2)
        return false;
    for (size_t i = 0; i < lane->count; i++) {
        const emb_lane_exchange *x = lane->exchanges[i];
        if (x->running && x->requests && lane->heard_ns < x->started_ns && now - x->started_ns > SILENT_NS)
            return true;
    }
    return false;
}

emb_status emb_lane_start(emb_lane *lane, emb_lane_exchange *x, bool get, size_t most_answer_bytes,
                          emb_error *err)
{
    emb_buf_clear(&x->answer);
    x->answer.maximum = most_answer_bytes;
    x->problem[0] = 0;
    x->code = CURLE_OK;
    x->http_status = 0;
    x->requests = 0;
    emb_retry_hints_init(&x->hints);
    x->started_ns = emb_now_ns();
    lane->doubtful |= is_silent(lane, x->started_ns);
    if (!prepare(x, get) ||
        curl_easy_setopt(x->easy, CURLOPT_FRESH_CONNECT, lane->doubtful ? 1L : 0L) != CURLE_OK ||
        curl_multi_add_handle(lane->multi, x->easy) != CURLM_OK)
        return emb_fail_nomem(err, "a request", x->body.length);
    x->running = true;
    return EMB_OK;
}

/* x ends without an answer. HTTP/1.1 closes the connection then. */
static void doubt(emb_lane *lane, const emb_lane_exchange *x)
{
    const emb_lanes *h = lane->lanes;
    lane->doubtful |= h->is_https && h->config->http2 && x->requests && lane->heard_ns < x->started_ns;
}

emb_lane_exchange *emb_lane_step(emb_lane *lane)
{
    int running, left;
    CURLMsg *message = curl_multi_info_read(lane->multi, &left);
    if (!message) {
        curl_multi_perform(lane->multi, &running);
        message = curl_multi_info_read(lane->multi, &left);
    }
    for (; message; message = curl_multi_info_read(lane->multi, &left)) {
        emb_lane_exchange *x;
        long status = 0;
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &x);
        curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
        x->code = (int)code;
        x->http_status = (int)status;
        if (code == CURLE_OPERATION_TIMEDOUT)
            doubt(lane, x);
        curl_multi_remove_handle(lane->multi, x->easy);
        x->running = false;
        return x;
    }
    return NULL;
}

/* A provider near by answers before anybody else wants the thread; then there is no change of threads at
 * all. */
static bool wait_on_duty(emb_lane *lane, int most_ms, int fd)
{
    struct curl_waitfd duty = {.fd = fd, .events = CURL_WAIT_POLLIN};
    int ready = 0;
    curl_multi_poll(lane->multi, &duty, 1, most_ms < DUTY_MS ? most_ms : DUTY_MS, &ready);
    return ready && !duty.revents;
}

void emb_lane_wait(emb_lane *lane, int most_ms)
{
    int fd = emb_duty_fd();
    if (fd >= 0) {
        if (wait_on_duty(lane, most_ms, fd))
            return;
        emb_duty_pass_on();
    }
    curl_multi_poll(lane->multi, NULL, 0, most_ms, NULL);
}

void emb_lane_abort(emb_lane *lane, emb_lane_exchange *x)
{
    long status = 0;
    if (!x->running)
        return;
    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
    x->http_status = (int)status;
    doubt(lane, x);
    curl_multi_remove_handle(lane->multi, x->easy);
    x->running = false;
}

static void trim(emb_buf *buf)
{
    if (buf->capacity > KEPT_BYTES)
        emb_buf_fini(buf);
    emb_buf_clear(buf);
}

void emb_lane_free(emb_lane *lane, emb_lane_exchange *x)
{
    emb_lane_abort(lane, x);
    trim(&x->body);
    trim(&x->answer);
    x->owner = x->ticket = NULL;
    x->busy = false;
}

bool emb_lane_sent(const emb_lane_exchange *x)
{
    curl_off_t sent = 0;
    if (x->http_status || x->requests > 1)
        return true;
    if (!x->requests)
        return false;
    curl_easy_getinfo(x->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
    return x->body.length > 0 && sent >= (curl_off_t)x->body.length;
}

/* ---- lanes ---- */

static void close_lane(emb_lane *lane)
{
    for (size_t i = 0; i < lane->count; i++) {
        emb_lane_abort(lane, lane->exchanges[i]);
        close_exchange(lane->exchanges[i]);
    }
    curl_multi_cleanup(lane->multi);
    free(lane->exchanges);
    free(lane);
}

static emb_lane *pop_top(emb_lanes *h)
{
    emb_lane *lane = h->top;
    if (!lane)
        return NULL;
    h->top = lane->below;
    if (h->top)
        h->top->above = NULL;
    else
        h->bottom = NULL;
    h->idle--;
    return lane;
}

/* The lane at the bottom, if it is one too many or has lain there too long. */
static emb_lane *pop_stale(emb_lanes *h, uint64_t now)
{
    emb_lane *lane = h->bottom;
    if (!lane || (h->idle <= h->most_idle && now - lane->given_ns < IDLE_NS))
        return NULL;
    h->bottom = lane->above;
    if (h->bottom)
        h->bottom->below = NULL;
    else
        h->top = NULL;
    h->idle--;
    return lane;
}

static emb_lane *open_lane(emb_lanes *h)
{
    emb_lane *lane = calloc(1, sizeof *lane);
    if (!lane)
        return NULL;
    lane->lanes = h;
    lane->multi = curl_multi_init();
    if (!lane->multi) {
        free(lane);
        return NULL;
    }
    return lane;
}

emb_status emb_lanes_take(emb_lanes *lanes, emb_lane **out, emb_error *err)
{
    pthread_mutex_lock(&lanes->lock);
    emb_lane *lane = pop_top(lanes);
    pthread_mutex_unlock(&lanes->lock);
    if (!lane)
        lane = open_lane(lanes);
    if (!lane)
        return emb_fail_nomem(err, "a provider's connection", sizeof *lane);
    *out = lane;
    return EMB_OK;
}

void emb_lanes_give(emb_lanes *lanes, emb_lane *lane)
{
    for (size_t i = 0; i < lane->count; i++)
        if (lane->exchanges[i]->busy)
            emb_lane_free(lane, lane->exchanges[i]);
    if (lane->doubtful) {
        close_lane(lane);
        return;
    }
    lane->given_ns = emb_now_ns();
    pthread_mutex_lock(&lanes->lock);
    lane->above = NULL;
    lane->below = lanes->top;
    if (lanes->top)
        lanes->top->above = lane;
    else
        lanes->bottom = lane;
    lanes->top = lane;
    lanes->idle++;
    emb_lane *stale = pop_stale(lanes, lane->given_ns);
    pthread_mutex_unlock(&lanes->lock);
    if (stale)
        close_lane(stale);
}

void emb_lanes_close(emb_lanes *lanes)
{
    if (!lanes)
        return;
    for (emb_lane *lane; (lane = pop_top(lanes));)
        close_lane(lane);
    curl_share_cleanup(lanes->share);
    for (struct curl_slist *at = lanes->headers; at; at = at->next)
        explicit_bzero(at->data, strlen(at->data));
    curl_slist_free_all(lanes->headers);
    for (size_t i = 0; i < CURL_LOCK_DATA_LAST; i++)
        pthread_mutex_destroy(&lanes->share_locks[i]);
    pthread_mutex_destroy(&lanes->lock);
    free(lanes->no_proxy);
    free(lanes->user_agent);
    free(lanes);
}
