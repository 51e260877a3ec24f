/*
 * preemption.c: three clouds, one loop.
 *
 *   gcp    GET /computeMetadata/v1/instance/preempted, Metadata-Flavor: Google; the body turns TRUE
 *   aws    PUT /latest/api/token for a session token, GET /latest/meta-data/spot/instance-action with it; 404 until the
 *          machine is marked, then 200. Without the token service (old instances) the GET is tried without one
 *   azure  GET /metadata/scheduledevents?api-version=2020-07-01, Metadata: true; an event of type Preempt
 *
 * libcurl with short time-outs and no proxy: the addresses are link-local. The thread sleeps on a condition
 * between questions, so that closing never waits for an interval.
 */
#include "daemon/preemption.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/log.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { ANSWER_MAX = 64 << 10, TIMEOUT_MS = 2000, URL_MAX_BYTES = 1024 };

typedef enum emb_cloud { CLOUD_URL, CLOUD_GCP, CLOUD_AWS, CLOUD_AZURE } emb_cloud;

static const struct {
    const char *name, *address, *path;
} clouds[] = {
    [CLOUD_URL] = {"", "", ""},
    [CLOUD_GCP] = {"gcp", "http://metadata.google.internal", "/computeMetadata/v1/instance/preempted"},
    [CLOUD_AWS] = {"aws", "http://169.254.169.254", "/latest/meta-data/spot/instance-action"},
    [CLOUD_AZURE] = {"azure", "http://169.254.169.254", "/metadata/scheduledevents?api-version=2020-07-01"},
};

struct emb_preemption {
    emb_cloud cloud;
    char address[URL_MAX_BYTES];
    size_t interval_ms;
    emb_preemption_notice notice;
    void *context;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop;
    atomic_bool stopping; /* for curl's progress callback */
    bool warned;
};

static size_t receive(char *data, size_t size, size_t count, void *context)
{
    return emb_buf_add(context, data, size * count) == EMB_OK ? size * count : 0;
}

static int watch(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    return ((emb_preemption *)context)->stopping;
}

/* The HTTP status, 0 if there was no answer. `header` may be NULL. */
static long ask(emb_preemption *p, const char *method, const char *path, const char *header, emb_buf *answer)
{
    char url[2 * URL_MAX_BYTES];
    long status = 0;
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = header ? curl_slist_append(NULL, header) : NULL;
    snprintf(url, sizeof url, "%s%s", p->address, path);
    emb_buf_clear(answer);
    if (curl) {
        curl_easy_setopt(curl, CURLOPT_URL, url);
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)TIMEOUT_MS);
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(curl, CURLOPT_PROXY, "");
        curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, receive);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
        curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, watch);
        curl_easy_setopt(curl, CURLOPT_XFERINFODATA, p);
        CURLcode code = curl_easy_perform(curl);
        if (code == CURLE_OK) {
            curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        } else if (!p->warned && !p->stopping) {
            emb_log(EMB_LOG_WARN, "preemption notices cannot be asked for",
                    EMB_LOG_TEXT("address", p->address), EMB_LOG_TEXT("error", curl_easy_strerror(code)));
            p->warned = true;
        }
        curl_easy_cleanup(curl);
    }
    curl_slist_free_all(headers);
    return status;
}

/* The answer without white space around it; "" when memory is short. */
static const char *trimmed(emb_buf *answer)
{
    const char *text = emb_buf_cstr(answer);
    if (!text)
        return "";
    char *end = answer->data + answer->length;
    while (end > answer->data && strchr(" \t\r\n", end[-1]))
        *--end = 0;
    return text + strspn(text, " \t\r\n");
}

static bool asked_aws(emb_preemption *p, emb_buf *answer)
{
    char header[512];
    const char *token = NULL;
    if (ask(p, "PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 300", answer) == 200) {
        snprintf(header, sizeof header, "X-aws-ec2-metadata-token: %s", trimmed(answer));
        token = header;
    }
    return ask(p, "GET", clouds[CLOUD_AWS].path, token, answer) == 200;
}

static bool announced(emb_preemption *p, emb_buf *answer)
{
    static const char *const none[] = {"", "FALSE", "0", "NONE"};
    switch (p->cloud) {
    case CLOUD_AWS:
        return asked_aws(p, answer);
    case CLOUD_AZURE:
        return ask(p, "GET", clouds[CLOUD_AZURE].path, "Metadata: true", answer) == 200 &&
               strstr(trimmed(answer), "\"Preempt\"") != NULL;
    case CLOUD_GCP:
        return ask(p, "GET", clouds[CLOUD_GCP].path, "Metadata-Flavor: Google", answer) == 200 &&
               strcasecmp(trimmed(answer), "TRUE") == 0;
    case CLOUD_URL:
        break;
    }
    if (ask(p, "GET", "", NULL, answer) != 200)
        return false;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        if (strcasecmp(trimmed(answer), none[i]) == 0)
            return false;
    return true;
}

/* false when the thread shall end. */
static bool sleep_interval(emb_preemption *p)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(p->interval_ms / 1000);
    until.tv_nsec += (long)(p->interval_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&p->lock);
    while (!p->stop && pthread_cond_timedwait(&p->wake, &p->lock, &until) == 0)
        ;
    bool go_on = !p->stop;
    pthread_mutex_unlock(&p->lock);
    return go_on;
}

static void *run(void *context)
{
    emb_preemption *p = context;
    emb_buf answer = EMB_BUF_INIT(ANSWER_MAX);
    do {
        if (announced(p, &answer) && !p->stopping) {
            emb_log(EMB_LOG_WARN, "preemption notice: this machine is about to be taken away",
                    EMB_LOG_TEXT("address", p->address));
            p->notice(p->context);
            break;
        }
    } while (sleep_interval(p));
    emb_buf_fini(&answer);
    return NULL;
}

static emb_status parse(emb_preemption *p, const char *source, emb_error *err)
{
    size_t name = strcspn(source, "=");
    for (size_t i = CLOUD_GCP; i <= CLOUD_AZURE; i++)
        if (strlen(clouds[i].name) == name && memcmp(clouds[i].name, source, name) == 0) {
            p->cloud = (emb_cloud)i;
            source = source[name] ? source + name + 1 : clouds[i].address;
        }
    size_t length = strlen(source);
    while (p->cloud != CLOUD_URL && length && source[length - 1] == '/')
        length--;
    if ((strncmp(source, "http://", 7) != 0 && strncmp(source, "https://", 8) != 0) ||
        length >= sizeof p->address)
        return emb_fail(
            err, EMB_E_INVALID, "supervision.preemption_url",
            "'%.100s' is neither gcp, aws, azure (each may be followed by =ADDRESS) nor an http URL of at "
            "most %zu bytes",
            source, sizeof p->address - 1);
    memcpy(p->address, source, length);
    return EMB_OK;
}

emb_status emb_preemption_open(const char *source, size_t interval_ms, emb_preemption_notice notice,
                               void *context, emb_preemption **out, emb_error *err)
{
    *out = NULL;
    if (!*source)
        return EMB_OK;
    emb_preemption *p = calloc(1, sizeof *p);
    if (!p)
        return emb_fail_nomem(err, "preemption", sizeof *p);
    emb_status status = parse(p, source, err);
    if (status) {
        free(p);
        return status;
    }
    p->interval_ms = interval_ms;
    p->notice = notice;
    p->context = context;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&p->thread, NULL, run, p) != 0) {
        pthread_cond_destroy(&p->wake);
        pthread_mutex_destroy(&p->lock);
        free(p);
        return emb_fail(err, EMB_E_NOMEM, "preemption",
                        "no thread could be started to ask for preemption notices");
    }
    *out = p;
    return EMB_OK;
}

void emb_preemption_close(emb_preemption *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    p->stopping = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
