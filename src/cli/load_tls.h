/*
 * load_tls.h: bytes of a load test's connection, plain or through TLS, behind the calls of plain sockets.
 *
 *     SSL_CTX *context;                                         // NULL for plain connections
 *     if ((st = emb_load_tls_open(&context, insecure, err))) …
 *     emb_load_stream s;
 *     if (!emb_load_stream_open(&s, fd, context, "host")) …
 *     n = emb_load_stream_send(&s, data, length);               // as send(2), recv(2); EAGAIN: s.wants_write?
 *     emb_load_stream_close(&s);
 *
 * The handshake is part of the first send. One thread for a stream; a context is shared.
 */
#ifndef EMB_CLI_LOAD_TLS_H
#define EMB_CLI_LOAD_TLS_H

#include <embedd.h>
#include <openssl/ssl.h>
#include <sys/types.h>

typedef struct emb_load_stream {
    int fd;
    SSL *tls;         /* NULL: plain */
    bool wants_write; /* after EAGAIN: for what to wait */
} emb_load_stream;

/* The certificates of the system and of SSL_CERT_FILE are trusted; insecure: any. */
EMB_MUST_CHECK emb_status emb_load_tls_open(SSL_CTX **out, bool insecure, emb_error *err);

/* host: a name or an address, for SNI and the check of the certificate. false: memory is short. Takes fd. */
EMB_MUST_CHECK bool emb_load_stream_open(emb_load_stream *stream, int fd, SSL_CTX *context, const char *host);
ssize_t emb_load_stream_send(emb_load_stream *stream, const void *data, size_t length);
ssize_t emb_load_stream_recv(emb_load_stream *stream, void *data, size_t length);
void emb_load_stream_close(emb_load_stream *stream);
/* Why TLS failed, for people: "certificate verify failed (self-signed certificate)"; "" if it did not. */
void emb_load_stream_problem(const emb_load_stream *stream, char *out, size_t size);

#endif
