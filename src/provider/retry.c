/*
 * retry.c: see retry.h.
 *
 * Backoff doubles from 200 ms to 10 s. What may pass at any moment (a reset, a 502) waits a random time up to
 * it (full jitter): callers that failed together do not return together. Throttling waits at least half of it
 * (equal jitter), since an early return is certain to be refused. What the provider asks for wins over both,
 * with a little jitter on top.
 *
 * Headers of limits are trusted only as far as they matter: a reset counts if nothing of its kind remains, or
 * if nobody said what remains. OpenAI sends the time until its buckets are full on every answer, which is no
 * time to wait for.
 */
#include "provider/retry.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { BASE_MS = 200, LONGEST_MS = 10000, DAY_MS = 86400000 };
#define BUDGET_SAVED_MOST 20.0
#define BUDGET_SHARE 0.1
#define BUDGET_PER_SECOND 1.0

/* ---- headers ---- */

void emb_retry_hints_init(emb_retry_hints *h)
{
    h->retry_after_ms = h->reset_requests_ms = h->reset_tokens_ms = -1;
    h->remaining_requests = h->remaining_tokens = h->compute_tokens = -1;
}

/* Milliseconds of one unit; *length of its name. 0: no unit. */
static double unit_ms(const char *text, size_t *length)
{
    static const struct {
        const char *name;
        double ms;
    } units[] = {{"ms", 1}, {"us", 1e-3}, {"ns", 1e-6}, {"s", 1e3}, {"m", 6e4}, {"h", 3.6e6}, {"d", 8.64e7}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        *length = strlen(units[i].name);
        if (strncmp(text, units[i].name, *length) == 0)
            return units[i].ms;
    }
    return 0;
}

/* Digits with at most one point; strtod would also take "inf", hexadecimal and the locale's comma. */
static bool number(const char **text, double *out)
{
    const char *p = *text;
    double n = 0, scale = 1;
    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++)
        n = n * 10 + (*p - '0');
    if (*p == '.')
        for (p++; *p >= '0' && *p <= '9'; p++)
            n += (scale /= 10) * (*p - '0');
    *text = p;
    *out = n;
    return true;
}

static int64_t clamp_ms(double ms)
{
    return ms >= DAY_MS ? DAY_MS : ms > 0 ? (int64_t)(ms + 0.999) : 0;
}

bool emb_retry_duration_ms(const char *text, int64_t *ms)
{
    double sum = 0, n;
    size_t length;
    if (!number(&text, &n))
        return false;
    if (!*text) {
        *ms = clamp_ms(n * 1e3);
        return true;
    }
    for (;;) {
        double unit = unit_ms(text, &length);
        if (unit == 0)
            return false;
        sum += n * unit;
        text += length;
        if (!*text)
            break;
        if (!number(&text, &n))
            return false;
    }
    *ms = clamp_ms(sum);
    return true;
}

static bool retry_after(const char *value, int64_t now_s, int64_t *ms)
{
    if (emb_retry_duration_ms(value, ms))
        return true;
    if (*value == '-' || *value == '+' || *value == '.')
        return false;
    time_t when = curl_getdate(value, NULL);
    if (when < 0)
        return false;
    *ms = (int64_t)when > now_s ? clamp_ms((double)((int64_t)when - now_s) * 1e3) : 0;
    return true;
}

static void keep_longest(int64_t *kept, int64_t ms)
{
    if (ms > *kept)
        *kept = ms;
}

static void take(emb_retry_hints *h, const char *name, const char *value, int64_t now_s)
{
    int64_t ms;
    double n;
    const char *p = value;
    if (strcasecmp(name, "retry-after") == 0) {
        if (retry_after(value, now_s, &ms))
            keep_longest(&h->retry_after_ms, ms);
    } else if (strcasecmp(name, "retry-after-ms") == 0) {
        if (number(&p, &n) && !*p)
            keep_longest(&h->retry_after_ms, clamp_ms(n));
    } else if (strcasecmp(name, "x-ratelimit-reset-requests") == 0) {
        if (emb_retry_duration_ms(value, &ms))
            h->reset_requests_ms = ms;
    } else if (strcasecmp(name, "x-ratelimit-reset-tokens") == 0) {
        if (emb_retry_duration_ms(value, &ms))
            h->reset_tokens_ms = ms;
    } else if (number(&p, &n) && !*p && n < 1e15) {
        if (strcasecmp(name, "x-ratelimit-remaining-requests") == 0)
            h->remaining_requests = (int64_t)n;
        else if (strcasecmp(name, "x-ratelimit-remaining-tokens") == 0)
            h->remaining_tokens = (int64_t)n;
        else if (strcasecmp(name, "x-compute-tokens") == 0)
            h->compute_tokens = (int64_t)n;
    }
}

void emb_retry_header(emb_retry_hints *hints, const char *name, size_t name_length, const char *value,
                      size_t value_length, int64_t now_s)
{
    char n[32], v[64];
    if (name_length >= sizeof n || name_length < 11 || !strchr("rRxX", name[0]))
        return;
    while (value_length > 0 && (*value == ' ' || *value == '\t')) {
        value++;
        value_length--;
    }
    while (value_length > 0 && strchr(" \t\r\n", value[value_length - 1]))
        value_length--;
    if (value_length == 0 || value_length >= sizeof v)
        return;
    memcpy(n, name, name_length);
    n[name_length] = 0;
    memcpy(v, value, value_length);
    v[value_length] = 0;
    take(hints, n, v, now_s);
}

int64_t emb_retry_wait_ms(const emb_retry_hints *h)
{
    int64_t wait = h->retry_after_ms;
    if (h->remaining_requests <= 0)
        keep_longest(&wait, h->reset_requests_ms);
    if (h->remaining_tokens <= 0)
        keep_longest(&wait, h->reset_tokens_ms);
    return wait;
}

int64_t emb_retry_drained_ms(const emb_retry_hints *h)
{
    int64_t wait = -1;
    if (h->remaining_requests == 0)
        keep_longest(&wait, h->reset_requests_ms);
    if (h->remaining_tokens == 0)
        keep_longest(&wait, h->reset_tokens_ms);
    return wait;
}

/* ---- decisions ---- */

static uint64_t backoff_ms(const emb_retry_question *q)
{
    unsigned doublings = q->made > 1 ? q->made - 1 : 0;
    uint64_t limit = doublings < 6 ? (uint64_t)BASE_MS << doublings : LONGEST_MS;
    if (limit > LONGEST_MS)
        limit = LONGEST_MS;
    if (q->end == EMB_ATTEMPT_LIMITED)
        return limit / 2 + q->random % (limit / 2 + 1);
    return q->random % (limit + 1);
}

emb_retry_verdict emb_retry_decide(const emb_retry_question *q, uint64_t *wait_ns)
{
    unsigned most = q->once && q->max_retries > 1 ? 1 : q->max_retries;
    if (!q->again || q->made > most)
        return EMB_RETRY_NO;
    uint64_t wait_ms = q->at_once && q->made == 1 ? 0 : backoff_ms(q);
    if (q->wait_ms >= 0) {
        uint64_t asked = (uint64_t)q->wait_ms, spread = asked / 10 < 1000 ? asked / 10 : 1000;
        asked += q->random % (spread + 1);
        wait_ms = asked > wait_ms || q->end == EMB_ATTEMPT_LIMITED ? asked : wait_ms;
    }
    *wait_ns = wait_ms * 1000000u;
    return q->now_ns + *wait_ns < q->deadline_ns ? EMB_RETRY_AGAIN : EMB_RETRY_TOO_LATE;
}

void emb_retry_budget_init(emb_retry_budget *budget, uint64_t now_ns)
{
    budget->saved = BUDGET_SAVED_MOST;
    budget->updated_ns = now_ns;
}

static void refill(emb_retry_budget *budget, double amount, uint64_t now_ns)
{
    if (now_ns > budget->updated_ns) {
        amount += (double)(now_ns - budget->updated_ns) * 1e-9 * BUDGET_PER_SECOND;
        budget->updated_ns = now_ns;
    }
    budget->saved = budget->saved + amount < BUDGET_SAVED_MOST ? budget->saved + amount : BUDGET_SAVED_MOST;
}

void emb_retry_budget_earn(emb_retry_budget *budget, uint64_t now_ns)
{
    refill(budget, BUDGET_SHARE, now_ns);
}

bool emb_retry_budget_spend(emb_retry_budget *budget, uint64_t now_ns)
{
    refill(budget, 0, now_ns);
    if (budget->saved < 1)
        return false;
    budget->saved -= 1;
    return true;
}
