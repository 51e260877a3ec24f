/* The parts of src/hub that need no network: names, headers, hashes, lists of files, waits; and memory that
 * runs out. */
#include "hub/blob.h"
#include "hub/digest.h"
#include "hub/exchange.h"
#include "hub/fetch.h"
#include "hub/hub.h"
#include "hub/listing.h"
#include "hub/place.h"
#include "support/fail_alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void names(void **state)
{
    (void)state;
    static const char *const good[] = {"a",  "config.json", "1_Pooling/config.json", "a b/ä", "...",
                                       ".a", "a..b"};
    static const char *const bad[] = {"",       ".",    "..",  "/a",   "a/",   "a//b",
                                      "a/../b", "../a", "a/.", "a\\b", "a\nb", "a\177"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(emb_hub_name_is_safe(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(emb_hub_name_is_safe(bad[i], strlen(bad[i])));
    assert_false(emb_hub_name_is_safe("a\0b", 3));
    char longest[1200];
    memset(longest, 'a', sizeof longest);
    assert_true(emb_hub_name_is_safe(longest, 255));
    assert_false(emb_hub_name_is_safe(longest, 256));
    for (size_t i = 200; i < sizeof longest; i += 200)
        longest[i] = '/';
    assert_true(emb_hub_name_is_safe(longest, 1024));
    assert_false(emb_hub_name_is_safe(longest, 1025));
    assert_true(emb_hub_etag_is_safe("5f3a-x_Y.z"));
    assert_false(emb_hub_etag_is_safe(""));
    assert_false(emb_hub_etag_is_safe(".."));
    assert_false(emb_hub_etag_is_safe("a/b"));
}

static bool same_origin(const char *a, const char *b)
{
    bool same;
    assert_int_equal(emb_hub_same_origin(a, b, &same, NULL), EMB_OK);
    return same;
}

static void origins(void **state)
{
    (void)state;
    assert_true(same_origin("https://huggingface.co/a", "https://HuggingFace.co:443/b?c"));
    assert_true(same_origin("http://h:80", "http://h/"));
    assert_false(same_origin("https://h", "http://h"));
    assert_false(same_origin("https://h", "https://h:8443"));
    assert_false(same_origin("https://h.example", "https://h.example.evil"));
    assert_false(same_origin("https://h", "https://h@evil"));
    assert_true(same_origin("https://h", "https://user@h"));
    assert_false(same_origin("nothing at all", "nothing at all"));
}

static void etags(void **state)
{
    (void)state;
    char out[8];
    assert_true(emb_hub_normalize_etag("W/\"abc\"", 7, out, sizeof out));
    assert_string_equal(out, "abc");
    assert_true(emb_hub_normalize_etag("abc", 3, out, sizeof out));
    assert_string_equal(out, "abc");
    assert_false(emb_hub_normalize_etag("\"\"", 2, out, sizeof out));
    assert_false(emb_hub_normalize_etag("\"12345678\"", 10, out, sizeof out));
}

static void retry_after(void **state)
{
    (void)state;
    assert_int_equal(emb_hub_parse_retry_after("120", 0), 120);
    assert_int_equal(emb_hub_parse_retry_after("0", 5), 0);
    assert_int_equal(emb_hub_parse_retry_after("1.5", 5), 1);
    assert_int_equal(emb_hub_parse_retry_after("99999999999999999999", 5), -1);
    assert_int_equal(emb_hub_parse_retry_after("9999999999", 5), 1000000);
    assert_int_equal(emb_hub_parse_retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 40), 60);
    assert_int_equal(emb_hub_parse_retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 400), 0);
    assert_int_equal(emb_hub_parse_retry_after("soon", 5), -1);
    assert_int_equal(emb_hub_parse_retry_after("-1", 5), -1);
}

static void content_range(void **state)
{
    (void)state;
    uint64_t start, total;
    assert_true(emb_hub_parse_content_range("bytes 5-9/10", &start, &total));
    assert_true(start == 5 && total == 10);
    assert_true(emb_hub_parse_content_range("Bytes 5000000000-5000000001/6000000000", &start, &total));
    assert_true(start == 5000000000 && total == 6000000000);
    assert_true(emb_hub_parse_content_range("bytes 5-9/*", &start, &total));
    assert_true(start == 5 && total == EMB_HUB_SIZE_UNKNOWN);
    assert_true(emb_hub_parse_content_range("bytes */10", &start, &total));
    assert_true(start == EMB_HUB_SIZE_UNKNOWN && total == 10);
    static const char *const bad[] = {
        "",           "bytes",       "bytes ",        "bytes 5",      "bytes 5-",   "bytes 9-5/10",
        "bytes 5-9/", "bytes 5-9/x", "bytes 5-9/10x", "items 5-9/10", "bytes -9/10"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(emb_hub_parse_content_range(bad[i], &start, &total));
}

static void waits(void **state)
{
    (void)state;
    uint64_t random = 1, least = UINT64_MAX, most = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t w = emb_hub_retry_wait_ms(2, -1, &random);
        least = w < least ? w : least;
        most = w > most ? w : most;
    }
    assert_true(least >= 500 && least < 550 && most <= 1000 && most > 950);
    assert_true(emb_hub_retry_wait_ms(60, -1, &random) <= 10000);
    assert_true(emb_hub_retry_wait_ms(0, 90000, &random) == 90000);
    assert_true(emb_hub_retry_wait_ms(60, 1, &random) >= 5000);
}

static bool digest_is(const char *expected, uint64_t size, const char *data, size_t length)
{
    char actual[65];
    emb_hub_digest *d = emb_hub_digest_open(expected, size);
    assert_non_null(d);
    emb_hub_digest_add(d, "rubbish", 7);
    assert_true(emb_hub_digest_restart(d));
    emb_hub_digest_add(d, data, length / 2);
    emb_hub_digest_add(d, data + length / 2, length - length / 2);
    bool same = emb_hub_digest_matches(d, actual);
    emb_hub_digest_close(d);
    return same;
}

static void digests(void **state)
{
    (void)state;
    /* echo -n hello | git hash-object --stdin; sha256sum */
    assert_true(digest_is("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0", 5, "hello", 5));
    assert_false(digest_is("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0", 5, "hellO", 5));
    assert_true(digest_is("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", 5, "hello", 5));
    assert_false(digest_is("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", 5, "", 0));
    assert_true(digest_is("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", 0, "", 0));
    assert_true(digest_is("of-a-mirror", 5, "anything", 8));
    assert_int_equal(emb_hub_digest_of("B6FC4C620B67D95F953A5C1C1230AAAB5DB5A1B0"), EMB_HUB_DIGEST_NONE);
}

#define COMMIT "0123456789012345678901234567890123456789"
#define HASH "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
static const char listing_text[] =
    "{\"sha\":\"" COMMIT "\",\"siblings\":["
    "{\"rfilename\":\"model.safetensors\",\"size\":5000000000,\"blobId\":\"" HASH
    "\",\"lfs\":{\"sha256\":\"" HASH "aaaaaaaaaaaaaaaaaaaaaaaa\",\"size\":5000000000}},"
    "{\"rfilename\":\"config.json\",\"size\":7,\"blobId\":\"" HASH "\"},"
    "{\"rfilename\":\"config.json\",\"size\":7,\"blobId\":\"" HASH "\"},"
    "{\"rfilename\":\"1_Pooling/config.json\"},"
    "{\"rfilename\":\"onnx/model.onnx\",\"size\":-1,\"blobId\":\"../x\"}]}";
static const char modules_text[] =
    "[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
    "{\"path\":\"1_Pooling\",\"type\":\"sentence_transformers.models.Pooling\"}]";

static void lists(void **state)
{
    (void)state;
    emb_arena arena;
    emb_hub_listing l;
    emb_error err;
    emb_hub_options o = EMB_HUB_OPTIONS_INIT;
    emb_arena_init(&arena);
    assert_int_equal(emb_hub_listing_parse(&l, &arena, listing_text, sizeof listing_text - 1, "list", &err),
                     EMB_OK);
    assert_string_equal(l.commit, COMMIT);
    assert_int_equal(l.count, 4);
    emb_hub_entry *weights = emb_hub_listing_find(&l, "model.safetensors");
    assert_true(weights && weights->size == 5000000000 && strlen(weights->etag) == 64);
    emb_hub_entry *onnx = emb_hub_listing_find(&l, "onnx/model.onnx");
    assert_true(onnx && onnx->size == EMB_HUB_SIZE_UNKNOWN && !onnx->etag);
    assert_null(emb_hub_listing_find(&l, "vocab.txt"));
    assert_int_equal(emb_hub_listing_choose(&l, modules_text, strlen(modules_text), &o, "r", &err), EMB_OK);
    assert_true(weights->wanted && emb_hub_listing_find(&l, "1_Pooling/config.json")->wanted &&
                !onnx->wanted);
    emb_arena_fini(&arena);
}

static void lists_on_disk(void **state)
{
    (void)state;
    char folder[] = "/tmp/embedd-hub-XXXXXX", command[64];
    assert_non_null(mkdtemp(folder));
    emb_arena arena;
    emb_hub_listing l, again;
    emb_error err;
    emb_hub_place place = {.folder = folder};
    emb_arena_init(&arena);
    assert_int_equal(emb_hub_listing_read(&again, &arena, &place, COMMIT, &err), EMB_E_NOT_FOUND);
    assert_int_equal(emb_hub_listing_parse(&l, &arena, listing_text, sizeof listing_text - 1, "list", &err),
                     EMB_OK);
    assert_int_equal(emb_hub_listing_write(&l, &arena, &place, &err), EMB_OK);
    assert_int_equal(emb_hub_listing_read(&again, &arena, &place, COMMIT, &err), EMB_OK);
    assert_int_equal(again.count, l.count);
    for (size_t i = 0; i < l.count; i++) {
        assert_string_equal(l.entries[i].name, again.entries[i].name);
        assert_true(l.entries[i].size == again.entries[i].size);
        assert_true(!l.entries[i].etag == !again.entries[i].etag);
        if (l.entries[i].etag)
            assert_string_equal(l.entries[i].etag, again.entries[i].etag);
    }
    emb_arena_fini(&arena);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

/* A file larger than 4 GiB, mostly hole, is gone on with at the right offset. */
static void large_files(void **state)
{
    (void)state;
    char folder[] = "/tmp/embedd-hub-XXXXXX", command[64];
    assert_non_null(mkdtemp(folder));
    emb_arena arena;
    emb_error err;
    emb_hub_blob blob;
    bool got;
    const uint64_t size = (5ull << 30) + 3;
    emb_arena_init(&arena);
    emb_hub_place place = {.folder = folder, .locks = folder};
    /* an etag that is no hash: what is there is not read, which for 5 GiB takes a while */
    assert_int_equal(emb_hub_blob_init(&blob, &arena, &place, "large", size, &err), EMB_OK);
    assert_int_equal(emb_hub_make_parent(blob.partial, &err), EMB_OK);
    FILE *f = fopen(blob.partial, "w");
    assert_non_null(f);
    assert_int_equal(ftruncate(fileno(f), (off_t)(5ull << 30)), 0);
    fclose(f);
    assert_int_equal(emb_hub_blob_lock(&blob, &got, &err), EMB_OK);
    assert_true(got);
    assert_int_equal(emb_hub_blob_open(&blob, NULL, &err), EMB_OK);
    assert_true(blob.offset == 5ull << 30);
    assert_int_equal(emb_hub_blob_write(&blob, "end", 3, &err), EMB_OK);
    assert_int_equal(emb_hub_blob_finish(&blob, "large", &err), EMB_OK);
    emb_hub_blob_close(&blob);
    assert_true(emb_hub_blob_present(&blob));
    emb_arena_fini(&arena);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

static int parse_and_choose(void)
{
    emb_arena arena;
    emb_hub_listing l;
    emb_hub_options o = EMB_HUB_OPTIONS_INIT;
    emb_arena_init(&arena);
    emb_status status =
        emb_hub_listing_parse(&l, &arena, listing_text, sizeof listing_text - 1, "list", NULL);
    if (!status)
        status = emb_hub_listing_choose(&l, modules_text, strlen(modules_text), &o, "r", NULL);
    emb_arena_fini(&arena);
    return status;
}

/* The whole of a pull that needs no network. */
static int pull_offline(void)
{
    emb_hub_options o = EMB_HUB_OPTIONS_INIT;
    emb_hub_result r;
    o.name = "org/name";
    o.token = "";
    o.cache_directory = "/nonexistent/cache";
    o.offline = true;
    emb_status status = emb_hub_pull(&o, &r, NULL);
    assert_null(r.path);
    return status;
}

static void memory_runs_out(int (*work)(void), int expected)
{
    if (!fail_alloc_available())
        skip();
    assert_int_equal(work(), expected);
    for (size_t n = 1;; n++) {
        size_t live = fail_alloc_live();
        fail_alloc_at(n);
        int status = work();
        bool failed = fail_alloc_stop();
        assert_int_equal(fail_alloc_live(), live);
        if (!failed) {
            assert_int_equal(status, expected);
            break;
        }
        assert_true(status == EMB_E_NOMEM || status == expected);
    }
}

static void memory_for_lists(void **state)
{
    (void)state;
    memory_runs_out(parse_and_choose, EMB_OK);
}

static void memory_for_places(void **state)
{
    (void)state;
    memory_runs_out(pull_offline, EMB_E_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(origins),
        cmocka_unit_test(etags),
        cmocka_unit_test(retry_after),
        cmocka_unit_test(content_range),
        cmocka_unit_test(waits),
        cmocka_unit_test(digests),
        cmocka_unit_test(lists),
        cmocka_unit_test(lists_on_disk),
        cmocka_unit_test(large_files),
        cmocka_unit_test(memory_for_lists),
        cmocka_unit_test(memory_for_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
