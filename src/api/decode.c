/*
 * decode.c: members into values, one function per kind of member.
 *
 * A failing function answers through emb_call_fail_field at once, so a handler is a chain of && and has
 * nothing to clean up. Texts are pointers into the document: a body of 2,048 texts costs one array in the
 * arena and no copy.
 *
 * simdjson has checked syntax, UTF-8, surrogates and depth before anything here runs. Members are looked up
 * by a linear scan: bodies have a dozen members at most; of equal names the first is found.
 */
#include "api/decode.h"

#include "base/utf8.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { NAME_MAX_BYTES = 1024, LISTED_INDEXES = 20 };

/* Whether the member is there and not null. */
static bool find(emb_json_value object, const char *member, emb_json_value *value)
{
    return emb_json_get(object, member, value) && emb_json_type_of(*value) != EMB_JSON_NULL;
}

static bool wrong_type(emb_api_call *call, const char *member, const char *needed, emb_json_value value)
{
    emb_call_fail_field(call, member, "must be %s; it is %s.", needed,
                        emb_json_type_name(emb_json_type_of(value)));
    return false;
}

bool emb_decode_bool(emb_api_call *call, emb_json_value object, const char *member, bool *out)
{
    emb_json_value value;
    if (!find(object, member, &value) || emb_json_bool(value, out))
        return true;
    return wrong_type(call, member, "true or false", value);
}

bool emb_decode_count(emb_api_call *call, emb_json_value object, const char *member, size_t minimum,
                      size_t maximum, size_t *out)
{
    emb_json_value value;
    int64_t number;
    double real;
    if (!find(object, member, &value))
        return true;
    if (!emb_json_double(value, &real))
        return wrong_type(call, member, "an integer", value);
    if (!emb_json_int(value, &number)) {
        emb_call_fail_field(call, member, "must be an integer from %zu to %zu; it is %.17g.", minimum,
                            maximum, real);
        return false;
    }
    if (number < 0 || (uint64_t)number < minimum || (uint64_t)number > maximum) {
        emb_call_fail_field(call, member, "must be from %zu to %zu; it is %lld.", minimum, maximum,
                            (long long)number);
        return false;
    }
    *out = (size_t)number;
    return true;
}

bool emb_decode_name(emb_api_call *call, emb_json_value object, const char *member, const char **out)
{
    emb_json_value value;
    const char *text;
    size_t length;
    if (!find(object, member, &value))
        return true;
    if (!emb_json_string(value, &text, &length))
        return wrong_type(call, member, "a string", value);
    if (memchr(text, 0, length)) {
        emb_call_fail_field(call, member, "holds a NUL byte.");
        return false;
    }
    if (length > NAME_MAX_BYTES) {
        emb_call_fail_field(call, member, "has %zu bytes; at most %d are taken.", length, NAME_MAX_BYTES);
        return false;
    }
    char *copy = emb_arena_strndup(call->arena, text, length);
    if (!copy) {
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
        return false;
    }
    *out = copy;
    return true;
}

bool emb_decode_choice(emb_api_call *call, emb_json_value object, const char *member, const char *choices,
                       int *out)
{
    const char *name = NULL;
    if (!emb_decode_name(call, object, member, &name))
        return false;
    if (!name)
        return true;
    size_t length = strlen(name);
    const char *p = choices;
    for (int i = 0; *name; i++) {
        size_t n = strcspn(p, "|");
        if (n == length && memcmp(p, name, n) == 0) {
            *out = i;
            return true;
        }
        if (!p[n])
            break;
        p += n + 1;
    }
    emb_call_fail_field(call, member, "\"%.80s\" is none of %s.", name, choices);
    return false;
}

/* A string without NUL, as a text. `label` names it in errors. */
static bool take_text(emb_api_call *call, emb_json_value value, const char *label, emb_text *out)
{
    if (!emb_json_string(value, &out->data, &out->length))
        return wrong_type(call, label, "a string", value);
    const char *nul = memchr(out->data, 0, out->length);
    if (!nul)
        return true;
    emb_call_fail_field(call, label, "holds a NUL byte at byte %zu.", (size_t)(nul - out->data));
    return false;
}

bool emb_decode_text(emb_api_call *call, emb_json_value object, const char *member, emb_text *out)
{
    emb_json_value value;
    if (!find(object, member, &value)) {
        emb_call_fail_missing(call, member);
        return false;
    }
    return take_text(call, value, member, out);
}

/* ---- texts ---- */

bool emb_text_is_blank(emb_text text)
{
    for (size_t i = 0; i < text.length;) {
        uint32_t c;
        i += emb_utf8_decode(text.data + i, text.length - i, &c);
        bool space = c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x1F) || c == 0x85 || c == 0xA0 ||
                     c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
                     c == 0x202F || c == 0x205F || c == 0x3000;
        if (!space)
            return false;
    }
    return true;
}

/* Refuses empty texts, naming the indexes of the first few. */
static bool check_empty(emb_api_call *call, const char *member, const emb_request *r, unsigned kinds,
                        bool single)
{
    char list[LISTED_INDEXES * 12 + 8] = "";
    size_t at = 0, found = 0, first = 0;
    for (size_t i = 0; i < r->count; i++) {
        bool empty =
            r->texts[i].length == 0 || ((kinds & EMB_TEXTS_NOT_EMPTY) && emb_text_is_blank(r->texts[i]));
        if (!empty)
            continue;
        if (found++ == 0)
            first = i;
        if (found <= LISTED_INDEXES)
            at += (size_t)snprintf(list + at, sizeof list - at, "%s%zu", found > 1 ? ", " : "", i);
    }
    if (!found)
        return true;
    char label[200];
    snprintf(label, sizeof label, single ? "%s" : "%s[%zu]", member, first);
    if (single)
        emb_call_fail(call, 400, "empty", member, "%s is empty.", member);
    else
        emb_call_fail(call, 400, "empty", label, "%s holds empty texts, at index %s%s.", member, list,
                      found > LISTED_INDEXES ? " and more" : "");
    return false;
}

static bool nomem(emb_api_call *call)
{
    emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
    return false;
}

static bool take_strings(emb_api_call *call, const char *member, emb_json_value array, size_t count,
                         emb_request *r)
{
    emb_text *texts = emb_arena_calloc(call->arena, count, sizeof *texts);
    if (!texts)
        return nomem(call);
    emb_json_iter it = emb_json_begin(array);
    emb_json_value value;
    for (size_t i = 0; i < count && emb_json_next(&it, NULL, NULL, &value); i++) {
        if (emb_json_string(value, &texts[i].data, &texts[i].length) &&
            !memchr(texts[i].data, 0, texts[i].length))
            continue;
        char label[200];
        snprintf(label, sizeof label, "%s[%zu]", member, i);
        return take_text(call, value, label, &texts[i]);
    }
    r->texts = texts;
    r->count = count;
    return true;
}

/* Token ids of one array to *ids; `label` as in errors. */
static bool take_ids(emb_api_call *call, const char *label, emb_json_value array, int32_t *ids)
{
    emb_json_iter it = emb_json_begin(array);
    emb_json_value value;
    int64_t id;
    for (size_t i = 0; emb_json_next(&it, NULL, NULL, &value); i++) {
        if (emb_json_int(value, &id) && id >= 0 && id <= INT32_MAX) {
            ids[i] = (int32_t)id;
            continue;
        }
        char element[240];
        snprintf(element, sizeof element, "%s[%zu]", label, i);
        double real;
        if (!emb_json_double(value, &real))
            return wrong_type(call, element, "a token id, an integer", value);
        emb_call_fail_field(call, element, "must be a token id, an integer from 0 to %d; it is %.17g.",
                            INT32_MAX, real);
        return false;
    }
    return true;
}

static bool take_one_id_list(emb_api_call *call, const char *member, emb_json_value array, size_t count,
                             emb_request *r)
{
    int32_t *ids = emb_arena_calloc(call->arena, count, sizeof *ids);
    size_t *offsets = emb_arena_calloc(call->arena, 2, sizeof *offsets);
    if (!ids || !offsets)
        return nomem(call);
    offsets[1] = count;
    r->ids = ids;
    r->offsets = offsets;
    r->count = 1;
    return take_ids(call, member, array, ids);
}

static bool take_id_lists(emb_api_call *call, const char *member, emb_json_value array, size_t count,
                          emb_request *r)
{
    size_t *offsets = emb_arena_calloc(call->arena, count + 1, sizeof *offsets);
    if (!offsets)
        return nomem(call);
    char label[200];
    emb_json_iter it = emb_json_begin(array);
    emb_json_value value;
    for (size_t i = 0; i < count && emb_json_next(&it, NULL, NULL, &value); i++) {
        snprintf(label, sizeof label, "%s[%zu]", member, i);
        if (emb_json_type_of(value) != EMB_JSON_ARRAY)
            return wrong_type(call, label, "an array of token ids like the others", value);
        size_t n = emb_json_count(value);
        if (n == 0) {
            emb_call_fail(call, 400, "empty", label, "%s is an empty array of token ids.", label);
            return false;
        }
        offsets[i + 1] = offsets[i] + n;
    }
    int32_t *ids = emb_arena_calloc(call->arena, offsets[count], sizeof *ids);
    if (!ids)
        return nomem(call);
    it = emb_json_begin(array);
    for (size_t i = 0; i < count && emb_json_next(&it, NULL, NULL, &value); i++) {
        snprintf(label, sizeof label, "%s[%zu]", member, i);
        if (!take_ids(call, label, value, ids + offsets[i]))
            return false;
    }
    r->ids = ids;
    r->offsets = offsets;
    r->count = count;
    return true;
}

static const char *what_is_needed(unsigned kinds)
{
    if (kinds & EMB_TEXTS_IDS)
        return kinds & EMB_TEXTS_ONE ? "a string, an array of strings, or token ids"
                                     : "an array of strings or token ids";
    if (kinds & EMB_TEXTS_MANY)
        return kinds & EMB_TEXTS_ONE ? "a string or an array of strings" : "an array of strings";
    return "a string";
}

static bool take_one_text(emb_api_call *call, const char *member, emb_json_value value, unsigned kinds,
                          emb_request *r)
{
    emb_text *text = emb_arena_calloc(call->arena, 1, sizeof *text);
    if (!text)
        return nomem(call);
    if (!take_text(call, value, member, text))
        return false;
    r->texts = text;
    r->count = 1;
    return !(kinds & (EMB_TEXTS_NOT_EMPTY | EMB_TEXTS_NOT_ZERO)) || check_empty(call, member, r, kinds, true);
}

static bool too_many(emb_api_call *call, const char *member, size_t count)
{
    emb_exchange_set_refused(call->x, "too_large");
    int status =
        call->route->family == EMB_FAMILY_MODEL_SERVER ? 422 : 413; /* as text-embeddings-inference has it */
    emb_call_fail(call, status, "too_many_inputs", member,
                  "%s has %zu elements; one request may have %zu (server.max_inputs).", member, count,
                  call->config->max_inputs);
    return false;
}

bool emb_decode_texts(emb_api_call *call, emb_json_value object, const char *member, unsigned kinds,
                      emb_request *r, bool *single)
{
    emb_json_value value, first;
    bool one = false;
    call->texts_member = member;
    if (!single)
        single = &one;
    *single = false;
    if (!find(object, member, &value)) {
        emb_call_fail_missing(call, member);
        return false;
    }
    emb_json_type type = emb_json_type_of(value);
    if (type == EMB_JSON_STRING && (kinds & EMB_TEXTS_ONE)) {
        *single = true;
        return take_one_text(call, member, value, kinds, r);
    }
    if (type != EMB_JSON_ARRAY || !(kinds & (EMB_TEXTS_MANY | EMB_TEXTS_IDS)))
        return wrong_type(call, member, what_is_needed(kinds), value);
    size_t count = emb_json_count(value);
    emb_json_iter it = emb_json_begin(value);
    if (count == 0 || !emb_json_next(&it, NULL, NULL, &first)) {
        r->count = 0;
        if (kinds & EMB_TEXTS_EMPTY_LIST)
            return true;
        emb_call_fail(call, 400, "empty", member, "%s is an empty array; at least one element is needed.",
                      member);
        return false;
    }
    emb_json_type element = emb_json_type_of(first);
    if ((kinds & EMB_TEXTS_IDS) && element == EMB_JSON_NUMBER) {
        *single = true;
        return take_one_id_list(call, member, value, count, r);
    }
    if (count > call->config->max_inputs)
        return too_many(call, member, count);
    if ((kinds & EMB_TEXTS_IDS) && element == EMB_JSON_ARRAY)
        return take_id_lists(call, member, value, count, r);
    if (!take_strings(call, member, value, count, r))
        return false;
    return !(kinds & (EMB_TEXTS_NOT_EMPTY | EMB_TEXTS_NOT_ZERO)) ||
           check_empty(call, member, r, kinds, false);
}

/* ---- what all families take ---- */

bool emb_request_set_context(emb_request *request, const char *name)
{
    if (!emb_context_parse(name, &request->context))
        return false;
    request->is_private = request->context == EMB_CONTEXT_SENSITIVE;
    request->priority = request->context == EMB_CONTEXT_BATCH ? EMB_PRIORITY_BULK : EMB_PRIORITY_INTERACTIVE;
    return true;
}

bool emb_decode_model(emb_api_call *call, emb_json_value object, emb_request *request)
{
    return emb_decode_name(call, object, "model", &request->model);
}

static bool truncation_named(const char *name, emb_truncation *out)
{
    static const struct {
        const char *name;
        emb_truncation value;
    } names[] = {{"none", EMB_TRUNCATE_NONE}, {"start", EMB_TRUNCATE_LEFT},  {"left", EMB_TRUNCATE_LEFT},
                 {"end", EMB_TRUNCATE_RIGHT}, {"right", EMB_TRUNCATE_RIGHT}, {"model", EMB_TRUNCATE_MODEL}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasecmp(name, names[i].name) == 0) {
            *out = names[i].value;
            return true;
        }
    return false;
}

bool emb_decode_truncate(emb_api_call *call, emb_json_value object, const char *member, emb_truncation *out)
{
    emb_json_value value;
    bool on;
    const char *name = NULL;
    if (!find(object, member, &value))
        return true;
    if (emb_json_bool(value, &on)) {
        if (!on || *out == EMB_TRUNCATE_NONE)
            *out = on ? EMB_TRUNCATE_MODEL : EMB_TRUNCATE_NONE;
        return true;
    }
    if (emb_json_type_of(value) != EMB_JSON_STRING)
        return wrong_type(call, member, "true, false, \"none\", \"start\" or \"end\"", value);
    if (!emb_decode_name(call, object, member, &name))
        return false;
    if (truncation_named(name, out))
        return true;
    emb_call_fail_field(call, member, "\"%.60s\" is none of true, false, \"none\", \"start\", \"end\".",
                        name);
    return false;
}

static bool decode_context(emb_api_call *call, emb_json_value object, emb_request *request)
{
    const char *context = NULL;
    if (!emb_decode_name(call, object, "context", &context))
        return false;
    if (!context || !*context || emb_request_set_context(request, context))
        return true;
    emb_call_fail_field(
        call, "context",
        "\"%.60s\" is not a context; there are realtime, analysis, batch, sensitive and default.", context);
    return false;
}

bool emb_decode_common(emb_api_call *call, emb_json_value object, emb_request *request)
{
    bool normalize = true;
    emb_json_value value;
    if (!emb_decode_model(call, object, request) ||
        !emb_decode_count(call, object, "dimensions", 1, 65536, &request->dimensions) ||
        !emb_decode_name(call, object, "prompt_name", &request->prompt_name) ||
        !emb_decode_bool(call, object, "normalize", &normalize) ||
        !emb_decode_truncate(call, object, "truncate", &request->truncation) ||
        !decode_context(call, object, request) ||
        !emb_decode_name(call, object, "category", &request->category) ||
        !emb_decode_name(call, object, "preferred_provider", &request->preferred_provider) ||
        !emb_decode_name(call, object, "user", &request->user))
        return false;
    if (find(object, "normalize", &value))
        request->normalize = normalize ? EMB_ON : EMB_OFF;
    return true;
}
