/*
 * Headers of limits from any bytes: the first eight are a time, a random number and an attempt's number, then
 * a line is a header. Waits stay within a day, and what is decided lies before the deadline and not before
 * the time that was asked for.
 */
#include "provider/retry.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DAY_MS = 86400000 };

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void check_duration(const char *value, size_t length)
{
    char *text = strndup(value, length);
    int64_t ms = -7;
    if (text && emb_retry_duration_ms(text, &ms))
        must(ms >= 0 && ms <= DAY_MS);
    else
        must(ms == -7);
    free(text);
}

static void check_decision(int64_t wait_ms, const uint8_t seed[8])
{
    const uint64_t now = UINT64_C(1000000000000);
    for (int end = EMB_ATTEMPT_OK; end <= EMB_ATTEMPT_BAD_ANSWER; end++) {
        emb_retry_question q = {.end = (emb_attempt_end)end,
                                .again = true,
                                .once = seed[0] & 1,
                                .at_once = seed[0] & 2,
                                .made = seed[1] % 40 + 1u,
                                .max_retries = seed[2] % 100,
                                .wait_ms = wait_ms,
                                .now_ns = now,
                                .deadline_ns = now + (uint64_t)seed[3] * 1000000000u};
        uint64_t wait_ns = UINT64_MAX;
        memcpy(&q.random, seed, sizeof q.random);
        emb_retry_verdict verdict = emb_retry_decide(&q, &wait_ns);
        if (verdict == EMB_RETRY_AGAIN) {
            must(now + wait_ns < q.deadline_ns);
            must(wait_ms < 0 || wait_ns >= (uint64_t)wait_ms * 1000000u);
            must(q.made <= q.max_retries);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    emb_retry_hints hints;
    int64_t now_s = 1700000000;
    if (size < 8)
        return 0;
    now_s += (int64_t)data[4] << 24;
    emb_retry_hints_init(&hints);
    const char *p = (const char *)data + 8, *end = (const char *)data + size;
    while (p < end) {
        const char *line = memchr(p, '\n', (size_t)(end - p));
        size_t length = (size_t)((line ? line : end) - p);
        const char *colon = memchr(p, ':', length);
        if (colon) {
            size_t name = (size_t)(colon - p);
            emb_retry_header(&hints, p, name, colon + 1, length - name - 1, now_s);
            check_duration(colon + 1, length - name - 1);
        }
        p += length + 1;
    }
    int64_t wait = emb_retry_wait_ms(&hints), drained = emb_retry_drained_ms(&hints);
    must(wait >= -1 && wait <= DAY_MS && drained >= -1 && drained <= DAY_MS);
    must(hints.compute_tokens >= -1 && hints.remaining_requests >= -1 && hints.remaining_tokens >= -1);
    check_decision(wait, data);
    return 0;
}
