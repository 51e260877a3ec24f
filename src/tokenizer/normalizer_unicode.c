/*
 * normalizer_unicode.c: NFC, NFD, NFKC and NFKD with alignments.
 *
 * Text streams through two stages, each character with the count of characters that it stands for (see
 * transform.h): decomposition, which sorts every run of combining marks by class, and composition, which
 * holds the last starter and the marks that could not be joined to it. Both hold back at most one run of
 * marks; runs are as long as the text says, so they lie on the heap beyond 64 marks and are sorted in
 * O(n log n). Library normalizers were rejected: they give no alignments, and the reference's data is
 * Unicode 9.
 *
 * Text in ASCII is in every form already and is left alone.
 */
#include "tokenizer/normalizer_unicode.h"
#include "base/error.h"
#include "tokenizer/transform.h"
#include "tokenizer/unicode.h"

#include <stdlib.h>
#include <string.h>

typedef struct mark {
    uint32_t c;
    uint8_t class;
    long change;
    size_t order; /* keeps sorting stable */
} mark;

typedef struct run {
    mark *data, small[64];
    size_t count, capacity;
} run;

typedef struct former {
    emb_transform to;
    bool compatible, compose;
    run pending; /* marks behind the last starter, not sorted yet */
    run apart;   /* marks that did not compose with the starter */
    bool has_starter;
    uint32_t starter;
    long starter_change;
    int last_class; /* of the last mark in apart; -1: none */
} former;

static void run_init(run *r)
{
    r->data = r->small;
    r->count = 0;
    r->capacity = sizeof r->small / sizeof r->small[0];
}

static void run_fini(run *r)
{
    if (r->data != r->small)
        free(r->data);
}

static emb_status run_add(run *r, uint32_t c, uint8_t class, long change)
{
    if (r->count == r->capacity) {
        bool small = r->data == r->small;
        mark *data = realloc(small ? NULL : r->data, r->capacity * 2 * sizeof *data);
        if (data == NULL)
            return EMB_E_NOMEM;
        if (small)
            memcpy(data, r->small, sizeof r->small);
        r->data = data;
        r->capacity *= 2;
    }
    r->data[r->count] = (mark){c, class, change, r->count};
    r->count++;
    return EMB_OK;
}

static int compare_marks(const void *left, const void *right)
{
    const mark *a = left, *b = right;
    if (a->class != b->class)
        return a->class < b->class ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

static void run_sort(run *r)
{
    if (r->count > 16) {
        qsort(r->data, r->count, sizeof *r->data, compare_marks);
        return;
    }
    for (size_t i = 1; i < r->count; i++) {
        mark moving = r->data[i];
        size_t at = i;
        for (; at > 0 && r->data[at - 1].class > moving.class; at--)
            r->data[at] = r->data[at - 1];
        r->data[at] = moving;
    }
}

/* ---- composition ---- */

static emb_status flush_apart(former *f)
{
    emb_status status = EMB_OK;
    for (size_t i = 0; i < f->apart.count && status == EMB_OK; i++)
        status = emb_transform_put(&f->to, f->apart.data[i].c, f->apart.data[i].change);
    f->apart.count = 0;
    f->last_class = -1;
    return status;
}

/* Takes the next character of the decomposed text. */
static emb_status take(former *f, uint32_t c, uint8_t class, long change)
{
    if (!f->compose)
        return emb_transform_put(&f->to, c, change);
    if (!f->has_starter) {
        if (class != 0)
            return emb_transform_put(&f->to, c, change);
        f->has_starter = true;
        f->starter = c;
        f->starter_change = change;
        return EMB_OK;
    }
    if (f->last_class < (int)class) {
        /* Nothing stands between the starter and this (last_class is -1 then) or only lower classes. */
        uint32_t composed =
            emb_unicode_is(c, EMB_UNICODE_COMPOSES_BACK) ? emb_unicode_compose(f->starter, c) : 0;
        if (composed != 0) {
            f->starter = composed;
            f->starter_change += change - 1;
            return EMB_OK;
        }
    }
    if (class != 0) {
        f->last_class = class;
        return run_add(&f->apart, c, class, change);
    }
    emb_status status = emb_transform_put(&f->to, f->starter, f->starter_change);
    if (status == EMB_OK)
        status = flush_apart(f);
    f->starter = c;
    f->starter_change = change;
    return status;
}

/* ---- decomposition ---- */

static emb_status flush_pending(former *f)
{
    emb_status status = EMB_OK;
    run_sort(&f->pending);
    for (size_t i = 0; i < f->pending.count && status == EMB_OK; i++)
        status = take(f, f->pending.data[i].c, f->pending.data[i].class, f->pending.data[i].change);
    f->pending.count = 0;
    return status;
}

static emb_status decompose(former *f, uint32_t c)
{
    uint32_t parts[EMB_UNICODE_DECOMPOSITION_MAX];
    size_t count = emb_unicode_decompose(c, f->compatible, parts);
    emb_status status = EMB_OK;
    for (size_t i = 0; i < count && status == EMB_OK; i++) {
        uint8_t class = parts[i] < 0x300 ? 0 : emb_unicode_lookup(parts[i])->combining_class;
        if (class != 0) {
            status = run_add(&f->pending, parts[i], class, i == 0 ? 0 : 1);
            continue;
        }
        if (f->pending.count > 0)
            status = flush_pending(f);
        if (status == EMB_OK)
            status = take(f, parts[i], 0, i == 0 ? 0 : 1);
    }
    return status;
}

static bool all_ascii(const char *s, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, s + i, 8);
        if (word & 0x8080808080808080u)
            return false;
    }
    for (; i < n; i++)
        if ((unsigned char)s[i] >= 0x80)
            return false;
    return true;
}

emb_status emb_normalize_form(emb_span_text *text, emb_span_text *spare, bool compatible, bool compose,
                              emb_error *err)
{
    if (all_ascii(text->data, text->length))
        return EMB_OK;
    former f = {.compatible = compatible, .compose = compose, .last_class = -1};
    f.to = (emb_transform){spare, text, 0};
    run_init(&f.pending);
    run_init(&f.apart);
    emb_span_text_clear(spare);
    emb_status status = emb_span_text_reserve(spare, text->length + text->length / 8);
    for (size_t i = 0; i < text->length && status == EMB_OK;) {
        uint32_t c;
        i += emb_utf8_next(text->data + i, &c);
        if (c < 0x80 && f.pending.count == 0)
            status = take(&f, c, 0, 0);
        else
            status = decompose(&f, c);
    }
    if (status == EMB_OK)
        status = flush_pending(&f);
    if (status == EMB_OK && f.has_starter)
        status = emb_transform_put(&f.to, f.starter, f.starter_change);
    if (status == EMB_OK)
        status = flush_apart(&f);
    run_fini(&f.pending);
    run_fini(&f.apart);
    if (status != EMB_OK)
        return emb_fail_nomem(err, "normalized text", text->length);
    emb_span_text_swap(text, spare);
    return EMB_OK;
}

/* ---- the normalizers ---- */

static emb_status nfc_apply(const emb_normalizer *self, emb_span_text *text, emb_span_text *spare,
                            emb_error *err)
{
    (void)self;
    return emb_normalize_form(text, spare, false, true, err);
}

static emb_status nfd_apply(const emb_normalizer *self, emb_span_text *text, emb_span_text *spare,
                            emb_error *err)
{
    (void)self;
    return emb_normalize_form(text, spare, false, false, err);
}

static emb_status nfkc_apply(const emb_normalizer *self, emb_span_text *text, emb_span_text *spare,
                             emb_error *err)
{
    (void)self;
    return emb_normalize_form(text, spare, true, true, err);
}

static emb_status nfkd_apply(const emb_normalizer *self, emb_span_text *text, emb_span_text *spare,
                             emb_error *err)
{
    (void)self;
    return emb_normalize_form(text, spare, true, false, err);
}

emb_status emb_parse_unicode_form(emb_json_value json, emb_arena *arena, const char *where,
                                  emb_normalizer **out, emb_error *err)
{
    static const emb_normalizer forms[] = {
        {"NFC", nfc_apply, NULL},
        {"NFD", nfd_apply, NULL},
        {"NFKC", nfkc_apply, NULL},
        {"NFKD", nfkd_apply, NULL},
    };
    emb_json_value type;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (!emb_json_get(json, "type", &type) || !emb_json_string_is(type, forms[i].kind))
            continue;
        emb_normalizer *made = emb_arena_alloc(arena, sizeof *made);
        if (made == NULL)
            return emb_fail_nomem(err, "normalizer", sizeof *made);
        *made = forms[i];
        *out = made;
        return EMB_OK;
    }
    return emb_fail(err, EMB_E_UNSUPPORTED, where, "type is not NFC, NFD, NFKC or NFKD");
}
