/* SentencePiece character maps: clusters, alignments, and maps that are not what they should be. */
#include "base/file.h"
#include "models_checks.h"
#include "tokenizer/precompiled.h"

typedef struct map_under_test {
    emb_arena arena;
    emb_normalizer *normalizer;
    emb_span_text text, spare;
    char out[1024];
} map_under_test;

/* The map of a trained tokenizer: NFKC for some of Unicode, no control characters, CR LF as a space. */
static void open_map(map_under_test *m)
{
    emb_json *doc;
    emb_error err;
    emb_json_value value;
    memset(m, 0, sizeof *m);
    emb_arena_init(&m->arena);
    assert_int_equal(
        emb_json_open_file(EMB_TEST_DATA "/tokenizers/xlm-roberta-like/tokenizer.json", 16 << 20, &doc, &err),
        EMB_OK);
    assert_true(emb_json_get(emb_json_root(doc), "normalizer", &value));
    assert_int_equal(emb_parse_precompiled(value, &m->arena, "test", &m->normalizer, &err), EMB_OK);
    emb_json_close(doc);
}

static void close_map(map_under_test *m)
{
    emb_span_text_fini(&m->text);
    emb_span_text_fini(&m->spare);
    emb_arena_fini(&m->arena);
}

/* The normalized text; with alignments each character is followed by where it came from. */
static const char *through(map_under_test *m, const char *text, size_t n, bool align)
{
    emb_error err;
    size_t at = 0;
    emb_span_text_restart(&m->text, align);
    emb_span_text_restart(&m->spare, align);
    for (size_t i = 0, size; i < n; i += size) {
        unsigned char c = (unsigned char)text[i];
        size = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
        assert_int_equal(emb_span_text_add(&m->text, text + i, size, (uint32_t)i, (uint32_t)(i + size)),
                         EMB_OK);
    }
    assert_int_equal(m->normalizer->apply(m->normalizer, &m->text, &m->spare, &err), EMB_OK);
    m->out[0] = 0;
    for (size_t i = 0; i < m->text.length; i++) {
        bool end = i + 1 == m->text.length || ((unsigned char)m->text.data[i + 1] & 0xC0) != 0x80;
        at += (size_t)snprintf(m->out + at, sizeof m->out - at, "%c", m->text.data[i]);
        if (end && align)
            at += (size_t)snprintf(m->out + at, sizeof m->out - at, "%u-%u ", m->text.align[i].start,
                                   m->text.align[i].end);
    }
    return m->out;
}

#define CHECK(text, expected) assert_string_equal(through(&m, text, sizeof(text) - 1, false), expected)
#define CHECK_ALIGNED(text, expected) assert_string_equal(through(&m, text, sizeof(text) - 1, true), expected)

static void clusters_are_looked_up_whole(void **state)
{
    (void)state;
    map_under_test m;
    open_map(&m);
    CHECK("plain text", "plain text");
    CHECK("\uff21\uff22", "AB");
    CHECK("e\u0301", "\u00e9");
    /* Fewer than six bytes: the first key wins and what follows it in the cluster vanishes. */
    CHECK("\uff41\u0301x", "ax");
    CHECK("\u00b2\u0301", "2");
    /* Six bytes or more: one by one. */
    CHECK("\uff41\u0301\u0301x", "a\u0301\u0301x");
    CHECK("\u304b\u3099", "\u304b\u3099");
    CHECK("a\r\nb", "a b");
    CHECK("a\rb\n\u00e9", "a b \u00e9");
    CHECK("\u0600\u00b2", "\u06002"); /* a prepended mark is in the cluster, and no key starts with it */
    CHECK("\u00bd\u200d\u00a9",
          "1\u20442\u00a9"); /* not pictographic: the joiner is dropped with the cluster */
    CHECK("a\001b\177", "ab");
    CHECK("", "");
    close_map(&m);
}

static void alignments_count_as_the_reference_counts(void **state)
{
    (void)state;
    map_under_test m;
    open_map(&m);
    CHECK_ALIGNED("\ufb03x", "f0-3 f0-3 i0-3 x3-4 ");
    CHECK_ALIGNED("e\u0301x", "\u00e90-1 x3-4 ");
    CHECK_ALIGNED("a\001b", "a0-1 b2-3 ");
    CHECK_ALIGNED("\001ab", "a0-1 b1-2 ");           /* nothing precedes that the removal could count on */
    CHECK_ALIGNED("\u2122\001g", "T0-3 M3-4 g4-5 "); /* the removal turns the insertion into a replacement */
    CHECK_ALIGNED("\u3000\u3000", " 0-3  3-6 ");
    close_map(&m);
}

static emb_status load(const void *bytes, size_t length)
{
    emb_arena arena;
    emb_normalizer *normalizer;
    emb_error err;
    emb_span_text text, spare;
    emb_arena_init(&arena);
    emb_status status = emb_precompiled_from_bytes(bytes, length, &arena, "test", &normalizer, &err);
    if (status == EMB_OK) {
        emb_span_text_init(&text, true);
        emb_span_text_init(&spare, true);
        for (unsigned c = 1; c < 256; c++) {
            char two[2] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 63))};
            assert_int_equal(
                emb_span_text_add(&text, c < 128 ? (char[]){(char)c} : two, c < 128 ? 1 : 2, c, c + 1),
                EMB_OK);
        }
        assert_int_equal(normalizer->apply(normalizer, &text, &spare, &err), EMB_OK);
        emb_span_text_fini(&text);
        emb_span_text_fini(&spare);
    }
    emb_arena_fini(&arena);
    return status;
}

static void broken_maps_are_refused_or_harmless(void **state)
{
    (void)state;
    assert_int_equal(load("", 0), EMB_E_CORRUPT);
    assert_int_equal(load("\0\0\0", 3), EMB_E_CORRUPT);
    assert_int_equal(load("\4\0\0\0\0\0\0", 7), EMB_E_CORRUPT);
    assert_int_equal(load("\xff\xff\xff\xff\0\0\0\0", 8), EMB_E_CORRUPT);
    assert_int_equal(load("\0\0\0\0\xff\xfe", 6), EMB_E_CORRUPT); /* replacements that are not UTF-8 */
    assert_int_equal(load("\0\0\0\0", 4), EMB_OK);
    /* Random tries: whatever they say, nothing is read outside of them and the text stays UTF-8. */
    unsigned char bytes[4 + 64 * 4 + 6] = {0, 1};
    uint32_t random = 7;
    for (int round = 0; round < 20000; round++) {
        for (size_t i = 4; i < 4 + 64 * 4; i++) {
            random = random * 1664525u + 1013904223u;
            bytes[i] = (unsigned char)(i % 4 == 0   ? random >> 24
                                       : i % 4 == 1 ? random >> 29
                                                    : random >> 20 & random >> 26 & 1);
        }
        memcpy(bytes + 4 + 64 * 4, "a\0\xc3\xa9\0b", 6);
        assert_int_equal(load(bytes, sizeof bytes), EMB_OK);
    }
    /* Key "a" with a value inside a character: no replacement. */
    unsigned char inside[4 + 256 * 4 + 2] = {0, 4};
    memcpy(inside + 4 + 256 * 4, "\xc3\xa9", 2);
    inside[4 + 1] = 4; /* root: offset 1, so 'a' is unit 1 ^ 0x61 */
    inside[4 + 4 * 0x60] = 'a';
    inside[4 + 4 * 0x60 + 1] = 0x05; /* has a leaf, offset 1: unit 0x61 */
    inside[4 + 4 * 0x61] = 1;
    inside[4 + 4 * 0x61 + 3] = 0x80;
    map_under_test m;
    emb_error err;
    memset(&m, 0, sizeof m);
    emb_arena_init(&m.arena);
    assert_int_equal(emb_precompiled_from_bytes(inside, sizeof inside, &m.arena, "test", &m.normalizer, &err),
                     EMB_OK);
    CHECK("bab", "bab");
    inside[4 + 4 * 0x61] = 0;
    assert_int_equal(emb_precompiled_from_bytes(inside, sizeof inside, &m.arena, "test", &m.normalizer, &err),
                     EMB_OK);
    CHECK("bab", "b\u00e9b");
    close_map(&m);
}

static void base64_is_checked(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        emb_status status;
    } cases[] = {
        {"{\"precompiled_charsmap\":\"AAAAAA==\"}", EMB_OK},
        {"{\"precompiled_charsmap\":\"AAAAAGE=\"}", EMB_OK},
        {"{\"precompiled_charsmap\":\"AAAAAA\"}", EMB_E_CORRUPT},
        {"{\"precompiled_charsmap\":\"AAAA=A==\"}", EMB_E_CORRUPT},
        {"{\"precompiled_charsmap\":\"AAAA*A==\"}", EMB_E_CORRUPT},
        {"{\"precompiled_charsmap\":\"\"}", EMB_E_CORRUPT},
        {"{\"precompiled_charsmap\":1}", EMB_E_CORRUPT},
        {"{}", EMB_E_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        emb_arena arena;
        emb_json *doc;
        emb_normalizer *normalizer;
        emb_error err;
        emb_arena_init(&arena);
        assert_int_equal(emb_json_open(cases[i].json, strlen(cases[i].json), "test", &doc, &err), EMB_OK);
        assert_int_equal(emb_parse_precompiled(emb_json_root(doc), &arena, "test", &normalizer, &err),
                         cases[i].status);
        emb_json_close(doc);
        emb_arena_fini(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clusters_are_looked_up_whole),
        cmocka_unit_test(alignments_count_as_the_reference_counts),
        cmocka_unit_test(broken_maps_are_refused_or_harmless),
        cmocka_unit_test(base64_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
