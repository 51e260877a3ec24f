/*
 * access_file.c: the keys of a configuration, read into a set.
 *
 * The file is YAML, `keys:` with a list of mappings; an entry names its fields or is refused, with the line
 * and the nearest spelling. Two entries of one name would share limits by accident, and two of one hash would
 * make it a matter of luck whose limits hold: both are errors, also between the file and access.api_keys. A
 * plain key is kept as its hash only. No message shows a key or a hash: what stands under sha256 may be a key
 * that was pasted by mistake.
 */
#include "service/access_keys.h"

#include "base/error.h"
#include "base/nearest.h"
#include "config/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_MAX_BYTES = 8 << 20, NAME_MAX_BYTES = 64, MODELS_MAX = 1000 };

typedef struct reader {
    emb_key_set *set;
    const char *file;
    unsigned plain_rights, file_rights; /* of access.api_keys; of keys in the file that do not say */
    emb_error *err;
    emb_status status;
} reader;

static emb_status no_memory(emb_error *err)
{
    return emb_fail_nomem(err, "API keys", sizeof(emb_caller));
}

/* ---- sets ---- */

void emb_key_limits_release(emb_key_limits *limits)
{
    if (limits && atomic_fetch_sub(&limits->references, 1) == 1)
        free(limits);
}

void emb_key_set_release(emb_key_set *set)
{
    if (!set || atomic_fetch_sub_explicit(&set->references, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < set->count; i++)
        emb_key_limits_release(set->callers[i].limits);
    free(set->callers);
    emb_arena_fini(&set->arena);
    free(set);
}

static emb_status add_caller(emb_key_set *set, emb_caller **out, emb_error *err)
{
    if (set->count == set->capacity) {
        size_t capacity = set->capacity ? 2 * set->capacity : 8;
        emb_caller *callers = realloc(set->callers, capacity * sizeof *callers);
        if (!callers)
            return no_memory(err);
        set->callers = callers;
        set->capacity = capacity;
    }
    emb_key_limits *limits = calloc(1, sizeof *limits);
    if (!limits)
        return no_memory(err);
    atomic_init(&limits->references, 1);
    *out = &set->callers[set->count++];
    **out = (emb_caller){.set = set, .limits = limits};
    return EMB_OK;
}

/* ---- access.api_keys ---- */

static bool add_plain(void *context, const char *item, size_t length)
{
    reader *r = context;
    emb_caller *caller;
    char name[32];
    if (r->set->count == EMB_KEYS_MAX) {
        r->status = emb_fail(r->err, EMB_E_LIMIT, "access.api_keys", "access.api_keys: more than %d keys",
                             EMB_KEYS_MAX);
        return false;
    }
    if ((r->status = add_caller(r->set, &caller, r->err)))
        return false;
    caller->rights = r->plain_rights;
    snprintf(name, sizeof name, "key-%zu", r->set->count);
    caller->name = emb_arena_strndup(&r->set->arena, name, strlen(name));
    if (!caller->name || !emb_sha256(item, length, caller->digest))
        r->status = no_memory(r->err);
    return !r->status;
}

/* ---- the file ---- */

static emb_status bad(reader *r, const emb_yaml_node *at, const char *field, const char *problem)
{
    return emb_yaml_fail(r->err, r->file, at->line, "%s: %s", field, problem);
}

static emb_status read_name(reader *r, const emb_yaml_node *n, emb_caller *caller)
{
    bool good = n->kind == EMB_YAML_SCALAR && !n->empty && n->length > 0 && n->length <= NAME_MAX_BYTES;
    for (size_t i = 0; good && i < n->length; i++) /* names stand in logs, metrics and headers */
        good = n->text[i] > ' ' && n->text[i] <= '~' && n->text[i] != '"' && n->text[i] != '\\';
    if (!good)
        return bad(r, n, "name",
                   "is not a word of 1 to 64 ASCII characters without spaces, quotes and backslashes");
    caller->name = emb_arena_strndup(&r->set->arena, n->text, n->length);
    return caller->name ? EMB_OK : no_memory(r->err);
}

static emb_status read_digest(reader *r, const emb_yaml_node *n, emb_caller *caller)
{
    if (n->kind != EMB_YAML_SCALAR || n->length != 2 * EMB_SHA256_BYTES ||
        !emb_unhex(n->text, caller->digest, EMB_SHA256_BYTES))
        return bad(r, n, "sha256",
                   "is not a SHA-256 of 64 hexadecimal digits; 'embedd key hash' makes it of a key (the "
                   "value is not "
                   "shown)");
    return EMB_OK;
}

static emb_status read_count(reader *r, const emb_yaml_node *n, uint64_t maximum, uint64_t *out)
{
    uint64_t value = 0;
    bool good = n->kind == EMB_YAML_SCALAR && n->length > 0 && n->length <= 12;
    for (size_t i = 0; good && i < n->length; i++) {
        good = n->text[i] >= '0' && n->text[i] <= '9';
        value = value * 10 + (uint64_t)(n->text[i] - '0');
    }
    if (!good || value < 1 || value > maximum)
        return emb_yaml_fail(r->err, r->file, n->line, "%s: is not a whole number; allowed: 1 to %llu",
                             n->key->text, (unsigned long long)maximum);
    *out = value;
    return EMB_OK;
}

static emb_status read_models(reader *r, const emb_yaml_node *list, emb_caller *caller)
{
    if (list->kind != EMB_YAML_SEQUENCE || list->count == 0 || list->count > MODELS_MAX)
        return bad(r, list, "models", "is not a list of 1 to 1000 names; leave it out to allow every model");
    const char **models = emb_arena_calloc(&r->set->arena, list->count, sizeof *models);
    if (!models)
        return no_memory(r->err);
    size_t count = 0;
    for (const emb_yaml_node *n = list->first; n; n = n->next) {
        bool good = n->kind == EMB_YAML_SCALAR && !n->empty && n->length && strlen(n->text) == n->length;
        const char *star = good ? strchr(n->text, '*') : NULL;
        if (!good || (star && star[1]))
            return bad(r, n, "models", "an item is not a name, or has a * that is not at its end");
        if (!(models[count++] = emb_arena_strndup(&r->set->arena, n->text, n->length)))
            return no_memory(r->err);
    }
    caller->models = models;
    caller->model_count = count;
    return EMB_OK;
}

static emb_status add_right(reader *r, const emb_yaml_node *n, emb_caller *caller)
{
    if (n->kind == EMB_YAML_SCALAR && !n->empty && emb_right_parse(n->text, n->length, &caller->rights))
        return EMB_OK;
    return bad(r, n, "rights", "is neither use, read or admin nor a list of them");
}

/* A word, or a list of them. */
static emb_status read_rights(reader *r, const emb_yaml_node *n, emb_caller *caller)
{
    caller->rights = 0;
    if (n->kind != EMB_YAML_SEQUENCE)
        return add_right(r, n, caller);
    if (!n->first)
        return bad(r, n, "rights", "is an empty list; leave the key out to let it do nothing");
    emb_status status = EMB_OK;
    for (const emb_yaml_node *item = n->first; item && !status; item = item->next)
        status = add_right(r, item, caller);
    return status;
}

static emb_status read_field(reader *r, const emb_yaml_node *n, emb_caller *caller)
{
    static const char *const fields[] = {
        "name", "sha256", "requests_per_minute", "burst", "tokens_per_minute", "models", "rights"};
    enum { REQUESTS_MAX = 1000000000 };
    const char *key = n->key->text;
    if (strcmp(key, "name") == 0)
        return read_name(r, n, caller);
    if (strcmp(key, "sha256") == 0)
        return read_digest(r, n, caller);
    if (strcmp(key, "requests_per_minute") == 0)
        return read_count(r, n, REQUESTS_MAX, &caller->requests_per_minute);
    if (strcmp(key, "burst") == 0)
        return read_count(r, n, REQUESTS_MAX, &caller->burst);
    if (strcmp(key, "tokens_per_minute") == 0)
        return read_count(r, n, 100000000000ull, &caller->tokens_per_minute);
    if (strcmp(key, "models") == 0)
        return read_models(r, n, caller);
    if (strcmp(key, "rights") == 0)
        return read_rights(r, n, caller);
    const char *nearest = emb_nearest(key, fields, sizeof fields / sizeof *fields);
    return emb_yaml_fail(r->err, r->file, n->key->line, "'%.60s' is not a field of a key%s%s%s", key,
                         nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
}

static bool has_field(const emb_yaml_node *entry, const char *name)
{
    for (const emb_yaml_node *n = entry->first; n; n = n->next)
        if (strcmp(n->key->text, name) == 0)
            return true;
    return false;
}

static emb_status finish_entry(reader *r, const emb_yaml_node *entry, emb_caller *caller)
{
    if (!caller->name)
        return emb_yaml_fail(r->err, r->file, entry->line, "this key has no name");
    if (!has_field(entry, "sha256"))
        return emb_yaml_fail(r->err, r->file, entry->line, "the key '%s' has no sha256", caller->name);
    if (caller->burst && !caller->requests_per_minute)
        return emb_yaml_fail(r->err, r->file, entry->line,
                             "the key '%s' has a burst and no requests_per_minute", caller->name);
    if (!caller->burst) /* a tenth of a minute's */
        caller->burst = caller->requests_per_minute / 10 ? caller->requests_per_minute / 10 : 1;
    return EMB_OK;
}

static emb_status read_entry(reader *r, const emb_yaml_node *entry)
{
    emb_caller *caller;
    if (entry->kind != EMB_YAML_MAPPING)
        return emb_yaml_fail(r->err, r->file, entry->line,
                             "an entry of keys is a %s; fields such as 'name:' are wanted",
                             emb_yaml_kind_name(entry->kind));
    if (r->set->count == EMB_KEYS_MAX)
        return emb_yaml_fail(r->err, r->file, entry->line, "there are more than %d keys", EMB_KEYS_MAX);
    emb_status status = add_caller(r->set, &caller, r->err);
    if (status)
        return status;
    caller->from_file = true;
    caller->rights = r->file_rights;
    for (const emb_yaml_node *n = entry->first; n && !status; n = n->next)
        status = read_field(r, n, caller);
    return status ? status : finish_entry(r, entry, caller);
}

static emb_status read_keys(reader *r, const emb_yaml_node *root)
{
    const emb_yaml_node *keys = root && root->kind == EMB_YAML_MAPPING ? root->first : NULL;
    for (const emb_yaml_node *n = keys; n; n = n->next)
        if (strcmp(n->key->text, "keys") != 0)
            return emb_yaml_fail(r->err, r->file, n->key->line,
                                 "'%.60s' is not known here; 'keys:' with a list is "
                                 "wanted",
                                 n->key->text);
    if (!keys || keys->kind != EMB_YAML_SEQUENCE)
        return emb_yaml_fail(r->err, r->file, keys ? keys->line : 1,
                             "'keys:' with a list of keys is wanted; 'embedd key' makes an entry");
    emb_status status = EMB_OK;
    for (const emb_yaml_node *n = keys->first; n && !status; n = n->next)
        status = read_entry(r, n);
    return status;
}

/* A warning, not an error: the hashes of random keys give nothing away, but names and limits do. */
static void warn_of_permissions(const char *path)
{
    struct stat info;
    if (stat(path, &info) == 0 && (info.st_mode & 037)) {
        char mode[8];
        snprintf(mode, sizeof mode, "%04o", (unsigned)(info.st_mode & 07777));
        emb_log(EMB_LOG_WARN, "access: the file of API keys is open to others; 0640 is enough",
                EMB_LOG_TEXT("file", path), EMB_LOG_TEXT("mode", mode));
    }
}

/* ---- both together ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const emb_caller *const *)a)->name, (*(const emb_caller *const *)b)->name);
}

static int compare_digests(const void *a, const void *b)
{
    int order = memcmp((*(const emb_caller *const *)a)->digest, (*(const emb_caller *const *)b)->digest,
                       EMB_SHA256_BYTES);
    return order ? order : compare_names(a, b);
}

static emb_status check_pairs(const emb_caller **sorted, size_t count, const char *file, emb_error *err)
{
    const char *where = *file ? file : "access.api_keys";
    qsort(sorted, count, sizeof *sorted, compare_names);
    for (size_t i = 1; i < count; i++)
        if (compare_names(&sorted[i - 1], &sorted[i]) == 0)
            return emb_fail(err, EMB_E_INVALID, where, "%s: two keys have the name '%s'%s", where,
                            sorted[i]->name,
                            sorted[i]->from_file == sorted[i - 1]->from_file
                                ? ""
                                : "; keys of access.api_keys are called key-1, key-2 and so on");
    qsort(sorted, count, sizeof *sorted, compare_digests);
    for (size_t i = 1; i < count; i++)
        if (memcmp(sorted[i - 1]->digest, sorted[i]->digest, EMB_SHA256_BYTES) == 0 &&
            (sorted[i]->from_file || sorted[i - 1]->from_file))
            return emb_fail(err, EMB_E_INVALID, where, "%s: '%s' and '%s' are the same key", where,
                            sorted[i - 1]->name, sorted[i]->name);
    return EMB_OK;
}

static emb_status check_unique(const emb_key_set *set, const char *file, emb_error *err)
{
    if (set->count < 2)
        return EMB_OK;
    const emb_caller **sorted = calloc(set->count, sizeof *sorted);
    if (!sorted)
        return no_memory(err);
    for (size_t i = 0; i < set->count; i++)
        sorted[i] = &set->callers[i];
    emb_status status = check_pairs(sorted, set->count, file, err);
    free(sorted);
    return status;
}

static emb_status read_default(const char *setting, const char *list, unsigned *out, emb_error *err)
{
    if (emb_rights_parse(list, out))
        return EMB_OK;
    return emb_fail(err, EMB_E_INVALID, setting,
                    "%s: \"%.60s\" is not a list of rights; there are use, read and admin, a comma between",
                    setting, list);
}

static emb_status fill(emb_key_set *set, const emb_config *config, emb_error *err)
{
    reader r = {.set = set, .file = config->api_keys_file, .err = err};
    emb_yaml *yaml;
    if ((r.status = read_default("access.api_keys_rights", config->api_keys_rights, &r.plain_rights, err)) ||
        (r.status =
             read_default("access.api_keys_file_rights", config->api_keys_file_rights, &r.file_rights, err)))
        return r.status;
    emb_config_each(config->api_keys, add_plain, &r);
    if (r.status || !*r.file)
        return r.status;
    if ((r.status = emb_yaml_open(r.file, FILE_MAX_BYTES, &yaml, err))) {
        if (r.status == EMB_E_NOT_FOUND || r.status == EMB_E_IO)
            emb_error_context(err, "access.api_keys_file");
        return r.status;
    }
    warn_of_permissions(r.file);
    r.status = read_keys(&r, emb_yaml_root(yaml));
    emb_yaml_close(yaml);
    return r.status;
}

emb_status emb_key_set_read(const emb_config *config, emb_key_set **out, emb_error *err)
{
    *out = NULL;
    emb_key_set *set = calloc(1, sizeof *set);
    if (!set)
        return no_memory(err);
    atomic_init(&set->references, 1);
    emb_arena_init(&set->arena);
    emb_status status = fill(set, config, err);
    if (!status)
        status = check_unique(set, config->api_keys_file, err);
    set->needed = set->count > 0 || *config->api_keys || *config->api_keys_file;
    if (status)
        emb_key_set_release(set);
    else
        *out = set;
    return status;
}
