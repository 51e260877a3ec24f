/*
 * choose.c: which files of a repository a model needs: the configuration, tokenizer and safetensors files of
 * its root and of every folder that modules.json names.
 *
 * By names that are known to matter rather than by leaving out what is known not to: repositories carry the
 * same weights in up to eight forms, and new ones appear. In each folder one form of weights is taken, the
 * one that the loader opens: model.safetensors, else the index with its shards.
 */
#include "hub/listing.h"

#include "base/error.h"
#include "base/json.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

static const char *const small_files[] = {
    "config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
    "README.md",
    "LICENSE*",
    "NOTICE*",
};

/* Weights that are in a repository and cannot be read, to be named in a message. */
static const char *const other_weights[] = {
    "pytorch_model*.bin", "*.gguf", "*.onnx", "onnx/*",        "openvino/*", "tf_model.h5",
    "flax_model.msgpack", "*.pt",   "*.bin",  "*.safetensors",
};

static bool matches(const char *name, const char *const *patterns, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (fnmatch(patterns[i], name, 0) == 0)
            return true;
    return false;
}

/* The part of the name below the folder ("" is the root), or NULL if it is elsewhere or deeper. */
static const char *in_folder(const char *name, const char *folder, size_t length)
{
    if (length > 0) {
        if (strncmp(name, folder, length) != 0 || name[length] != '/')
            return NULL;
        name += length + 1;
    }
    return strchr(name, '/') ? NULL : name;
}

static const emb_hub_entry *find_in(const emb_hub_listing *listing, const char *folder, size_t length,
                                    const char *name)
{
    char path[EMB_HUB_MAX_NAME + 64];
    int n = snprintf(path, sizeof path, "%.*s%s%s", (int)length, folder, length ? "/" : "", name);
    return n > 0 && (size_t)n < sizeof path ? emb_hub_listing_find(listing, path) : NULL;
}

/* Returns whether the folder has weights. */
static bool choose_folder(emb_hub_listing *listing, const char *folder, size_t length)
{
    bool one = find_in(listing, folder, length, "model.safetensors") != NULL;
    bool shards = !one && find_in(listing, folder, length, "model.safetensors.index.json") != NULL;
    for (size_t i = 0; i < listing->count; i++) {
        emb_hub_entry *entry = &listing->entries[i];
        const char *name = in_folder(entry->name, folder, length);
        if (!name)
            continue;
        if (matches(name, small_files, sizeof small_files / sizeof *small_files) ||
            (one && strcmp(name, "model.safetensors") == 0) ||
            (shards && (strcmp(name, "model.safetensors.index.json") == 0 ||
                        fnmatch("model-*-of-*.safetensors", name, 0) == 0)))
            entry->wanted = true;
    }
    return one || shards;
}

/* "pytorch_model.bin, onnx/model.onnx": a few of what is there instead. */
static void name_others(const emb_hub_listing *listing, char *out, size_t size)
{
    size_t named = 0, used = 0;
    out[0] = 0;
    for (size_t i = 0; i < listing->count && named < 3; i++)
        if (matches(listing->entries[i].name, other_weights, sizeof other_weights / sizeof *other_weights)) {
            int n =
                snprintf(out + used, size - used, "%s%.60s", named++ ? ", " : "", listing->entries[i].name);
            used += n > 0 ? (size_t)n : 0;
        }
}

static emb_status no_weights(const emb_hub_listing *listing, const char *repository, const char *folder,
                             size_t length, emb_error *err)
{
    char others[240];
    name_others(listing, others, sizeof others);
    return emb_fail(
        err, EMB_E_UNSUPPORTED, repository,
        "%s has no safetensors weights%s%.*s%s%s%s; embedd reads no others. Take another revision (some "
        "are offered as --revision refs/pr/N) or another repository of this model",
        repository, length ? " in " : "", (int)(length < 80 ? length : 80), folder,
        others[0] ? " (it has " : "", others, others[0] ? ")" : "");
}

static emb_status no_config(const char *repository, const char *folder, size_t length, emb_error *err)
{
    return emb_fail(err, EMB_E_UNSUPPORTED, repository,
                    "%s has no config.json%s%.*s: it does not hold a model that embedd can run", repository,
                    length ? " in " : "", (int)(length < 80 ? length : 80), folder);
}

/* Dense and the like: without weights of any kind a folder needs none (Pooling, Normalize). */
static bool lacks_weights(const emb_hub_listing *listing, const char *folder, size_t length)
{
    return find_in(listing, folder, length, "pytorch_model.bin") != NULL;
}

static bool is_transformer(emb_json_value module)
{
    emb_json_value type;
    const char *text;
    size_t length;
    return emb_json_get(module, "type", &type) && emb_json_string(type, &text, &length) && length >= 11 &&
           memcmp(text + length - 11, "Transformer", 11) == 0;
}

static emb_status choose_module(emb_hub_listing *listing, emb_json_value module, const char *repository,
                                bool needs_weights, bool *transformer, emb_error *err)
{
    emb_json_value value;
    const char *path = "";
    size_t length = 0;
    if (emb_json_type_of(module) != EMB_JSON_OBJECT)
        return emb_fail(err, EMB_E_CORRUPT, "modules.json",
                        "modules.json of %s lists something that is no module", repository);
    if (emb_json_get(module, "path", &value))
        emb_json_string(value, &path, &length);
    while (length > 0 && path[length - 1] == '/')
        length--;
    bool has = choose_folder(listing, path, length), is = is_transformer(module);
    *transformer |= is;
    if (needs_weights && !has && (is || lacks_weights(listing, path, length)))
        return no_weights(listing, repository, path, length, err);
    if (needs_weights && is && !find_in(listing, path, length, "config.json"))
        return no_config(repository, path, length, err);
    return EMB_OK;
}

static emb_status choose_modules(emb_hub_listing *listing, emb_json_value root, const char *repository,
                                 bool needs_weights, bool *transformer, emb_error *err)
{
    emb_json_value module;
    emb_status status = EMB_OK;
    if (emb_json_type_of(root) != EMB_JSON_ARRAY)
        return emb_fail(err, EMB_E_CORRUPT, "modules.json", "modules.json of %s is not a list of modules",
                        repository);
    emb_json_iter it = emb_json_begin(root);
    while (!status && emb_json_next(&it, NULL, NULL, &module))
        status = choose_module(listing, module, repository, needs_weights, transformer, err);
    return status;
}

static void choose_included(emb_hub_listing *listing, const char *patterns)
{
    char pattern[EMB_HUB_MAX_NAME];
    while (patterns && *patterns) {
        size_t length = strcspn(patterns, ",");
        int n = snprintf(pattern, sizeof pattern, "%.*s", (int)length, patterns);
        for (size_t i = 0; n > 0 && (size_t)n < sizeof pattern && i < listing->count; i++)
            listing->entries[i].wanted |= fnmatch(pattern, listing->entries[i].name, 0) == 0;
        patterns += length + (patterns[length] == ',');
    }
}

emb_status emb_hub_listing_choose(emb_hub_listing *listing, const char *modules, size_t length,
                                  const emb_hub_options *options, const char *repository, emb_error *err)
{
    emb_status status = EMB_OK;
    bool transformer = false, root = choose_folder(listing, "", 0);
    for (size_t i = 0; i < listing->count; i++)
        listing->entries[i].wanted |= options->all;
    choose_included(listing, options->include);
    if (modules) {
        emb_json *doc;
        if ((status = emb_json_open(modules, length, "modules.json", &doc, err)))
            return status;
        status = choose_modules(listing, emb_json_root(doc), repository, !options->all, &transformer, err);
        emb_json_close(doc);
    }
    if (status || transformer || options->all)
        return status;
    return !root                                     ? no_weights(listing, repository, "", 0, err)
           : !find_in(listing, "", 0, "config.json") ? no_config(repository, "", 0, err)
                                                     : EMB_OK;
}
