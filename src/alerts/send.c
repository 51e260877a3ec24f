/*
 * send.c: one POST of JSON to a sink.
 *
 * A connection is made for each: notices are rare, and a connection that idles for hours is likely dead when
 * it is needed. The transfer runs in a multi handle, so that closing need not wait for libcurl's own second
 * between two looks at the time. Redirects are not followed (a bearer token is not for another server),
 * answers are read and dropped. Messages hold the sink's name and libcurl's word for what happened, never
 * libcurl's own detail, which quotes the address.
 */
#include "alerts/parts.h"
#include "base/clock.h"
#include "base/error.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECT_MS = 5000, TOTAL_MS = 10000, POLL_MS = 50 };

static size_t drop(char *data, size_t size, size_t count, void *context)
{
    (void)data, (void)context;
    return size * count;
}

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

/* Alertmanager's route behind the address, unless it is there. The caller frees it. */
static char *address_of(const emb_sink_config *sink)
{
    static const char route[] = "/api/v2/alerts";
    size_t length = strlen(sink->url), tail = sizeof route - 1;
    char *out = malloc(length + sizeof route);
    if (!out)
        return NULL;
    memcpy(out, sink->url, length + 1);
    if (sink->kind != EMB_SINK_ALERTMANAGER)
        return out;
    while (length > 0 && out[length - 1] == '/')
        out[--length] = 0;
    if (length < tail || strcmp(out + length - tail, route) != 0)
        memcpy(out + length, route, sizeof route);
    return out;
}

static bool add_header(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer)
        *list = longer;
    return longer != NULL;
}

static bool add_bearer(struct curl_slist **list, const char *bearer)
{
    if (!bearer || !*bearer)
        return true;
    size_t size = strlen(bearer) + sizeof "Authorization: Bearer ";
    char *line = malloc(size);
    if (!line)
        return false;
    snprintf(line, size, "Authorization: Bearer %s", bearer);
    bool ok = add_header(list, line);
    explicit_bzero(line, size);
    free(line);
    return ok;
}

static bool prepare(CURL *easy, const emb_sink_request *r, const char *url, struct curl_slist **headers)
{
    const char *bundle = certificates();
    return add_header(headers, "Content-Type: application/json") && add_header(headers, "Expect:") &&
           add_bearer(headers, r->sink->bearer) && curl_easy_setopt(easy, CURLOPT_URL, url) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L) == CURLE_OK && /* of a resolver that hangs */
           curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->length) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_POSTFIELDS, r->body) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HTTPHEADER, *headers) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_USERAGENT, "embedd/" EMB_VERSION_STRING) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)TOTAL_MS) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop) == CURLE_OK &&
           (!bundle || curl_easy_setopt(easy, CURLOPT_CAINFO, bundle) == CURLE_OK);
}

/* CURLE_ABORTED_BY_CALLBACK: there was no more time. */
static CURLcode transfer(CURLM *multi, const _Atomic uint64_t *stop_at_ns)
{
    int running = 1, left;
    while (running) {
        if (curl_multi_perform(multi, &running) != CURLM_OK)
            return CURLE_OUT_OF_MEMORY;
        if (running && emb_now_ns() >= atomic_load(stop_at_ns))
            return CURLE_ABORTED_BY_CALLBACK;
        if (running && curl_multi_poll(multi, NULL, 0, POLL_MS, NULL) != CURLM_OK)
            return CURLE_OUT_OF_MEMORY;
    }
    CURLMsg *message = curl_multi_info_read(multi, &left);
    return message && message->msg == CURLMSG_DONE ? message->data.result : CURLE_OUT_OF_MEMORY;
}

static emb_status judge(const emb_sink_config *sink, CURLcode code, int status, emb_error *err)
{
    if (code == CURLE_OUT_OF_MEMORY)
        return emb_fail_nomem(err, "notice of an alert", 0);
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return emb_fail(err, EMB_E_DEADLINE, sink->name, "there was no time left for its answer");
    if (code != CURLE_OK)
        return emb_fail(err, code == CURLE_OPERATION_TIMEDOUT ? EMB_E_DEADLINE : EMB_E_IO, sink->name, "%s",
                        curl_easy_strerror(code));
    if (status < 200 || status > 299)
        return emb_fail(err, EMB_E_IO, sink->name, "it answered with status %d, 200 to 299 are success",
                        status);
    return EMB_OK;
}

emb_status emb_sink_send_http(void *context, const emb_sink_request *request, int *http_status,
                              emb_error *err)
{
    struct curl_slist *headers = NULL;
    CURLcode code = CURLE_OUT_OF_MEMORY;
    long status = 0;
    (void)context;
    char *url = address_of(request->sink);
    CURL *easy = url ? curl_easy_init() : NULL;
    CURLM *multi = easy ? curl_multi_init() : NULL;
    if (multi && prepare(easy, request, url, &headers) && curl_multi_add_handle(multi, easy) == CURLM_OK) {
        code = transfer(multi, request->stop_at_ns);
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        curl_multi_remove_handle(multi, easy);
    }
    curl_easy_cleanup(easy);
    if (multi)
        curl_multi_cleanup(multi);
    curl_slist_free_all(headers);
    free(url);
    *http_status = (int)status;
    return judge(request->sink, code, *http_status, err);
}
