/*
 * fault.c: see fault.h.
 *
 * Errors come in seven shapes ({"error":{…}}, {"error":"…"}, {"message":…}, {"detail":…}, …); one reader
 * takes code, type, message and place from wherever they stand. What they mean is then one list of codes and,
 * for what has none, the status.
 *
 * Privacy: providers like to quote the input. A message goes on only if no window of ten bytes of it is found
 * in the texts of the request (compared in lower case by rolling hashes: cost is one pass over the texts, on
 * failures only), no whole short text stands in it as a word, and the key does not either. A refusal of the
 * key (401, 403) is never quoted: it tends to hold a part of the key.
 */
#include "provider/fault.h"

#include "base/error.h"
#include "base/utf8.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { WINDOW = 10, TABLE = 1024, SHOWN = 200 };

/* ---- what a message may show ---- */

static unsigned char lower(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

static bool same(const char *a, const char *b, size_t n)
{
    while (n > 0 && lower(*a) == lower(*b)) {
        a++;
        b++;
        n--;
    }
    return n == 0;
}

typedef struct windows {
    const char *message;
    size_t length;
    uint32_t hashes[TABLE];
    unsigned char used[TABLE]; /* position + 1 in the message */
} windows;

#define HASH_BASE 16777619u

static uint32_t hash_of(const char *p)
{
    uint32_t h = 0;
    for (size_t i = 0; i < WINDOW; i++)
        h = h * HASH_BASE + lower(p[i]);
    return h;
}

static size_t slot_of(uint32_t h)
{
    return (h ^ h >> 15) % TABLE;
}

static void fill(windows *w, const char *message, size_t length)
{
    memset(w->used, 0, sizeof w->used);
    w->message = message;
    w->length = length;
    for (size_t i = 0; i + WINDOW <= length; i++) {
        uint32_t h = hash_of(message + i);
        size_t s = slot_of(h);
        while (w->used[s] && w->hashes[s] != h)
            s = (s + 1) % TABLE;
        w->hashes[s] = h;
        w->used[s] = (unsigned char)(i + 1);
    }
}

static bool holds(const windows *w, uint32_t h, const char *at)
{
    for (size_t s = slot_of(h); w->used[s]; s = (s + 1) % TABLE)
        if (w->hashes[s] == h)
            return same(w->message + w->used[s] - 1, at, WINDOW);
    return false;
}

static bool shares_a_window(const windows *w, const char *text, size_t length)
{
    uint32_t power = 1, h;
    if (length < WINDOW || w->length < WINDOW)
        return false;
    for (size_t i = 1; i < WINDOW; i++)
        power *= HASH_BASE;
    h = hash_of(text);
    for (size_t i = 0;; i++) {
        if (holds(w, h, text + i))
            return true;
        if (i + WINDOW >= length)
            return false;
        h = (h - lower(text[i]) * power) * HASH_BASE + lower(text[i + WINDOW]);
    }
}

static bool is_word_part(char c)
{
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

static bool stands_in(const char *message, size_t length, const char *text, size_t n)
{
    if (n < 3 || n > length) /* one letter tells nothing, and stands in every sentence */
        return false;
    for (size_t i = 0; i + n <= length; i++)
        if (same(message + i, text, n) && (i == 0 || !is_word_part(message[i - 1])) &&
            (i + n == length || !is_word_part(message[i + n])))
            return true;
    return false;
}

static bool quotes(const windows *w, const char *text, size_t length)
{
    return length < WINDOW ? stands_in(w->message, w->length, text, length)
                           : shares_a_window(w, text, length);
}

/* Four numbers with nothing but commas and spaces between them. */
static bool lists_numbers(const char *message, size_t length)
{
    enum { LIST = 4 };
    size_t numbers = 0;
    for (size_t i = 0; i < length && numbers < LIST; i++) {
        bool begins =
            isdigit((unsigned char)message[i]) && (i == 0 || !isdigit((unsigned char)message[i - 1]));
        if (begins)
            numbers++;
        else if (!isdigit((unsigned char)message[i]) && message[i] != ',' && message[i] != ' ')
            numbers = 0;
    }
    return numbers >= LIST;
}

bool emb_fault_words(const emb_wire_request *request, const char *message, size_t length, char *out,
                     size_t size)
{
    windows w;
    size_t n = 0;
    out[0] = 0;
    if (length > SHOWN)
        length = SHOWN;
    if (length >= size)
        length = size - 1;
    fill(&w, message, length);
    const char *key = request->config->api_key;
    bool quoting = key && *key && quotes(&w, key, strlen(key));
    quoting |=
        request->offsets && lists_numbers(message, length); /* ids are their text to who has the ranks */
    for (size_t i = 0; i < request->count && !quoting; i++)
        quoting = quotes(&w, request->texts[i].data, request->texts[i].length);
    if (quoting)
        return false;
    length = emb_utf8_valid_prefix(message, length);
    for (size_t i = 0; i < length; i++)
        out[n++] = (unsigned char)message[i] < 0x20 || message[i] == 0x7F ? ' ' : message[i];
    out[n] = 0;
    return n > 0;
}

/* ---- reading an error ---- */

typedef struct reading {
    char code[64], type[64];
    const char *message, *param;
    size_t message_length, param_length;
    int64_t place; /* of the text; -1 */
    int64_t estimated_ms;
    bool found;
} reading;

static void copy_name(emb_json_value object, const char *name, char out[64])
{
    emb_json_value v;
    const char *s;
    size_t n;
    if (out[0] || !emb_json_get(object, name, &v) || !emb_json_string(v, &s, &n) || n >= 64)
        return;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)lower(s[i]);
    out[n] = 0;
}

static void take_text(emb_json_value object, const char *name, const char **text, size_t *length)
{
    emb_json_value v;
    if (!*text && emb_json_get(object, name, &v))
        emb_json_string(v, text, length);
}

static void read_members(emb_json_value object, reading *r)
{
    emb_json_value v;
    double seconds;
    copy_name(object, "code", r->code);
    copy_name(object, "type", r->type);
    copy_name(object, "error_type", r->type);
    take_text(object, "message", &r->message, &r->message_length);
    take_text(object, "msg", &r->message, &r->message_length);
    take_text(object, "param", &r->param, &r->param_length);
    if (emb_json_get(object, "estimated_time", &v) && emb_json_double(v, &seconds) && seconds >= 0 &&
        seconds < 86400)
        r->estimated_ms = (int64_t)(seconds * 1e3);
}

/* pydantic's ["body", "texts", 3] */
static void read_location(emb_json_value item, reading *r)
{
    emb_json_value loc, step;
    if (!emb_json_get(item, "loc", &loc))
        return;
    emb_json_iter it = emb_json_begin(loc);
    while (r->place < 0 && emb_json_next(&it, NULL, NULL, &step))
        if (!emb_json_int(step, &r->place))
            r->place = -1;
}

static emb_json_value first_of(emb_json_value array)
{
    emb_json_iter it = emb_json_begin(array);
    emb_json_value first = array;
    return emb_json_next(&it, NULL, NULL, &first) ? first : array;
}

static void read_error(emb_json_value error, reading *r)
{
    if (emb_json_type_of(error) == EMB_JSON_ARRAY)
        error = first_of(error);
    if (emb_json_type_of(error) == EMB_JSON_OBJECT) {
        read_members(error, r);
        read_location(error, r);
    } else if (!r->message) {
        emb_json_string(error, &r->message, &r->message_length);
    }
}

/* "input[3]" and "$.input[3]", in the parameter or the message. */
static void read_place(const char *text, size_t length, reading *r)
{
    static const char *const names[] = {"input[", "inputs[", "texts["};
    for (size_t k = 0; k < sizeof names / sizeof *names && r->place < 0; k++) {
        size_t n = strlen(names[k]);
        for (size_t i = 0; i + n < length; i++) {
            if (memcmp(text + i, names[k], n) != 0 || !isdigit((unsigned char)text[i + n]))
                continue;
            int64_t place = 0;
            size_t at = i + n;
            for (; at < length && isdigit((unsigned char)text[at]) && place < 1000000; at++)
                place = place * 10 + (text[at] - '0');
            if (at < length && text[at] == ']')
                r->place = place;
            break;
        }
    }
}

/* Strings of r live as long as the document. */
static void read_document(emb_json_value root, reading *r)
{
    emb_json_value v;
    *r = (reading){.place = -1, .estimated_ms = -1};
    if (emb_json_type_of(root) != EMB_JSON_OBJECT)
        return;
    if (emb_json_get(root, "error", &v) && emb_json_type_of(v) != EMB_JSON_NULL) {
        r->found = true;
        read_error(v, r);
    }
    if (emb_json_get(root, "detail", &v)) {
        r->found = true;
        read_error(v, r);
    }
    read_members(root, r);
    r->found |= r->message && (r->code[0] || r->type[0]);
    if (r->param)
        read_place(r->param, r->param_length, r);
    if (r->message)
        read_place(r->message, r->message_length, r);
}

/* ---- what it means ---- */

static bool is_one_of(const reading *r, const char *const *codes)
{
    for (; *codes; codes++)
        if (strcmp(r->code, *codes) == 0 || strcmp(r->type, *codes) == 0)
            return true;
    return false;
}

static bool says(const reading *r, const char *words)
{
    size_t n = strlen(words);
    for (size_t i = 0; r->message && i + n <= r->message_length && i < 2000; i++)
        if (same(r->message + i, words, n))
            return true;
    return false;
}

static bool is_quota(const reading *r, int http)
{
    static const char *const codes[] = {"insufficient_quota",
                                        "quota_exceeded",
                                        "billing_hard_limit_reached",
                                        "billing_not_active",
                                        "access_terminated",
                                        "insufficient_credits",
                                        "insufficient_balance",
                                        "credits_exhausted",
                                        "budget_exhausted",
                                        "account_quota_exceeded",
                                        NULL};
    return http == 402 || is_one_of(r, codes) || (http == 429 && (says(r, "/ month") || says(r, "monthly")));
}

static bool is_denied(const reading *r, int http)
{
    static const char *const codes[] = {"invalid_api_key",  "account_deactivated", "authentication_error",
                                        "permission_error", "permission_denied",   NULL};
    return http == 401 || http == 403 || is_one_of(r, codes);
}

static bool is_limited(const reading *r, int http)
{
    static const char *const codes[] = {"rate_limit_exceeded", "rate_limit_error", "slow_down",
                                        "too_many_requests", NULL};
    return http == 429 || is_one_of(r, codes);
}

static bool is_broken(const emb_wire_request *q, const reading *r, int http)
{
    static const char *const codes[] = {
        "server_error",        "internal_error", "overloaded_error", "engine_overloaded",
        "service_unavailable", "unhealthy",      "backend",          NULL};
    if (http == 409) /* another embedd says so that it has no such space */
        return q->config->kind != EMB_PROVIDER_EMBEDD;
    return http >= 500 || http == 408 || http == 424 || http == 425 || (http == 200 && is_one_of(r, codes));
}

static bool is_model_missing(const emb_wire_request *q, const reading *r, int http)
{
    static const char *const codes[] = {"model_not_found", "deploymentnotfound", "model_not_available", NULL};
    emb_provider_kind kind = q->config->kind;
    if (is_one_of(r, codes))
        return true;
    return http == 404 &&
           (kind == EMB_PROVIDER_AZURE || kind == EMB_PROVIDER_HUGGINGFACE ||
            (says(r, "model") && (says(r, "not found") || says(r, "not exist") || says(r, "no such"))));
}

static bool is_too_long(const reading *r, int http)
{
    static const char *const codes[] = {"context_length_exceeded", "string_above_max_length",
                                        "array_above_max_length",  "max_tokens_exceeded",
                                        "request_too_large",       NULL};
    return http == 413 || is_one_of(r, codes) || says(r, "maximum context length") ||
           says(r, "context length") || says(r, "too long") || says(r, "too large") ||
           says(r, "must have less than") || says(r, "maximum allowed");
}

static void set(emb_fault *f, emb_attempt_end end, emb_status status, bool again)
{
    f->end = end;
    f->status = status;
    f->again = again;
}

static void decide(const emb_wire_request *q, const reading *r, int http, emb_fault *f)
{
    if (http == 407) /* a proxy's word: nothing went further */
        set(f, EMB_ATTEMPT_NOT_SENT, EMB_E_UNAVAILABLE, false);
    else if (is_quota(r, http))
        set(f, EMB_ATTEMPT_QUOTA, EMB_E_UNAVAILABLE, false);
    else if (is_model_missing(q, r, http))
        set(f, EMB_ATTEMPT_REFUSED, EMB_E_NOT_FOUND, false);
    else if (is_denied(r, http))
        set(f, EMB_ATTEMPT_DENIED, EMB_E_UNAVAILABLE, false);
    else if (is_limited(r, http))
        set(f, EMB_ATTEMPT_LIMITED, EMB_E_BUSY, true);
    else if (is_broken(q, r, http))
        set(f, EMB_ATTEMPT_BROKEN, EMB_E_UNAVAILABLE, true);
    else if (http == 200)
        set(f, EMB_ATTEMPT_BAD_ANSWER, EMB_E_PROVIDER, false);
    else if ((http == 400 || http == 413 || http == 422) && is_too_long(r, http))
        set(f, EMB_ATTEMPT_REFUSED, EMB_E_LIMIT, false);
    else if (http == 400 || http == 422)
        set(f, EMB_ATTEMPT_REFUSED, EMB_E_INVALID, false);
    else if (http >= 300)
        set(f, EMB_ATTEMPT_REFUSED, EMB_E_PROVIDER, false);
    else
        set(f, EMB_ATTEMPT_BAD_ANSWER, EMB_E_PROVIDER, false);
}

static void say(const emb_wire_request *q, const reading *r, int http, emb_fault *f)
{
    char words[SHOWN + 1] = "", code[68] = "";
    if (r->message && f->end != EMB_ATTEMPT_DENIED)
        emb_fault_words(q, r->message, r->message_length, words, sizeof words);
    const char *name = r->code[0] ? r->code : r->type;
    if (name[0] && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-.") == strlen(name) &&
        f->end != EMB_ATTEMPT_DENIED)
        snprintf(code, sizeof code, " (%.40s)", name);
    const char *meaning = f->end == EMB_ATTEMPT_DENIED ? ": the key was not accepted"
                          : http == 407                ? ": the proxy wants another user or password"
                                                       : "";
    snprintf(f->words, sizeof f->words, "HTTP %d%s%s%s%s", http, code, meaning, words[0] ? ": " : "", words);
    size_t n = strlen(f->words); /* snprintf may have cut a character */
    f->words[emb_utf8_valid_prefix(f->words, n)] = 0;
}

static void conclude(const emb_wire_request *q, const reading *r, int http, emb_fault *f)
{
    *f = (emb_fault){.wait_ms = r->estimated_ms};
    decide(q, r, http, f);
    f->has_input = r->place >= 0 && (uint64_t)r->place < q->count && f->end == EMB_ATTEMPT_REFUSED;
    f->input = f->has_input ? (size_t)r->place : 0;
    say(q, r, http, f);
}

void emb_fault_of_http(const emb_wire_request *request, int http_status, const char *body, size_t length,
                       emb_fault *fault)
{
    reading r = {.place = -1, .estimated_ms = -1};
    emb_json *doc = NULL;
    emb_error ignored;
    if (length > 0 && length <= (1u << 20) && emb_json_open(body, length, "answer", &doc, &ignored) == EMB_OK)
        read_document(emb_json_root(doc), &r);
    conclude(request, &r, http_status, fault);
    emb_json_close(doc);
}

bool emb_fault_in_answer(const emb_wire_request *request, const char *body, size_t length, emb_fault *fault)
{
    reading r = {.found = false};
    emb_json *doc = NULL;
    emb_error ignored;
    if (length == 0 || length > (1u << 20) || emb_json_open(body, length, "answer", &doc, &ignored) != EMB_OK)
        return false;
    read_document(emb_json_root(doc), &r);
    if (r.found)
        conclude(request, &r, 200, fault);
    emb_json_close(doc);
    return r.found;
}

/* ---- broken exchanges ---- */

/* The status with which a proxy refused a tunnel, of libcurl's words; 0: it did not. */
static int tunnel_refusal(const char *words)
{
    static const char before[] = "CONNECT tunnel failed, response ";
    size_t n = sizeof before - 1;
    return words && strncmp(words, before, n) == 0 ? atoi(words + n) : 0;
}

static void transport_kind(int code, bool sent, emb_fault *f)
{
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        set(f, sent ? EMB_ATTEMPT_TIMEOUT : EMB_ATTEMPT_NOT_SENT, EMB_E_UNAVAILABLE, true);
        break;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_URL_MALFORMAT:
        set(f, EMB_ATTEMPT_NOT_SENT, EMB_E_UNAVAILABLE, false);
        break;
    case CURLE_OUT_OF_MEMORY:
        set(f, sent ? EMB_ATTEMPT_BROKEN : EMB_ATTEMPT_NOT_SENT, EMB_E_NOMEM, false);
        break;
    case CURLE_UNSUPPORTED_PROTOCOL: /* of an answer: it does not begin as HTTP does */
        set(f, sent ? EMB_ATTEMPT_BROKEN : EMB_ATTEMPT_NOT_SENT, EMB_E_UNAVAILABLE, sent);
        break;
    case CURLE_ABORTED_BY_CALLBACK: /* lanes.c: an idle connection turned out to be dead */
        set(f, EMB_ATTEMPT_BROKEN, EMB_E_UNAVAILABLE, true);
        f->at_once = true;
        break;
    case CURLE_WRITE_ERROR:
        set(f, EMB_ATTEMPT_BAD_ANSWER, EMB_E_PROVIDER, false);
        break;
    case CURLE_BAD_CONTENT_ENCODING:
        set(f, EMB_ATTEMPT_BAD_ANSWER, EMB_E_PROVIDER, true);
        f->once = true;
        break;
    default:
        set(f, sent ? EMB_ATTEMPT_BROKEN : EMB_ATTEMPT_NOT_SENT, EMB_E_UNAVAILABLE, true);
    }
}

void emb_fault_of_transport(int curl_code, const char *words, bool sent, emb_fault *fault)
{
    *fault = (emb_fault){.wait_ms = -1};
    transport_kind(curl_code, sent, fault);
    if (curl_code == CURLE_WRITE_ERROR)
        words = "the answer is larger than any right one";
    if (curl_code == CURLE_ABORTED_BY_CALLBACK)
        words = "the connection ended before the answer began";
    if (words && strncmp(words, "Unsupported proxy", 17) == 0)
        words = "Unsupported proxy"; /* libcurl quotes it, password and all */
    int refusal = sent ? 0 : tunnel_refusal(words);
    if (refusal >= 400 && refusal < 500)
        fault->again = false; /* wrong credentials, or a host that is not allowed */
    if (refusal)
        snprintf(fault->words, sizeof fault->words, "the proxy refused to connect: HTTP %d%s", refusal,
                 refusal == 407 ? ", it wants another user or password" : "");
    else
        snprintf(fault->words, sizeof fault->words, "%.239s",
                 words && *words ? words : curl_easy_strerror((CURLcode)curl_code));
    fault->words[emb_utf8_valid_prefix(fault->words, strlen(fault->words))] = 0;
}

void emb_fault_of_answer(const emb_error *err, bool is_json, emb_fault *fault)
{
    *fault = (emb_fault){.end = EMB_ATTEMPT_BAD_ANSWER,
                         .status = err->code,
                         .again = !is_json && err->code == EMB_E_PROVIDER,
                         .once = true,
                         .wait_ms = -1};
    snprintf(fault->words, sizeof fault->words, "%.239s", err->message);
    fault->words[emb_utf8_valid_prefix(fault->words, strlen(fault->words))] = 0;
}
