/*
 * Reading a model directory, in the order in which the files depend on each other: modules.json (where is
 * the Transformer? what follows it?), that Transformer's config.json, then what concerns texts. One file
 * kind per source file: spec_config.c, spec_modules.c, spec_text.c.
 *
 * Everything goes through an emb_spec_source, so that the fuzzer and the tests read from memory the very
 * code that reads directories. Invariant: nothing of a JSON document outlives its emb_spec_file; strings
 * are copied into the spec's arena.
 *
 * Rejected: taking the reference's class defaults for missing widths and layer counts. A config without
 * hidden_size is a damaged file, and guessing 768 would only move the error to the weights.
 */
#include "model/spec.h"

#include "base/error.h"
#include "base/file.h"
#include "model/spec_parts.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_JSON_BYTES = 32 << 20 };

const char *emb_architecture_name(emb_architecture architecture)
{
    switch (architecture) {
    case EMB_ARCH_BERT:
        return "bert";
    case EMB_ARCH_ROBERTA:
        return "roberta";
    case EMB_ARCH_XLM_ROBERTA:
        return "xlm-roberta";
    case EMB_ARCH_MPNET:
        return "mpnet";
    case EMB_ARCH_DISTILBERT:
        return "distilbert";
    }
    return "unknown";
}

/* ---- one file ---------------------------------------------------------------------------------- */

static const char *join_in_arena(emb_arena *arena, const char *folder, const char *name)
{
    size_t a = strlen(folder), b = strlen(name);
    char *path = emb_arena_alloc(arena, a + b + 2);
    if (!path)
        return NULL;
    memcpy(path, folder, a);
    if (a > 0 && path[a - 1] != '/')
        path[a++] = '/';
    memcpy(path + a, name, b + 1);
    return path;
}

emb_status emb_spec_file_open(emb_spec_file *file, emb_model_spec *spec, const emb_spec_source *source,
                              const char *folder, const char *name, bool array, emb_error *err)
{
    file->doc = NULL;
    file->path = join_in_arena(&spec->arena, folder, name);
    if (!file->path)
        return emb_fail_nomem(err, "file name", 0);
    emb_status status = source->read(source->context, file->path, &file->doc, err);
    if (status)
        return status;
    file->root = emb_json_root(file->doc);
    emb_json_type found = emb_json_type_of(file->root), needed = array ? EMB_JSON_ARRAY : EMB_JSON_OBJECT;
    if (found == needed)
        return EMB_OK;
    emb_spec_file_close(file);
    return emb_fail(err, EMB_E_CORRUPT, file->path, "%s: the document is of type %s, %s is needed",
                    file->path, emb_json_type_name(found), emb_json_type_name(needed));
}

void emb_spec_file_close(emb_spec_file *file)
{
    emb_json_close(file->doc);
    file->doc = NULL;
}

static bool get(const emb_spec_file *file, const char *key, emb_json_value *value)
{
    return emb_json_get(file->root, key, value) && emb_json_type_of(*value) != EMB_JSON_NULL;
}

bool emb_spec_has(const emb_spec_file *file, const char *key)
{
    emb_json_value value;
    return get(file, key, &value);
}

static emb_status wrong_type(const emb_spec_file *file, const char *key, emb_json_value value,
                             const char *needed, emb_error *err)
{
    return emb_fail(err, EMB_E_CORRUPT, file->path, "%s: \"%s\" is of type %s, %s is needed", file->path, key,
                    emb_json_type_name(emb_json_type_of(value)), needed);
}

emb_status emb_spec_get_size(const emb_spec_file *file, const char *key, size_t minimum, size_t maximum,
                             size_t *out, emb_error *err)
{
    emb_json_value value;
    int64_t number;
    double real;
    if (!get(file, key, &value))
        return EMB_OK;
    if (!emb_json_int(value, &number)) {
        if (!emb_json_double(value, &real))
            return wrong_type(file, key, value, "an integer", err);
        /* 512.0, or beyond 64 bits as in model_max_length: 1e30 */
        if (real != real || real < 0 || (real < 9e15 && real != (double)(int64_t)real))
            return emb_fail(err, EMB_E_CORRUPT, file->path, "%s: \"%s\" is %g, an integer is needed",
                            file->path, key, real);
        number = real < 9e15 ? (int64_t)real : INT64_MAX;
    }
    if (number < 0 || (uint64_t)number < minimum || (uint64_t)number > maximum)
        return emb_fail(err, EMB_E_CORRUPT, file->path, "%s: \"%s\" is %lld, %zu to %zu is possible",
                        file->path, key, (long long)number, minimum, maximum);
    *out = (size_t)number;
    return EMB_OK;
}

emb_status emb_spec_need_size(const emb_spec_file *file, const char *key, size_t minimum, size_t maximum,
                              size_t *out, emb_error *err)
{
    if (!emb_spec_has(file, key))
        return emb_fail(err, EMB_E_CORRUPT, file->path, "%s: \"%s\" is missing", file->path, key);
    return emb_spec_get_size(file, key, minimum, maximum, out, err);
}

emb_status emb_spec_get_bool(const emb_spec_file *file, const char *key, bool *out, emb_error *err)
{
    emb_json_value value;
    if (!get(file, key, &value) || emb_json_bool(value, out))
        return EMB_OK;
    return wrong_type(file, key, value, "true or false", err);
}

emb_status emb_spec_get_string(const emb_spec_file *file, const char *key, const char **out, size_t *length,
                               emb_error *err)
{
    emb_json_value value;
    if (!get(file, key, &value) || emb_json_string(value, out, length))
        return EMB_OK;
    return wrong_type(file, key, value, "a string", err);
}

emb_status emb_spec_unsupported(const emb_spec_file *file, const char *key, const char *value, size_t length,
                                const char *supported, emb_error *err)
{
    return emb_fail(err, EMB_E_UNSUPPORTED, file->path, "%s: \"%s\" is \"%.*s\"; supported: %s", file->path,
                    key, (int)(length > 80 ? 80 : length), value, supported);
}

/* ---- the directory ----------------------------------------------------------------------------- */

static bool is_commit(const char *text, size_t length)
{
    return length == 40 && strspn(text, "0123456789abcdef") >= 40;
}

/* The last part of the path; for a hub snapshot (models--org--name/snapshots/<commit>) the repository's. */
static const char *model_name(emb_arena *arena, const char *directory)
{
    size_t end = strlen(directory);
    while (end > 1 && directory[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && directory[begin - 1] != '/')
        begin--;
    if (is_commit(directory + begin, end - begin) && begin > 10 &&
        strncmp(directory + begin - 11, "/snapshots/", 11) == 0) {
        end = begin - 11;
        begin = end;
        while (begin > 0 && directory[begin - 1] != '/' &&
               !(begin > 2 && directory[begin - 1] == '-' && directory[begin - 2] == '-'))
            begin--;
    }
    return emb_arena_strndup(arena, directory + begin, end - begin);
}

static const char *resolved_name(emb_arena *arena, const char *directory)
{
    const char *name = model_name(arena, directory);
    if (!name || (*name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0))
        return name;
    char *absolute = realpath(directory, NULL);
    if (absolute)
        name = model_name(arena, absolute);
    free(absolute);
    return name;
}

static emb_status read_all(emb_model_spec *spec, const emb_spec_source *source, emb_error *err)
{
    emb_spec_file file;
    emb_status status;
    const char *transformer = "";
    bool has_modules = true;

    status = emb_spec_file_open(&file, spec, source, "", "modules.json", true, err);
    if (status == EMB_OK) {
        status = emb_spec_read_modules(spec, source, &file, &transformer, err);
        emb_spec_file_close(&file);
    } else if (status == EMB_E_NOT_FOUND) {
        has_modules = false;
        status = EMB_OK;
    }
    if (status)
        return status;

    spec->transformer =
        *transformer ? join_in_arena(&spec->arena, spec->directory, transformer) : spec->directory;
    if (!spec->transformer)
        return emb_fail_nomem(err, "path", 0);
    if ((status = emb_spec_file_open(&file, spec, source, transformer, "config.json", false, err)))
        return status;
    status = emb_spec_read_config(spec, &file, err);
    emb_spec_file_close(&file);
    if (!status)
        status = emb_spec_check_modules(spec, err);
    if (!status)
        status = emb_spec_read_text_settings(spec, source, transformer, has_modules, err);
    return status;
}

emb_status emb_model_spec_read_from(emb_model_spec *spec, const char *directory,
                                    const emb_spec_source *source, emb_error *err)
{
    memset(spec, 0, sizeof *spec);
    emb_arena_init(&spec->arena);
    spec->pooling = spec->poolings[0] = EMB_POOLING_MEAN;
    spec->pooling_count = 1;
    spec->include_prompt = true;
    spec->directory = emb_arena_strndup(&spec->arena, directory, strlen(directory));
    spec->name = resolved_name(&spec->arena, directory);
    emb_status status =
        spec->directory && spec->name ? read_all(spec, source, err) : emb_fail_nomem(err, "model path", 0);
    if (status)
        emb_model_spec_fini(spec);
    return status;
}

static emb_status read_json_file(void *context, const char *path, emb_json **out, emb_error *err)
{
    char *full = emb_path_join(context, path);
    if (!full)
        return emb_fail_nomem(err, path, 0);
    emb_status status = emb_json_open_file(full, MAX_JSON_BYTES, out, err);
    free(full);
    return status;
}

emb_status emb_model_spec_read(emb_model_spec *spec, const char *directory, emb_error *err)
{
    emb_spec_source source = {read_json_file, (void *)directory};
    if (!emb_is_directory(directory)) {
        memset(spec, 0, sizeof *spec);
        return emb_fail(err, EMB_E_NOT_FOUND, directory, "%s: no such directory", directory);
    }
    return emb_model_spec_read_from(spec, directory, &source, err);
}

void emb_model_spec_fini(emb_model_spec *spec)
{
    emb_arena_fini(&spec->arena);
    memset(spec, 0, sizeof *spec);
}

const emb_prompt *emb_model_spec_prompt(const emb_model_spec *spec, const char *name)
{
    for (size_t i = 0; i < spec->prompt_count; i++)
        if (strcmp(spec->prompts[i].name, name) == 0)
            return &spec->prompts[i];
    return NULL;
}
