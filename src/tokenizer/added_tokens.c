/*
 * added_tokens.c: finding added tokens, leftmost first, the longest where several start.
 *
 * The usual sets have five patterns that start with one or two different bytes, so candidates are found
 * with memchr and checked by walking a trie: far faster on text without hits than running an automaton
 * over every byte. Many different first bytes fall back to a table. The worst case is the length of the
 * longest pattern for each byte, and patterns are short.
 *
 * The order of decisions follows the reference to the letter, also where it looks odd: a match that is
 * refused because it is not a word of its own still consumes its text, and spaces that lstrip and rstrip
 * add do not move the place where the search goes on.
 */
#include "tokenizer/added_tokens.h"

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_ADDED = 1 << 20 };

/* ---- matching ---- */

void emb_sections_fini(emb_sections *sections)
{
    free(sections->data);
    *sections = (emb_sections){0};
}

static emb_status add_section(emb_sections *out, size_t begin, size_t end, int32_t token)
{
    if (begin >= end)
        return EMB_OK; /* the reference drops empty ones */
    if (out->count == out->capacity) {
        size_t capacity = out->capacity ? out->capacity * 2 : 16;
        void *data = realloc(out->data, capacity * sizeof *out->data);
        if (data == NULL)
            return EMB_E_NOMEM;
        out->data = data;
        out->capacity = capacity;
    }
    out->data[out->count++] = (emb_section){(uint32_t)begin, (uint32_t)end, token};
    return EMB_OK;
}

/* Where the next pattern may start. The place of each first byte is remembered, so that every byte of the
 * text is looked at once per first byte. */
typedef struct finder {
    const emb_added_matcher *matcher;
    const char *text;
    size_t length;
    size_t next[EMB_ADDED_FIRSTS]; /* >= the position asked for last, or length */
    bool known[EMB_ADDED_FIRSTS];
} finder;

static size_t next_candidate(finder *f, size_t from)
{
    const emb_added_matcher *m = f->matcher;
    size_t nearest = f->length;
    if (from >= f->length) /* also: an empty text may have no address */
        return nearest;
    if (m->first_count == 0) {
        while (from < f->length && !m->first[(unsigned char)f->text[from]])
            from++;
        return from;
    }
    for (unsigned k = 0; k < m->first_count; k++) {
        if (!f->known[k] || f->next[k] < from) {
            const char *hit = memchr(f->text + from, m->firsts[k], f->length - from);
            f->next[k] = hit ? (size_t)(hit - f->text) : f->length;
            f->known[k] = true;
        }
        if (f->next[k] < nearest)
            nearest = f->next[k];
    }
    return nearest;
}

/* The longest pattern that starts at `at`: its token's index and *end, or -1. */
static int32_t longest_match(const emb_added_matcher *matcher, const char *text, size_t length, size_t at,
                             size_t *end)
{
    uint32_t node = EMB_TRIE_ROOT;
    int32_t best = -1;
    for (size_t i = at; i < length; i++) {
        node = emb_trie_step(&matcher->trie, node, (unsigned char)text[i]);
        if (node == 0)
            break;
        if (emb_trie_value(&matcher->trie, node) >= 0) {
            best = emb_trie_value(&matcher->trie, node);
            *end = i + 1;
        }
    }
    return best;
}

/* Start of the character that ends at `end` (> 0). */
static size_t previous_char(const char *text, size_t end, uint32_t *c)
{
    size_t at = end - 1;
    while (at > 0 && end - at < 4 && ((unsigned char)text[at] & 0xC0) == 0x80)
        at--;
    emb_utf8_decode(text + at, end - at, c);
    return at;
}

static bool stands_alone(const char *text, size_t length, size_t start, size_t end)
{
    uint32_t c;
    if (start > 0) {
        previous_char(text, start, &c);
        if (emb_unicode_is(c, EMB_UNICODE_WORD))
            return false;
    }
    if (end < length) {
        emb_utf8_decode(text + end, length - end, &c);
        if (emb_unicode_is(c, EMB_UNICODE_WORD))
            return false;
    }
    return true;
}

static size_t spaces_before(const char *text, size_t start)
{
    while (start > 0) {
        uint32_t c;
        size_t at = previous_char(text, start, &c);
        if (!emb_unicode_is(c, EMB_UNICODE_WHITESPACE))
            break;
        start = at;
    }
    return start;
}

static size_t spaces_behind(const char *text, size_t length, size_t end)
{
    while (end < length) {
        uint32_t c;
        size_t taken = emb_utf8_decode(text + end, length - end, &c);
        if (!emb_unicode_is(c, EMB_UNICODE_WHITESPACE))
            break;
        end += taken;
    }
    return end;
}

emb_status emb_added_split(const emb_added_tokens *added, const emb_added_matcher *matcher, const char *text,
                           size_t length, emb_sections *out)
{
    finder f = {.matcher = matcher, .text = text, .length = length};
    size_t done = 0, at = 0;
    emb_status status = EMB_OK;
    out->count = 0;
    while (matcher->count > 0 && status == EMB_OK && (at = next_candidate(&f, at)) < length) {
        size_t start = at, end = at;
        int32_t index = longest_match(matcher, text, length, at, &end);
        if (index < 0) {
            at++;
            continue;
        }
        at = end;
        const emb_added_token *token = &added->tokens[index];
        if (token->single_word && !stands_alone(text, length, start, end))
            continue;
        if (token->lstrip) {
            start = spaces_before(text, start);
            if (start < done)
                start = done;
        }
        if (token->rstrip)
            end = spaces_behind(text, length, end);
        if (done < start)
            status = add_section(out, done, start, -1);
        if (status == EMB_OK)
            status = add_section(out, start, end, index);
        done = end;
    }
    return status == EMB_OK && done < length ? add_section(out, done, length, -1) : status;
}

/* ---- parsing ---- */

static emb_status read_flag(emb_json_value json, const char *key, bool otherwise, const char *where,
                            bool *out, emb_error *err)
{
    emb_json_value value;
    *out = otherwise;
    if (!emb_json_get(json, key, &value) || emb_json_bool(value, out))
        return EMB_OK;
    return emb_fail(err, EMB_E_CORRUPT, where, "added_tokens: %s is %s, true or false is needed", key,
                    emb_json_type_name(emb_json_type_of(value)));
}

static emb_status read_token(emb_json_value json, emb_arena *arena, const char *where, emb_added_token *out,
                             emb_error *err)
{
    emb_json_value value;
    const char *content;
    size_t length;
    if (!emb_json_get(json, "content", &value) || !emb_json_string(value, &content, &length) ||
        length > INT32_MAX)
        return emb_fail(err, EMB_E_CORRUPT, where, "added_tokens: an entry has no string \"content\"");
    emb_status status = read_flag(json, "special", false, where, &out->special, err);
    if (status == EMB_OK)
        status = read_flag(json, "normalized", !out->special, where, &out->normalized, err);
    if (status == EMB_OK)
        status = read_flag(json, "single_word", false, where, &out->single_word, err);
    if (status == EMB_OK)
        status = read_flag(json, "lstrip", false, where, &out->lstrip, err);
    if (status == EMB_OK)
        status = read_flag(json, "rstrip", false, where, &out->rstrip, err);
    if (status != EMB_OK)
        return status;
    out->length = (uint32_t)length;
    out->content = emb_arena_strndup(arena, content, length);
    return out->content == NULL ? emb_fail_nomem(err, "an added token", length) : EMB_OK;
}

static int compare_contents(const void *left, const void *right)
{
    const emb_added_token *a = *(const emb_added_token *const *)left;
    const emb_added_token *b = *(const emb_added_token *const *)right;
    uint32_t shorter = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->content, b->content, shorter);
    if (order == 0)
        order = a->length < b->length ? -1 : a->length > b->length;
    return order ? order : (a < b ? -1 : a > b);
}

/* Gives ids in the order of the file. Of entries that repeat a content the last one's properties count,
 * with the id of the first. */
static emb_status assign_ids(emb_added_tokens *added, const emb_vocab_model *model, emb_error *err)
{
    emb_added_token **sorted = malloc((added->count ? added->count : 1) * sizeof *sorted);
    if (sorted == NULL)
        return emb_fail_nomem(err, "added tokens", added->count * sizeof *sorted);
    int64_t next = (int64_t)model->entries(model);
    for (size_t i = 0; i < added->count; i++) {
        sorted[i] = &added->tokens[i];
        sorted[i]->id = -1;
    }
    qsort(sorted, added->count, sizeof *sorted, compare_contents);
    /* Mark repeats with the distance to the first of their kind. */
    for (size_t i = 1, first = 0; i < added->count; i++) {
        if (sorted[i]->length == sorted[first]->length &&
            memcmp(sorted[i]->content, sorted[first]->content, sorted[i]->length) == 0) {
            sorted[i]->id = -2 - (int32_t)(sorted[first] - added->tokens);
            sorted[i - 1]->superseded = true;
        } else {
            first = i;
        }
    }
    free(sorted);
    for (size_t i = 0; i < added->count; i++) {
        emb_added_token *token = &added->tokens[i];
        if (token->id <= -2) {
            token->id = added->tokens[-2 - token->id].id;
            continue;
        }
        token->id = model->id(model, token->content, token->length);
        if (token->id < 0 && next < INT32_MAX)
            token->id = (int32_t)next++;
    }
    return EMB_OK;
}

static emb_status trie_failure(emb_status status, const char *where, emb_error *err)
{
    if (status == EMB_E_NOMEM)
        return emb_fail_nomem(err, "added tokens", 0);
    return emb_fail(err, status, where, "added_tokens: too large");
}

/* Builds the matcher over keys (values: indices). */
static emb_status build_matcher(emb_added_matcher *matcher, const emb_trie_key *keys, size_t count,
                                const char *where, emb_error *err)
{
    emb_status status = emb_trie_build(&matcher->trie, keys, count);
    if (status != EMB_OK)
        return trie_failure(status, where, err);
    matcher->count = count;
    unsigned firsts = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned char byte = (unsigned char)keys[i].text[0];
        if (!matcher->first[byte] && firsts++ < EMB_ADDED_FIRSTS)
            matcher->firsts[firsts - 1] = byte;
        matcher->first[byte] = true;
    }
    matcher->first_count = firsts <= EMB_ADDED_FIRSTS ? firsts : 0;
    return EMB_OK;
}

/* The pattern of a token: itself, or itself normalized. */
static emb_status pattern_of(const emb_added_token *token, const emb_normalizer *normalizer, emb_arena *arena,
                             emb_span_text *text, emb_span_text *spare, emb_trie_key *key, emb_error *err)
{
    *key = (emb_trie_key){token->content, token->length, 0};
    if (!token->normalized || normalizer == NULL)
        return EMB_OK;
    emb_span_text_restart(text, false);
    emb_status status = emb_span_text_add(text, token->content, token->length, 0, 0);
    if (status != EMB_OK)
        return emb_text_fail(err, status);
    status = emb_normalizer_apply(normalizer, text, spare, err);
    if (status != EMB_OK)
        return status;
    char *kept = emb_arena_alloc(arena, text->length ? text->length : 1);
    if (kept == NULL)
        return emb_fail_nomem(err, "an added token", text->length);
    if (text->length > 0)
        memcpy(kept, text->data, text->length);
    *key = (emb_trie_key){kept, (uint32_t)text->length, 0};
    return EMB_OK;
}

static emb_status build_matchers(emb_added_tokens *added, const emb_normalizer *normalizer, emb_arena *arena,
                                 const char *where, emb_error *err)
{
    size_t raw = 0, normalized = 0, room = added->count ? added->count : 1;
    emb_trie_key *raw_keys = malloc(room * sizeof *raw_keys);
    emb_trie_key *normalized_keys = malloc(room * sizeof *normalized_keys);
    emb_trie_key *contents = malloc(room * sizeof *contents);
    emb_span_text text, spare;
    emb_span_text_init(&text, false);
    emb_span_text_init(&spare, false);
    emb_status status = EMB_OK;
    if (raw_keys == NULL || normalized_keys == NULL || contents == NULL)
        status = emb_fail_nomem(err, "added tokens", room * sizeof *raw_keys);
    for (size_t i = 0; i < added->count && status == EMB_OK; i++) {
        const emb_added_token *token = &added->tokens[i];
        emb_trie_key key;
        contents[i] = (emb_trie_key){token->content, token->length, (int32_t)i};
        if (token->superseded)
            continue;
        text.limit = spare.limit = (size_t)token->length * 64 + 4096;
        status = pattern_of(token, normalizer, arena, &text, &spare, &key, err);
        key.value = (int32_t)i;
        if (status != EMB_OK || key.length == 0)
            continue;
        if (token->normalized)
            normalized_keys[normalized++] = key;
        else
            raw_keys[raw++] = key;
    }
    if (status == EMB_OK)
        status = build_matcher(&added->raw, raw_keys, raw, where, err);
    if (status == EMB_OK)
        status = build_matcher(&added->normalized, normalized_keys, normalized, where, err);
    if (status == EMB_OK) {
        status = emb_trie_build(&added->by_content, contents, added->count);
        if (status != EMB_OK)
            status = trie_failure(status, where, err);
    }
    free(raw_keys);
    free(normalized_keys);
    free(contents);
    emb_span_text_fini(&text);
    emb_span_text_fini(&spare);
    return status;
}

emb_status emb_added_parse(emb_added_tokens *added, emb_json_value list, const emb_vocab_model *model,
                           const emb_normalizer *normalizer, emb_arena *arena, const char *where,
                           emb_error *err)
{
    emb_json_value item;
    const char *key;
    size_t key_length, entries = emb_json_count(list);
    *added = (emb_added_tokens){0};
    if (emb_json_type_of(list) != EMB_JSON_ARRAY && emb_json_type_of(list) != EMB_JSON_NULL)
        return emb_fail(err, EMB_E_CORRUPT, where, "added_tokens is %s, an array is needed",
                        emb_json_type_name(emb_json_type_of(list)));
    if (entries > MAX_ADDED)
        return emb_fail(err, EMB_E_LIMIT, where, "added_tokens has %zu entries, %d are allowed", entries,
                        MAX_ADDED);
    added->tokens = emb_arena_calloc(arena, entries ? entries : 1, sizeof *added->tokens);
    if (added->tokens == NULL)
        return emb_fail_nomem(err, "added tokens", entries * sizeof *added->tokens);
    emb_status status = EMB_OK;
    for (emb_json_iter it = emb_json_begin(list);
         status == EMB_OK && emb_json_next(&it, &key, &key_length, &item);) {
        emb_added_token *token = &added->tokens[added->count];
        status = read_token(item, arena, where, token, err);
        if (status == EMB_OK && token->length > 0)
            added->count++;
    }
    if (status == EMB_OK)
        status = assign_ids(added, model, err);
    if (status == EMB_OK)
        status = build_matchers(added, normalizer, arena, where, err);
    if (status != EMB_OK)
        emb_added_fini(added);
    return status;
}

void emb_added_fini(emb_added_tokens *added)
{
    emb_trie_fini(&added->raw.trie);
    emb_trie_fini(&added->normalized.trie);
    emb_trie_fini(&added->by_content);
    added->count = 0;
}
