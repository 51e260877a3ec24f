/*
 * pii.c: POST /api/v1/embeddings/pii: which kinds of personal data and secrets texts hold, and where; never
 * what.
 *
 * The scanner is linear and fast (megabytes in milliseconds), so a small request is answered where it was
 * decoded; more than HERE_BYTES goes to a worker. Opening a scanner without patterns of one's own is one
 * small block: it is not kept.
 */
#include "api/decode.h"
#include "api/hybrid.h"
#include "api/out.h"

#include "pii/pii.h"

#include <stdio.h>
#include <string.h>

enum { FOUND_AT_ONCE = 64, HERE_BYTES = 64 << 10, LIST_BYTES = 512 };

static void write_text(emb_out *o, const emb_pii *scanner, const emb_text *text, size_t index)
{
    emb_pii_finding found[FOUND_AT_ONCE];
    emb_pii_progress p = {0};
    emb_out_open(o, NULL, '{');
    emb_out_count(o, "index", index);
    emb_out_open(o, "findings", '[');
    while (p.next < text->length && !o->status) {
        size_t n = emb_pii_scan(scanner, text->data, text->length, found, FOUND_AT_ONCE, &p);
        for (size_t i = 0; i < n; i++) {
            emb_out_open(o, NULL, '{');
            emb_out_text(o, "kind", emb_pii_kind_name(scanner, found[i].kind));
            emb_out_count(o, "start", found[i].start);
            emb_out_count(o, "end", found[i].end);
            emb_out_text(o, "confidence", emb_pii_confidence_name(found[i].confidence));
            emb_out_close(o, '}');
        }
    }
    emb_out_close(o, ']');
    emb_out_close(o, '}');
}

static void answer(emb_api_call *call)
{
    emb_pii *scanner;
    emb_error err;
    emb_pii_options options = {.kinds = call->state};
    emb_status status = emb_pii_open(&scanner, &options, &err);
    if (status == EMB_E_INVALID)
        emb_call_fail_field(call, "kinds", "%s", err.message);
    else if (status)
        emb_call_fail_error(call, &err);
    if (status)
        return;
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_open(&o, "results", '[');
    for (size_t i = 0; i < call->request.count && !*emb_exchange_gone(call->x); i++)
        write_text(&o, scanner, &call->request.texts[i], i);
    emb_out_close(&o, ']');
    emb_out_close(&o, '}');
    emb_pii_close(scanner);
    emb_out_reply(&o, call, NULL);
}

/* ["email","phone"] as "email,phone". */
static bool decode_kinds(emb_api_call *call, emb_json_value root)
{
    emb_json_value list, each;
    const char *name;
    size_t n, at = 0;
    if (!emb_json_get(root, "kinds", &list) || emb_json_type_of(list) == EMB_JSON_NULL)
        return true;
    char *joined = emb_arena_calloc(call->arena, LIST_BYTES, 1);
    if (!joined) {
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
        return false;
    }
    bool good = emb_json_type_of(list) == EMB_JSON_ARRAY;
    for (emb_json_iter it = emb_json_begin(list); good && emb_json_next(&it, NULL, NULL, &each);) {
        good = emb_json_string(each, &name, &n) && n < LIST_BYTES - 2 - at && !memchr(name, 0, n) &&
               !memchr(name, ',', n);
        if (good)
            at += (size_t)snprintf(joined + at, LIST_BYTES - at, "%s%.*s", at ? "," : "", (int)n, name);
    }
    if (!good || !at) {
        emb_call_fail_field(
            call, "kinds",
            "is not a list of kinds, such as [\"email\", \"phone\"]; left out, all are meant.");
        return false;
    }
    call->state = joined;
    return true;
}

static void find(emb_api_call *call)
{
    emb_json_value root;
    emb_request *r = &call->request;
    size_t bytes = 0;
    if (!emb_call_json(call, &root) ||
        !emb_decode_texts(call, root, "texts", EMB_TEXTS_ONE | EMB_TEXTS_MANY, r, NULL) ||
        !decode_kinds(call, root))
        return;
    for (size_t i = 0; i < r->count; i++)
        bytes += r->texts[i].length;
    if (bytes > HERE_BYTES)
        emb_call_park(call, answer);
    else
        answer(call);
}

#define KIND                                                                                         \
    "{\"enum\":[\"email\",\"phone\",\"us_ssn\",\"us_itin\",\"credit_card\",\"iban\",\"us_routing\"," \
    "\"passport\","                                                                                  \
    "\"driving_licence\",\"ip_address\",\"mac_address\",\"birth_date\",\"street_address\",\"crypto_" \
    "wallet\",\"api_key\","                                                                          \
    "\"private_key\"]}"
#define REQUEST                                                                                      \
    "{\"type\":\"object\",\"required\":[\"texts\"],\"properties\":{\"texts\":{\"anyOf\":[{\"type\":" \
    "\"string\"},{\"type\":"                                                                         \
    "\"array\",\"minItems\":1,\"items\":{\"type\":\"string\"}}],\"examples\":[[\"Mail me at "        \
    "ann@example.com\"]]},"                                                                          \
    "\"kinds\":{\"type\":[\"array\",\"null\"],\"minItems\":1,\"maxItems\":16,\"items\":" KIND "}}}"
#define ANSWER                                                                                           \
    "{\"type\":\"object\",\"required\":[\"results\"],\"properties\":{\"results\":{\"type\":\"array\","   \
    "\"items\":{\"type\":"                                                                               \
    "\"object\",\"required\":[\"index\",\"findings\"],\"properties\":{\"index\":" EMB_HYBRID_COUNT       \
    ",\"findings\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"kind\",\"start\"," \
    "\"end\","                                                                                           \
    "\"confidence\"],\"properties\":{\"kind\":" KIND ",\"start\":" EMB_HYBRID_COUNT                      \
    ",\"end\":" EMB_HYBRID_COUNT ",\"confidence\":{\"enum\":[\"pattern\",\"context\",\"checksum\"]}}}}}}}}}"

const emb_route emb_routes_pii[] = {
    {EMB_HTTP_POST, "/api/v1/embeddings/pii", EMB_FAMILY_HYBRID, EMB_AUTH_KEY, EMB_RIGHT_USE, find,
     "Personal data and secrets in texts: kinds and byte offsets, never values.", REQUEST, ANSWER, NULL,
     NULL},
    {0}};
