/* The suite of l2_conformance.h on the Redis of EMBEDD_TEST_REDIS, which it empties. */
#include "unit/cache/l2_conformance.h"

#include "store/redis.h"

static const char *url;

static void reset(void)
{
    emb_error err = {0};
    emb_redis *redis;
    emb_redis_batch batch;
    emb_redis_replies replies;
    assert_int_equal(emb_redis_open(url, NULL, &redis, &err), EMB_OK);
    emb_redis_batch_init(&batch);
    emb_redis_command(&batch, 1);
    emb_redis_text(&batch, "FLUSHDB");
    if (emb_redis_call(redis, &batch, l2_soon(), &replies, &err) != EMB_OK)
        fail_msg("%s", err.message);
    emb_redis_replies_fini(&replies);
    emb_redis_batch_fini(&batch);
    emb_redis_close(redis);
}

int main(void)
{
    url = getenv("EMBEDD_TEST_REDIS");
    if (!url)
        return 77;
    const l2_subject subject = {&emb_l2_redis, url, reset, .has_tidy = true};
    return l2_conformance(&subject);
}
