/*
 * wire.h: bytes in and out of a socket that does not block, plain or TLS.
 *
 *     emb_http_wire w; emb_http_wire_init(&w, fd, tls_context);
 *     ssize_t n = emb_http_wire_read(&w, buffer, size);   // > 0 bytes, 0 end, -1 later, -2 broken
 *
 * Of one thread. Owns the descriptor. Needs SIGPIPE blocked or ignored in its thread.
 */
#ifndef EMB_HTTP_WIRE_H
#define EMB_HTTP_WIRE_H

#include <embedd.h>

#include <openssl/ssl.h>
#include <stdbool.h>
#include <sys/uio.h>

enum { EMB_HTTP_WIRE_LATER = -1, EMB_HTTP_WIRE_BROKEN = -2 };

typedef struct emb_http_wire {
    int fd;
    SSL *tls;
    bool read_wants_write, write_wants_read;
} emb_http_wire;

bool emb_http_wire_init(emb_http_wire *wire, int fd, SSL_CTX *tls);
void emb_http_wire_fini(emb_http_wire *wire);
ssize_t emb_http_wire_read(emb_http_wire *wire, void *data, size_t length);
/* scratch: room for `room` bytes, in which small pieces are joined for TLS. */
ssize_t emb_http_wire_write(emb_http_wire *wire, const struct iovec *pieces, int count, char *scratch,
                            size_t room);
/* Whether bytes wait that no event will announce. */
bool emb_http_wire_pending(const emb_http_wire *wire);
bool emb_http_wire_handshaking(const emb_http_wire *wire);
/* Says that nothing more will be written. */
void emb_http_wire_finish(emb_http_wire *wire);

EMB_MUST_CHECK emb_status emb_http_tls_open(const char *cert, const char *key, int min_version, SSL_CTX **out,
                                            emb_error *err);

#endif
