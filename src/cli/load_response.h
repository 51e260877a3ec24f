/*
 * load_response.h: HTTP/1.1 responses as they arrive, as little of them as a load test needs.
 *
 *     emb_load_response r;
 *     emb_load_response_start(&r);
 *     used = emb_load_response_feed(&r, data, n);       // r.state: MORE, DONE or BAD
 *     if (r.state == EMB_LOAD_DONE) … r.status, r.tokens, r.cached, r.keep_alive
 *
 * Bodies are counted and dropped, except for their beginning (an error's explanation) and their end (where
 * OpenAI's answers have their usage). Allocates nothing.
 */
#ifndef EMB_CLI_LOAD_RESPONSE_H
#define EMB_CLI_LOAD_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum emb_load_state { EMB_LOAD_MORE, EMB_LOAD_DONE, EMB_LOAD_BAD } emb_load_state;

typedef struct emb_load_response {
    emb_load_state state;
    int status;
    bool keep_alive;
    uint64_t body_bytes;
    uint64_t tokens, cached; /* as the server says, 0 if it does not */
    /* internal: */
    int phase;
    bool chunked, has_length, old; /* old: HTTP/1.0 */
    uint64_t left;
    size_t line_length, begin_length, end_length, head_bytes;
    char line[512], begin[256], end[160];
} emb_load_response;

void emb_load_response_start(emb_load_response *r);
/* Takes bytes up to the end of this response; returns how many. */
size_t emb_load_response_feed(emb_load_response *r, const char *data, size_t length);
/* The connection ended: is the response complete? Sets state. */
void emb_load_response_end(emb_load_response *r);
/* Whether any of it has arrived. */
static inline bool emb_load_response_begun(const emb_load_response *r)
{
    return r->head_bytes > 0;
}

#endif
