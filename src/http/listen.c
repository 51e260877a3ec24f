/*
 * One listening socket for each address, all accepted on loop 0, which gives each connection to the loop with
 * the fewest. SO_REUSEPORT, a socket for each loop, was rejected: the kernel spreads by hash, so that eight
 * keep-alive connections of a client easily sit on one of two loops; and a second server started by mistake
 * would silently share the port instead of failing.
 *
 * A unix socket file that nobody listens behind is left over from a kill and removed; one with a listener is
 * an error. At the end the file goes, if it is still the one that was made.
 */
#include "http/internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { MOST_LISTENERS = 16, BACKLOG = 4096, ACCEPTS_A_TURN = 64, RETRY_MS = 50 };

/* ---- addresses ------------------------------------------------------------------------------- */

/* "127.0.0.1:80", "[::1]:80", "unix"; addresses of IPv4 inside IPv6 as IPv4. */
static void name_of(const struct sockaddr_storage *address, char *out, size_t size)
{
    char host[INET6_ADDRSTRLEN];
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(out, size, "%s:%u", host, ntohs(in->sin_port));
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in->sin6_addr);
        snprintf(out, size, mapped ? "%s:%u" : "[%s]:%u", mapped ? host + 7 : host, ntohs(in->sin6_port));
    } else {
        snprintf(out, size, "unix");
    }
}

/* "127.0.0.1:8000: address already in use" */
static emb_status listen_fail(emb_error *err, const char *address, int number)
{
    char reason[128];
    snprintf(reason, sizeof reason, "%s", strerror(number));
    if (reason[0] >= 'A' && reason[0] <= 'Z')
        reason[0] = (char)(reason[0] | 0x20);
    return emb_fail(err, EMB_E_IO, address, "%s: %s", address, reason);
}

static emb_status bad_address(emb_error *err, const char *address, const char *why)
{
    return emb_fail(
        err, EMB_E_INVALID, "server.listen",
        "'%s' is not an address to listen on: %s; HOST:PORT, [IPV6]:PORT, :PORT and unix:/PATH are", address,
        why);
}

/* ---- TCP ------------------------------------------------------------------------------------- */

static emb_status listen_on(emb_http_listener *l, const struct sockaddr *address, socklen_t length, bool both,
                            const char *text, emb_error *err)
{
    int one = 1, v6only = !both;
    l->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0)
        return listen_fail(err, text, errno);
    setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (address->sa_family == AF_INET6)
        setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only);
    if (bind(l->fd, address, length) || listen(l->fd, BACKLOG))
        return listen_fail(err, text, errno);
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    if (getsockname(l->fd, (struct sockaddr *)&bound, &size))
        return listen_fail(err, text, errno);
    name_of(&bound, l->address, sizeof l->address);
    return EMB_OK;
}

/* ":PORT": one socket for IPv6 and IPv4, or IPv4 alone where the kernel has no other. */
static emb_status listen_all(emb_http_listener *l, unsigned port, const char *text, emb_error *err)
{
    struct sockaddr_in6 six = {
        .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = in6addr_any};
    emb_status status = listen_on(l, (struct sockaddr *)&six, sizeof six, true, text, err);
    if (!status || (l->fd >= 0 && errno != EADDRNOTAVAIL))
        return status;
    if (l->fd >= 0)
        close(l->fd);
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return listen_on(l, (struct sockaddr *)&four, sizeof four, false, text, err);
}

static emb_status listen_tcp(emb_http_listener *l, char *text, emb_error *err)
{
    char whole[160], *colon = strrchr(text, ':'), *end = NULL;
    snprintf(whole, sizeof whole, "%s", text);
    unsigned long port = colon && colon[1] >= '0' && colon[1] <= '9' ? strtoul(colon + 1, &end, 10) : 65536;
    if (port > 65535 || (end && *end))
        return bad_address(err, whole, "it has no port from 0 to 65535");
    *colon = 0;
    size_t n = strlen(text);
    if (n == 0)
        return listen_all(l, (unsigned)port, whole, err);
    bool six = text[0] == '[' && text[n - 1] == ']';
    if (six) {
        text[n - 1] = 0;
        text++;
    } else if (strchr(text, ':')) {
        return bad_address(err, whole, "an IPv6 address needs brackets");
    }
    struct addrinfo hints = {.ai_family = six ? AF_INET6 : AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV | (six ? AI_NUMERICHOST : 0)};
    struct addrinfo *found = NULL;
    int failed = getaddrinfo(text, colon + 1, &hints, &found);
    if (failed == EAI_MEMORY)
        return emb_fail_nomem(err, "an address", 0);
    if (failed)
        return bad_address(err, whole, gai_strerror(failed));
    /* A name that has both, as localhost: IPv4, which every client tries. */
    struct addrinfo *chosen = found;
    for (struct addrinfo *a = found; a; a = a->ai_next)
        if (a->ai_family == AF_INET) {
            chosen = a;
            break;
        }
    emb_status status = listen_on(l, chosen->ai_addr, chosen->ai_addrlen, false, whole, err);
    freeaddrinfo(found);
    return status;
}

/* ---- unix sockets ---------------------------------------------------------------------------- */

/* Removes what a killed server left. */
static emb_status make_way(const struct sockaddr_un *address, const char *text, emb_error *err)
{
    struct stat st;
    if (lstat(address->sun_path, &st))
        return errno == ENOENT ? EMB_OK : listen_fail(err, text, errno);
    if (!S_ISSOCK(st.st_mode))
        return emb_fail(err, EMB_E_IO, text, "%s: a file that is not a socket is there", text);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return listen_fail(err, text, errno);
    bool stale = connect(fd, (const struct sockaddr *)address, sizeof *address) && errno == ECONNREFUSED;
    close(fd);
    if (!stale)
        return listen_fail(err, text, EADDRINUSE);
    return unlink(address->sun_path) && errno != ENOENT ? listen_fail(err, text, errno) : EMB_OK;
}

static emb_status listen_unix(emb_http_listener *l, const char *text, emb_error *err)
{
    const char *path = text + 5;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path[0] != '/' || strlen(path) >= sizeof address.sun_path)
        return bad_address(err, text, "the path must be absolute and shorter than 108 bytes");
    strcpy(address.sun_path, path);
    emb_status status = make_way(&address, text, err);
    if (status)
        return status;
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0)
        return listen_fail(err, text, errno);
    fchmod(l->fd, 0660); /* the file is made with no more than this, whatever the umask */
    if (bind(l->fd, (struct sockaddr *)&address, sizeof address))
        return listen_fail(err, text, errno);
    l->unix_path = strdup(path);
    struct stat st;
    if (!l->unix_path) {
        unlink(path);
        return emb_fail_nomem(err, "a path", strlen(path));
    }
    if (chmod(path, 0660) || lstat(path, &st) || listen(l->fd, BACKLOG))
        return listen_fail(err, text, errno);
    l->device = st.st_dev;
    l->inode = st.st_ino;
    snprintf(l->address, sizeof l->address, "%s", text);
    return EMB_OK;
}

/* ---- the list -------------------------------------------------------------------------------- */

static char *trim(char *text)
{
    while (*text == ' ')
        text++;
    for (size_t n = strlen(text); n && text[n - 1] == ' ';)
        text[--n] = 0;
    return text;
}

emb_status emb_http_listen(const char *listen, emb_http_listener **out, size_t *count, emb_error *err)
{
    char *copy = strdup(listen ? listen : ""), *rest = copy, *part;
    emb_http_listener *all = calloc(MOST_LISTENERS, sizeof *all);
    emb_status status = EMB_OK;
    *out = all;
    *count = 0;
    if (!copy || !all)
        status = emb_fail_nomem(err, "the listeners", MOST_LISTENERS * sizeof *all);
    while (!status && (part = strsep(&rest, ","))) {
        part = trim(part);
        if (!*part)
            continue;
        if (*count == MOST_LISTENERS) {
            status = emb_fail(err, EMB_E_LIMIT, "server.listen", "more than %d addresses to listen on",
                              MOST_LISTENERS);
            break;
        }
        emb_http_listener *l = &all[(*count)++];
        l->fd = -1;
        status = strncmp(part, "unix:", 5) == 0 ? listen_unix(l, part, err) : listen_tcp(l, part, err);
    }
    if (!status && *count == 0)
        status = emb_fail(err, EMB_E_INVALID, "server.listen", "no address to listen on is given");
    free(copy);
    return status;
}

/* ---- accepting ------------------------------------------------------------------------------- */

static size_t connections(const emb_http_server *server)
{
    size_t sum = 0;
    for (unsigned i = 0; i < server->loop_count; i++)
        sum += atomic_load_explicit(&server->loops[i].connection_count, memory_order_relaxed);
    return sum;
}

static void take(emb_http_listener *l, int fd, const struct sockaddr_storage *address)
{
    emb_http_server *server = l->server;
    char peer[64];
    name_of(address, peer, sizeof peer);
    if (connections(server) >= server->loops[0].settings->max_connections) {
        close(fd);
        emb_http_record_refusal(server, peer, "connections", 0);
        return;
    }
    emb_http_connection_accept(server, fd, peer, !l->unix_path);
}

static void pause_accepting(emb_http_listener *l)
{
    struct timeval retry = {0, RETRY_MS * 1000};
    if (event_add(&l->retry, &retry) == 0)
        event_del(&l->readable);
}

/* Accepts up to `most`; false: there may be more. */
static bool accept_waiting(emb_http_listener *l, int most)
{
    for (int i = 0; i < most; i++) {
        struct sockaddr_storage address = {.ss_family = AF_UNIX};
        socklen_t length = sizeof address;
        int accepted = accept4(l->fd, (struct sockaddr *)&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted >= 0) {
            take(l, accepted, &address);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            /* it would be announced again and again: wait until something has been closed */
            pause_accepting(l);
            return true;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return true;
        }
    }
    return false;
}

static void on_connection(evutil_socket_t fd, short what, void *argument)
{
    (void)fd, (void)what;
    accept_waiting(argument, ACCEPTS_A_TURN);
}

static void on_retry(evutil_socket_t fd, short what, void *argument)
{
    (void)fd, (void)what;
    emb_http_listener *l = argument;
    if (event_add(&l->readable, NULL))
        pause_accepting(l); /* memory is short */
}

emb_status emb_http_listener_start(emb_http_listener *l, emb_http_server *server, emb_error *err)
{
    l->server = server;
    if (event_assign(&l->readable, server->loops[0].base, l->fd, EV_READ | EV_PERSIST, on_connection, l) ||
        event_assign(&l->retry, server->loops[0].base, -1, 0, on_retry, l) || event_add(&l->readable, NULL))
        return emb_fail_nomem(err, "a listener's event", sizeof l->readable);
    l->accepting = true;
    return EMB_OK;
}

void emb_http_listener_stop(emb_http_listener *l)
{
    if (l->accepting) {
        accept_waiting(l, BACKLOG); /* the kernel has told these clients that they are connected */
        event_del(&l->readable);
        event_del(&l->retry);
        l->accepting = false;
    }
    struct stat st;
    if (l->unix_path && lstat(l->unix_path, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode)
        unlink(l->unix_path);
    free(l->unix_path);
    l->unix_path = NULL;
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
}

void emb_http_listeners_close(emb_http_listener *listeners, size_t count)
{
    for (size_t i = 0; i < count; i++)
        emb_http_listener_stop(&listeners[i]);
    free(listeners);
}
