/* What a hub may send, from any bytes: a list of files with its choice of what is needed (the second line is
 * modules.json), and headers. Names that are let through stay inside of their folder. */
#include "hub/exchange.h"
#include "hub/listing.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_names(const emb_hub_listing *l)
{
    for (size_t i = 0; i < l->count; i++) {
        const char *name = l->entries[i].name;
        if (name[0] == '/' || strstr(name, "/../") || strncmp(name, "../", 3) == 0 ||
            strcmp(name, "..") == 0 || strchr(name, '\\') ||
            (l->entries[i].etag && strchr(l->entries[i].etag, '/')) ||
            (i > 0 && strcmp(l->entries[i - 1].name, name) >= 0) ||
            emb_hub_listing_find(l, name) != &l->entries[i])
            abort();
    }
}

static void read_headers(const char *text, size_t length)
{
    uint64_t start, total;
    char etag[64];
    int64_t wait = emb_hub_parse_retry_after(text, 1700000000);
    if (wait < -1)
        abort();
    if (emb_hub_parse_content_range(text, &start, &total) && start == EMB_HUB_SIZE_UNKNOWN &&
        strstr(text, "*") == NULL)
        abort();
    if (emb_hub_normalize_etag(text, length, etag, sizeof etag) && strlen(etag) >= sizeof etag)
        abort();
    emb_hub_etag_is_safe(text);
    emb_hub_is_commit(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    emb_arena arena;
    emb_hub_listing l;
    emb_error err;
    emb_hub_options o = EMB_HUB_OPTIONS_INIT;
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    char *modules = memchr(text, '\n', size);
    size_t length = modules ? (size_t)(modules - text) : size;
    emb_arena_init(&arena);
    if (emb_hub_listing_parse(&l, &arena, text, length, "fuzz", &err) == EMB_OK) {
        check_names(&l);
        o.include = "*.txt,a/*";
        emb_status ignored = emb_hub_listing_choose(&l, modules ? modules + 1 : NULL,
                                                    modules ? size - length - 1 : 0, &o, "org/name", &err);
        (void)ignored;
    }
    read_headers(text, strlen(text));
    emb_arena_fini(&arena);
    free(text);
    return 0;
}
