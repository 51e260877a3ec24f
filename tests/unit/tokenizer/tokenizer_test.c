/* Opening, truncation, offsets in broken text, lookups, hostile files, failing allocations. */
#include "base/file.h"
#include "support/fail_alloc.h"
#include "tokenizer/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MINILM EMB_SOURCE_DIR "/models/all-MiniLM-L6-v2"

/* A tokenizer.json with the parts given; NULL takes BERT's. */
#define BERT_NORMALIZER "{\"type\":\"BertNormalizer\"}"
#define BERT_PRE "{\"type\":\"BertPreTokenizer\"}"
#define BERT_POST "{\"type\":\"BertProcessing\",\"cls\":[\"[CLS]\",1],\"sep\":[\"[SEP]\",2]}"
#define MODEL                                                                                               \
    "{\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"a\":3,\"##b\":4,\"c\":5,\"e\":6,\"<\":7,\"x\":8,\">" \
    "\":9}}"

static char *make_json(const char *normalizer, const char *pre, const char *post, const char *added,
                       const char *model)
{
    char *json = NULL;
    if (asprintf(&json,
                 "{\"version\":\"1.0\",\"normalizer\":%s,\"pre_tokenizer\":%s,\"post_processor\":%s,"
                 "\"added_tokens\":%s,\"model\":%s}",
                 normalizer ? normalizer : BERT_NORMALIZER, pre ? pre : BERT_PRE, post ? post : BERT_POST,
                 added ? added : "[]", model ? model : MODEL) < 0)
        abort();
    return json;
}

static emb_tokenizer *open_text(const char *json)
{
    emb_tokenizer *t;
    emb_error err;
    if (emb_tokenizer_open_json(json, strlen(json), "test", &t, &err) != EMB_OK)
        fail_msg("%s: %s", err.where, err.message);
    return t;
}

static emb_tokenizer *open_minilm(void)
{
    emb_tokenizer *t;
    emb_error err;
    if (emb_tokenizer_open(MINILM, &t, &err) != EMB_OK)
        fail_msg("%s: %s", err.where, err.message);
    return t;
}

static void encode(const emb_tokenizer *t, const char *text, size_t length, emb_encode_options options,
                   emb_encoding *e)
{
    emb_error err;
    if (emb_tokenizer_encode(t, text, length, &options, e, &err) != EMB_OK)
        fail_msg("%s: %s", err.where, err.message);
}

/* ---- looking into it ---- */

static void test_lookups(void **state)
{
    emb_tokenizer *t = open_minilm();
    size_t length;
    (void)state;
    assert_string_equal(emb_tokenizer_kind(t), "WordPiece");
    assert_int_equal(emb_tokenizer_vocab_size(t), 30522);
    assert_int_equal(emb_tokenizer_added_count(t), 2);
    assert_int_equal(emb_tokenizer_id(t, "hello", 5), 7592);
    assert_int_equal(emb_tokenizer_id(t, "[MASK]", 6), 103);
    assert_int_equal(emb_tokenizer_id(t, "no such token", 13), -1);
    const char *text = emb_tokenizer_token(t, 7592, &length);
    assert_int_equal(length, 5);
    assert_memory_equal(text, "hello", 5);
    assert_null(emb_tokenizer_token(t, -1, &length));
    assert_null(emb_tokenizer_token(t, 30522, &length));
    emb_tokenizer_close(t);
}

static void test_added_tokens_outside_the_vocabulary(void **state)
{
    char *json = make_json(
        NULL, NULL, NULL,
        "[{\"id\":99,\"content\":\"zz\"},{\"id\":98,\"content\":\"c\"},{\"id\":97,\"content\":\"yy\"}]",
        NULL);
    emb_tokenizer *t = open_text(json);
    size_t length;
    (void)state;
    assert_int_equal(emb_tokenizer_vocab_size(t), 12);
    assert_int_equal(emb_tokenizer_id(t, "zz", 2), 10); /* counted on from the vocabulary */
    assert_int_equal(emb_tokenizer_id(t, "c", 1), 5);
    assert_memory_equal(emb_tokenizer_token(t, 11, &length), "yy", 2);
    emb_tokenizer_close(t);
    free(json);
}

/* ---- truncation ---- */

static void test_truncation(void **state)
{
    static const char text[] =
        "The quick brown fox jumps over the lazy dog, unaffably; [MASK] and caf\xc3\xa9 again.";
    emb_tokenizer *t = open_minilm();
    emb_encoding whole, cut;
    (void)state;
    emb_encoding_init(&whole);
    emb_encoding_init(&cut);
    encode(t, text, strlen(text), (emb_encode_options){.offsets = true}, &whole);
    for (size_t most = 2; most < whole.count + 4; most++) {
        for (int variant = 0; variant < 4; variant++) {
            bool left = variant & 1, offsets = variant & 2;
            encode(t, text, strlen(text),
                   (emb_encode_options){.add_special_tokens = true,
                                        .offsets = offsets,
                                        .max_tokens = most,
                                        .truncate_left = left},
                   &cut);
            size_t kept = whole.count < most - 2 ? whole.count : most - 2;
            assert_int_equal(cut.count, kept + 2);
            assert_int_equal(cut.ids[0], 101);
            assert_int_equal(cut.ids[kept + 1], 102);
            assert_memory_equal(cut.ids + 1, whole.ids + (left ? whole.count - kept : 0),
                                kept * sizeof(int32_t));
            assert_int_equal(cut.untruncated > most, kept < whole.count);
            if (kept == whole.count)
                assert_int_equal(cut.untruncated, whole.count + 2);
            for (size_t i = 0; offsets && i < kept; i++) {
                size_t at = i + (left ? whole.count - kept : 0);
                assert_int_equal(cut.starts[i + 1], whole.starts[at]);
                assert_int_equal(cut.ends[i + 1], whole.ends[at]);
                assert_int_equal(cut.special[i + 1], 0);
            }
            if (offsets)
                assert_int_equal(cut.special[0] + cut.special[kept + 1], 2);
        }
    }
    emb_error err;
    assert_int_equal(emb_tokenizer_encode(t, "a", 1,
                                          &(emb_encode_options){.add_special_tokens = true, .max_tokens = 1},
                                          &cut, &err),
                     EMB_E_INVALID);
    assert_string_equal(err.where, "max_tokens");
    assert_int_equal(cut.count, 0);
    encode(t, "a", 1, (emb_encode_options){.max_tokens = 1}, &cut);
    assert_int_equal(cut.count, 1);
    emb_encoding_fini(&whole);
    emb_encoding_fini(&cut);
    emb_tokenizer_close(t);
}

/* The beginning of a long text takes no longer than the beginning. */
static void test_stops_early(void **state)
{
    size_t length = (size_t)8 << 20;
    char *text = malloc(length);
    emb_tokenizer *t = open_minilm();
    emb_encoding e;
    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < length; i++)
        text[i] = "word "[i % 5];
    emb_encoding_init(&e);
    encode(t, text, length, (emb_encode_options){.add_special_tokens = true, .max_tokens = 16}, &e);
    assert_int_equal(e.count, 16);
    assert_in_range(e.untruncated, 17, 64);
    emb_encoding_fini(&e);
    emb_tokenizer_close(t);
    free(text);
}

/* ---- broken text ---- */

static void test_invalid_utf8(void **state)
{
    /* "a", a truncated sequence, "c": cleaning drops U+FFFD, so the two halves join. */
    static const char text[] = "\xc3"
                               "c a\xe2\x82"
                               "e \xff";
    char *json = make_json("null", NULL, NULL, NULL, NULL);
    emb_tokenizer *plain = open_text(json), *t = open_minilm();
    emb_encoding e;
    (void)state;
    emb_encoding_init(&e);
    encode(t, text, strlen(text), (emb_encode_options){.offsets = true}, &e);
    assert_int_equal(e.count, 2); /* "c", "ae" */
    assert_int_equal(e.starts[0], 1);
    assert_int_equal(e.ends[0], 2);
    assert_int_equal(e.starts[1], 3);
    assert_int_equal(e.ends[1], 7);
    encode(t, text, strlen(text), (emb_encode_options){.offsets = false}, &e);
    assert_int_equal(e.count, 2);
    /* Without a normalizer U+FFFD stays and is unknown; its offsets are the bad bytes'. */
    encode(plain, "\xe2\x82 c\xff", 5, (emb_encode_options){.offsets = true}, &e);
    assert_int_equal(e.count, 2);
    assert_int_equal(e.ids[0], 0);
    assert_int_equal(e.starts[0], 0);
    assert_int_equal(e.ends[0], 2);
    assert_int_equal(e.starts[1], 3);
    assert_int_equal(e.ends[1], 5);
    emb_encoding_fini(&e);
    emb_tokenizer_close(t);
    emb_tokenizer_close(plain);
    free(json);
}

static void test_empty_and_nul(void **state)
{
    emb_tokenizer *t = open_minilm();
    emb_encoding e;
    (void)state;
    emb_encoding_init(&e);
    encode(t, NULL, 0, (emb_encode_options){.add_special_tokens = false, .offsets = true}, &e);
    assert_int_equal(e.count, 0);
    encode(t, "", 0, (emb_encode_options){.add_special_tokens = true}, &e);
    assert_int_equal(e.count, 2);
    encode(t, "he\0llo", 6, (emb_encode_options){.offsets = true}, &e);
    assert_int_equal(e.count, 1);
    assert_int_equal(e.ids[0], 7592);
    assert_int_equal(e.ends[0], 6);
    emb_encoding_fini(&e);
    emb_tokenizer_close(t);
}

/* ---- files ---- */

/* Writes a file of the directory. */
static void put(const char *directory, const char *name, const char *text, size_t length)
{
    char *path = emb_path_join(directory, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, length, f), length);
    assert_int_equal(fclose(f), 0);
    free(path);
}

static void remove_file(const char *directory, const char *name)
{
    char *path = emb_path_join(directory, name);
    unlink(path);
    free(path);
}

static void test_vocab_txt(void **state)
{
    char directory[] = "/tmp/emb-tokenizer-XXXXXX";
    char *vocab, *config;
    size_t vocab_length, config_length;
    emb_error err;
    emb_tokenizer *old, *t = open_minilm();
    emb_encoding a, b;
    (void)state;
    assert_non_null(mkdtemp(directory));
    assert_int_equal(emb_tokenizer_open(directory, &old, &err), EMB_E_NOT_FOUND);
    assert_non_null(strstr(err.message, "tokenizer.json"));
    assert_int_equal(emb_read_file(MINILM "/vocab.txt", 1 << 24, &vocab, &vocab_length, &err), EMB_OK);
    assert_int_equal(emb_read_file(MINILM "/tokenizer_config.json", 1 << 24, &config, &config_length, &err),
                     EMB_OK);
    put(directory, "vocab.txt", vocab, vocab_length);
    put(directory, "tokenizer_config.json", config, config_length);
    if (emb_tokenizer_open(directory, &old, &err) != EMB_OK)
        fail_msg("%s: %s", err.where, err.message);
    emb_encoding_init(&a);
    emb_encoding_init(&b);
    static const char text[] =
        "Hello [MASK] W\xc3\xb6rld, unaffably \xe4\xb8\xad\xe6\x96\x87! [mask] \xf0\x9f\x98\x80";
    encode(t, text, strlen(text), (emb_encode_options){.add_special_tokens = true}, &a);
    encode(old, text, strlen(text), (emb_encode_options){.add_special_tokens = true}, &b);
    assert_int_equal(a.count, b.count);
    assert_memory_equal(a.ids, b.ids, a.count * sizeof(int32_t));
    assert_int_equal(emb_tokenizer_vocab_size(old), emb_tokenizer_vocab_size(t));
    emb_tokenizer_close(old);

    static const char cased[] =
        "{\"do_lower_case\":false,\"cls_token\":{\"content\":\"<s>\"},\"sep_token\":\"</s>\"}";
    put(directory, "vocab.txt", "[UNK]\r\n<s>\r\n</s>\r\nA\r\na\r\n", 24);
    put(directory, "tokenizer_config.json", cased, strlen(cased));
    assert_int_equal(emb_tokenizer_open(directory, &old, &err), EMB_OK);
    encode(old, "A a b", 5, (emb_encode_options){.add_special_tokens = true}, &b);
    assert_int_equal(b.count, 5);
    assert_memory_equal(b.ids, ((int32_t[]){1, 3, 4, 0, 2}), 5 * sizeof(int32_t));
    emb_tokenizer_close(old);
    put(directory, "vocab.txt", "a\nb\n", 4);
    assert_int_equal(emb_tokenizer_open(directory, &old, &err), EMB_E_CORRUPT);
    assert_non_null(strstr(err.message, "<s>"));

    remove_file(directory, "vocab.txt");
    remove_file(directory, "tokenizer_config.json");
    rmdir(directory);
    free(vocab);
    free(config);
    emb_encoding_fini(&a);
    emb_encoding_fini(&b);
    emb_tokenizer_close(t);
}

/* ---- hostile files ---- */

static void test_hostile(void **state)
{
    static const struct {
        const char *normalizer, *pre, *post, *added, *model;
        emb_status status;
        const char *says;
    } cases[] = {
        {.normalizer = "7", .status = EMB_E_CORRUPT, .says = "type"},
        {.normalizer = "{\"type\":\"Magic\"}", .status = EMB_E_UNSUPPORTED, .says = "Magic"},
        {.normalizer = "{\"type\":\"BertNormalizer\",\"lowercase\":3}",
         .status = EMB_E_CORRUPT,
         .says = "lowercase"},
        {.normalizer = "{\"type\":\"Sequence\"}", .status = EMB_E_CORRUPT, .says = "normalizers"},
        {.normalizer = "{\"type\":\"Prepend\"}", .status = EMB_E_CORRUPT, .says = "prepend"},
        {.normalizer = "{\"type\":\"Strip\",\"strip_left\":null}",
         .status = EMB_E_CORRUPT,
         .says = "strip_left"},
        {.normalizer = "{\"type\":\"Replace\",\"content\":\"\"}", .status = EMB_E_CORRUPT, .says = "pattern"},
        {.normalizer = "{\"type\":\"Replace\",\"content\":\"\",\"pattern\":{\"Regex\":\"(\"}}",
         .status = EMB_E_CORRUPT},
        {.normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Replace\",\"content\":\"\","
                       "\"pattern\":{\"Regex\":\"a\"}},{\"type\":\"X\"}]}",
         .status = EMB_E_UNSUPPORTED,
         .says = "X"},
        {.pre = "{\"type\":\"Magic\"}", .status = EMB_E_UNSUPPORTED, .says = "Magic"},
        {.pre = "{}", .status = EMB_E_CORRUPT, .says = "type"},
        {.pre = "{\"type\":\"Punctuation\",\"behavior\":\"Eaten\"}",
         .status = EMB_E_UNSUPPORTED,
         .says = "Eaten"},
        {.pre = "{\"type\":\"Punctuation\",\"behavior\":1}", .status = EMB_E_CORRUPT, .says = "behavior"},
        {.pre = "{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"ab\"}",
         .status = EMB_E_CORRUPT,
         .says = "delimiter"},
        {.pre = "{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"\"}",
         .status = EMB_E_CORRUPT,
         .says = "delimiter"},
        {.pre = "{\"type\":\"Sequence\",\"pretokenizers\":{}}",
         .status = EMB_E_CORRUPT,
         .says = "pretokenizers"},
        {.post = "{\"type\":\"Magic\"}", .status = EMB_E_UNSUPPORTED, .says = "Magic"},
        {.post = "{\"type\":\"BertProcessing\",\"cls\":[\"a\"]}", .status = EMB_E_CORRUPT, .says = "cls"},
        {.post = "{\"type\":\"BertProcessing\",\"cls\":[\"a\",-1],\"sep\":[\"a\",1]}",
         .status = EMB_E_CORRUPT,
         .says = "-1"},
        {.post = "{\"type\":\"RobertaProcessing\",\"cls\":[\"a\",1],\"sep\":[\"a\",1],\"trim_offsets\":0}",
         .status = EMB_E_CORRUPT,
         .says = "trim"},
        {.post = "{\"type\":\"TemplateProcessing\",\"single\":[]}",
         .status = EMB_E_UNSUPPORTED,
         .says = "once"},
        {.post = "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\"}},{\"Sequence\":{"
                 "\"id\":\"A\"}}]}",
         .status = EMB_E_UNSUPPORTED,
         .says = "once"},
        {.post = "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}]}",
         .status = EMB_E_CORRUPT,
         .says = "\"x\""},
        {.post = "{\"type\":\"TemplateProcessing\",\"single\":[3]}",
         .status = EMB_E_CORRUPT,
         .says = "neither"},
        {.post = "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"TemplateProcessing\",\"single\":[{"
                 "\"Sequence\":{\"id\":\"A\"}}]}," BERT_POST "]}",
         .status = EMB_E_UNSUPPORTED,
         .says = "behind"},
        {.post = "{\"type\":\"Sequence\"}", .status = EMB_E_CORRUPT, .says = "processors"},
        {.added = "{}", .status = EMB_E_CORRUPT, .says = "added_tokens"},
        {.added = "[7]", .status = EMB_E_CORRUPT, .says = "content"},
        {.added = "[{\"content\":\"a\",\"special\":\"yes\"}]", .status = EMB_E_CORRUPT, .says = "special"},
        {.model = "[]", .status = EMB_E_CORRUPT, .says = "model"},
        {.model = "{}", .status = EMB_E_CORRUPT, .says = "vocab"},
        {.model = "{\"type\":\"Magic\",\"vocab\":{}}", .status = EMB_E_UNSUPPORTED, .says = "Magic"},
        {.model = "{\"type\":\"WordPiece\",\"vocab\":3}", .status = EMB_E_CORRUPT, .says = "object"},
        {.model = "{\"type\":\"WordPiece\",\"vocab\":{\"a\":-1}}", .status = EMB_E_CORRUPT, .says = "\"a\""},
        {.model = "{\"type\":\"WordPiece\",\"vocab\":{\"a\":1.5}}", .status = EMB_E_CORRUPT, .says = "\"a\""},
        {.model = "{\"type\":\"WordPiece\",\"vocab\":{\"a\":2000000000}}",
         .status = EMB_E_LIMIT,
         .says = "highest id"},
        {.model = "{\"type\":\"WordPiece\",\"vocab\":{},\"unk_token\":3}",
         .status = EMB_E_CORRUPT,
         .says = "unk_token"},
        {.model = "{\"type\":\"WordPiece\",\"vocab\":{},\"max_input_chars_per_word\":-1}",
         .status = EMB_E_CORRUPT,
         .says = "max_input"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *json =
            make_json(cases[i].normalizer, cases[i].pre, cases[i].post, cases[i].added, cases[i].model);
        emb_tokenizer *t;
        emb_error err = {.code = EMB_OK};
        emb_status status = emb_tokenizer_open_json(json, strlen(json), "file", &t, &err);
        if (status != cases[i].status || (cases[i].says && strstr(err.message, cases[i].says) == NULL))
            fail_msg("case %zu: status %d, \"%s\"\n%s", i, status, err.message, json);
        assert_string_equal(err.where, "file");
        assert_null(t);
        free(json);
    }
    emb_tokenizer *t;
    emb_error err;
    assert_int_equal(emb_tokenizer_open_json("[]", 2, "file", &t, &err), EMB_E_CORRUPT);
    assert_int_equal(emb_tokenizer_open_json("{", 1, "file", &t, &err), EMB_E_CORRUPT);
    assert_int_equal(emb_tokenizer_open_json("{\"version\":\"2.0\",\"model\":{}}", 28, "file", &t, &err),
                     EMB_E_UNSUPPORTED);
}

/* Stages that double the text again and again are stopped. */
static void test_growth_is_bounded(void **state)
{
    char normalizer[4096] = "{\"type\":\"Sequence\",\"normalizers\":[";
    emb_encoding e;
    emb_error err;
    (void)state;
    for (int i = 0; i < 40; i++)
        strcat(normalizer, "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aa\"},");
    strcat(normalizer, "{\"type\":\"Lowercase\"}]}");
    char *json = make_json(normalizer, NULL, NULL, NULL, NULL);
    emb_tokenizer *t = open_text(json);
    emb_encoding_init(&e);
    assert_int_equal(emb_tokenizer_encode(t, "a", 1, &(emb_encode_options){.offsets = true}, &e, &err),
                     EMB_E_LIMIT);
    encode(t, "b", 1, (emb_encode_options){.offsets = true}, &e);
    emb_encoding_fini(&e);
    emb_tokenizer_close(t);
    free(json);

    normalizer[0] = '\0';
    strcat(normalizer, "{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < 70; i++)
        strcat(normalizer, "{\"type\":\"Lowercase\"},");
    strcat(normalizer, "null]}");
    json = make_json(normalizer, NULL, NULL, NULL, NULL);
    assert_int_equal(emb_tokenizer_open_json(json, strlen(json), "file", &t, &err), EMB_E_LIMIT);
    free(json);
}

static void test_unknown_without_a_token(void **state)
{
    char *json = make_json(NULL, NULL, "null", NULL,
                           "{\"type\":\"WordPiece\",\"unk_token\":\"?\",\"vocab\":{\"a\":0}}");
    emb_tokenizer *t = open_text(json);
    emb_encoding e;
    emb_error err;
    (void)state;
    emb_encoding_init(&e);
    encode(t, "a", 1, (emb_encode_options){.offsets = false}, &e);
    assert_int_equal(e.count, 1);
    for (int offsets = 0; offsets < 2; offsets++) {
        assert_int_equal(
            emb_tokenizer_encode(t, "a b", 3, &(emb_encode_options){.offsets = offsets}, &e, &err),
            EMB_E_CORRUPT);
        assert_non_null(strstr(err.message, "unk_token"));
        assert_int_equal(e.count, 0);
    }
    emb_encoding_fini(&e);
    emb_tokenizer_close(t);
    free(json);
}

/* ---- memory ---- */

static const char busy_text[] =
    "Hello <x> [MASK] caf\xc3\xa9 <S>\xe4\xb8\xad e\xcc\x81 unknownwordunknownword \xff a b c";

/* Opens, encodes in several ways and closes; the first error. */
static emb_status everything(const char *json)
{
    emb_tokenizer *t = NULL;
    emb_encoding e;
    emb_error err;
    emb_status status = emb_tokenizer_open_json(json, strlen(json), "test", &t, &err);
    emb_encoding_init(&e);
    for (int i = 0; i < 4 && status == EMB_OK; i++) {
        emb_encode_options options = {.add_special_tokens = i & 1, .offsets = i & 2};
        status = emb_tokenizer_encode(t, busy_text, strlen(busy_text), &options, &e, &err);
    }
    emb_encoding_fini(&e);
    emb_tokenizer_close(t);
    return status;
}

static void fail_each_allocation(const char *json)
{
    for (size_t n = 1;; n++) {
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status status = everything(json);
        bool failed = fail_alloc_stop();
        assert_int_equal(fail_alloc_live(), live);
        if (!failed) {
            assert_int_equal(status, EMB_OK);
            assert_true(n > 20);
            return;
        }
        /* A failure may go unnoticed where memory was only to be given back or tried otherwise. */
        if (status != EMB_OK)
            assert_int_equal(status, EMB_E_NOMEM);
    }
}

static void test_failing_allocations(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    char *json = make_json(NULL, NULL, NULL,
                           "[{\"content\":\"[MASK]\",\"special\":true},{\"content\":\"<x>\",\"lstrip\":true},"
                           "{\"content\":\"<S>\",\"normalized\":true}]",
                           NULL);
    fail_each_allocation(json);
    free(json);
    json = make_json("{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":\"Strip\"},{"
                     "\"type\":\"Lowercase\"},"
                     "{\"type\":\"Prepend\",\"prepend\":\"c\"},{\"type\":\"Replace\",\"pattern\":{\"String\":"
                     "\"x\"},\"content\":\"e\"}]}",
                     "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Whitespace\"},{\"type\":"
                     "\"Punctuation\",\"behavior\":\"MergedWithNext\"}]}",
                     "{\"type\":\"RobertaProcessing\",\"cls\":[\"a\",1],\"sep\":[\"a\",1]}",
                     "[{\"content\":\"<x>\",\"normalized\":true,\"rstrip\":true}]", NULL);
    fail_each_allocation(json);
    free(json);
}

static void test_failing_allocations_of_directories(void **state)
{
    char directory[] = "/tmp/emb-tokenizer-XXXXXX";
    (void)state;
    if (!fail_alloc_available())
        skip();
    assert_non_null(mkdtemp(directory));
    put(directory, "vocab.txt", "[UNK]\n[CLS]\n[SEP]\na\n", 20);
    put(directory, "tokenizer_config.json", "{\"unk_token\":\"[UNK]\"}", 21);
    for (size_t n = 1;; n++) {
        emb_tokenizer *t;
        emb_error err;
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        emb_status status = emb_tokenizer_open(directory, &t, &err);
        bool failed = fail_alloc_stop();
        emb_tokenizer_close(t);
        assert_int_equal(fail_alloc_live(), live);
        if (!failed) {
            assert_int_equal(status, EMB_OK);
            break;
        }
        if (status != EMB_OK)
            assert_int_equal(status, EMB_E_NOMEM);
    }
    remove_file(directory, "vocab.txt");
    remove_file(directory, "tokenizer_config.json");
    rmdir(directory);
}

/* A second encoding of the same text, and of shorter ones, allocates nothing. */
static void test_warm_encoding_allocates_nothing(void **state)
{
    (void)state;
    if (!fail_alloc_available())
        skip();
    char *json = make_json(NULL, NULL, NULL,
                           "[{\"content\":\"<x>\"},{\"content\":\"<S>\",\"normalized\":true}]", NULL);
    emb_tokenizer *tokenizers[] = {open_minilm(), open_text(json)};
    for (size_t k = 0; k < 2; k++) {
        emb_encoding e;
        emb_encoding_init(&e);
        for (int offsets = 1; offsets >= 0; offsets--) {
            emb_encode_options options = {.add_special_tokens = true, .offsets = offsets};
            for (int i = 0; i < 2; i++)
                encode(tokenizers[k], busy_text, strlen(busy_text), options, &e);
            fail_alloc_from(1);
            emb_error err;
            emb_status status =
                emb_tokenizer_encode(tokenizers[k], busy_text, strlen(busy_text), &options, &e, &err);
            bool allocated = fail_alloc_stop();
            assert_int_equal(status, EMB_OK);
            assert_false(allocated);
        }
        emb_encoding_fini(&e);
        emb_tokenizer_close(tokenizers[k]);
    }
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lookups),
        cmocka_unit_test(test_added_tokens_outside_the_vocabulary),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_stops_early),
        cmocka_unit_test(test_invalid_utf8),
        cmocka_unit_test(test_empty_and_nul),
        cmocka_unit_test(test_vocab_txt),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_growth_is_bounded),
        cmocka_unit_test(test_unknown_without_a_token),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_failing_allocations_of_directories),
        cmocka_unit_test(test_warm_encoding_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
