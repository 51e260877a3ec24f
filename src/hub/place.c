/*
 * place.c: the environment and the options become one answer, and names are checked once, here.
 *
 * Names from the hub become paths and names from people become addresses, so both have a rule that says what
 * is allowed rather than what is not. The repository's rule is huggingface_hub's own; a revision may hold
 * slashes ("refs/pr/3") because it becomes the path of a file in refs/, and for the same reason no "..".
 */
#include "hub/place.h"

#include "base/error.h"
#include "base/file.h"
#include "model/catalog.h"
#include "model/hub_cache.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define DEFAULT_ENDPOINT "https://huggingface.co"
enum { MAX_TOKEN_BYTES = 4096, MAX_PART = 255, MAX_REPOSITORY_PART = 96 };

/* ---- names ---- */

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_word(char c)
{
    return is_alphanumeric(c) || c == '_' || c == '-' || c == '.';
}

bool emb_hub_name_is_safe(const char *name, size_t length)
{
    if (length == 0 || length > EMB_HUB_MAX_NAME)
        return false;
    for (size_t begin = 0, i = 0; i <= length; i++) {
        if (i < length && name[i] != '/') {
            if ((unsigned char)name[i] < 32 || name[i] == 127 || name[i] == '\\')
                return false;
            continue;
        }
        size_t part = i - begin;
        if (part == 0 || part > MAX_PART || (part == 1 && name[begin] == '.') ||
            (part == 2 && name[begin] == '.' && name[begin + 1] == '.'))
            return false;
        begin = i + 1;
    }
    return true;
}

bool emb_hub_etag_is_safe(const char *etag)
{
    size_t length = strlen(etag);
    for (size_t i = 0; i < length; i++)
        if (!is_word(etag[i]))
            return false;
    return length > 0 && length <= 128 && etag[0] != '.';
}

bool emb_hub_is_hex(const char *text, size_t digits)
{
    return strlen(text) == digits && strspn(text, "0123456789abcdef") == digits;
}

bool emb_hub_is_commit(const char *text)
{
    return emb_hub_is_hex(text, 40) || emb_hub_is_hex(text, 64);
}

static bool is_repository_part(const char *part, size_t length)
{
    if (length == 0 || length > MAX_REPOSITORY_PART)
        return false;
    for (size_t i = 0; i < length; i++)
        if (!is_word(part[i]))
            return false;
    return part[0] != '-' && part[0] != '.' && part[length - 1] != '-' && part[length - 1] != '.';
}

static bool is_repository(const char *name)
{
    const char *slash = strchr(name, '/');
    if (strstr(name, "--") || strstr(name, "..") ||
        (strlen(name) > 4 && strcmp(name + strlen(name) - 4, ".git") == 0))
        return false;
    return slash ? is_repository_part(name, (size_t)(slash - name)) &&
                       is_repository_part(slash + 1, strlen(slash + 1))
                 : is_repository_part(name, strlen(name));
}

/* ---- paths ---- */

char *emb_hub_path(emb_arena *arena, const char *first, ...)
{
    va_list args;
    size_t length = strlen(first) + 1;
    va_start(args, first);
    for (const char *part; (part = va_arg(args, const char *));)
        length += strlen(part) + 1;
    va_end(args);
    char *path = emb_arena_alloc(arena, length), *to = path;
    if (!path)
        return NULL;
    to = stpcpy(to, first);
    va_start(args, first);
    for (const char *part; (part = va_arg(args, const char *));) {
        if (to > path && to[-1] != '/')
            *to++ = '/';
        to = stpcpy(to, part);
    }
    va_end(args);
    return path;
}

emb_status emb_hub_make_directories(const char *path, emb_error *err)
{
    char *copy = strdup(path);
    emb_status status = EMB_OK;
    if (!copy)
        return emb_fail_nomem(err, "path", strlen(path) + 1);
    for (char *p = copy + 1; !status; p++) {
        if (*p != '/' && *p != 0)
            continue;
        char saved = *p;
        *p = 0;
        if (mkdir(copy, 0777) < 0 && !emb_is_directory(copy))
            status = emb_fail_errno(err, copy, "making the directory");
        *p = saved;
        if (saved == 0)
            break;
    }
    free(copy);
    if (status == EMB_E_NOT_FOUND) { /* not a model that is not found */
        status = EMB_E_IO;
        if (err)
            err->code = status;
    }
    return status;
}

emb_status emb_hub_make_parent(const char *path, emb_error *err)
{
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return EMB_OK;
    char *parent = strndup(path, (size_t)(slash - path));
    emb_status status =
        parent ? emb_hub_make_directories(parent, err) : emb_fail_nomem(err, "path", strlen(path));
    free(parent);
    return status;
}

/* ---- addresses ---- */

char *emb_hub_encode(emb_arena *arena, const char *text, bool slashes)
{
    static const char digits[] = "0123456789ABCDEF";
    char *out = emb_arena_alloc(arena, 3 * strlen(text) + 1), *to = out;
    for (; out && *text; text++) {
        if (is_word(*text) || *text == '~' || (*text == '/' && !slashes)) {
            *to++ = *text;
            continue;
        }
        *to++ = '%';
        *to++ = digits[(unsigned char)*text >> 4];
        *to++ = digits[(unsigned char)*text & 15];
    }
    if (out)
        *to = 0;
    return out;
}

static CURLUcode same_part(CURLU *a, CURLU *b, CURLUPart part, bool *same)
{
    char *x = NULL, *y = NULL;
    CURLUcode code = curl_url_get(a, part, &x, CURLU_DEFAULT_PORT);
    if (!code)
        code = curl_url_get(b, part, &y, CURLU_DEFAULT_PORT);
    *same = *same && !code && strcasecmp(x, y) == 0;
    curl_free(x);
    curl_free(y);
    return code;
}

emb_status emb_hub_same_origin(const char *a, const char *b, bool *same, emb_error *err)
{
    static const CURLUPart parts[] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT};
    CURLU *x = curl_url(), *y = curl_url();
    CURLUcode code = x && y ? curl_url_set(x, CURLUPART_URL, a, 0) : CURLUE_OUT_OF_MEMORY;
    if (!code)
        code = curl_url_set(y, CURLUPART_URL, b, 0);
    *same = !code;
    for (size_t i = 0; i < sizeof parts / sizeof *parts && !code; i++)
        code = same_part(x, y, parts[i], same);
    curl_url_cleanup(x);
    curl_url_cleanup(y);
    return code == CURLUE_OUT_OF_MEMORY ? emb_fail_nomem(err, "address", strlen(a)) : EMB_OK;
}

/* ---- the place ---- */

static const char *setting(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

bool emb_hub_offline(void)
{
    static const char *const yes[] = {"1", "ON", "YES", "TRUE"};
    const char *value = setting("HF_HUB_OFFLINE");
    if (!value)
        value = setting("TRANSFORMERS_OFFLINE");
    for (size_t i = 0; value && i < sizeof yes / sizeof *yes; i++)
        if (strcasecmp(value, yes[i]) == 0)
            return true;
    return false;
}

static emb_status set_names(emb_hub_place *place, const emb_hub_options *options, emb_arena *arena,
                            emb_error *err)
{
    const char *name = options->name ? options->name : "";
    const emb_catalog_entry *known = emb_catalog_find(name);
    if (known && !known->repository)
        return emb_fail(err, EMB_E_UNSUPPORTED, name, "%s runs at %s and cannot be downloaded", name,
                        known->provider);
    place->repository = known ? known->repository : emb_arena_strndup(arena, name, strlen(name));
    if (!place->repository)
        return emb_fail_nomem(err, "name of the model", strlen(name));
    if (!is_repository(place->repository))
        return emb_fail(err, EMB_E_INVALID, "name",
                        "\"%.200s\" is not the name of a model: a name of 'embedd models', or "
                        "ORGANISATION/NAME as on the "
                        "hub, is needed",
                        place->repository);
    place->revision = options->revision && *options->revision ? options->revision : "main";
    if (!emb_hub_name_is_safe(place->revision, strlen(place->revision)) || strlen(place->revision) > MAX_PART)
        return emb_fail(err, EMB_E_INVALID, "revision",
                        "the revision is not one: a branch, a tag or a commit is needed");
    return EMB_OK;
}

static emb_status set_endpoint(emb_hub_place *place, const emb_hub_options *options, emb_arena *arena,
                               emb_error *err)
{
    const char *endpoint =
        options->endpoint && *options->endpoint ? options->endpoint : setting("HF_ENDPOINT");
    if (!endpoint)
        endpoint = DEFAULT_ENDPOINT;
    size_t length = strlen(endpoint);
    while (length > 0 && endpoint[length - 1] == '/')
        length--;
    char *copy = emb_arena_strndup(arena, endpoint, length);
    if (!copy)
        return emb_fail_nomem(err, "address of the hub", length);
    bool web = strncasecmp(copy, "http://", 7) == 0 || strncasecmp(copy, "https://", 8) == 0, address;
    emb_status status = emb_hub_same_origin(copy, copy, &address, err);
    if (status)
        return status;
    if (!web || !address || length > EMB_HUB_MAX_URL / 4 || strpbrk(copy, "?#@ \r\n"))
        return emb_fail(
            err, EMB_E_INVALID, "endpoint",
            "the hub's address (--endpoint, HF_ENDPOINT) is not an http or https address without user, "
            "query or fragment");
    place->endpoint = copy;
    return EMB_OK;
}

/* White space around a token comes from files and from copying. Anything else that is not printable would end
 * up in a header. */
static emb_status take_token(emb_hub_place *place, const char *text, emb_arena *arena, emb_error *err)
{
    size_t skip = strspn(text, " \t\r\n"), length = strlen(text);
    while (length > skip && strchr(" \t\r\n", text[length - 1]))
        length--;
    if (length <= skip)
        return EMB_OK;
    char *copy = emb_arena_strndup(arena, text + skip, length - skip);
    if (!copy)
        return emb_fail_nomem(err, "access token", length);
    for (const char *p = copy; *p; p++)
        if (*p <= 32 || *p >= 127)
            return emb_fail(err, EMB_E_INVALID, "token",
                            "the access token holds characters that no token has");
    place->token = copy;
    return EMB_OK;
}

static emb_status read_token(emb_hub_place *place, emb_arena *arena, emb_error *err)
{
    const char *given = setting("HF_TOKEN_PATH");
    char *path = given ? emb_hub_expand(given) : emb_hub_home_path("token"), *text = NULL;
    size_t length;
    emb_status status = EMB_OK;
    if (!path)
        return errno == ENOMEM ? emb_fail_nomem(err, "path of the token", 0) : EMB_OK;
    if (emb_is_file(path) && !(status = emb_read_file(path, MAX_TOKEN_BYTES, &text, &length, err)))
        status = take_token(place, text, arena, err);
    if (text)
        explicit_bzero(text, length);
    free(text);
    free(path);
    return status;
}

static emb_status set_token(emb_hub_place *place, const emb_hub_options *options, emb_arena *arena,
                            emb_error *err)
{
    const char *names[] = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_API_KEY"};
    const char *token = options->token;
    for (size_t i = 0; !token && i < sizeof names / sizeof *names; i++)
        token = setting(names[i]);
    place->token = NULL;
    return token ? take_token(place, token, arena, err) : read_token(place, arena, err);
}

static emb_status set_paths(emb_hub_place *place, const emb_hub_options *options, emb_arena *arena,
                            emb_error *err)
{
    errno = 0;
    bool given = options->cache_directory && *options->cache_directory;
    char *cache = given ? emb_hub_expand(options->cache_directory) : emb_hub_cache_directory();
    if (!cache)
        return errno == ENOMEM
                   ? emb_fail_nomem(err, "path of the cache", 0)
                   : emb_fail(err, EMB_E_INVALID, "cache directory",
                              "none of HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME and HOME is set: say where "
                              "models go with --cache-dir");
    const char *slash = strchr(place->repository, '/');
    char folder[3 * MAX_REPOSITORY_PART + 16];
    if (slash)
        snprintf(folder, sizeof folder, "models--%.*s--%s", (int)(slash - place->repository),
                 place->repository, slash + 1);
    else
        snprintf(folder, sizeof folder, "models--%s", place->repository);
    place->cache = emb_arena_strndup(arena, cache, strlen(cache));
    free(cache);
    place->folder = place->cache ? emb_hub_path(arena, place->cache, folder, NULL) : NULL;
    place->locks = place->cache ? emb_hub_path(arena, place->cache, ".locks", folder, NULL) : NULL;
    return place->folder && place->locks ? EMB_OK : emb_fail_nomem(err, "path of the cache", 0);
}

emb_status emb_hub_place_init(emb_hub_place *place, const emb_hub_options *options, emb_arena *arena,
                              emb_error *err)
{
    memset(place, 0, sizeof *place);
    emb_status status = set_names(place, options, arena, err);
    if (!status)
        status = set_endpoint(place, options, arena, err);
    if (!status)
        status = set_token(place, options, arena, err);
    return status ? status : set_paths(place, options, arena, err);
}
