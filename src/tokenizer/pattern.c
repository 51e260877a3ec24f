/*
 * pattern.c: literal search, and regular expressions by PCRE2.
 *
 * The reference's expressions are Oniguruma's. Where the two engines read the same text differently, the
 * expression is translated before it is compiled: \s (U+180E is white space to PCRE2 alone), \h (a
 * hexadecimal digit), \p{L} and \p{N} (newer Unicode); ^ and $ match at every line, and only U+000A ends
 * a line. What would silently mean something else and is not translated ({n,m}+, absent and conditional
 * groups) is refused when loading.
 *
 * Literals never go through the engine. Compiled code is shared by threads; what a match needs beside it
 * is made for each scan. A step limit bounds backtracking on hostile text.
 */
#include "tokenizer/pattern.h"
#include "base/buf.h"
#include "base/error.h"
#include "tokenizer/transform.h"
#include "tokenizer/unicode_classes.h"

#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum { STEP_LIMIT = 20000000, PATTERN_BYTES_MAX = 1 << 16 };

struct emb_pattern {
    const char *literal; /* NULL: expression */
    size_t literal_length;
    pcre2_code *code;
    pcre2_match_context *context;
};

/* ---- translation ---- */

#define SPACES                                                                         \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}" \
    "\\x{202f}\\x{205f}\\x{3000}"

typedef struct rule {
    const char *from;
    const char *members; /* to put in a character class, or between brackets outside of one */
    bool negated;        /* only possible outside of a class; kept as it is inside */
} rule;

static const rule rules[] = {
    {"\\s", SPACES, false},
    {"\\S", SPACES, true},
    {"\\h", "0-9a-fA-F", false},
    {"\\H", "0-9a-fA-F", true},
    {"\\p{L}", "\\p{L}" EMB_UNICODE_NEW_LETTERS, false},
    {"\\P{L}", "\\p{L}" EMB_UNICODE_NEW_LETTERS, true},
    {"\\p{N}", "\\p{N}" EMB_UNICODE_NEW_NUMBERS, false},
    {"\\P{N}", "\\p{N}" EMB_UNICODE_NEW_NUMBERS, true},
};

static const rule *rule_at(const char *text, size_t length)
{
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        size_t size = strlen(rules[i].from);
        if (length >= size && memcmp(text, rules[i].from, size) == 0)
            return &rules[i];
    }
    return NULL;
}

/* Copies one element of the expression at text to out, translated; *taken is its length. */
static emb_status translate_one(const char *text, size_t length, unsigned *depth, emb_buf *out, size_t *taken)
{
    *taken = 1;
    if (text[0] == '[')
        ++*depth;
    else if (text[0] == ']' && *depth > 0)
        --*depth;
    if (text[0] != '\\' || length < 2)
        return emb_buf_add(out, text, 1);
    const rule *r = rule_at(text, length);
    if (r == NULL || (*depth > 0 && r->negated)) {
        *taken = 2;
        return emb_buf_add(out, text, 2);
    }
    *taken = strlen(r->from);
    if (*depth > 0)
        return emb_buf_add_str(out, r->members);
    emb_status status = emb_buf_add_str(out, r->negated ? "[^" : "[");
    if (status == EMB_OK)
        status = emb_buf_add_str(out, r->members);
    return status == EMB_OK ? emb_buf_add_str(out, "]") : status;
}

/* The constructs that the two engines read differently and that are not translated. */
static const char *refused(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\\') {
            i++;
            continue;
        }
        if (text[i] == '}' && i + 1 < length && text[i + 1] == '+') {
            size_t open = i;
            while (open > 0 && ((text[open - 1] >= '0' && text[open - 1] <= '9') || text[open - 1] == ','))
                open--;
            if (open > 0 && text[open - 1] == '{' && open < i)
                return "{n,m}+";
        }
        if (text[i] == '(' && i + 2 < length && text[i + 1] == '?' && text[i + 2] == '~')
            return "(?~";
        if (text[i] == '(' && i + 2 < length && text[i + 1] == '?' && text[i + 2] == 'm')
            return "(?m";
        if (text[i] == '&' && i + 1 < length && text[i + 1] == '&')
            return "&&";
    }
    return NULL;
}

static emb_status translate(const char *text, size_t length, const char *where, emb_buf *out, emb_error *err)
{
    const char *odd = refused(text, length);
    if (odd != NULL)
        return emb_fail(err, EMB_E_UNSUPPORTED, where,
                        "the regular expression uses %s, which is not supported", odd);
    if (length > PATTERN_BYTES_MAX)
        return emb_fail(err, EMB_E_LIMIT, where, "the regular expression has %zu bytes, the limit is %d",
                        length, PATTERN_BYTES_MAX);
    unsigned depth = 0;
    for (size_t i = 0, taken; i < length; i += taken) {
        /* A bracket right behind the opening one is a member. */
        if (depth > 0 && text[i] == ']' && i > 0 &&
            (text[i - 1] == '[' || (text[i - 1] == '^' && i > 1 && text[i - 2] == '['))) {
            taken = 1;
            if (emb_buf_add(out, "\\]", 2) != EMB_OK)
                return emb_fail_nomem(err, "regular expression", length);
            continue;
        }
        if (translate_one(text + i, length - i, &depth, out, &taken) != EMB_OK)
            return emb_fail_nomem(err, "regular expression", length);
    }
    return EMB_OK;
}

/* ---- loading ---- */

static emb_status compile(emb_pattern *p, const char *text, size_t length, const char *where, emb_error *err)
{
    emb_buf translated = EMB_BUF_INIT(64u << 20);
    emb_status status = translate(text, length, where, &translated, err);
    pcre2_compile_context *options = NULL;
    if (status != EMB_OK)
        goto out;
    status = EMB_E_NOMEM;
    options = pcre2_compile_context_create(NULL);
    p->context = pcre2_match_context_create(NULL);
    if (options == NULL || p->context == NULL) {
        status = emb_fail_nomem(err, "regular expression", length);
        goto out;
    }
    pcre2_set_newline(options, PCRE2_NEWLINE_LF);
    pcre2_set_match_limit(p->context, STEP_LIMIT);
    int code;
    PCRE2_SIZE offset;
    p->code = pcre2_compile((PCRE2_SPTR)(translated.data ? translated.data : ""), translated.length,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &offset,
                            options);
    if (p->code == NULL && code == PCRE2_ERROR_HEAP_FAILED) {
        status = emb_fail_nomem(err, "regular expression", length);
    } else if (p->code == NULL) {
        PCRE2_UCHAR message[128] = {0};
        pcre2_get_error_message(code, message, sizeof message);
        status = emb_fail(err, EMB_E_CORRUPT, where, "the regular expression does not compile: %s",
                          (const char *)message);
    } else {
        /* Without it matching is slower, nothing else. */
        (void)pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
        status = EMB_OK;
    }
out:
    pcre2_compile_context_free(options);
    emb_buf_fini(&translated);
    return status;
}

emb_status emb_pattern_parse(emb_json_value json, emb_arena *arena, const char *where, emb_pattern **out,
                             emb_error *err)
{
    emb_json_value value;
    const char *text;
    size_t length;
    bool literal = emb_json_string(json, &text, &length) ||
                   (emb_json_get(json, "String", &value) && emb_json_string(value, &text, &length));
    if (!literal && !(emb_json_get(json, "Regex", &value) && emb_json_string(value, &text, &length)))
        return emb_fail(err, EMB_E_CORRUPT, where, "pattern is neither a \"String\" nor a \"Regex\"");
    emb_pattern *p = emb_arena_calloc(arena, 1, sizeof *p);
    if (p == NULL)
        return emb_fail_nomem(err, "pattern", sizeof *p);
    if (literal) {
        p->literal = emb_arena_strndup(arena, text, length);
        p->literal_length = length;
        if (p->literal == NULL)
            return emb_fail_nomem(err, "pattern", length);
    } else {
        emb_status status = compile(p, text, length, where, err);
        if (status != EMB_OK) {
            emb_pattern_release(p);
            return status;
        }
    }
    *out = p;
    return EMB_OK;
}

void emb_pattern_release(emb_pattern *pattern)
{
    if (pattern == NULL)
        return;
    pcre2_code_free(pattern->code);
    pcre2_match_context_free(pattern->context);
    pattern->code = NULL;
    pattern->context = NULL;
}

/* ---- matching ---- */

emb_status emb_pattern_scan_begin(emb_pattern_scan *scan, const emb_pattern *pattern, const char *text,
                                  size_t length, emb_error *err)
{
    *scan = (emb_pattern_scan){
        .pattern = pattern, .text = length ? text : "", .length = length, .last_end = SIZE_MAX};
    if (pattern->literal != NULL)
        return EMB_OK;
    scan->match_data = pcre2_match_data_create(1, NULL);
    return scan->match_data != NULL ? EMB_OK : emb_fail_nomem(err, "match", length);
}

void emb_pattern_scan_end(emb_pattern_scan *scan)
{
    pcre2_match_data_free(scan->match_data);
    scan->match_data = NULL;
}

/* One search from scan->at, empty matches included. */
static emb_status search(emb_pattern_scan *scan, bool *found, size_t *start, size_t *end, emb_error *err)
{
    const emb_pattern *p = scan->pattern;
    *found = false;
    if (p->literal != NULL) {
        const char *hit = p->literal_length == 0 ? scan->text + scan->at
                                                 : memmem(scan->text + scan->at, scan->length - scan->at,
                                                          p->literal, p->literal_length);
        if (hit != NULL) {
            *found = true;
            *start = (size_t)(hit - scan->text);
            *end = *start + p->literal_length;
        }
        return EMB_OK;
    }
    PCRE2_SPTR subject = (PCRE2_SPTR)scan->text;
    int count = pcre2_match(p->code, subject, scan->length, scan->at, PCRE2_NO_UTF_CHECK, scan->match_data,
                            p->context);
    if (count == PCRE2_ERROR_JIT_STACKLIMIT)
        count = pcre2_match(p->code, subject, scan->length, scan->at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                            scan->match_data, p->context);
    if (count == PCRE2_ERROR_NOMATCH)
        return EMB_OK;
    if (count == PCRE2_ERROR_NOMEMORY || count == PCRE2_ERROR_HEAPLIMIT)
        return emb_fail_nomem(err, "match", scan->length);
    if (count < 0)
        return emb_fail(err, EMB_E_LIMIT, NULL,
                        "a regular expression of the tokenizer takes too many steps on "
                        "this text (PCRE2 error %d)",
                        count);
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(scan->match_data);
    *found = true;
    *start = ends[0];
    *end = ends[1] < ends[0] ? ends[0] : ends[1]; /* \K in a look-ahead may turn them round */
    return EMB_OK;
}

emb_status emb_pattern_scan_next(emb_pattern_scan *scan, bool *found, size_t *start, size_t *end,
                                 emb_error *err)
{
    for (;;) {
        *found = false;
        if (scan->at > scan->length)
            return EMB_OK;
        emb_status status = search(scan, found, start, end, err);
        if (status != EMB_OK || !*found) {
            scan->at = scan->length + 1;
            return status;
        }
        if (*start < scan->at)
            *start = scan->at;
        if (*end == *start && *end == scan->last_end) {
            scan->at += scan->at < scan->length ? emb_utf8_size(scan->text[scan->at]) : 1;
            continue;
        }
        scan->at = scan->last_end = *end;
        return EMB_OK;
    }
}
