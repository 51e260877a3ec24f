/*
 * Safetensors: 8 bytes of header length, a JSON header {"name": {"dtype", "shape", "data_offsets"}}, then
 * the data. The whole header is checked when a file is opened (sizes against shapes, offsets against the
 * file, no two tensors over the same bytes), so that afterwards reading a listed tensor cannot leave the
 * map. What a header can cost is bounded by the file: at most HEADER_MAX bytes of JSON.
 *
 * Names are copied into an arena and sorted; lookup is a binary search. Companions ("X.scales") are joined
 * to their tensor after sorting, once, when all shards are there.
 *
 * Holes between tensors are allowed (aligned writers leave them), overlaps are not: the reference format
 * has neither, and an overlap is the mark of a forged header.
 */
#include "model/safetensors.h"

#include "base/arena.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_MAX = 100 << 20, INDEX_MAX = 64 << 20, SHARDS_MAX = 1024, NAME_MAX_SHOWN = 100 };

/* A tensor as the header has it. */
typedef struct entry {
    emb_tensor tensor;
    const char *other;    /* name of a dtype that emb_dtype lacks, or NULL */
    size_t begin;         /* of the data, in its file */
    unsigned short shard; /* which file */
    bool companion;       /* scales that belong to another tensor */
} entry;

struct emb_safetensors {
    emb_arena arena;
    entry *entries; /* sorted by name; usable ones and others */
    size_t count, capacity;
    size_t *listed, listed_count; /* indices of usable entries */
    emb_mapping *files;
    const char **file_names;
    size_t file_count;
    bool borrowed; /* files[0] is the caller's memory */
    size_t parameters;
};

static const struct dtype {
    const char *name;
    unsigned char bits;
    signed char dtype; /* emb_dtype, or -1 */
} dtypes[] = {
    {"F32", 32, EMB_DTYPE_F32},
    {"F16", 16, EMB_DTYPE_F16},
    {"BF16", 16, EMB_DTYPE_BF16},
    {"I8", 8, EMB_DTYPE_I8},
    {"I64", 64, -1},
    {"I32", 32, -1},
    {"I16", 16, -1},
    {"U8", 8, -1},
    {"U16", 16, -1},
    {"U32", 32, -1},
    {"U64", 64, -1},
    {"BOOL", 8, -1},
    {"F64", 64, -1},
    {"F8_E4M3", 8, -1},
    {"F8_E5M2", 8, -1},
    {"F8_E8M0", 8, -1},
    {"C64", 64, -1},
};

static emb_status corrupt(emb_error *err, const char *file, const char *name, const char *problem)
{
    return emb_fail(err, EMB_E_CORRUPT, name, "%s: tensor %.*s: %s", file, NAME_MAX_SHOWN, name, problem);
}

/* ---- one header entry --------------------------------------------------------------------------- */

static emb_status read_dtype(entry *e, emb_json_value object, const char *file, unsigned *bits,
                             emb_error *err)
{
    emb_json_value value;
    const char *text;
    size_t length;
    if (!emb_json_get(object, "dtype", &value) || !emb_json_string(value, &text, &length))
        return corrupt(err, file, e->tensor.name, "\"dtype\" is missing or not a string");
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strlen(dtypes[i].name) == length && memcmp(dtypes[i].name, text, length) == 0) {
            *bits = dtypes[i].bits;
            if (dtypes[i].dtype < 0)
                e->other = dtypes[i].name;
            else
                e->tensor.dtype = (emb_dtype)dtypes[i].dtype;
            return EMB_OK;
        }
    return emb_fail(err, EMB_E_CORRUPT, e->tensor.name, "%s: tensor %.*s: unknown dtype \"%.*s\"", file,
                    NAME_MAX_SHOWN, e->tensor.name, (int)(length > 40 ? 40 : length), text);
}

static emb_status read_shape(entry *e, emb_json_value object, const char *file, size_t *elements,
                             emb_error *err)
{
    emb_json_value value, item;
    int64_t size;
    size_t product = 1, rank = 0;
    const size_t rank_max = sizeof e->tensor.shape / sizeof *e->tensor.shape;
    if (!emb_json_get(object, "shape", &value) || emb_json_type_of(value) != EMB_JSON_ARRAY)
        return corrupt(err, file, e->tensor.name, "\"shape\" is missing or not an array");
    emb_json_iter it = emb_json_begin(value);
    for (; emb_json_next(&it, NULL, NULL, &item); rank++) {
        if (!emb_json_int(item, &size) || size < 0)
            return corrupt(err, file, e->tensor.name, "\"shape\" holds something else than sizes");
        if (__builtin_mul_overflow(product, (size_t)size, &product))
            return corrupt(err, file, e->tensor.name, "the product of \"shape\" overflows");
        if (rank < rank_max)
            e->tensor.shape[rank] = (size_t)size;
    }
    e->tensor.rank = rank;
    if (rank > rank_max && !e->other)
        e->other = "of more than 4 dimensions";
    *elements = product;
    return EMB_OK;
}

static emb_status read_offsets(entry *e, emb_json_value object, const char *file, size_t data_bytes,
                               emb_error *err)
{
    emb_json_value value, item;
    int64_t offset[2];
    if (!emb_json_get(object, "data_offsets", &value) || emb_json_type_of(value) != EMB_JSON_ARRAY ||
        emb_json_count(value) != 2)
        return corrupt(err, file, e->tensor.name, "\"data_offsets\" is not an array of two offsets");
    emb_json_iter it = emb_json_begin(value);
    for (int i = 0; i < 2; i++)
        if (!emb_json_next(&it, NULL, NULL, &item) || !emb_json_int(item, &offset[i]) || offset[i] < 0)
            return corrupt(err, file, e->tensor.name, "\"data_offsets\" is not an array of two offsets");
    if (offset[0] > offset[1])
        return corrupt(err, file, e->tensor.name, "\"data_offsets\" ends before it begins");
    if ((uint64_t)offset[1] > data_bytes)
        return emb_fail(err, EMB_E_CORRUPT, e->tensor.name,
                        "%s: tensor %.*s ends at byte %lld of the data, the file holds %zu (truncated?)",
                        file, NAME_MAX_SHOWN, e->tensor.name, (long long)offset[1], data_bytes);
    e->begin = (size_t)offset[0];
    e->tensor.bytes = (size_t)(offset[1] - offset[0]);
    return EMB_OK;
}

static emb_status read_entry(entry *e, emb_json_value object, const char *file, size_t data_bytes,
                             emb_error *err)
{
    unsigned bits = 0;
    size_t elements = 0, bytes;
    emb_status status;
    if (emb_json_type_of(object) != EMB_JSON_OBJECT)
        return corrupt(err, file, e->tensor.name, "the header has no object for it");
    if ((status = read_dtype(e, object, file, &bits, err)) ||
        (status = read_shape(e, object, file, &elements, err)) ||
        (status = read_offsets(e, object, file, data_bytes, err)))
        return status;
    if (__builtin_mul_overflow(elements, (size_t)bits / 8, &bytes) || bytes != e->tensor.bytes)
        return emb_fail(err, EMB_E_CORRUPT, e->tensor.name,
                        "%s: tensor %.*s has %zu elements of %u bytes, but \"data_offsets\" spans %zu bytes",
                        file, NAME_MAX_SHOWN, e->tensor.name, elements, bits / 8, e->tensor.bytes);
    return EMB_OK;
}

/* ---- one file ------------------------------------------------------------------------------------ */

static entry *add_entry(emb_safetensors *s)
{
    if (s->count == s->capacity) {
        size_t capacity = s->capacity ? s->capacity * 2 : 128;
        entry *grown = realloc(s->entries, capacity * sizeof *grown);
        if (!grown)
            return NULL;
        s->entries = grown;
        s->capacity = capacity;
    }
    entry *e = &s->entries[s->count++];
    memset(e, 0, sizeof *e);
    return e;
}

static int by_begin(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->tensor.bytes < y->tensor.bytes ? -1 : x->tensor.bytes > y->tensor.bytes;
}

static emb_status check_overlaps(emb_safetensors *s, size_t first, const char *file, emb_error *err)
{
    size_t end = 0;
    if (s->count > first)
        qsort(s->entries + first, s->count - first, sizeof *s->entries, by_begin);
    for (size_t i = first; i < s->count; i++) {
        const entry *e = &s->entries[i];
        if (e->tensor.bytes > 0 && e->begin < end)
            return corrupt(err, file, e->tensor.name, "its data overlaps that of another tensor");
        if (e->begin + e->tensor.bytes > end)
            end = e->begin + e->tensor.bytes;
    }
    return EMB_OK;
}

static emb_status read_entries(emb_safetensors *s, const emb_json *doc, size_t shard,
                               const unsigned char *data, size_t data_bytes, emb_error *err)
{
    const char *file = s->file_names[shard], *key;
    size_t length, first = s->count;
    emb_json_value value;
    emb_status status;
    if (emb_json_type_of(emb_json_root(doc)) != EMB_JSON_OBJECT)
        return emb_fail(err, EMB_E_CORRUPT, file, "%s: the header is not a JSON object", file);
    emb_json_iter it = emb_json_begin(emb_json_root(doc));
    while (emb_json_next(&it, &key, &length, &value)) {
        if (length == 12 && memcmp(key, "__metadata__", 12) == 0)
            continue;
        if (memchr(key, 0, length))
            return emb_fail(err, EMB_E_CORRUPT, file, "%s: a tensor's name holds a NUL byte", file);
        entry *e = add_entry(s);
        if (!e || !(e->tensor.name = emb_arena_strndup(&s->arena, key, length)))
            return emb_fail_nomem(err, "tensor table", length);
        if ((status = read_entry(e, value, file, data_bytes, err)))
            return status;
        e->shard = (unsigned short)shard;
        e->tensor.data = data + e->begin;
    }
    return check_overlaps(s, first, file, err);
}

static emb_status read_header(emb_safetensors *s, size_t shard, emb_error *err)
{
    const emb_mapping *map = &s->files[shard];
    const char *file = s->file_names[shard];
    uint64_t length = 0;
    emb_json *doc;
    emb_status status;
    if (map->length < 8)
        return emb_fail(err, EMB_E_CORRUPT, file, "%s: %zu bytes are too few for a safetensors file", file,
                        map->length);
    for (int i = 7; i >= 0; i--)
        length = length << 8 | map->data[i];
    if (length > HEADER_MAX || length > map->length - 8)
        return emb_fail(err, EMB_E_CORRUPT, file,
                        "%s: the header claims %llu bytes, the file has %zu and %d are the most", file,
                        (unsigned long long)length, map->length, HEADER_MAX);
    if ((status = emb_json_open((const char *)map->data + 8, (size_t)length, file, &doc, err)))
        return status;
    status = read_entries(s, doc, shard, map->data + 8 + length, map->length - 8 - (size_t)length, err);
    emb_json_close(doc);
    return status;
}

/* ---- all files ------------------------------------------------------------------------------------ */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->tensor.name, ((const entry *)b)->tensor.name);
}

static entry *lookup(const emb_safetensors *s, const char *name)
{
    entry key = {.tensor.name = name};
    return s->count ? bsearch(&key, s->entries, s->count, sizeof key, by_name) : NULL;
}

/* Joins "X.scales" to X. An I8 tensor without scales cannot be used. */
static emb_status join_scales(emb_safetensors *s, entry *e, emb_error *err)
{
    char name[512];
    emb_tensor *t = &e->tensor;
    size_t length = strlen(t->name);
    const char *file = s->file_names[e->shard];
    if (e->other || t->dtype != EMB_DTYPE_I8)
        return EMB_OK;
    if (length + sizeof ".scales" > sizeof name) {
        e->other = "I8 without scales";
        return EMB_OK;
    }
    memcpy(name, t->name, length);
    memcpy(name + length, ".scales", sizeof ".scales");
    entry *scales = lookup(s, name);
    if (!scales) {
        e->other = "I8 without scales";
        return EMB_OK;
    }
    if (scales->other || (scales->tensor.dtype != EMB_DTYPE_F16 && scales->tensor.dtype != EMB_DTYPE_F32))
        return corrupt(err, file, name, "scales must be F16 or F32");
    if (t->rank != 2 || scales->tensor.rank != 2 || scales->tensor.shape[0] != t->shape[0] ||
        scales->tensor.shape[1] == 0 || t->shape[1] % scales->tensor.shape[1] != 0 ||
        t->shape[1] / scales->tensor.shape[1] == 0)
        return emb_fail(err, EMB_E_CORRUPT, name,
                        "%s: tensor %.*s [%zu × %zu] does not divide the rows of its matrix [%zu × %zu]",
                        file, NAME_MAX_SHOWN, name, scales->tensor.shape[0], scales->tensor.shape[1],
                        t->shape[0], t->shape[1]);
    t->scales = scales->tensor.data;
    t->scales_dtype = scales->tensor.dtype;
    t->group = t->shape[1] / scales->tensor.shape[1];
    scales->companion = true;
    return EMB_OK;
}

static size_t elements_of(const emb_tensor *t)
{
    size_t n = 1;
    for (size_t i = 0; i < t->rank; i++)
        n *= t->shape[i];
    return n;
}

static emb_status finish(emb_safetensors *s, emb_error *err)
{
    emb_status status;
    if (s->count)
        qsort(s->entries, s->count, sizeof *s->entries, by_name);
    for (size_t i = 1; i < s->count; i++)
        if (strcmp(s->entries[i - 1].tensor.name, s->entries[i].tensor.name) == 0)
            return corrupt(err, s->file_names[s->entries[i].shard], s->entries[i].tensor.name,
                           "is there twice");
    for (size_t i = 0; i < s->count; i++)
        if ((status = join_scales(s, &s->entries[i], err)))
            return status;
    s->listed = calloc(s->count ? s->count : 1, sizeof *s->listed);
    if (!s->listed)
        return emb_fail_nomem(err, "tensor table", s->count * sizeof *s->listed);
    for (size_t i = 0; i < s->count; i++)
        if (!s->entries[i].other) {
            s->listed[s->listed_count++] = i;
            if (!s->entries[i].companion)
                s->parameters += elements_of(&s->entries[i].tensor);
        }
    return EMB_OK;
}

static emb_status reserve_files(emb_safetensors *s, size_t count, emb_error *err)
{
    s->files = calloc(count, sizeof *s->files);
    s->file_names = calloc(count, sizeof *s->file_names);
    return s->files && s->file_names ? EMB_OK : emb_fail_nomem(err, "shard table", count * sizeof *s->files);
}

static emb_status open_shard(emb_safetensors *s, const char *directory, const char *name, size_t length,
                             emb_error *err)
{
    size_t shard = s->file_count;
    emb_status status;
    s->file_names[shard] = emb_arena_strndup(&s->arena, name, length);
    char *path = s->file_names[shard] ? emb_path_join(directory, s->file_names[shard]) : NULL;
    if (!path)
        return emb_fail_nomem(err, "path", length);
    status = emb_mapping_open(&s->files[shard], path, err);
    free(path);
    if (status)
        return status;
    s->file_count++;
    return read_header(s, shard, err);
}

/* A plain file name: an index must not lead out of its directory. */
static bool safe_name(const char *name, size_t length)
{
    return length > 0 && length < 256 && !memchr(name, '/', length) && !memchr(name, 0, length) &&
           name[0] != '.';
}

static bool is_open(const emb_safetensors *s, const char *name, size_t length)
{
    for (size_t i = 0; i < s->file_count; i++)
        if (strlen(s->file_names[i]) == length && memcmp(s->file_names[i], name, length) == 0)
            return true;
    return false;
}

static emb_status check_index(emb_safetensors *s, emb_json_value map, const char *index, emb_error *err)
{
    emb_json_iter it = emb_json_begin(map);
    emb_json_value value;
    const char *key;
    size_t length;
    while (emb_json_next(&it, &key, &length, &value)) {
        char name[512];
        const entry *e = NULL;
        if (length < sizeof name) {
            memcpy(name, key, length);
            name[length] = 0;
            e = lookup(s, name);
        }
        if (!e || !emb_json_string_is(value, s->file_names[e->shard]))
            return emb_fail(err, EMB_E_CORRUPT, index,
                            "%s: tensor %.*s is not in the file that \"weight_map\" gives", index,
                            (int)(length > NAME_MAX_SHOWN ? NAME_MAX_SHOWN : length), key);
    }
    return EMB_OK;
}

static emb_status open_shards(emb_safetensors *s, const char *directory, const emb_json *doc,
                              const char *index, emb_error *err)
{
    emb_json_value map, value;
    emb_status status;
    const char *name;
    size_t length;
    if (!emb_json_get(emb_json_root(doc), "weight_map", &map) || emb_json_type_of(map) != EMB_JSON_OBJECT)
        return emb_fail(err, EMB_E_CORRUPT, index, "%s: \"weight_map\" is missing or not an object", index);
    if ((status = reserve_files(s, SHARDS_MAX, err)))
        return status;
    emb_json_iter it = emb_json_begin(map);
    while (emb_json_next(&it, NULL, NULL, &value)) {
        if (!emb_json_string(value, &name, &length) || !safe_name(name, length))
            return emb_fail(err, EMB_E_CORRUPT, index,
                            "%s: \"weight_map\" holds something else than file names", index);
        if (is_open(s, name, length))
            continue;
        if (s->file_count == SHARDS_MAX)
            return emb_fail(err, EMB_E_LIMIT, index, "%s: more than %d files", index, SHARDS_MAX);
        if ((status = open_shard(s, directory, name, length, err)))
            return status;
    }
    status = finish(s, err);
    return status ? status : check_index(s, map, index, err);
}

/* Neither file is there: say what is. */
static emb_status not_there(const char *directory, const char *base, emb_error *err)
{
    char *path = emb_path_join(directory, "pytorch_model.bin");
    bool pickled = path && emb_is_file(path);
    free(path);
    if (pickled)
        return emb_fail(
            err, EMB_E_UNSUPPORTED, directory,
            "%s: only pytorch_model.bin is there; convert it to %s.safetensors (pickled files are not read)",
            directory, base);
    return emb_fail(err, EMB_E_NOT_FOUND, directory,
                    "%s: neither %s.safetensors nor %s.safetensors.index.json is there", directory, base,
                    base);
}

static emb_status open_directory(emb_safetensors *s, const char *directory, const char *base, emb_error *err)
{
    char name[128];
    emb_json *doc;
    emb_status status;
    int n = snprintf(name, sizeof name, "%s.safetensors", base);
    if (n < 0 || (size_t)n + sizeof ".index.json" > sizeof name)
        return emb_fail(err, EMB_E_INVALID, "base", "name of a weights file of %d characters is too long", n);
    char *path = emb_path_join(directory, name);
    if (!path)
        return emb_fail_nomem(err, "path", 0);
    if (emb_is_file(path)) {
        free(path);
        if ((status = reserve_files(s, 1, err)) || (status = open_shard(s, directory, name, (size_t)n, err)))
            return status;
        return finish(s, err);
    }
    free(path);
    memcpy(name + n, ".index.json", sizeof ".index.json");
    if (!(path = emb_path_join(directory, name)))
        return emb_fail_nomem(err, "path", 0);
    status =
        emb_is_file(path) ? emb_json_open_file(path, INDEX_MAX, &doc, err) : not_there(directory, base, err);
    free(path);
    if (status)
        return status;
    status = open_shards(s, directory, doc, name, err);
    emb_json_close(doc);
    return status;
}

static emb_safetensors *new_table(void)
{
    emb_safetensors *s = calloc(1, sizeof *s);
    if (s)
        emb_arena_init(&s->arena);
    return s;
}

emb_status emb_safetensors_open(const char *directory, const char *base, emb_safetensors **out,
                                emb_error *err)
{
    emb_safetensors *s = new_table();
    if (!s)
        return emb_fail_nomem(err, "tensor table", sizeof *s);
    emb_status status = open_directory(s, directory, base, err);
    if (status)
        emb_safetensors_close(s);
    else
        *out = s;
    return status;
}

emb_status emb_safetensors_open_memory(const void *data, size_t length, const char *where,
                                       emb_safetensors **out, emb_error *err)
{
    emb_safetensors *s = new_table();
    if (!s)
        return emb_fail_nomem(err, "tensor table", sizeof *s);
    s->borrowed = true;
    emb_status status = reserve_files(s, 1, err);
    if (!status) {
        s->files[0].data = data;
        s->files[0].length = length;
        s->file_names[0] = emb_arena_strndup(&s->arena, where, strlen(where));
        s->file_count = 1;
        status = s->file_names[0] ? read_header(s, 0, err) : emb_fail_nomem(err, "name", 0);
    }
    if (!status)
        status = finish(s, err);
    if (status)
        emb_safetensors_close(s);
    else
        *out = s;
    return status;
}

void emb_safetensors_close(emb_safetensors *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->file_count && !s->borrowed; i++)
        emb_mapping_close(&s->files[i]);
    free(s->files);
    free(s->file_names);
    free(s->entries);
    free(s->listed);
    emb_arena_fini(&s->arena);
    free(s);
}

/* ---- reading --------------------------------------------------------------------------------------- */

bool emb_safetensors_find(const emb_safetensors *s, const char *name, emb_tensor *out)
{
    const entry *e = lookup(s, name);
    if (!e || e->other)
        return false;
    *out = e->tensor;
    return true;
}

const char *emb_safetensors_other_type(const emb_safetensors *s, const char *name)
{
    const entry *e = lookup(s, name);
    return e ? e->other : NULL;
}

size_t emb_safetensors_count(const emb_safetensors *s)
{
    return s->listed_count;
}

void emb_safetensors_at(const emb_safetensors *s, size_t index, emb_tensor *out)
{
    *out = s->entries[s->listed[index]].tensor;
}

size_t emb_safetensors_parameters(const emb_safetensors *s)
{
    return s->parameters;
}

void emb_safetensors_forget(const emb_safetensors *s, const emb_tensor *tensor)
{
    const unsigned char *data = tensor->data;
    for (size_t i = 0; i < s->file_count && !s->borrowed; i++) {
        const emb_mapping *map = &s->files[i];
        if (data >= map->data && data < map->data + map->length)
            emb_mapping_forget(map, (size_t)(data - map->data), tensor->bytes);
    }
}

static const size_t element_bytes[] = {
    [EMB_DTYPE_F32] = 4, [EMB_DTYPE_F16] = 2, [EMB_DTYPE_BF16] = 2, [EMB_DTYPE_I8] = 1};

/* Scales are widened a few at a time, so that a row needs no memory of its own. */
static void widen_i8(const emb_tensor *t, const emb_kernels *kernels, size_t row, float *dst, bool add)
{
    enum { AT_ONCE = 64 };
    float scales[AT_ONCE];
    size_t k = t->shape[1], per_row = k / t->group, size = element_bytes[t->scales_dtype];
    for (size_t g = 0; g < per_row; g += AT_ONCE) {
        size_t n = per_row - g < AT_ONCE ? per_row - g : AT_ONCE;
        kernels->widen(t->scales_dtype, (const char *)t->scales + (row * per_row + g) * size, NULL, 0, n,
                       scales, false);
        kernels->widen(EMB_DTYPE_I8, (const char *)t->data + row * k + g * t->group, scales, t->group,
                       n * t->group, dst + g * t->group, add);
    }
}

void emb_tensor_row(const emb_tensor *tensor, const emb_kernels *kernels, size_t row, float *dst, bool add)
{
    size_t k = tensor->shape[1];
    if (tensor->dtype == EMB_DTYPE_I8)
        widen_i8(tensor, kernels, row, dst, add);
    else
        kernels->widen(tensor->dtype, (const char *)tensor->data + row * k * element_bytes[tensor->dtype],
                       NULL, 0, k, dst, add);
}

void emb_tensor_rows(const emb_tensor *tensor, const emb_kernels *kernels, size_t row0, size_t rows,
                     float *dst)
{
    size_t k = tensor->rank > 1 ? tensor->shape[1] : 1;
    if (tensor->dtype == EMB_DTYPE_I8)
        for (size_t i = 0; i < rows; i++)
            widen_i8(tensor, kernels, row0 + i, dst + i * k, false);
    else
        kernels->widen(tensor->dtype, (const char *)tensor->data + row0 * k * element_bytes[tensor->dtype],
                       NULL, 0, rows * k, dst, false);
}
