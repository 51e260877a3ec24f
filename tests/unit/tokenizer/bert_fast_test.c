/* The fused BERT path gives the ids of the general one, whatever the text, warm or cold. */
#include "base/utf8.h"
#include "tokenizer/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t random_state = 88172645463325252u;

static unsigned pick(unsigned below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state % below);
}

static size_t put_code_point(char *out, uint32_t c)
{
    return emb_utf8_encode(c >= 0xD800 && c < 0xE000 ? 0x301 : c, out);
}

/* Appends one thing of some kind. */
static size_t put_something(char *out)
{
    static const char *const strings[] = {
        " ",
        "  ",
        "\t",
        "\r\n",
        "the",
        "Hello,",
        "WORLD!",
        "unaffable",
        "don't",
        "[MASK]",
        "<unk>",
        "<UNK>",
        "<",
        "un",
        "k>",
        "caf\xc3\xa9",
        "e\xcc\x81",
        "\xe2\x89\xae",
        "\xe4\xb8\xad",
        "\xea\xb0\x81",
        "\xd0\xb9",
        "\xc2\xad",
        "\xe1\xbe\xb3",
        "\xf0\x9d\x85\xa5",
        "\xe3\x80\xae",
        "\xcc\x95",
        "\x01",
        "\xc4\xb0",
        "\xef\xbf\xbd",
        "\xff",
        "internationalization",
        "0123456789abcdef",
    };
    static const uint32_t below[] = {0x80, 0x100, 0x400, 0x3100, 0x30000, 0x110000};
    if (pick(3) != 0) {
        const char *s = strings[pick(sizeof strings / sizeof strings[0])];
        memcpy(out, s, strlen(s));
        return strlen(s);
    }
    return put_code_point(out, pick(below[pick(6)]));
}

static void compare(const emb_tokenizer *t, const char *text, size_t length, emb_encoding *fast,
                    emb_encoding *general)
{
    emb_error err;
    if (emb_tokenizer_encode(t, text, length, &(emb_encode_options){.offsets = false}, fast, &err) !=
            EMB_OK ||
        emb_tokenizer_encode(t, text, length, &(emb_encode_options){.offsets = true}, general, &err) !=
            EMB_OK)
        fail_msg("%s: %s", err.where, err.message);
    if (fast->count == general->count && memcmp(fast->ids, general->ids, fast->count * sizeof(int32_t)) == 0)
        return;
    print_error("%zu ids, %zu in general, of ", fast->count, general->count);
    for (size_t i = 0; i < length; i++)
        print_error("%02x ", (unsigned char)text[i]);
    fail_msg("the paths differ");
}

static void check(const emb_tokenizer *t, unsigned texts)
{
    char text[2048];
    emb_encoding fast, general;
    emb_encoding_init(&fast);
    emb_encoding_init(&general);
    for (unsigned i = 0; i < texts; i++) {
        size_t length = 0;
        for (unsigned n = pick(i % 16 == 0 ? 60 : 12); n > 0; n--)
            length += put_something(text + length);
        compare(t, text, length, &fast, &general);
    }
    /* Runs of every length around the size of a cache key, at every distance from the end. */
    for (size_t run = 1; run < 40; run++) {
        for (size_t behind = 0; behind < 20; behind++) {
            memset(text, 'a' + run % 3, run);
            memset(text + run, ' ', behind);
            compare(t, text, run + behind, &fast, &general);
            compare(t, text, run + behind, &fast, &general);
        }
    }
    emb_encoding_fini(&fast);
    emb_encoding_fini(&general);
}

static void test_minilm(void **state)
{
    emb_tokenizer *t;
    emb_error err;
    (void)state;
    if (emb_tokenizer_open(EMB_SOURCE_DIR "/models/all-MiniLM-L6-v2", &t, &err) != EMB_OK)
        fail_msg("%s: %s", err.where, err.message);
    check(t, 40000);
    emb_tokenizer_close(t);
}

/* All settings of the normalizer, and added tokens that match normalized text. */
static void test_settings(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 32; bits++) {
        char json[2048];
        emb_tokenizer *t;
        emb_error err;
        snprintf(json, sizeof json,
                 "{\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":%s,\"handle_chinese_chars\":%s,"
                 "\"strip_accents\":%s,\"lowercase\":%s},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
                 "\"added_tokens\":[{\"content\":\"[MASK]\",\"special\":true}%s],\"model\":{\"type\":"
                 "\"WordPiece\","
                 "\"max_input_chars_per_word\":15,\"vocab\":{\"[UNK]\":0,\"the\":1,\"hello\":2,\"H\":3,\"##"
                 "e\":4,\"##l\":5,"
                 "\"##o\":6,\",\":7,\"un\":8,\"##aff\":9,\"##able\":10,\"<\":11,\">\":12,\"k\":13,\"c\":14,"
                 "\"##a\":15,"
                 "\"##f\":16,\"##\xc3\xa9\":17,\"##i\":18,\"i\":19,\"\xe4\xb8\xad\":20,\"##\xe4\xb8\xad\":21,"
                 "\"'\":22,"
                 "\"don\":23,\"t\":24,\"a\":25,\"##b\":26,\"e\":27,\"[\":28,\"##\xcc\x81\":29}}}",
                 bits & 1 ? "true" : "false", bits & 2 ? "true" : "false", bits & 4 ? "true" : "false",
                 bits & 8 ? "true" : "false",
                 bits & 16 ? ",{\"content\":\"<unk>\",\"normalized\":true}" : "");
        if (emb_tokenizer_open_json(json, strlen(json), "settings", &t, &err) != EMB_OK)
            fail_msg("%s: %s", err.where, err.message);
        check(t, 4000);
        emb_tokenizer_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_minilm), cmocka_unit_test(test_settings)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
