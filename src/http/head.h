/*
 * head.h: what a request may look like on the wire. Pure functions over bytes, no memory of their own: the
 * only place that decides where a request's head and body end, so that nothing can be smuggled past it.
 *
 *     emb_http_head head;
 *     switch (emb_http_head_read(&head, data, n, 16384)) {
 *     case EMB_HTTP_DONE: break;                 // head.bytes of data are the head
 *     case EMB_HTTP_MORE: wait for more bytes;   // nothing wrong so far
 *     default: refuse with emb_http_fault_of(it) // and close: what follows cannot be told apart
 *     }
 *
 * Thread-safe. Positions in emb_http_head are offsets into the data that was read.
 */
#ifndef EMB_HTTP_HEAD_H
#define EMB_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(name, status, why (for records), code, message) */
#define EMB_HTTP_FAULT_TABLE(X)                                                                             \
    X(BAD_LINE, 400, "malformed", "malformed_request", "The request line is not 'METHOD TARGET HTTP/1.1'.") \
    X(BAD_TARGET, 400, "malformed", "malformed_target",                                                     \
      "The request's target is not a path, or holds an invalid percent-encoding, NUL or invalid UTF-8.")    \
    X(BAD_VERSION, 505, "malformed", "unsupported_version", "Only HTTP/1.1 and HTTP/1.0 are spoken here.")  \
    X(BAD_METHOD, 405, "malformed", "unsupported_method",                                                   \
      "The method is none of GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS.")                             \
    X(BAD_LINE_END, 400, "malformed", "malformed_request", "A line of the head does not end in CR LF.")     \
    X(BAD_FIELD_NAME, 400, "malformed", "malformed_header",                                                 \
      "A header's name is empty, not a token, or not followed by a colon at once.")                         \
    X(BAD_FIELD_VALUE, 400, "malformed", "malformed_header", "A header's value holds a control character.") \
    X(FOLDED, 400, "malformed", "malformed_header", "A header is folded over several lines.")               \
    X(BAD_HOST, 400, "malformed", "malformed_host",                                                         \
      "The Host header is missing, doubled or not HOST[:PORT].")                                            \
    X(BAD_LENGTH, 400, "malformed", "malformed_length",                                                     \
      "Content-Length must be there once at most, as digits alone.")                                        \
    X(BAD_CODING, 400, "malformed", "malformed_transfer_encoding",                                          \
      "Transfer-Encoding must be 'chunked', once, in HTTP/1.1, without Content-Length.")                    \
    X(OTHER_CODING, 501, "malformed", "unsupported_transfer_encoding",                                      \
      "No transfer coding other than 'chunked' is understood.")                                             \
    X(BAD_EXPECT, 417, "malformed", "unsupported_expectation", "Expect knows '100-continue' alone.")        \
    X(BAD_CHUNK, 400, "malformed", "malformed_chunk", "The chunked body is malformed.")                     \
    X(HEAD_TOO_LARGE, 431, "too_large", "head_too_large",                                                   \
      "The request's head is larger than server.max_head_bytes, or has more than 100 headers.")             \
    X(BODY_TOO_LARGE, 413, "too_large", "body_too_large", "The body is larger than server.max_body_bytes.") \
    X(HEAD_TIMEOUT, 408, "timeout", "request_timeout",                                                      \
      "The head was not there within server.head_timeout_ms.")                                              \
    X(BODY_TIMEOUT, 408, "timeout", "request_timeout",                                                      \
      "The body was not there within server.body_timeout_ms.")

typedef enum emb_http_progress {
    EMB_HTTP_DONE,
    EMB_HTTP_MORE,
#define EMB_X(name, status, why, code, message) EMB_HTTP_##name,
    EMB_HTTP_FAULT_TABLE(EMB_X)
#undef EMB_X
} emb_http_progress;

typedef struct emb_http_fault {
    int status;
    const char *why, *code, *message;
} emb_http_fault;

/* NULL for DONE and MORE. */
const emb_http_fault *emb_http_fault_of(emb_http_progress progress);

enum { EMB_HTTP_MAX_FIELDS = 100 };

typedef struct emb_http_span {
    uint32_t at, length;
} emb_http_span;

typedef struct emb_http_field {
    emb_http_span name, value;
} emb_http_field;

typedef struct emb_http_head {
    size_t bytes;                      /* of the whole head, the empty line included */
    emb_http_span method, path, query; /* path: as sent, empty if an absolute target has none */
    bool asterisk;                     /* the target is "*" (path is empty then) */
    unsigned method_bit;               /* emb_http_method */
    unsigned minor;                    /* HTTP/1.minor */
    bool has_length, chunked, keep_alive, expects_continue;
    uint64_t content_length; /* saturates */
    size_t field_count;
    emb_http_field fields[EMB_HTTP_MAX_FIELDS];
} emb_http_head;

/* Reads a head from its first byte. Faults are found as early as the bytes allow. maximum ≤ UINT32_MAX. */
emb_http_progress emb_http_head_read(emb_http_head *head, const char *data, size_t n, size_t maximum);

bool emb_http_is_token(const char *text, size_t length);
/* "HOST", "HOST:PORT", "[V6]:PORT". */
bool emb_http_is_authority(const char *text, size_t length);
/* Whether a list like "a, B" has the element `token` (lower case), ignoring case. */
bool emb_http_list_has(const char *list, size_t length, const char *token);
/* ASCII, ignoring case; `lower` is in lower case and NUL-terminated. */
bool emb_http_same(const char *text, size_t length, const char *lower);

/* ---- a chunked body ---- */

typedef struct emb_http_chunks {
    int state;
    unsigned digits;
    uint64_t left;           /* of the chunk at hand */
    uint64_t total, maximum; /* of the payload */
    size_t extension_bytes, trailer_bytes, maximum_trailer;
} emb_http_chunks;

void emb_http_chunks_init(emb_http_chunks *chunks, uint64_t maximum_body, size_t maximum_trailer);
/* Takes *used bytes of data; piece (inside data) is the payload among them, at most one piece a call. Call
 * again with the rest until it says DONE or a fault, or has taken everything and says MORE. */
emb_http_progress emb_http_chunks_read(emb_http_chunks *chunks, const char *data, size_t n, size_t *used,
                                       const char **piece, size_t *piece_length);

/* ---- the target ---- */

/* Decodes %XX (and, in a query, '+' as a space) into out, which has room for length + 1 bytes; NUL behind it.
 * false: an escape is malformed, or the result holds NUL or is not UTF-8. */
bool emb_http_percent_decode(const char *text, size_t length, bool query, char *out, size_t *out_length);

#endif
