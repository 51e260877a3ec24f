/* Normalizers and pre-tokenizers by themselves: texts, alignments, pieces, refusals. */
#include "models_checks.h"
#include "tokenizer/byte_level.h"

typedef struct stage {
    emb_arena arena;
    emb_span_text text, spare;
    emb_pieces pieces, spare_pieces;
    emb_normalizer *normalizer;
    emb_pre_tokenizer *pre;
    emb_json *doc;
    char out[1024];
} stage;

static void stage_close(stage *s)
{
    emb_normalizer_release(s->normalizer);
    emb_pre_tokenizer_release(s->pre);
    emb_span_text_fini(&s->text);
    emb_span_text_fini(&s->spare);
    emb_pieces_fini(&s->pieces);
    emb_pieces_fini(&s->spare_pieces);
    emb_arena_fini(&s->arena);
    emb_json_close(s->doc);
}

static void stage_fill(stage *s, const char *text, bool align)
{
    emb_span_text_restart(&s->text, align);
    emb_span_text_restart(&s->spare, align);
    for (size_t i = 0, size; text[i] != 0; i += size) {
        unsigned char c = (unsigned char)text[i];
        size = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
        assert_int_equal(emb_span_text_add(&s->text, text + i, size, (uint32_t)i, (uint32_t)(i + size)),
                         EMB_OK);
    }
}

/* The text and where each character came from: "e 0-2|..." */
static const char *show_text(stage *s)
{
    size_t at = 0;
    s->out[0] = 0;
    for (size_t i = 0; i < s->text.length;) {
        size_t end = i + 1;
        while (end < s->text.length && ((unsigned char)s->text.data[end] & 0xC0) == 0x80)
            end++;
        at += (size_t)snprintf(s->out + at, sizeof s->out - at, "%.*s", (int)(end - i), s->text.data + i);
        if (s->text.with_align)
            at += (size_t)snprintf(s->out + at, sizeof s->out - at, "%u-%u ", s->text.align[i].start,
                                   s->text.align[i].end);
        i = end;
    }
    return s->out;
}

static emb_status parse(stage *s, const char *json, bool normalizer, emb_error *err)
{
    memset(s, 0, sizeof *s);
    emb_arena_init(&s->arena);
    if (emb_json_open(json, strlen(json), "test", &s->doc, err) != EMB_OK)
        fail_msg("%s", err->message);
    emb_json_value root = emb_json_root(s->doc);
    return normalizer ? emb_normalizer_parse(root, &s->arena, "test", &s->normalizer, err)
                      : emb_pre_tokenizer_parse(root, &s->arena, "test", &s->pre, err);
}

/* Applies a normalizer with and without alignments, which must give the same text. */
static void check_normalizer(const char *json, const char *text, const char *expected)
{
    stage s;
    emb_error err;
    char plain[1024], marked[1024];
    if (parse(&s, json, true, &err) != EMB_OK)
        fail_msg("%s", err.message);
    stage_fill(&s, text, false);
    assert_int_equal(emb_normalizer_apply(s.normalizer, &s.text, &s.spare, &err), EMB_OK);
    snprintf(plain, sizeof plain, "%s", show_text(&s));
    stage_fill(&s, text, true);
    assert_int_equal(emb_normalizer_apply(s.normalizer, &s.text, &s.spare, &err), EMB_OK);
    snprintf(marked, sizeof marked, "%s", show_text(&s));
    assert_string_equal(marked, expected);
    assert_int_equal(strlen(plain), s.text.length);
    assert_memory_equal(plain, s.text.data, s.text.length);
    stage_close(&s);
}

/* The pieces joined by '|'. */
static void check_pieces(const char *json, const char *text, const char *expected)
{
    stage s;
    emb_error err;
    if (parse(&s, json, false, &err) != EMB_OK)
        fail_msg("%s", err.message);
    for (int align = 0; align < 2; align++) {
        stage_fill(&s, text, align);
        s.pieces.count = 0;
        assert_int_equal(emb_pieces_add(&s.pieces, 0, (uint32_t)s.text.length), EMB_OK);
        emb_status status =
            emb_pre_tokenizer_apply(s.pre, &s.text, &s.spare, &s.pieces, &s.spare_pieces, &err);
        size_t at = (size_t)snprintf(s.out, sizeof s.out, status == EMB_OK ? "" : "status %d", status);
        for (size_t i = 0; i < s.pieces.count && status == EMB_OK; i++) {
            emb_piece p = s.pieces.data[i];
            at += (size_t)snprintf(s.out + at, sizeof s.out - at, "%s%.*s", i ? "|" : "",
                                   (int)(p.end - p.begin), s.text.data + p.begin);
        }
        assert_string_equal(s.out, expected);
    }
    stage_close(&s);
}

static emb_status refusal(const char *json, bool normalizer)
{
    stage s;
    emb_error err = {0};
    emb_status status = parse(&s, json, normalizer, &err);
    if (status != EMB_OK)
        assert_true(err.message[0] != 0);
    stage_close(&s);
    return status;
}

static void unicode_forms(void **state)
{
    (void)state;
    check_normalizer("{\"type\":\"NFD\"}", "\u00e9l", "e0-2 \u03010-2 l2-3 ");
    check_normalizer("{\"type\":\"NFC\"}", "e\u0301l", "\u00e90-1 l3-4 ");
    check_normalizer("{\"type\":\"NFKC\"}", "\ufb01x", "f0-3 i0-3 x3-4 ");
    check_normalizer("{\"type\":\"NFKD\"}", "\u2460\uff21", "10-3 A3-6 ");
    check_normalizer("{\"type\":\"NFC\"}", "\u1112\u1161\u11ab", "\ud55c0-3 ");
    check_normalizer("{\"type\":\"NFD\"}", "\ud55c", "\u11120-3 \u11610-3 \u11ab0-3 ");
    /* Marks are put in order; the counts, and so the alignments, stay where they were. */
    check_normalizer("{\"type\":\"NFD\"}", "a\u0301\u0323", "a0-1 \u03231-3 \u03013-5 ");
    check_normalizer("{\"type\":\"NFC\"}", "a\u0301\u0323x", "\u1ea10-1 \u03013-5 x5-6 ");
    check_normalizer("{\"type\":\"NFC\"}", "\u0301\u0301", "\u03010-2 \u03012-4 ");
    check_normalizer("{\"type\":\"NFC\"}", "plain", "p0-1 l1-2 a2-3 i3-4 n4-5 ");
    check_normalizer("{\"type\":\"NFC\"}", "", "");
}

static void long_runs_of_marks_are_sorted_in_time(void **state)
{
    (void)state;
    enum { MARKS = 300000 };
    stage s;
    emb_error err;
    assert_int_equal(parse(&s, "{\"type\":\"NFC\"}", true, &err), EMB_OK);
    emb_span_text_restart(&s.text, true);
    emb_span_text_restart(&s.spare, true);
    assert_int_equal(emb_span_text_add(&s.text, "q", 1, 0, 1), EMB_OK);
    for (uint32_t i = 0; i < MARKS; i++) /* classes 230 and 220 in turn */
        assert_int_equal(emb_span_text_add(&s.text, i % 2 ? "\u0316" : "\u0300", 2, 1 + 2 * i, 3 + 2 * i),
                         EMB_OK);
    assert_int_equal(emb_normalizer_apply(s.normalizer, &s.text, &s.spare, &err), EMB_OK);
    assert_int_equal(s.text.length, 1 + 2 * MARKS);
    for (uint32_t i = 0; i < MARKS; i++)
        assert_memory_equal(s.text.data + 1 + 2 * i, i < MARKS / 2 ? "\u0316" : "\u0300", 2);
    stage_close(&s);
}

static void byte_alphabet(void **state)
{
    (void)state;
    bool seen[0x144] = {false};
    for (unsigned byte = 0; byte < 256; byte++) {
        uint32_t c = emb_byte_character((unsigned char)byte);
        assert_true(c < 0x144 && c > 0x20 && !seen[c]);
        seen[c] = true;
        assert_int_equal(c == byte, (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD));
    }
    assert_int_equal(emb_byte_character(' '), 0x120);
    assert_int_equal(emb_byte_character('\n'), 0x10A);
    check_normalizer("{\"type\":\"ByteLevel\"}", "a \u00e9", "a0-1 \u01201-2 \u00c32-4 \u00a92-4 ");
}

#define BYTES "{\"type\":\"ByteLevel\",\"trim_offsets\":true,\"add_prefix_space\":"

static void byte_level_pattern(void **state)
{
    (void)state;
    check_pieces(BYTES "false}", "Hello  world", "Hello|\u0120|\u0120world");
    check_pieces(BYTES "true}", "Hello world", "\u0120Hello|\u0120world");
    check_pieces(BYTES "true}", " x", "\u0120x");
    check_pieces(BYTES "true}", "\nx", "\u0120|\u010a|x");
    check_pieces(BYTES "true}", "\n", "\u0120\u010a");
    check_pieces(BYTES "true}", "'s", "\u0120'|s");
    check_pieces(BYTES "false}", "'s 's I'll we've 'sx 'lx",
                 "'s|\u0120'|s|\u0120I|'ll|\u0120we|'ve|\u0120'|sx|\u0120'|lx");
    check_pieces(BYTES "false}", "a1b 23!?", "a|1|b|\u012023|!?");
    check_pieces(BYTES "false}", "a \n b", "a|\u0120\u010a|\u0120b");
    check_pieces(BYTES "false}", "a\t\tb", "a|\u0109|\u0109|b");
    check_pieces(BYTES "false}", "a   ", "a|\u0120\u0120\u0120");
    check_pieces(BYTES "false}", "a\u00a0\u00a0b", "a|\u00c2\u0142|\u00c2\u0142|b");
    check_pieces(BYTES "false}", "\u00e9\u0301", "\u00c3\u00a9|\u00cc\u0123");
    check_pieces(BYTES "false,\"use_regex\":false}", "a b", "a\u0120b");
    check_pieces(BYTES "true}", "", "");
}

#define META "{\"type\":\"Metaspace\",\"replacement\":\"\u2581\""

static void metaspace(void **state)
{
    (void)state;
    check_pieces(META "}", "Hey  you", "\u2581Hey|\u2581|\u2581you");
    check_pieces(META "}", " Hey ", "\u2581Hey|\u2581");
    check_pieces(META "}", "\u2581Hey", "\u2581Hey");
    check_pieces(META ",\"prepend_scheme\":\"never\"}", "a b\u2581c", "a|\u2581b|\u2581c");
    check_pieces(META ",\"prepend_scheme\":\"first\",\"split\":false}", "a b", "\u2581a\u2581b");
    check_pieces(META ",\"add_prefix_space\":false}", "a", "a");
    check_pieces("{\"type\":\"Metaspace\",\"replacement\":\"_\"}", "a b", "_a|_b");
    assert_int_equal(refusal("{\"type\":\"Metaspace\",\"replacement\":\"ab\"}", false), EMB_E_CORRUPT);
    assert_int_equal(refusal("{\"type\":\"Metaspace\",\"replacement\":\"\"}", false), EMB_E_CORRUPT);
    assert_int_equal(refusal("{\"type\":\"Metaspace\"}", false), EMB_E_CORRUPT);
    assert_int_equal(refusal(META ",\"prepend_scheme\":\"last\"}", false), EMB_E_UNSUPPORTED);
    assert_int_equal(refusal(META ",\"prepend_scheme\":\"first\",\"add_prefix_space\":false}", false),
                     EMB_E_CORRUPT);
}

static void check_split(const char *pattern, const char *behavior, const char *invert, const char *text,
                        const char *expected)
{
    char json[512];
    snprintf(json, sizeof json, "{\"type\":\"Split\",\"pattern\":%s,\"behavior\":\"%s\",\"invert\":%s}",
             pattern, behavior, invert);
    check_pieces(json, text, expected);
}

static void split_behaviours(void **state)
{
    (void)state;
    const char *text = "the-final--countdown", *dash = "{\"String\":\"-\"}", *re = "{\"Regex\":\"-\"}";
    check_split(dash, "Removed", "false", text, "the|final|countdown");
    check_split(re, "Isolated", "false", text, "the|-|final|-|-|countdown");
    check_split(dash, "MergedWithPrevious", "false", text, "the-|final-|-|countdown");
    check_split(re, "MergedWithNext", "false", text, "the|-final|-|-countdown");
    check_split(dash, "Contiguous", "false", text, "the|-|final|--|countdown");
    check_split(re, "Removed", "true", text, "-|-|-");
    check_split("{\"Regex\":\"\\\\w+\"}", "Removed", "true", "a bc, d", "a|bc|d");
    check_split("{\"Regex\":\"\"}", "Isolated", "false", "a\u00e9b", "a|\u00e9|b");
    check_split("{\"Regex\":\"x*\"}", "Isolated", "false", "axxb", "a|xx|b");
    check_split("{\"String\":\"\"}", "Isolated", "false", "ab", "a|b");
    check_split("{\"String\":\".\"}", "Removed", "false", "a.b", "a|b");
    check_split("{\"Regex\":\"\\\\s+(?!\\\\S)|\\\\s+\"}", "Isolated", "false", "a  b ", "a| | |b| ");
    /* The reference's dialect: U+180E is no space, h is a hexadecimal digit, lines matter to ^ and $. */
    check_split("{\"Regex\":\"\\\\s\"}", "Removed", "false", "a\u180eb\u2028c", "a\u180eb|c");
    check_split("{\"Regex\":\"[\\\\s,]\"}", "Removed", "false", "a\u180eb\u3000c,d", "a\u180eb|c|d");
    check_split("{\"Regex\":\"\\\\h\"}", "Removed", "false", "xfy z", "x|y z");
    check_split("{\"Regex\":\"^b\"}", "Removed", "false", "a\nbc", "a\n|c");
    check_split("{\"Regex\":\"[^\\\\p{L}]\"}", "Removed", "false", "a\U000105C0b.c", "a\U000105C0b|c");
    check_split("{\"Regex\":\"[]a]\"}", "Removed", "false", "x]yaz", "x|y|z");
    check_split("{\"Regex\":\"(a+)+$\"}", "Removed", "false",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "status 7");
}

static void patterns_that_mean_something_else_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        emb_status status;
    } bad[] = {{"(", EMB_E_CORRUPT},          {"a{1,3}+", EMB_E_UNSUPPORTED}, {"(?~a)", EMB_E_UNSUPPORTED},
               {"(?m)a.", EMB_E_UNSUPPORTED}, {"[a&&b]", EMB_E_UNSUPPORTED},  {"\\\\C", EMB_E_CORRUPT}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char json[256];
        snprintf(
            json, sizeof json,
            "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},\"behavior\":\"Removed\",\"invert\":false}",
            bad[i].pattern);
        if (refusal(json, false) != bad[i].status)
            fail_msg("%s", bad[i].pattern);
    }
    assert_int_equal(refusal("{\"type\":\"Split\",\"behavior\":\"Removed\",\"invert\":false}", false),
                     EMB_E_CORRUPT);
    assert_int_equal(refusal("{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"invert\":false}", false),
                     EMB_E_CORRUPT);
    assert_int_equal(refusal("{\"type\":\"Split\",\"pattern\":{},\"behavior\":\"Removed\"}", false),
                     EMB_E_CORRUPT);
}

static void digits(void **state)
{
    (void)state;
    check_pieces("{\"type\":\"Digits\",\"individual_digits\":true}", "ab12c\u00bd\u0661",
                 "ab|1|2|c|\u00bd|\u0661");
    check_pieces("{\"type\":\"Digits\",\"individual_digits\":false}", "ab12c34", "ab|12|c|34");
    check_pieces(
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},{\"type\":\"Digits\","
        "\"individual_digits\":false}," META "}]}",
        "a1 2b", "\u2581a|\u25811|\u25812|\u2581b");
    assert_int_equal(refusal("{\"type\":\"Digits\",\"individual_digits\":2}", false), EMB_E_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unicode_forms),
        cmocka_unit_test(long_runs_of_marks_are_sorted_in_time),
        cmocka_unit_test(byte_alphabet),
        cmocka_unit_test(byte_level_pattern),
        cmocka_unit_test(metaspace),
        cmocka_unit_test(split_behaviours),
        cmocka_unit_test(patterns_that_mean_something_else_are_refused),
        cmocka_unit_test(digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
