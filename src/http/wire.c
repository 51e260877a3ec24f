/*
 * read and write behind one interface. TLS is OpenSSL on the descriptor itself rather than libevent's
 * bufferevent_openssl: with its own two evbuffers a connection would hold more memory and copy every answer
 * once more, and it hides the difference between a clean end and a broken one.
 *
 * OpenSSL keeps its buffers only while they hold something (SSL_MODE_RELEASE_BUFFERS): an idle TLS connection
 * is what 1,000 of are cheap. Renegotiation is off. SIGPIPE: plain sockets say MSG_NOSIGNAL; OpenSSL cannot,
 * so loops block the signal.
 */
#include "http/wire.h"

#include "base/error.h"

#include <errno.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

bool emb_http_wire_init(emb_http_wire *wire, int fd, SSL_CTX *tls)
{
    *wire = (emb_http_wire){.fd = fd};
    if (!tls)
        return true;
    wire->tls = SSL_new(tls);
    if (!wire->tls || !SSL_set_fd(wire->tls, fd)) {
        ERR_clear_error();
        return false;
    }
    SSL_set_accept_state(wire->tls);
    return true;
}

void emb_http_wire_fini(emb_http_wire *wire)
{
    SSL_free(wire->tls);
    wire->tls = NULL;
    if (wire->fd >= 0)
        close(wire->fd);
    wire->fd = -1;
}

/* Of an SSL_read or SSL_write that returned n <= 0. */
static ssize_t tls_result(emb_http_wire *wire, int n, bool *other_way, int other)
{
    int reason = SSL_get_error(wire->tls, n);
    ERR_clear_error();
    if (reason == SSL_ERROR_ZERO_RETURN)
        return 0;
    if (reason == other)
        *other_way = true;
    if (reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE)
        return EMB_HTTP_WIRE_LATER;
    return EMB_HTTP_WIRE_BROKEN;
}

static ssize_t plain_result(ssize_t n)
{
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? EMB_HTTP_WIRE_LATER
                                                                     : EMB_HTTP_WIRE_BROKEN;
}

ssize_t emb_http_wire_read(emb_http_wire *wire, void *data, size_t length)
{
    if (!wire->tls)
        return plain_result(recv(wire->fd, data, length, 0));
    wire->read_wants_write = false;
    ERR_clear_error(); /* SSL_get_error would take what others left for ours */
    int n = SSL_read(wire->tls, data, length > INT32_MAX ? INT32_MAX : (int)length);
    return n > 0 ? n : tls_result(wire, n, &wire->read_wants_write, SSL_ERROR_WANT_WRITE);
}

/* Pieces joined into scratch, as far as they go; one piece that fills it is taken where it is. */
static const char *join(const struct iovec *pieces, int count, char *scratch, size_t room, size_t *length)
{
    if (count == 1 || pieces[0].iov_len >= room) {
        *length = pieces[0].iov_len < room ? pieces[0].iov_len : room;
        return pieces[0].iov_base;
    }
    size_t n = 0;
    for (int i = 0; i < count && n < room; i++) {
        size_t take = pieces[i].iov_len < room - n ? pieces[i].iov_len : room - n;
        memcpy(scratch + n, pieces[i].iov_base, take);
        n += take;
    }
    *length = n;
    return scratch;
}

ssize_t emb_http_wire_write(emb_http_wire *wire, const struct iovec *pieces, int count, char *scratch,
                            size_t room)
{
    if (!wire->tls) {
        struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = (size_t)count};
        return plain_result(sendmsg(wire->fd, &message, MSG_NOSIGNAL));
    }
    size_t length;
    const char *data = join(pieces, count, scratch, room, &length);
    wire->write_wants_read = false;
    ERR_clear_error();
    int n = SSL_write(wire->tls, data, (int)length);
    if (n > 0)
        return n;
    ssize_t result = tls_result(wire, n, &wire->write_wants_read, SSL_ERROR_WANT_READ);
    return result == 0 ? EMB_HTTP_WIRE_BROKEN : result;
}

bool emb_http_wire_pending(const emb_http_wire *wire)
{
    return wire->tls && SSL_pending(wire->tls) > 0;
}

bool emb_http_wire_handshaking(const emb_http_wire *wire)
{
    return wire->tls && !SSL_is_init_finished(wire->tls);
}

void emb_http_wire_finish(emb_http_wire *wire)
{
    if (wire->tls && SSL_is_init_finished(wire->tls)) {
        SSL_shutdown(wire->tls);
        ERR_clear_error();
    }
    shutdown(wire->fd, SHUT_WR);
}

/* ---- the certificate ------------------------------------------------------------------------- */

static emb_status tls_fail(emb_error *err, const char *file, const char *what)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    emb_fail(err, EMB_E_INVALID, file, "%s: %s: %s", file, what, reason ? reason : "it could not be read");
    ERR_clear_error();
    return EMB_E_INVALID;
}

/* HTTP/1.1 if the client offers it; no ALPN at all is fine, another protocol alone is not. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_length,
                           const unsigned char *in, unsigned in_length, void *context)
{
    (void)ssl, (void)context;
    static const unsigned char ours[] = "\x08http/1.1";
    return SSL_select_next_proto((unsigned char **)out, out_length, ours, sizeof ours - 1, in, in_length) ==
                   OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

emb_status emb_http_tls_open(const char *cert, const char *key, int min_version, SSL_CTX **out,
                             emb_error *err)
{
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    emb_status status = EMB_OK;
    if (!context)
        return emb_fail_nomem(err, "the TLS context", 0);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                     SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    if (!SSL_CTX_set_min_proto_version(context, min_version == 13 ? TLS1_3_VERSION : TLS1_2_VERSION))
        status = emb_fail(err, EMB_E_INVALID, "server.tls_min_version", "TLS version cannot be set");
    else if (SSL_CTX_use_certificate_chain_file(context, cert) != 1)
        status = tls_fail(err, cert, "the certificate chain cannot be used");
    else if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        status = tls_fail(err, key, "the private key cannot be used");
    else if (SSL_CTX_check_private_key(context) != 1)
        status = tls_fail(err, key, "the private key does not belong to the certificate");
    if (status)
        SSL_CTX_free(context);
    else
        *out = context;
    return status;
}
