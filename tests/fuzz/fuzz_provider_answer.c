/*
 * A provider's answer from any bytes: the first picks the kind, the second how many texts were sent and the
 * status. What is accepted must be whole: every row there and finite. What is refused must say why in one
 * printable line that quotes none of the texts. Headers of limits are read from the same bytes.
 */
#include "base/error.h"
#include "provider/fault.h"
#include "provider/retry.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DIMENSION = 4, MOST_TEXTS = 3 };
static const emb_text texts[MOST_TEXTS] = {{"the first secret text", 21}, {"Zwiebelkuchen", 13}, {"Kiel", 4}};

static void must(bool condition)
{
    if (!condition)
        abort();
}

/* One line, without the texts of the request; others are nobody's secret. */
static void check_words(const char *words, size_t count)
{
    size_t n = strlen(words);
    must(n > 0);
    for (size_t i = 0; i < n; i++)
        must((unsigned char)words[i] >= 0x20);
    must(!strcasestr(words, "first secret") && (count < 2 || !strcasestr(words, "Zwiebelkuchen")));
}

static void check_answer(const emb_wire *wire, const emb_wire_request *request, const char *body, size_t n,
                         size_t dimension)
{
    float rows[MOST_TEXTS * DIMENSION];
    emb_wire_answer answer = {.tokens_known = false};
    emb_error err = {0};
    emb_fault fault;
    bool is_json = false;
    memset(rows, 0xFF, sizeof rows); /* NaN */
    must(emb_vectors_init(&answer.vectors, dimension ? rows : NULL, request->count, dimension, &err) ==
         EMB_OK);
    if (emb_wire_read(wire, request, body, n, &answer, &is_json, &err) == EMB_OK) {
        must(is_json && answer.vectors.dimension > 0 && answer.vectors.seen_count == request->count);
        for (size_t i = 0; i < request->count * dimension; i++)
            must(isfinite(rows[i]));
    } else if (err.code == EMB_E_PROVIDER) {
        if (!emb_fault_in_answer(request, body, n, &fault))
            emb_fault_of_answer(&err, is_json, &fault);
        check_words(fault.words, request->count);
    }
    emb_vectors_fini(&answer.vectors);
}

static void check_headers(const char *text, size_t n)
{
    static const char *const names[] = {"retry-after", "retry-after-ms", "x-ratelimit-reset-requests",
                                        "x-ratelimit-remaining-tokens"};
    emb_retry_hints hints;
    emb_retry_hints_init(&hints);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        emb_retry_header(&hints, names[i], strlen(names[i]), text, n, 1700000000);
    const char *colon = memchr(text, ':', n);
    if (colon)
        emb_retry_header(&hints, text, (size_t)(colon - text), colon + 1, n - (size_t)(colon - text) - 1,
                         1700000000);
    must(emb_retry_wait_ms(&hints) >= -1 && emb_retry_wait_ms(&hints) <= 86400000);
    must(emb_retry_drained_ms(&hints) >= -1 && emb_retry_drained_ms(&hints) <= 86400000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int statuses[] = {200, 400, 401, 404, 429, 500, 503, 422};
    if (size < 2)
        return 0;
    emb_provider_config config = {
        .name = "p", .base_url = "http://h", .api_key = "sk-secret-1234567890", .api_version = ""};
    emb_provider_call call = {.model = "m",
                              .space = data[1] & 0x80 ? "o/m" : NULL,
                              .normalize = data[1] & 0x40 ? EMB_ON : EMB_DEFAULT};
    config.kind = (emb_provider_kind)(EMB_PROVIDER_OPENAI + data[0] % (EMB_PROVIDER_KINDS - 1));
    emb_wire_request request = {
        .config = &config, .call = &call, .texts = texts, .count = data[1] % MOST_TEXTS + 1};
    const char *body = (const char *)data + 2;
    emb_fault fault;
    check_answer(emb_wire_of(config.kind), &request, body, size - 2, DIMENSION);
    check_answer(emb_wire_of(config.kind), &request, body, size - 2, 0);
    emb_fault_of_http(&request, statuses[data[1] >> 2 & 7], body, size - 2, &fault);
    check_words(fault.words, request.count);
    must(!fault.has_input || fault.input < request.count);
    check_headers(body, size - 2);
    return 0;
}
