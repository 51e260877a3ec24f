/*
 * encode.c: running a text through the stages.
 *
 * The text is cut at added tokens; every section in between goes through normalizer, pre-tokenizer and
 * model by itself, as in the reference. Two paths lead through a section: bert_fast.c, where it applies
 * and no offsets are wanted, and the general one, stage after stage. Tokens of all sections gather in one
 * sink; truncation and special tokens come last.
 *
 * With truncation on the right, sections (and, on the fast path, words) behind the last token that can
 * matter are not looked at.
 *
 * Offsets: within a section the sink's ranges are bytes of the section's final text; they are turned into
 * bytes of the caller's text, by way of the alignments, as soon as the section is done.
 */
#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/pipeline.h"
#include "tokenizer/unicode.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TEXT_BYTES ((size_t)1 << 30)
enum { GROWTH = 64, GROWTH_BASE = 4096 }; /* most bytes that stages may make of a byte, and of nothing */

/* An added token in the text: what its offsets need for trimming. */
typedef struct added_hit {
    size_t index;               /* in the sink */
    uint32_t leading, trailing; /* characters that are spaces */
} added_hit;

struct emb_encode_scratch {
    uint64_t serial; /* the tokenizer that model and fast belong to; 0: none yet */
    void *model;
    void (*model_free)(void *scratch);
    emb_bert_fast_scratch *fast;
    emb_span_text text, spare, whole;
    emb_pieces pieces, spare_pieces;
    emb_sections raw, inner;
    emb_token_sink sink;
    emb_buf repaired;
    uint32_t *back; /* for each byte of repaired, and its end: the byte of the caller's text */
    size_t back_capacity;
    added_hit *hits;
    size_t hit_count, hit_capacity;
};

/* One run of emb_tokenizer_encode. */
typedef struct run {
    const emb_tokenizer *t;
    struct emb_encode_scratch *s;
    const char *text; /* valid UTF-8 */
    size_t length;
    size_t limit; /* ids beyond this many cannot matter */
    bool offsets;
    emb_error *err;
} run;

/* ---- life of an encoding ---- */

void emb_encoding_init(emb_encoding *encoding)
{
    *encoding = (emb_encoding){.count = 0};
}

static void forget_tokenizer(struct emb_encode_scratch *s)
{
    if (s->model != NULL && s->model_free != NULL)
        s->model_free(s->model);
    emb_bert_fast_scratch_free(s->fast);
    s->model = NULL;
    s->model_free = NULL;
    s->fast = NULL;
    s->serial = 0;
}

void emb_encoding_fini(emb_encoding *encoding)
{
    struct emb_encode_scratch *s = encoding->scratch;
    if (s != NULL) {
        forget_tokenizer(s);
        emb_span_text_fini(&s->text);
        emb_span_text_fini(&s->spare);
        emb_span_text_fini(&s->whole);
        emb_pieces_fini(&s->pieces);
        emb_pieces_fini(&s->spare_pieces);
        emb_sections_fini(&s->raw);
        emb_sections_fini(&s->inner);
        emb_token_sink_fini(&s->sink);
        emb_buf_fini(&s->repaired);
        free(s->back);
        free(s->hits);
        free(s);
    }
    free(encoding->ids);
    free(encoding->starts);
    free(encoding->ends);
    free(encoding->special);
    emb_encoding_init(encoding);
}

static emb_status get_scratch(const emb_tokenizer *t, emb_encoding *encoding, emb_error *err)
{
    if (encoding->scratch == NULL) {
        encoding->scratch = calloc(1, sizeof *encoding->scratch);
        if (encoding->scratch == NULL)
            return emb_fail_nomem(err, "an encoding", sizeof *encoding->scratch);
        emb_buf_init(&encoding->scratch->repaired, 4 * MAX_TEXT_BYTES);
    }
    if (encoding->scratch->serial != t->serial) {
        forget_tokenizer(encoding->scratch);
        encoding->scratch->serial = t->serial;
        encoding->scratch->model_free = t->model->scratch_free;
    }
    return EMB_OK;
}

/* ---- the general path ---- */

static emb_status fill_text(run *r, size_t begin, size_t end, bool with_align)
{
    emb_span_text *text = &r->s->text;
    size_t length = end - begin;
    text->limit = r->s->spare.limit =
        length * GROWTH + GROWTH_BASE < EMB_SPAN_TEXT_MAX ? length * GROWTH + GROWTH_BASE : EMB_SPAN_TEXT_MAX;
    text->origin = r->s->spare.origin = (uint32_t)begin;
    emb_span_text_restart(text, with_align);
    emb_span_text_restart(&r->s->spare, with_align);
    emb_status status = emb_span_text_add(text, r->text + begin, length, 0, 0);
    if (status != EMB_OK)
        return emb_text_fail(r->err, status);
    for (size_t i = 0; with_align && i < length;) {
        uint32_t c;
        size_t taken = emb_utf8_decode(text->data + i, length - i, &c);
        emb_align align = {(uint32_t)(begin + i), (uint32_t)(begin + i + taken)};
        for (size_t k = 0; k < taken; k++)
            text->align[i + k] = align;
        i += taken;
    }
    return EMB_OK;
}

/* Counts the characters at the ends of a token that are spaces. U+0120 is a space in byte-level ones. */
static void count_spaces(const char *text, size_t length, uint32_t *leading, uint32_t *trailing)
{
    uint32_t c;
    *leading = *trailing = 0;
    for (size_t i = 0; i < length; ++*leading) {
        i += emb_utf8_decode(text + i, length - i, &c);
        if (!emb_unicode_is(c, EMB_UNICODE_WHITESPACE) && c != 0x120)
            break;
    }
    for (size_t end = length; end > 0; ++*trailing) {
        size_t at = end - 1;
        while (at > 0 && ((unsigned char)text[at] & 0xC0) == 0x80)
            at--;
        emb_utf8_decode(text + at, end - at, &c);
        if (!emb_unicode_is(c, EMB_UNICODE_WHITESPACE) && c != 0x120)
            break;
        end = at;
    }
}

/* Remembers the spaces of an added token, which are those of the text it matched. */
static emb_status note_hit(run *r, const char *text, size_t length)
{
    struct emb_encode_scratch *s = r->s;
    added_hit hit = {.index = s->sink.count};
    count_spaces(text, length, &hit.leading, &hit.trailing);
    if (s->hit_count == s->hit_capacity) {
        size_t capacity = s->hit_capacity ? s->hit_capacity * 2 : 16;
        void *hits = realloc(s->hits, capacity * sizeof *s->hits);
        if (hits == NULL)
            return emb_fail_nomem(r->err, "an encoding", capacity * sizeof *s->hits);
        s->hits = hits;
        s->hit_capacity = capacity;
    }
    s->hits[s->hit_count++] = hit;
    return EMB_OK;
}

/* Turns the ranges of the tokens from `first` on into ranges of the caller's text. */
static void ranges_to_offsets(const emb_span_text *text, emb_token_sink *sink, size_t first)
{
    for (size_t i = first; i < sink->count; i++) {
        emb_piece range = sink->ranges[i];
        if (range.begin < range.end && range.end <= text->length)
            sink->ranges[i] = (emb_piece){text->align[range.begin].start, text->align[range.end - 1].end};
        else
            sink->ranges[i] = (emb_piece){text->origin, text->origin};
    }
}

static emb_status add_added_token(run *r, const emb_span_text *text, emb_section section)
{
    const emb_added_token *token = &r->t->added.tokens[section.token];
    emb_token_sink *sink = &r->s->sink;
    if (r->offsets) {
        const char *matched = text ? text->data + section.begin : r->text + section.begin;
        emb_status status = note_hit(r, matched, section.end - section.begin);
        if (status != EMB_OK)
            return status;
    }
    if (emb_token_sink_add(sink, token->id, section.begin, section.end) != EMB_OK)
        return emb_fail_nomem(r->err, "tokens", sink->count * sizeof(int32_t));
    if (r->offsets && text != NULL)
        ranges_to_offsets(text, sink, sink->count - 1);
    return EMB_OK;
}

/* Pre-tokenizes what is in the scratch's text and gives the pieces to the model. */
static emb_status run_model(run *r)
{
    struct emb_encode_scratch *s = r->s;
    const emb_vocab_model *model = r->t->model;
    size_t first = s->sink.count;
    s->pieces.count = 0;
    if (emb_pieces_add(&s->pieces, 0, (uint32_t)s->text.length) != EMB_OK)
        return emb_fail_nomem(r->err, "pieces", sizeof(emb_piece));
    emb_status status = emb_pre_tokenizer_apply(r->t->pre_tokenizer, &s->text, &s->spare, &s->pieces,
                                                &s->spare_pieces, r->err);
    for (size_t i = 0; i < s->pieces.count && status == EMB_OK && s->sink.count <= r->limit; i++) {
        emb_piece piece = s->pieces.data[i];
        status = model->tokenize(model, s->text.data + piece.begin, piece.end - piece.begin, piece.begin,
                                 &s->model, &s->sink, r->err);
    }
    if (status == EMB_OK && r->offsets)
        ranges_to_offsets(&s->text, &s->sink, first);
    return status;
}

/* Makes the section's part of the whole normalized text the text. */
static emb_status narrow(run *r, emb_section section)
{
    struct emb_encode_scratch *s = r->s;
    emb_span_text_restart(&s->text, s->whole.with_align);
    s->text.limit = s->whole.limit;
    s->text.origin = s->whole.origin;
    emb_status status = emb_span_text_copy(&s->text, &s->whole, section.begin, section.end);
    return status == EMB_OK ? EMB_OK : emb_text_fail(r->err, status);
}

/* The normalized text holds added tokens: its parts go to the model one by one. */
static emb_status run_inner_sections(run *r)
{
    struct emb_encode_scratch *s = r->s;
    emb_status status = EMB_OK;
    emb_span_text_swap(&s->text, &s->whole);
    for (size_t i = 0; i < s->inner.count && status == EMB_OK && s->sink.count <= r->limit; i++) {
        emb_section section = s->inner.data[i];
        if (section.token >= 0) {
            status = add_added_token(r, &s->whole, section);
        } else {
            status = narrow(r, section);
            if (status == EMB_OK)
                status = run_model(r);
        }
    }
    return status;
}

static emb_status run_general(run *r, size_t begin, size_t end)
{
    const emb_tokenizer *t = r->t;
    struct emb_encode_scratch *s = r->s;
    bool with_align = r->offsets || (t->pre_tokenizer != NULL && t->pre_tokenizer->needs_align);
    emb_status status = fill_text(r, begin, end, with_align);
    if (status == EMB_OK)
        status = emb_normalizer_apply(t->normalizer, &s->text, &s->spare, r->err);
    if (status != EMB_OK)
        return status;
    if (t->added.normalized.count == 0)
        return run_model(r);
    if (emb_added_split(&t->added, &t->added.normalized, s->text.data, s->text.length, &s->inner) != EMB_OK)
        return emb_fail_nomem(r->err, "sections", sizeof(emb_section));
    if (s->inner.count == 0 || (s->inner.count == 1 && s->inner.data[0].token < 0))
        return run_model(r);
    return run_inner_sections(r);
}

/* ---- sections ---- */

static emb_status run_section(run *r, size_t begin, size_t end)
{
    bool done = false;
    if (r->t->fast != NULL && !r->offsets) {
        emb_status status = emb_bert_fast_encode(r->t->fast, r->text + begin, end - begin, r->limit,
                                                 &r->s->fast, &r->s->sink, &done, r->err);
        if (status != EMB_OK || done)
            return status;
    }
    return run_general(r, begin, end);
}

static emb_status run_text(run *r)
{
    struct emb_encode_scratch *s = r->s;
    if (r->t->added.raw.count == 0)
        return r->length > 0 ? run_section(r, 0, r->length) : EMB_OK;
    if (emb_added_split(&r->t->added, &r->t->added.raw, r->text, r->length, &s->raw) != EMB_OK)
        return emb_fail_nomem(r->err, "sections", sizeof(emb_section));
    emb_status status = EMB_OK;
    for (size_t i = 0; i < s->raw.count && status == EMB_OK && s->sink.count <= r->limit; i++) {
        emb_section section = s->raw.data[i];
        status = section.token >= 0 ? add_added_token(r, NULL, section)
                                    : run_section(r, section.begin, section.end);
    }
    return status;
}

/* ---- invalid UTF-8 ---- */

/* Makes a valid copy of the text and, for offsets, the way back. */
static emb_status repair(run *r)
{
    struct emb_encode_scratch *s = r->s;
    emb_buf_clear(&s->repaired);
    if (emb_utf8_repair(&s->repaired, r->text, r->length) != EMB_OK)
        return emb_fail_nomem(r->err, "a copy of the text", r->length);
    if (r->offsets) {
        size_t need = s->repaired.length + 1, to = 0;
        if (need > s->back_capacity) {
            uint32_t *back = realloc(s->back, need * sizeof *back);
            if (back == NULL)
                return emb_fail_nomem(r->err, "offsets", need * sizeof *back);
            s->back = back;
            s->back_capacity = need;
        }
        for (size_t from = 0; from < r->length;) {
            uint32_t c;
            char written[4];
            size_t taken = emb_utf8_decode(r->text + from, r->length - from, &c);
            for (size_t k = emb_utf8_encode(c, written); k > 0; k--)
                s->back[to++] = (uint32_t)from;
            from += taken;
        }
        s->back[to] = (uint32_t)r->length;
    }
    r->text = s->repaired.data;
    r->length = s->repaired.length;
    return EMB_OK;
}

/* ---- the result ---- */

static bool reserve_result(emb_encoding *e, size_t count, bool offsets)
{
    if (count > e->capacity || e->ids == NULL || (offsets && e->special == NULL)) {
        size_t capacity = count > e->capacity ? count + count / 2 : e->capacity;
        capacity = capacity > 16 ? capacity : 16;
        void *ids = realloc(e->ids, capacity * sizeof *e->ids);
        if (ids == NULL)
            return false;
        e->ids = ids;
        if (offsets || e->special != NULL || e->starts != NULL) {
            void *starts = realloc(e->starts, capacity * sizeof *e->starts);
            if (starts != NULL)
                e->starts = starts;
            void *ends = realloc(e->ends, capacity * sizeof *e->ends);
            if (ends != NULL)
                e->ends = ends;
            void *special = realloc(e->special, capacity);
            if (special != NULL)
                e->special = special;
            if (starts == NULL || ends == NULL || special == NULL)
                return false;
        }
        e->capacity = capacity;
    }
    return true;
}

/* Byte position `count` characters behind `at`, not behind `most`. */
static uint32_t forward(const run *r, uint32_t at, uint32_t count, uint32_t most)
{
    while (count-- > 0 && at < most) {
        uint32_t c;
        at += (uint32_t)emb_utf8_decode(r->text + at, r->length - at, &c);
    }
    return at < most ? at : most;
}

static uint32_t backward(const run *r, uint32_t at, uint32_t count, uint32_t least)
{
    while (count-- > 0 && at > least) {
        at--;
        while (at > least && ((unsigned char)r->text[at] & 0xC0) == 0x80)
            at--;
    }
    return at > least ? at : least;
}

/* One trimming step over the kept tokens [from, from + count) of the sink. */
static void trim_offsets(run *r, const emb_trim *trim, size_t from, size_t count, bool add_special)
{
    struct emb_encode_scratch *s = r->s;
    size_t hit = 0;
    for (size_t i = 0; i < count; i++) {
        emb_piece *range = &s->sink.ranges[from + i];
        added_hit spaces = {.index = from + i};
        while (hit < s->hit_count && s->hits[hit].index < from + i)
            hit++;
        if (hit < s->hit_count && s->hits[hit].index == from + i) {
            spaces = s->hits[hit];
        } else {
            size_t length = 0;
            const char *token = emb_tokenizer_token(r->t, s->sink.ids[from + i], &length);
            if (token != NULL)
                count_spaces(token, length, &spaces.leading, &spaces.trailing);
        }
        if (spaces.leading > 0) {
            bool first = range->begin == 0 || (i == 0 && !(add_special && trim->prefix_before > 0));
            if (!(first && trim->add_prefix_space && spaces.leading == 1))
                range->begin = forward(r, range->begin, spaces.leading, range->end);
        }
        if (spaces.trailing > 0)
            range->end = backward(r, range->end, spaces.trailing, range->begin);
    }
}

/* Puts the kept tokens and the special ones into the encoding. */
static emb_status finish(run *r, const emb_encode_options *options, emb_encoding *e)
{
    const emb_post_processor *post = &r->t->post;
    struct emb_encode_scratch *s = r->s;
    size_t before = options->add_special_tokens ? post->prefix_count : 0;
    size_t behind = options->add_special_tokens ? post->suffix_count : 0;
    size_t room = options->max_tokens > 0 ? options->max_tokens - before - behind : SIZE_MAX;
    size_t kept = s->sink.count < room ? s->sink.count : room;
    size_t from = options->truncate_left ? s->sink.count - kept : 0;
    size_t count = before + kept + behind;
    if (!reserve_result(e, count, r->offsets))
        return emb_fail_nomem(r->err, "an encoding", count * sizeof(int32_t));
    e->count = count;
    e->untruncated = before + s->sink.count + behind;
    memcpy(e->ids, post->prefix, before * sizeof *e->ids);
    if (kept > 0)
        memcpy(e->ids + before, s->sink.ids + from, kept * sizeof *e->ids);
    memcpy(e->ids + before + kept, post->suffix, behind * sizeof *e->ids);
    if (!r->offsets)
        return EMB_OK;
    for (size_t i = 0; i < post->trim_count; i++)
        trim_offsets(r, &post->trims[i], from, kept, options->add_special_tokens);
    bool repaired = s->repaired.length > 0 && r->text == s->repaired.data;
    for (size_t i = 0; i < count; i++) {
        bool special = i < before || i >= before + kept;
        emb_piece range = special ? (emb_piece){0, 0} : s->sink.ranges[from + i - before];
        if (repaired && !special)
            range = (emb_piece){s->back[range.begin], s->back[range.end]};
        e->special[i] = special;
        e->starts[i] = range.begin;
        e->ends[i] = range.end;
    }
    return EMB_OK;
}

emb_status emb_tokenizer_encode(const emb_tokenizer *tokenizer, const char *text, size_t length,
                                const emb_encode_options *options, emb_encoding *encoding, emb_error *err)
{
    size_t special = options->add_special_tokens ? emb_tokenizer_added_count(tokenizer) : 0;
    encoding->count = encoding->untruncated = 0;
    if (length > MAX_TEXT_BYTES)
        return emb_fail(err, EMB_E_LIMIT, "text", "%zu bytes, %zu are allowed", length, MAX_TEXT_BYTES);
    if (options->max_tokens > 0 && options->max_tokens < special)
        return emb_fail(err, EMB_E_INVALID, "max_tokens", "%zu is less than the %zu special tokens",
                        options->max_tokens, special);
    emb_status status = get_scratch(tokenizer, encoding, err);
    if (status != EMB_OK)
        return status;
    struct emb_encode_scratch *s = encoding->scratch;
    run r = {.t = tokenizer,
             .s = s,
             .text = text,
             .length = length,
             .limit = SIZE_MAX,
             .offsets = options->offsets,
             .err = err};
    if (options->max_tokens > 0 && !options->truncate_left)
        r.limit = options->max_tokens - special;
    s->sink.count = s->hit_count = 0;
    s->sink.with_ranges = r.offsets;
    if (length > 0 && emb_utf8_valid_prefix(text, length) != length)
        status = repair(&r);
    if (status == EMB_OK)
        status = run_text(&r);
    if (status == EMB_OK)
        status = finish(&r, options, encoding);
    if (status != EMB_OK)
        encoding->count = encoding->untruncated = 0;
    return status;
}
