/*
 * warm.c: a thread that asks for something cheap when a provider was idle for keep_warm_s, so that the next
 * call finds a connection. It takes the lane that the next call would take, and none while calls run: what
 * they use is warm. What is answered does not matter, not even 404; it is not counted as an attempt and no
 * hook sees it. Closing waits for nothing: an exchange is given up within 50 ms.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/thread.h"
#include "provider/parts.h"

static bool is_closing(emb_provider *p)
{
    pthread_mutex_lock(&p->lock);
    bool closing = p->closing;
    pthread_mutex_unlock(&p->lock);
    return closing || (p->is_closing && p->is_closing());
}

static void exchange_something(emb_provider *p, emb_lane *lane)
{
    emb_lane_exchange *x = emb_lane_spare(lane);
    emb_error ignored;
    if (!x)
        return;
    if (emb_wire_url(&p->config, p->wire->warm_path, NULL, false, "", &x->url) == EMB_OK &&
        emb_lane_start(lane, x, true, 1 << 20, &ignored) == EMB_OK)
        while (!emb_lane_step(lane) && !is_closing(p))
            emb_lane_wait(lane, 50);
    emb_lane_free(lane, x);
}

static bool is_used(emb_provider *p)
{
    pthread_mutex_lock(&p->limits.lock);
    bool used = p->limits.calls > 0;
    pthread_mutex_unlock(&p->limits.lock);
    return used;
}

static void warm_up(emb_provider *p)
{
    emb_lane *lane;
    emb_error ignored;
    if (!is_used(p) && emb_lanes_take(p->lanes, &lane, &ignored) == EMB_OK) {
        exchange_something(p, lane);
        emb_lanes_give(p->lanes, lane);
    }
    atomic_store_explicit(&p->used_ns, emb_now_ns(), memory_order_relaxed);
}

static void *keep_warm(void *context)
{
    emb_provider *p = context;
    uint64_t every = (uint64_t)p->config.keep_warm_s * 1000000000u;
    emb_thread_background("embedd-warm");
    pthread_mutex_lock(&p->lock);
    while (!p->closing) {
        uint64_t due = atomic_load_explicit(&p->used_ns, memory_order_relaxed) + every;
        if (emb_now_ns() >= due) {
            pthread_mutex_unlock(&p->lock);
            warm_up(p);
            pthread_mutex_lock(&p->lock);
            continue;
        }
        struct timespec at = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)};
        pthread_cond_timedwait(&p->wake, &p->lock, &at);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

emb_status emb_provider_warm_start(emb_provider *p, emb_error *err)
{
    if (!p->config.keep_warm_s)
        return EMB_OK;
    if (pthread_create(&p->warm_thread, NULL, keep_warm, p))
        return emb_fail(err, EMB_E_NOMEM, p->config.name, "no thread to keep provider %s warm",
                        p->config.name);
    p->warming = true;
    return EMB_OK;
}

void emb_provider_warm_stop(emb_provider *p)
{
    if (!p->warming)
        return;
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->warm_thread, NULL);
    p->warming = false;
}
