/*
 * lanes.h: connections to one provider.
 *
 *     emb_lanes *h; emb_lane *lane;
 *     emb_lanes_open(config, user_agent, key_header, &h, err);
 *     emb_lanes_take(h, &lane, err);                       // a call's own connections, warm if there were any
 *     emb_lane_exchange *x = emb_lane_spare(lane, err);
 *     … write x->body …
 *     emb_lane_start(lane, x, url, most_answer_bytes);
 *     while (!(done = emb_lane_step(lane))) emb_lane_wait(lane, 50);
 *     emb_lane_free(lane, done);
 *     emb_lanes_give(h, lane);
 *
 * A lane and its exchanges belong to one thread at a time; take and give are thread-safe.
 */
#ifndef EMB_PROVIDER_LANES_H
#define EMB_PROVIDER_LANES_H

#include "base/buf.h"
#include "provider/provider.h"
#include "provider/retry.h"

#include <curl/curl.h>

typedef struct emb_lanes emb_lanes;
typedef struct emb_lane emb_lane;

typedef struct emb_lane_exchange {
    CURL *easy;
    emb_lane *lane;
    emb_buf url, body; /* the caller's to write */
    emb_buf answer;
    emb_retry_hints hints;
    int code;        /* of libcurl; CURLE_OK */
    int http_status; /* 0: none */
    uint64_t started_ns;
    void *owner, *ticket; /* the caller's */
    bool busy, running, get;
    unsigned requests; /* that went to the network in this exchange */
    char problem[CURL_ERROR_SIZE];
} emb_lane_exchange;

/* key_header: "Authorization: Bearer ". EMB_E_INVALID for keys and headers that would break a request. */
EMB_MUST_CHECK emb_status emb_lanes_open(const emb_provider_config *config, const char *user_agent,
                                         const char *key_header, emb_lanes **out, emb_error *err);
void emb_lanes_close(emb_lanes *lanes); /* no lane may be out; takes NULL */

EMB_MUST_CHECK emb_status emb_lanes_take(emb_lanes *lanes, emb_lane **out, emb_error *err);
void emb_lanes_give(emb_lanes *lanes, emb_lane *lane); /* exchanges that still run are aborted */

/* One with an empty body; NULL when memory is short. */
emb_lane_exchange *emb_lane_spare(emb_lane *lane);
/* POSTs x->body to x->url; with `get`, GETs it. */
EMB_MUST_CHECK emb_status emb_lane_start(emb_lane *lane, emb_lane_exchange *x, bool get,
                                         size_t most_answer_bytes, emb_error *err);
/* Goes on with all; one that ended, or NULL. */
emb_lane_exchange *emb_lane_step(emb_lane *lane);
/* Until something happens or the time is over. A duty of the thread is passed on when somebody waits for it,
 * or after a moment. */
void emb_lane_wait(emb_lane *lane, int most_ms);
void emb_lane_abort(emb_lane *lane, emb_lane_exchange *x);
/* For another use; aborts it if it runs. */
void emb_lane_free(emb_lane *lane, emb_lane_exchange *x);
/* Whether the whole request was handed to the network. */
bool emb_lane_sent(const emb_lane_exchange *x);

#endif
