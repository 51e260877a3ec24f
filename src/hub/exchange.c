/*
 * exchange.c: see exchange.h.
 *
 * libcurl writes the body before it says that the transfer ended, so whether a body is wanted is decided from
 * the status line: of 200 and 206 it goes to the taker, of everything else the first bytes are kept for the
 * error message (the hub explains itself in JSON: {"error": "…"}) and the rest is dropped.
 *
 * Certificates are those of the system. SSL_CERT_FILE, REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE name others,
 * which companies with inspecting proxies need; libcurl reads none of them by itself. Proxies come from the
 * environment and are libcurl's business.
 */
#include "hub/exchange.h"

#include "base/error.h"
#include "base/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { MAX_HOPS = 10, STALL_BYTES_PER_SECOND = 1024, BUFFER_BYTES = 256 << 10 };

/* ---- headers ---- */

bool emb_hub_normalize_etag(const char *text, size_t length, char *out, size_t size)
{
    if (length >= 2 && text[0] == 'W' && text[1] == '/') {
        text += 2;
        length -= 2;
    }
    while (length > 0 && *text == '"') {
        text++;
        length--;
    }
    while (length > 0 && text[length - 1] == '"')
        length--;
    if (length == 0 || length >= size)
        return false;
    memcpy(out, text, length);
    out[length] = 0;
    return true;
}

static bool read_number(const char **text, uint64_t *out)
{
    const char *p = *text;
    uint64_t n = 0;
    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (n > (UINT64_MAX - 9) / 10)
            return false;
        n = n * 10 + (uint64_t)(*p - '0');
    }
    *text = p;
    *out = n;
    return true;
}

int64_t emb_hub_parse_retry_after(const char *text, int64_t now)
{
    uint64_t seconds;
    const char *p = text;
    if (read_number(&p, &seconds) && (!*p || *p == '.'))
        return seconds < 1000000 ? (int64_t)seconds : 1000000;
    time_t when = curl_getdate(text, NULL);
    if (when < 0)
        return -1;
    return (int64_t)when > now ? (int64_t)when - now : 0;
}

bool emb_hub_parse_content_range(const char *text, uint64_t *start, uint64_t *total)
{
    uint64_t end;
    if (strncasecmp(text, "bytes ", 6) != 0)
        return false;
    text += 6;
    *start = *total = EMB_HUB_SIZE_UNKNOWN;
    if (*text == '*')
        text++;
    else if (!read_number(&text, start) || *text++ != '-' || !read_number(&text, &end) || end < *start)
        return false;
    if (*text++ != '/')
        return false;
    return strcmp(text, "*") == 0 || (read_number(&text, total) && !*text);
}

/* The seconds until the quota is full again, of «"api";r=0;t=55», if it is used up. */
static int64_t quota_wait(const char *text)
{
    const char *rest = strstr(text, ";r=0;"), *time = strstr(text, ";t=");
    uint64_t seconds;
    if (!rest || !time)
        return -1;
    time += 3;
    return read_number(&time, &seconds) && seconds < 1000000 ? (int64_t)seconds : -1;
}

static void copy_text(char *out, size_t size, const char *text)
{
    size_t n = 0;
    for (; *text && n + 1 < size; text++)
        out[n++] = (unsigned char)*text < 32 || *text == 127 ? ' ' : *text;
    out[n] = 0;
}

/* What describes the file counts only from the hub. */
static void take_hub_header(emb_hub_answer *a, const char *name, const char *value)
{
    const char *p = value;
    uint64_t number;
    if (strcasecmp(name, "etag") == 0)
        emb_hub_normalize_etag(value, strlen(value), a->etag, sizeof a->etag);
    else if (strcasecmp(name, "x-linked-etag") == 0)
        emb_hub_normalize_etag(value, strlen(value), a->linked_etag, sizeof a->linked_etag);
    else if (strcasecmp(name, "x-linked-size") == 0 && read_number(&p, &number) && !*p)
        a->linked_size = number;
    else if (strcasecmp(name, "x-repo-commit") == 0 && emb_hub_is_commit(value))
        copy_text(a->commit, sizeof a->commit, value);
}

static void take_header(emb_hub_exchange *x, const char *name, const char *value)
{
    emb_hub_answer *a = &x->answer;
    const char *p = value;
    uint64_t number;
    int64_t seconds = -1;
    if (strcasecmp(name, "content-length") == 0 && read_number(&p, &number) && !*p)
        a->length = number;
    else if (strcasecmp(name, "content-range") == 0)
        a->has_range = emb_hub_parse_content_range(value, &a->range_start, &a->range_total);
    else if (strcasecmp(name, "content-encoding") == 0)
        a->encoded = *value && strcasecmp(value, "identity") != 0;
    else if (strcasecmp(name, "retry-after") == 0)
        seconds = emb_hub_parse_retry_after(value, (int64_t)time(NULL));
    else if (strcasecmp(name, "ratelimit") == 0)
        seconds = quota_wait(value);
    else if (strcasecmp(name, "x-error-code") == 0)
        copy_text(a->error_code, sizeof a->error_code, value);
    else if (strcasecmp(name, "x-error-message") == 0)
        copy_text(a->error_message, sizeof a->error_message, value);
    else if (strcasecmp(name, "location") == 0 && strlen(value) < sizeof a->location)
        memcpy(a->location, value, strlen(value) + 1);
    if (seconds >= 0 && seconds * 1000 > a->retry_after_ms)
        a->retry_after_ms = seconds * 1000;
    if (x->at_hub)
        take_hub_header(a, name, value);
}

/* A new answer begins: after a redirect, a proxy's CONNECT, a 100. What the hub said about the file stays. */
static void restart_answer(emb_hub_answer *a)
{
    a->status = 0;
    a->length = a->range_start = a->range_total = EMB_HUB_SIZE_UNKNOWN;
    a->has_range = a->encoded = false;
    a->retry_after_ms = -1;
    a->error_code[0] = a->error_message[0] = a->location[0] = 0;
}

static size_t on_header(char *data, size_t size, size_t count, void *context)
{
    emb_hub_exchange *x = context;
    size_t length = size * count;
    char line[EMB_HUB_MAX_URL + 64];
    if (length >= 5 && memcmp(data, "HTTP/", 5) == 0) {
        restart_answer(&x->answer);
        return length;
    }
    char *colon = memchr(data, ':', length);
    if (!colon || length >= sizeof line)
        return length;
    memcpy(line, data, length);
    line[length] = 0;
    line[colon - data] = 0;
    char *value = line + (colon - data) + 1;
    value += strspn(value, " \t");
    size_t n = strlen(value);
    while (n > 0 && strchr(" \t\r\n", value[n - 1]))
        value[--n] = 0;
    take_header(x, line, value);
    return length;
}

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    emb_hub_exchange *x = context;
    size_t length = size * count;
    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &x->answer.status);
    if (x->answer.status == 200 || x->answer.status == 206)
        return x->take(x->context, &x->answer, data, length) ? length : 0;
    size_t room = sizeof x->said - 1 - x->said_length, n = length < room ? length : room;
    memcpy(x->said + x->said_length, data, n);
    x->said_length += n;
    return length;
}

/* ---- the request ---- */

static const char *certificates(void)
{
    static const char *const names[] = {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (value && *value)
            return value;
    }
    return NULL;
}

emb_status emb_hub_exchange_init(emb_hub_exchange *x, const emb_hub_place *place,
                                 const emb_hub_options *options, emb_error *err)
{
    memset(x, 0, sizeof *x);
    x->place = place;
    x->easy = curl_easy_init();
    if (!x->easy)
        return emb_fail_nomem(err, "HTTP request", 0);
    unsigned stall_ms = options->stall_ms ? options->stall_ms : 30000;
    bool ok = curl_easy_setopt(x->easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
              curl_easy_setopt(x->easy, CURLOPT_QUICK_EXIT, 1L) == CURLE_OK && /* of a resolver that hangs */
              curl_easy_setopt(x->easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
              curl_easy_setopt(x->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS) == CURLE_OK &&
              curl_easy_setopt(x->easy, CURLOPT_PIPEWAIT, 1L) == CURLE_OK &&
              curl_easy_setopt(x->easy, CURLOPT_USERAGENT, "embedd/" EMB_VERSION_STRING) == CURLE_OK &&
              curl_easy_setopt(x->easy, CURLOPT_CONNECTTIMEOUT_MS,
                               (long)(options->connect_ms ? options->connect_ms : 10000)) == CURLE_OK &&
              curl_easy_setopt(x->easy, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES_PER_SECOND) == CURLE_OK &&
              curl_easy_setopt(x->easy, CURLOPT_LOW_SPEED_TIME, (long)(stall_ms + 999) / 1000) == CURLE_OK &&
              curl_easy_setopt(x->easy, CURLOPT_ERRORBUFFER, x->problem) == CURLE_OK &&
              curl_easy_setopt(x->easy, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
              curl_easy_setopt(x->easy, CURLOPT_HEADERDATA, x) == CURLE_OK &&
              curl_easy_setopt(x->easy, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
              curl_easy_setopt(x->easy, CURLOPT_WRITEDATA, x) == CURLE_OK &&
              curl_easy_setopt(x->easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L) == CURLE_OK &&
              curl_easy_setopt(x->easy, CURLOPT_PRIVATE, x) == CURLE_OK;
    curl_easy_setopt(x->easy, CURLOPT_BUFFERSIZE, (long)BUFFER_BYTES); /* only speed */
    const char *bundle = certificates();
    if (ok && bundle)
        ok = curl_easy_setopt(x->easy, CURLOPT_CAINFO, bundle) == CURLE_OK;
    if (ok)
        return EMB_OK;
    curl_easy_cleanup(x->easy);
    x->easy = NULL;
    return emb_fail_nomem(err, "HTTP request", 0);
}

void emb_hub_exchange_end(emb_hub_exchange *x, CURLM *multi)
{
    if (x->active)
        curl_multi_remove_handle(multi, x->easy);
    x->active = false;
}

void emb_hub_exchange_fini(emb_hub_exchange *x, CURLM *multi)
{
    if (!x->easy)
        return;
    emb_hub_exchange_end(x, multi);
    curl_easy_cleanup(x->easy);
    curl_slist_free_all(x->headers);
    x->easy = NULL;
    x->headers = NULL;
}

/* Three parts, to spare a copy of the token. */
static bool add_header(emb_hub_exchange *x, const char *before, const char *value, const char *after)
{
    char line[4400];
    int n = snprintf(line, sizeof line, "%s%s%s", before, value, after);
    struct curl_slist *list = n > 0 && (size_t)n < sizeof line ? curl_slist_append(x->headers, line) : NULL;
    explicit_bzero(line, sizeof line);
    if (list)
        x->headers = list;
    return list != NULL;
}

static bool set_headers(emb_hub_exchange *x)
{
    bool hub = x->at_hub, part = x->offset > 0;
    char number[32];
    curl_slist_free_all(x->headers);
    x->headers = NULL;
    snprintf(number, sizeof number, "%" PRIu64, x->offset);
    return add_header(x, "Accept-Encoding: identity", "", "") &&
           (!part || add_header(x, "Range: bytes=", number, "-")) &&
           (!part || !hub || !x->if_range || add_header(x, "If-Range: \"", x->if_range, "\"")) &&
           (!hub || !x->place->token || add_header(x, "Authorization: Bearer ", x->place->token, "")) &&
           curl_easy_setopt(x->easy, CURLOPT_HTTPHEADER, x->headers) == CURLE_OK;
}

static emb_status send_request(emb_hub_exchange *x, CURLM *multi, emb_error *err)
{
    emb_status status = emb_hub_same_origin(x->url, x->place->endpoint, &x->at_hub, err);
    if (status)
        return status;
    restart_answer(&x->answer);
    x->said_length = 0;
    x->problem[0] = 0;
    if (!set_headers(x) || curl_easy_setopt(x->easy, CURLOPT_URL, x->url) != CURLE_OK ||
        curl_easy_setopt(x->easy, CURLOPT_NOBODY, x->head ? 1L : 0L) != CURLE_OK ||
        (!x->head && curl_easy_setopt(x->easy, CURLOPT_HTTPGET, 1L) != CURLE_OK) ||
        curl_multi_add_handle(multi, x->easy) != CURLM_OK)
        return emb_fail_nomem(err, "HTTP request", 0);
    x->active = true;
    return EMB_OK;
}

emb_status emb_hub_exchange_begin(emb_hub_exchange *x, CURLM *multi, const char *url, bool head,
                                  uint64_t offset, const char *if_range, emb_error *err)
{
    emb_hub_exchange_end(x, multi);
    if (strlen(url) >= sizeof x->url)
        return emb_fail(err, EMB_E_INVALID, "address", "an address is longer than %zu bytes",
                        sizeof x->url - 1);
    memcpy(x->url, url, strlen(url) + 1);
    x->head = head;
    x->offset = offset;
    x->if_range = if_range;
    x->hops = 0;
    x->answer.etag[0] = x->answer.linked_etag[0] = x->answer.commit[0] = 0;
    x->answer.linked_size = EMB_HUB_SIZE_UNKNOWN;
    return send_request(x, multi, err);
}

/* ---- redirects ---- */

static bool is_redirect(long status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Where the answer leads, from the address that was asked. */
static emb_status resolve(const emb_hub_exchange *x, char *out, size_t size, emb_error *err)
{
    CURLU *url = curl_url();
    char *text = NULL, *scheme = NULL;
    CURLUcode code = url ? curl_url_set(url, CURLUPART_URL, x->url, 0) : CURLUE_OUT_OF_MEMORY;
    if (!code)
        code = curl_url_set(url, CURLUPART_URL, x->answer.location, CURLU_URLENCODE);
    if (!code)
        code = curl_url_get(url, CURLUPART_URL, &text, 0);
    if (!code)
        code = curl_url_get(url, CURLUPART_SCHEME, &scheme, 0);
    bool ok = x->answer.location[0] && !code && strlen(text) < size &&
              (strcasecmp(scheme, "https") == 0 || strcasecmp(scheme, "http") == 0);
    if (ok)
        memcpy(out, text, strlen(text) + 1);
    curl_free(text);
    curl_free(scheme);
    curl_url_cleanup(url);
    return ok ? EMB_OK
           : code == CURLUE_OUT_OF_MEMORY
               ? emb_fail_nomem(err, "redirect", size)
               : emb_fail(err, EMB_E_IO, "redirect",
                          "the hub redirects to something that is not a web address");
}

static bool is_https(const char *url)
{
    return strncasecmp(url, "https:", 6) == 0;
}

emb_status emb_hub_exchange_follow(emb_hub_exchange *x, CURLM *multi, bool *again, emb_error *err)
{
    char next[EMB_HUB_MAX_URL];
    *again = false;
    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &x->answer.status);
    if (!is_redirect(x->answer.status))
        return EMB_OK;
    emb_status status = resolve(x, next, sizeof next, err);
    if (status)
        return status;
    if (is_https(x->url) && !is_https(next))
        return emb_fail(err, EMB_E_IO, "redirect",
                        "the hub redirects from https to plain http, which is refused");
    bool at_hub;
    status = emb_hub_same_origin(next, x->place->endpoint, &at_hub, err);
    if (status || (x->head && !at_hub))
        return status;
    if (++x->hops > MAX_HOPS)
        return emb_fail(err, EMB_E_IO, "redirect", "the hub redirects more than %d times: a loop", MAX_HOPS);
    emb_hub_exchange_end(x, multi);
    memcpy(x->url, next, strlen(next) + 1);
    *again = true;
    return send_request(x, multi, err);
}

/* ---- what went wrong ---- */

static bool passes(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_CHUNK_FAILED:
    case CURLE_UNRECOVERABLE_POLL:
        return true;
    default:
        return false;
    }
}

static emb_status network_error(const emb_hub_exchange *x, CURLcode code, const char *what, bool *passing,
                                emb_error *err)
{
    char host[256] = "the hub", *part = NULL;
    CURLU *url = curl_url(); /* not the address itself: signed ones are secrets too */
    if (url && curl_url_set(url, CURLUPART_URL, x->url, 0) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_HOST, &part, 0) == CURLUE_OK)
        snprintf(host, sizeof host, "%s", part);
    curl_free(part);
    curl_url_cleanup(url);
    *passing = passes(code);
    if (code == CURLE_OUT_OF_MEMORY)
        return emb_fail_nomem(err, "HTTP request", 0);
    if (code == CURLE_PEER_FAILED_VERIFICATION)
        return emb_fail(
            err, EMB_E_IO, host,
            "%s: the certificate of %s is not trusted (%s); SSL_CERT_FILE names other authorities", what,
            host, x->problem[0] ? x->problem : curl_easy_strerror(code));
    return emb_fail(err, EMB_E_IO, host, "%s from %s: %s", what, host,
                    x->problem[0] ? x->problem : curl_easy_strerror(code));
}

/* The hub's own words, without a line break, into out. */
static void explanation(const emb_hub_exchange *x, char *out, size_t size)
{
    emb_json *doc;
    emb_json_value value;
    const char *text;
    size_t length;
    out[0] = 0;
    if (x->answer.error_message[0]) {
        snprintf(out, size, ": %s", x->answer.error_message);
        return;
    }
    if (x->said_length == 0 || emb_json_open(x->said, x->said_length, "answer", &doc, NULL))
        return;
    if (emb_json_get(emb_json_root(doc), "error", &value) && emb_json_string(value, &text, &length)) {
        char copy[200];
        snprintf(copy, sizeof copy, "%.*s", (int)(length < 190 ? length : 190), text);
        memcpy(out, ": ", 3);
        copy_text(out + 2, size - 2, copy);
    }
    emb_json_close(doc);
}

static emb_status access_error(const emb_hub_exchange *x, const char *why, emb_error *err)
{
    const emb_hub_place *p = x->place;
    if (strcmp(x->answer.error_code, "GatedRepo") == 0)
        return emb_fail(
            err, EMB_E_NOT_FOUND, p->repository,
            "%s is gated%s. Accept its terms at %s/%s, then give a token of that account (HF_TOKEN)%s",
            p->repository, why, p->endpoint, p->repository,
            p->token ? "; the one that was given has no access" : "");
    if (x->answer.status == 401 && p->token)
        return emb_fail(
            err, EMB_E_INVALID, "token",
            "the hub does not accept the access token, or it has no access to %s, or there is no such "
            "repository%s",
            p->repository, why);
    if (x->answer.status == 401)
        return emb_fail(err, EMB_E_NOT_FOUND, p->repository,
                        "there is no repository %s at %s, or it is private and needs a token (HF_TOKEN)%s",
                        p->repository, p->endpoint, why);
    return emb_fail(err, EMB_E_NOT_FOUND, p->repository, "the hub denies access to %s%s", p->repository, why);
}

static emb_status missing_error(const emb_hub_exchange *x, const char *what, const char *why, emb_error *err)
{
    const emb_hub_place *p = x->place;
    const char *code = x->answer.error_code;
    if (strcmp(code, "RevisionNotFound") == 0)
        return emb_fail(err, EMB_E_NOT_FOUND, p->revision, "%s has no revision \"%s\"", p->repository,
                        p->revision);
    if (strcmp(code, "EntryNotFound") == 0)
        return emb_fail(err, EMB_E_NOT_FOUND, what, "%s has no file %s at revision %s", p->repository, what,
                        p->revision);
    return emb_fail(
        err, EMB_E_NOT_FOUND, p->repository, "there is no repository %s at %s%s%s%s", p->repository,
        p->endpoint, x->place->token ? ", or the token has no access to it" : "",
        strchr(p->repository, '/') ? "" : " (most names begin with an organisation: ORGANISATION/NAME)", why);
}

emb_status emb_hub_exchange_result(const emb_hub_exchange *x, CURLcode code, const char *what, bool *passing,
                                   emb_error *err)
{
    char why[256];
    long status = x->answer.status;
    *passing = false;
    if (code != CURLE_OK)
        return network_error(x, code, what, passing, err);
    if ((status >= 200 && status < 300) || (x->head && is_redirect(status)))
        return EMB_OK;
    explanation(x, why, sizeof why);
    if (x->at_hub && (status == 401 || status == 403))
        return access_error(x, why, err);
    if (x->at_hub && (status == 404 || status == 410))
        return missing_error(x, what, why, err);
    *passing =
        status == 408 || status == 425 || status == 429 || (status >= 500 && status != 501 && status != 505);
    /* A store of files that denies access: the signature in the address has run out, and a new one is had. */
    *passing |= !x->at_hub && (status == 401 || status == 403);
    if (status == 429)
        return emb_fail(err, EMB_E_BUSY, x->place->endpoint, "%s: the hub asks to wait (429)%s", what, why);
    return emb_fail(err, EMB_E_IO, x->place->endpoint, "%s: the answer is %ld%s", what, status, why);
}
