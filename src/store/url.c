/*
 * One pass over a copy of the text: parts are cut out in place and decoded in place, decoding never making
 * them longer. libcurl's URL functions were rejected: they know the schemes that curl speaks and refuse
 * `redis://:secret@/run/x`. What a host, user or path may mean is for the caller to judge; only what cannot
 * be split is refused here, and NUL (%00), which would cut a C string short.
 */
#include "store/url.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_LENGTH = 8192, MAX_OPTIONS = 32 };

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static bool decode(char *text)
{
    char *out = text;
    for (const char *s = text; *s; s++, out++) {
        int high = 0, low = 0;
        if (*s == '%') {
            if ((high = hex(s[1])) < 0 || (low = hex(s[2])) < 0 || high + low == 0)
                return false;
            *out = (char)(high << 4 | low);
            s += 2;
        } else
            *out = *s;
    }
    *out = 0;
    return true;
}

/* Cuts at the first of `stops`; what follows it, or NULL. */
static char *cut(char *text, const char *stops)
{
    char *at = text + strcspn(text, stops);
    if (!*at)
        return NULL;
    *at = 0;
    return at + 1;
}

static const char *take_port(const char *text, unsigned *port)
{
    unsigned value = 0;
    if (!text || !*text) /* "host:" means the default */
        return NULL;
    for (const char *s = text; *s; s++) {
        if (*s < '0' || *s > '9' || (value = value * 10 + (unsigned)(*s - '0')) > 65535)
            return "its port is not a number from 1 to 65535";
    }
    *port = value;
    return value ? NULL : "its port is not a number from 1 to 65535";
}

static const char *take_host(char *text, emb_url *url)
{
    char *port = NULL;
    if (*text == '[') {
        char *end = strchr(++text, ']');
        if (!end || (end[1] && end[1] != ':'))
            return "its address lacks a ']'";
        *end = 0;
        port = end[1] ? end + 2 : NULL;
    } else
        port = cut(text, ":");
    if (*text)
        url->host = text;
    return take_port(port, &url->port);
}

static void take_user(char *text, emb_url *url)
{
    url->password = cut(text, ":");
    if (*text)
        url->user = text;
}

static const char *take_query(char *text, emb_url *url)
{
    for (char *next; text; text = next) {
        next = cut(text, "&");
        if (!*text)
            continue;
        if (url->options == MAX_OPTIONS)
            return "it has more than 32 settings";
        char *value = cut(text, "=");
        url->names[url->options] = text;
        url->values[url->options++] = value ? value : text + strlen(text);
        if (!decode(text) || !decode(url->values[url->options - 1]))
            return "a setting has a '%' that is not followed by two hexadecimal digits other than 00";
    }
    return NULL;
}

/* `authority`: room for a copy of that part, since nothing separates it from a path but the '/' that is
 * the path's. */
static const char *split(char *text, char *authority, emb_url *url)
{
    char *colon = strstr(text, "://"), *at;
    if (!colon || colon == text)
        return "it does not begin with a scheme and \"://\"";
    *colon = 0;
    url->scheme = text;
    text = colon + 3;
    char *query = cut(text, "?");
    size_t length = strcspn(text, "/");
    memcpy(authority, text, length);
    authority[length] = 0;
    if (text[length])
        url->path = text + length;
    if ((at = strrchr(authority, '@'))) {
        *at = 0;
        take_user(authority, url);
        authority = at + 1;
    }
    const char *why = take_host(authority, url);
    if (why || (query && (why = take_query(query, url))))
        return why;
    char *parts[] = {url->user, url->password, url->host, url->path};
    for (size_t i = 0; i < 4; i++)
        if (parts[i] && !decode(parts[i]))
            return "it has a '%' that is not followed by two hexadecimal digits other than 00";
    return NULL;
}

emb_status emb_url_parse(const char *text, emb_url *out, emb_error *err)
{
    *out = (emb_url){0};
    size_t length = strlen(text), tables = 2 * MAX_OPTIONS * sizeof(char *);
    if (length > MAX_LENGTH)
        return emb_fail(err, EMB_E_INVALID, "url", "the URL is longer than %d bytes", MAX_LENGTH);
    char *storage = calloc(1, tables + 2 * (length + 1));
    if (!storage)
        return emb_fail_nomem(err, "url", tables + 2 * (length + 1));
    out->storage = storage;
    out->names = (char **)(void *)storage;
    out->values = out->names + MAX_OPTIONS;
    memcpy(storage + tables, text, length);
    const char *why = split(storage + tables, storage + tables + length + 1, out);
    if (!why)
        return EMB_OK;
    emb_url_fini(out);
    return emb_fail(err, EMB_E_INVALID, "url", "the URL cannot be understood: %s", why);
}

void emb_url_fini(emb_url *url)
{
    free(url->storage);
    *url = (emb_url){0};
}

const char *emb_url_option(const emb_url *url, const char *name)
{
    for (size_t i = url->options; i-- > 0;)
        if (strcmp(url->names[i], name) == 0)
            return url->values[i];
    return NULL;
}

bool emb_url_is(const char *url, const char *schemes)
{
    size_t length = url ? strcspn(url, ":") : 0;
    if (!length || !url[length])
        return false;
    for (const char *s = schemes; *s;) {
        size_t n = strcspn(s, ",");
        if (n == length && memcmp(s, url, n) == 0)
            return true;
        s += n + (s[n] == ',');
    }
    return false;
}

const char *emb_url_sqlite_path(const char *url)
{
    const char *path = url + sizeof "sqlite:" - 1;
    return strncmp(path, "//", 2) == 0 ? path + 2 : path;
}
