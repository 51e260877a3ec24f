/*
 * Where the cache's second level is: what cache.url says; else Redis, if the environment names one; else a
 * SQLite file in the data directory. A data directory that cannot be used costs the second level, not the
 * service.
 */
#include "service/storage.h"

#include "base/error.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { URL_BYTES = PATH_MAX + 64 };

/* Makes the directory and those above it that are missing, for this user alone. */
static bool make_directory(const char *path)
{
    char copy[PATH_MAX];
    size_t length = strlen(path);
    if (!length || length >= sizeof copy)
        return false;
    memcpy(copy, path, length + 1);
    for (char *at = copy + 1; *at; at++)
        if (*at == '/') {
            *at = 0;
            if (mkdir(copy, 0700) && errno != EEXIST)
                return false;
            *at = '/';
        }
    if (mkdir(copy, 0700) && errno != EEXIST)
        return false;
    return access(copy, W_OK | X_OK) == 0;
}

/* Redis as the configuration names it; false: it names none. */
static bool choose_redis(const emb_config *config, char out[URL_BYTES])
{
    bool v6 = strchr(config->redis_host, ':') && config->redis_host[0] != '[';
    if (*config->redis_url)
        snprintf(out, URL_BYTES, "%s", config->redis_url);
    else if (*config->redis_host)
        snprintf(out, URL_BYTES, "redis://%s%s%s:%zu/%zu", v6 ? "[" : "", config->redis_host, v6 ? "]" : "",
                 config->redis_port, config->redis_db);
    return *out != 0;
}

/* The URL of the second level into `out`, "" for none. */
static void choose_url(const emb_config *config, char out[URL_BYTES])
{
    out[0] = 0;
    if (*config->cache_url) {
        snprintf(out, URL_BYTES, "%s", strcmp(config->cache_url, "none") ? config->cache_url : "");
    } else if (choose_redis(config, out)) {
        return;
    } else if (!make_directory(config->data_path)) {
        emb_log(EMB_LOG_WARN, "the data directory cannot be used: vectors are kept in memory only",
                EMB_LOG_TEXT("directory", config->data_path), EMB_LOG_TEXT("error", strerror(errno)));
    } else {
        snprintf(out, URL_BYTES, "sqlite:%s/cache.db", config->data_path);
    }
}

void emb_storage_cache_options(const emb_storage_options *options, emb_cache_options *out)
{
    const emb_config *config = options->config;
    *out = (emb_cache_options){
        .l1_entries = options->l1 ? config->l1_cache_size : 0,
        .l1_bytes = config->l1_cache_bytes,
        .l2_deadline_ms = (uint32_t)config->l2_deadline_ms,
        .l2_bytes = config->l2_bytes,
        .write_queue = config->cache_write_queue,
        .store_text = config->cache_store_text,
        .metrics = options->metrics,
    };
}

emb_status emb_storage_open_cache(const emb_storage_options *options, emb_cache **out, emb_error *err)
{
    char url[URL_BYTES];
    emb_cache_options cache;
    emb_storage_cache_options(options, &cache);
    choose_url(options->config, url);
    cache.l2_url = url;
    return emb_cache_open(&cache, out, err);
}

/* What was put into *url as a text, if it could be. */
static emb_status text_of(emb_buf *url, emb_status status, const char **text, emb_error *err)
{
    if (status == EMB_OK && !(*text = emb_buf_cstr(url)))
        status = EMB_E_NOMEM;
    return status ? emb_fail(err, status, "data.store_url", "the address of a store: %s",
                             emb_status_text(status))
                  : EMB_OK;
}

emb_status emb_storage_store_url(const emb_config *config, const char *part, emb_buf *url, const char **text,
                                 emb_error *err)
{
    emb_buf_clear(url);
    if (strncmp(config->store_url, "sqlite:", 7) == 0 &&
        config->store_url[7]) /* a file of one's own: one for each part */
        return text_of(url, emb_buf_addf(url, "%s.%s", config->store_url, part), text, err);
    if (*config->store_url && strcmp(config->store_url, "sqlite:") != 0)
        return text_of(url, emb_buf_add_str(url, config->store_url), text, err);
    if (!make_directory(config->data_path))
        return emb_fail_errno(err, config->data_path, "making the data directory");
    return text_of(url, emb_buf_addf(url, "sqlite:%s/%s.db", config->data_path, part), text, err);
}

emb_status emb_storage_state_url(const emb_config *config, emb_buf *url, const char **text, emb_error *err)
{
    char redis[URL_BYTES] = "";
    emb_buf_clear(url);
    if (*config->state_url)
        return text_of(url, emb_buf_add_str(url, config->state_url), text, err);
    if (choose_redis(config, redis))
        return text_of(url, emb_buf_add_str(url, redis), text, err);
    return emb_storage_store_url(config, "state", url, text, err);
}

void emb_storage_url_fini(emb_buf *url)
{
    if (url->data)
        explicit_bzero(url->data, url->capacity);
    emb_buf_fini(url);
}
