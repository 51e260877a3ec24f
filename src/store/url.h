/*
 * url.h: the parts of a database's URL, percent-decoded.
 *
 *     emb_url url;
 *     if ((st = emb_url_parse("redis://user:p%40ss@[::1]:6379/2?name=x", &url, err))) return st;
 *     connect(url.host, url.port ? url.port : 6379); emb_url_option(&url, "name");   // "x", or NULL
 *     emb_url_fini(&url);
 *
 * Errors never quote the URL, for it may hold a password. Parts that are absent are NULL (port 0); all
 * strings belong to the emb_url. Pure functions, thread-safe.
 */
#ifndef EMB_STORE_URL_H
#define EMB_STORE_URL_H

#include <embedd.h>

typedef struct emb_url {
    char *scheme, *user, *password, *host, *path; /* path: with its '/', NULL if empty */
    unsigned port;
    char **names, **values; /* of the query */
    size_t options;
    char *storage;
} emb_url;

EMB_MUST_CHECK emb_status emb_url_parse(const char *text, emb_url *out, emb_error *err);
void emb_url_fini(emb_url *url);
/* The last value given for a name; NULL if there is none. */
const char *emb_url_option(const emb_url *url, const char *name);

/* ---- of texts that need no parsing ---- */

/* Whether the URL has one of these schemes, a comma between: "postgresql,postgres". NULL has none. */
bool emb_url_is(const char *url, const char *schemes);
/* The path of "sqlite:PATH"; "sqlite://PATH" is the same, so that sqlite:///absolute works too. */
const char *emb_url_sqlite_path(const char *url);

#endif
