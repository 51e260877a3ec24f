/*
 * load_tls.c: see load_tls.h. TLS reads when it writes and the other way round (the handshake, keys that
 * change), so after EAGAIN the stream says which of the two it waits for. EPROTO stands for all that TLS
 * itself refuses.
 */
#include "cli/load_tls.h"

#include "base/error.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

emb_status emb_load_tls_open(SSL_CTX **out, bool insecure, emb_error *err)
{
    SSL_CTX *c = *out = SSL_CTX_new(TLS_client_method());
    if (!c)
        return emb_fail_nomem(err, "TLS", 0);
    SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(c, insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_options(c, SSL_OP_IGNORE_UNEXPECTED_EOF);
    if (!insecure)
        SSL_CTX_set_default_verify_paths(c);
    return EMB_OK;
}

bool emb_load_stream_open(emb_load_stream *s, int fd, SSL_CTX *context, const char *host)
{
    unsigned char address[16];
    *s = (emb_load_stream){.fd = fd};
    if (!context)
        return true;
    bool number = inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
    s->tls = SSL_new(context);
    bool ok = s->tls && SSL_set_fd(s->tls, fd) == 1 &&
              (number ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(s->tls), host) == 1
                      : SSL_set_tlsext_host_name(s->tls, host) == 1 && SSL_set1_host(s->tls, host) == 1);
    if (ok) {
        SSL_set_connect_state(s->tls);
        return true;
    }
    emb_load_stream_close(s);
    return false;
}

void emb_load_stream_close(emb_load_stream *s)
{
    SSL_free(s->tls);
    if (s->fd >= 0)
        close(s->fd);
    s->tls = NULL;
    s->fd = -1;
}

static ssize_t explain(emb_load_stream *s, int result, int saved)
{
    int problem = SSL_get_error(s->tls, result);
    s->wants_write = problem == SSL_ERROR_WANT_WRITE;
    if (problem == SSL_ERROR_ZERO_RETURN)
        return 0;
    errno = problem == SSL_ERROR_WANT_READ || problem == SSL_ERROR_WANT_WRITE ? EAGAIN
            : problem == SSL_ERROR_SYSCALL && saved                           ? saved
                                                                              : EPROTO;
    return -1;
}

ssize_t emb_load_stream_send(emb_load_stream *s, const void *data, size_t length)
{
    if (!s->tls) {
        s->wants_write = true;
        return send(s->fd, data, length, MSG_NOSIGNAL);
    }
    ERR_clear_error();
    errno = 0;
    int n = SSL_write(s->tls, data, length < INT_MAX ? (int)length : INT_MAX);
    return n > 0 ? n : explain(s, n, errno);
}

ssize_t emb_load_stream_recv(emb_load_stream *s, void *data, size_t length)
{
    if (!s->tls) {
        s->wants_write = false;
        return recv(s->fd, data, length, 0);
    }
    ERR_clear_error();
    errno = 0;
    int n = SSL_read(s->tls, data, length < INT_MAX ? (int)length : INT_MAX);
    return n > 0 ? n : explain(s, n, errno);
}

void emb_load_stream_problem(const emb_load_stream *s, char *out, size_t size)
{
    unsigned long code = s->tls ? ERR_peek_error() : 0;
    long verdict = s->tls ? SSL_get_verify_result(s->tls) : X509_V_OK;
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    snprintf(out, size, "%s%s%s%s", reason ? reason : "", verdict != X509_V_OK ? " (" : "",
             verdict != X509_V_OK ? X509_verify_cert_error_string(verdict) : "",
             verdict != X509_V_OK ? ")" : "");
}
