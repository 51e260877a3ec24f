/*
 * wait.h: waiting for a socket, never beyond a deadline.
 *
 *     switch (emb_wait(fd, POLLIN, deadline_ns, NULL)) { case EMB_WAIT_READY: … case EMB_WAIT_LATE: … }
 *
 * `stop`, if given, is looked at every 20 ms. Deadlines are on emb_now_ns's clock.
 */
#ifndef EMB_STORE_WAIT_H
#define EMB_STORE_WAIT_H

#include "base/clock.h"
#include "base/duty.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>

typedef enum emb_wait_result {
    EMB_WAIT_READY,
    EMB_WAIT_LATE,
    EMB_WAIT_STOPPED,
    EMB_WAIT_FAILED
} emb_wait_result;

/* READY also for errors and hang-ups of the socket, which the next read or write then tells. */
static inline emb_wait_result emb_wait(int fd, short events, uint64_t deadline_ns, const atomic_bool *stop)
{
    emb_duty_pass_on();
    for (;;) {
        uint64_t now = emb_now_ns(), left = deadline_ns > now ? deadline_ns - now : 0;
        struct pollfd p = {.fd = fd, .events = events};
        if (stop && atomic_load(stop))
            return EMB_WAIT_STOPPED;
        if (!left)
            return EMB_WAIT_LATE;
        if (left > (stop ? UINT64_C(20000000) : UINT64_C(3600000000000)))
            left = stop ? UINT64_C(20000000) : UINT64_C(3600000000000);
        struct timespec t = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
        int n = ppoll(&p, 1, &t, NULL);
        if (n > 0)
            return EMB_WAIT_READY;
        if (n < 0 && errno != EINTR)
            return EMB_WAIT_FAILED;
    }
}

/* `ms` from now. */
static inline uint64_t emb_after_ms(uint64_t ms)
{
    return emb_now_ns() + ms * 1000000u;
}

#endif
