/*
 * exchange.h: one HTTP request to the hub and what it leads to: redirects, the answer's headers, its body.
 *
 *     emb_hub_exchange x;
 *     emb_hub_exchange_init(&x, place, options, err);
 *     emb_hub_exchange_begin(&x, multi, url, false, offset, NULL, err);   // then curl_multi_perform …
 *     // when libcurl says that x.easy is done:
 *     if (emb_hub_exchange_redirected(&x, multi, code, &again, err) …
 *     emb_hub_exchange_fini(&x);
 *
 * Redirects are followed here and not by libcurl, so that three rules hold: the token goes to the origin of
 * the hub's address and to no other, https is never left for http, and the headers by which the hub describes
 * a file (X-Linked-Etag …) are taken from the hub and not from where its files are stored. One thread at a
 * time.
 */
#ifndef EMB_HUB_EXCHANGE_H
#define EMB_HUB_EXCHANGE_H

#include "hub/place.h"

#include <curl/curl.h>

typedef struct emb_hub_answer {
    long status;
    /* of the final answer */
    uint64_t length; /* Content-Length, or EMB_HUB_SIZE_UNKNOWN */
    bool has_range;
    uint64_t range_start, range_total; /* of Content-Range; total may be unknown */
    int64_t retry_after_ms;            /* -1: not said */
    bool encoded;                      /* Content-Encoding other than identity */
    char error_code[64], error_message[200];
    char location[EMB_HUB_MAX_URL];
    /* of the hub, whichever answer of its had them last */
    char etag[132], linked_etag[132]; /* without W/ and quotes */
    uint64_t linked_size;
    char commit[72];
} emb_hub_answer;

/* Takes a piece of the body of a 200 or 206; false ends the transfer. */
typedef bool (*emb_hub_take)(void *context, const emb_hub_answer *answer, const char *data, size_t length);

typedef struct emb_hub_exchange {
    CURL *easy;
    struct curl_slist *headers;
    const emb_hub_place *place;
    char url[EMB_HUB_MAX_URL];
    bool head, active;
    bool at_hub;          /* url is at the origin of the hub's address */
    uint64_t offset;      /* Range: bytes=offset- */
    const char *if_range; /* or NULL; goes to the hub alone */
    unsigned hops;
    emb_hub_answer answer;
    char said[512]; /* the beginning of an error's body */
    size_t said_length;
    char problem[CURL_ERROR_SIZE];
    emb_hub_take take;
    void *context;
} emb_hub_exchange;

EMB_MUST_CHECK emb_status emb_hub_exchange_init(emb_hub_exchange *x, const emb_hub_place *place,
                                                const emb_hub_options *options, emb_error *err);
void emb_hub_exchange_fini(emb_hub_exchange *x, CURLM *multi);

EMB_MUST_CHECK emb_status emb_hub_exchange_begin(emb_hub_exchange *x, CURLM *multi, const char *url,
                                                 bool head, uint64_t offset, const char *if_range,
                                                 emb_error *err);
/* Takes it out of the multi handle, at its end or before. */
void emb_hub_exchange_end(emb_hub_exchange *x, CURLM *multi);
/* After a transfer: *again if the answer was a redirect, which is being followed now. A HEAD request stops at
 * the hub's border: what describes the file was said by then. */
EMB_MUST_CHECK emb_status emb_hub_exchange_follow(emb_hub_exchange *x, CURLM *multi, bool *again,
                                                  emb_error *err);

/* EMB_OK for a 2xx answer (and a redirect that HEAD stopped at); otherwise what is wrong, in a sentence, and
 * whether it may pass. `what` is the thing that was asked for: "list of files", a file's name. */
EMB_MUST_CHECK emb_status emb_hub_exchange_result(const emb_hub_exchange *x, CURLcode code, const char *what,
                                                  bool *passing, emb_error *err);

/* ---- parsing, for tests ---- */

/* "W/\"abc\"" → "abc". false if it does not fit. */
bool emb_hub_normalize_etag(const char *text, size_t length, char *out, size_t size);
/* "120", or a date; -1 if it is neither. now: seconds since 1970. */
int64_t emb_hub_parse_retry_after(const char *text, int64_t now);
/* "bytes 5-9/10", "bytes 5-9/ *", "bytes * /10" (without the spaces). */
bool emb_hub_parse_content_range(const char *text, uint64_t *start, uint64_t *total);

#endif
