/* URLs of databases from any bytes: what is taken has sound parts, and no refusal quotes what may be a
 * password. */
#include "store/redis.h"
#include "store/url.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t length_of(const char *part)
{
    return part ? strlen(part) : 0;
}

static void check(const emb_url *url, size_t size)
{
    size_t parts = length_of(url->scheme) + length_of(url->user) + length_of(url->password) +
                   length_of(url->host) + length_of(url->path);
    for (size_t i = 0; i < url->options; i++)
        parts += strlen(url->names[i]) + strlen(url->values[i]);
    if (parts > size || !url->scheme || !*url->scheme || url->port > 65535 ||
        (url->path && *url->path != '/'))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    emb_url url;
    emb_error err = {0};
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    if (emb_url_parse(text, &url, &err) == EMB_OK) {
        check(&url, size);
        emb_url_fini(&url);
    } else if (!err.message[0])
        abort();
    emb_redis *redis;
    if (emb_redis_open(text, NULL, &redis, &err) == EMB_OK)
        emb_redis_close(redis);
    else if (strstr(err.message, "hunter2"))
        abort();
    free(text);
    return 0;
}
