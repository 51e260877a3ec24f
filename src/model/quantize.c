/*
 * Quantising a model directory.
 *
 * For each group of n values the scale is searched that leaves the least squared error, over scales that F16
 * can hold: from max/127 down to 0.9 of it, in CANDIDATES steps. Going below max/127 cuts the largest value
 * off a little and makes all others finer; with 8 bits the gain is a few percent of error, and it costs a
 * second at conversion and nothing afterwards. Scales stay such that the largest integer is ±127:
 * quantising the result again, as the int8 kernels do, then finds the same integers.
 *
 * The file is laid out by falling alignment (F32, F16, I8), by name within, without holes: readers of the
 * format accept it, and every tensor is aligned to its element. Matrices are read, quantised and written a
 * strip of rows at a time.
 *
 * The weights of layers take finer groups than the word embeddings: measured on all-MiniLM-L6-v2, quantising
 * the embeddings alone (groups of 32) leaves a worst cosine of 0.99998, the layers alone 0.9994 (groups of
 * 32) or 0.9995 (16).
 *
 * Position tables, token types and MPNet's relative bias stay unquantised: they are small, and their error
 * would be the same for every token of every text, where that of weights averages out.
 */
#include "model/quantize.h"

#include "base/buf.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json_write.h"
#include "model/safetensors.h"
#include "model/spec.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    GROUP_DEFAULT = 16,
    TABLE_GROUP_DEFAULT = 64,
    GROUP_LEAST = 8,
    GROUP_MOST = 256,
    CANDIDATES = 20,
    SMALL_MATRIX = 8192, /* elements below which a matrix stays F32 */
    STRIP_FLOATS = 1 << 18,
    HEADER_MAX = 64 << 20
};

/* ---- F16 ---------------------------------------------------------------------------------------------- */

/* To nearest, ties to even; the value is finite and below 65520. */
static uint16_t f16_from_f32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude < 0x38800000) { /* subnormal in F16: units of 2^-24 */
        float units = fabsf(x) * 0x1p24f;
        return (uint16_t)(sign | (uint32_t)lrintf(units));
    }
    uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | ((rounded - 0x38000000) >> 13));
}

static float f32_from_f16(uint16_t x)
{
    uint32_t exponent = x >> 10 & 31, fraction = x & 0x3ff, bits;
    float value;
    if (exponent == 0)
        return (float)fraction * (x & 0x8000 ? -0x1p-24f : 0x1p-24f);
    bits = (uint32_t)(x & 0x8000) << 16 | (exponent + 112) << 23 | fraction << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- a group ------------------------------------------------------------------------------------------- */

static float round_to_integer(float x)
{
    x = rintf(x);
    return x > 127.0f ? 127.0f : x < -127.0f ? -127.0f : x;
}

static float squared_error(const float *values, size_t n, float scale)
{
    float inverse = 1.0f / scale, sum = 0;
    for (size_t i = 0; i < n; i++) {
        float difference = values[i] - round_to_integer(values[i] * inverse) * scale;
        sum += difference * difference;
    }
    return sum;
}

/* The i-th scale to try, in F16: 0 the one just above max/127 (rounding down may cost more), then
 * downwards. */
static uint16_t candidate_scale(float largest, int i)
{
    if (i == 0)
        return (uint16_t)(f16_from_f32(largest / 127.0f) + 1);
    return f16_from_f32(largest / 127.0f * (1.0f - 0.1f * (float)(i - 1) / (float)(CANDIDATES - 1)));
}

void emb_quantize_group(const float *values, size_t n, int8_t *integers, uint16_t *scale)
{
    float largest = 0, best_error = INFINITY, best_scale = 0;
    uint16_t best = 0, before = 0;
    for (size_t i = 0; i < n; i++)
        largest = fabsf(values[i]) > largest ? fabsf(values[i]) : largest;
    for (int i = 0; i < CANDIDATES; i++) {
        uint16_t half = candidate_scale(largest, i);
        float candidate = f32_from_f16(half);
        if (half == 0 || half == before || !(largest / candidate > 126.5f))
            continue;
        before = half;
        float error = squared_error(values, n, candidate);
        if (error < best_error) {
            best_error = error;
            best_scale = candidate;
            best = half;
        }
    }
    if (!best) { /* so small that F16 has no scale with which the largest integer is 127 */
        best = f16_from_f32(largest / 127.0f);
        best_scale = f32_from_f16(best);
    }
    *scale = best;
    for (size_t i = 0; i < n; i++)
        integers[i] = best ? (int8_t)round_to_integer(values[i] * (1.0f / best_scale)) : 0;
}

/* ---- the plan of a file
 * ----------------------------------------------------------------------------------- */

typedef enum form { FORM_F32, FORM_F16, FORM_I8 } form;

typedef struct item {
    emb_tensor tensor;
    form form;
    size_t group, offset, scales_offset; /* in the data */
} item;

typedef struct plan {
    item *items;
    size_t count, data_bytes;
} plan;

static size_t columns_of(const emb_tensor *t)
{
    return t->rank == 2 ? t->shape[1] : 1;
}

static size_t elements_of(const emb_tensor *t)
{
    size_t n = 1;
    for (size_t i = 0; i < t->rank; i++)
        n *= t->shape[i];
    return n;
}

/* The largest divisor of n that is at most `most`; 0 if that is below GROUP_LEAST. */
static size_t divisor(size_t n, size_t most)
{
    for (size_t d = most; d >= GROUP_LEAST; d--)
        if (n % d == 0)
            return d;
    return 0;
}

static void choose_form(item *it, size_t group, size_t table_group)
{
    const char *name = it->tensor.name;
    it->form = FORM_F32;
    if (it->tensor.rank != 2 || elements_of(&it->tensor) < SMALL_MATRIX ||
        strstr(name, "token_type_embeddings"))
        return;
    it->group = divisor(it->tensor.shape[1], strstr(name, "word_embeddings") ? table_group : group);
    it->form = it->group && !strstr(name, "position_embeddings") ? FORM_I8 : FORM_F16;
}

/* Ends with ".scales" and belongs to an I8 tensor: a model that is quantised already. */
static bool is_companion(const emb_safetensors *s, const char *name)
{
    char base[512];
    emb_tensor owner;
    size_t length = strlen(name);
    if (length < 7 || length - 7 >= sizeof base || strcmp(name + length - 7, ".scales") != 0)
        return false;
    memcpy(base, name, length - 7);
    base[length - 7] = 0;
    return emb_safetensors_find(s, base, &owner) && owner.dtype == EMB_DTYPE_I8;
}

static emb_status make_plan(plan *p, const emb_safetensors *s, size_t group, size_t table_group,
                            emb_error *err)
{
    size_t n = emb_safetensors_count(s), offset = 0;
    p->count = 0;
    p->items = calloc(n ? n : 1, sizeof *p->items);
    if (!p->items)
        return emb_fail_nomem(err, "tensor plan", n * sizeof *p->items);
    for (size_t i = 0; i < n; i++) {
        item *it = &p->items[p->count];
        emb_safetensors_at(s, i, &it->tensor);
        if (is_companion(s, it->tensor.name))
            continue;
        choose_form(it, group, table_group);
        p->count++;
    }
    for (form f = FORM_F32; f <= FORM_I8; f++)
        for (size_t i = 0; i < p->count; i++) {
            item *it = &p->items[i];
            size_t elements = elements_of(&it->tensor);
            if (it->form == f) {
                it->offset = offset;
                offset += elements * (f == FORM_F32 ? 4 : f == FORM_F16 ? 2 : 1);
            }
            if (f == FORM_F16 && it->form == FORM_I8) {
                it->scales_offset = offset;
                offset += elements / it->group * 2;
            }
        }
    p->data_bytes = offset;
    return EMB_OK;
}

/* ---- the header
 * --------------------------------------------------------------------------------------------- */

static emb_status add_entry(emb_buf *b, const char *name, const char *suffix, const char *dtype,
                            const emb_tensor *t, size_t last_size, size_t begin, size_t bytes)
{
    char full[640];
    emb_status status;
    snprintf(full, sizeof full, "%s%s", name, suffix);
    if ((status = emb_buf_add_str(b, ",")) || (status = emb_json_write_string(b, full, strlen(full))) ||
        (status = emb_buf_addf(b, ":{\"dtype\":\"%s\",\"shape\":[", dtype)))
        return status;
    for (size_t i = 0; i < t->rank; i++)
        if ((status = emb_buf_addf(b, "%s%zu", i ? "," : "", i + 1 == t->rank ? last_size : t->shape[i])))
            return status;
    return emb_buf_addf(b, "],\"data_offsets\":[%zu,%zu]}", begin, begin + bytes);
}

static emb_status add_item(emb_buf *b, const item *it)
{
    static const char *const dtypes[] = {"F32", "F16", "I8"};
    static const size_t sizes[] = {4, 2, 1};
    const emb_tensor *t = &it->tensor;
    size_t elements = elements_of(t), last = t->rank ? t->shape[t->rank - 1] : 0;
    emb_status status =
        add_entry(b, t->name, "", dtypes[it->form], t, last, it->offset, elements * sizes[it->form]);
    if (!status && it->form == FORM_I8)
        status = add_entry(b, t->name, ".scales", "F16", t, last / it->group, it->scales_offset,
                           elements / it->group * 2);
    return status;
}

static emb_status write_header(FILE *stream, const plan *p, const char *source, size_t group,
                               size_t table_group, emb_error *err)
{
    emb_buf b = EMB_BUF_INIT(HEADER_MAX);
    unsigned char length[8];
    emb_status status;
    if ((status = emb_buf_add_str(
             &b, "{\"__metadata__\":{\"format\":\"pt\",\"quantization\":\"int8 in groups, F16 scales\",")) ||
        (status = emb_buf_addf(
             &b, "\"group\":\"%zu\",\"table_group\":\"%zu\",\"producer\":\"embedd %s\",\"source\":", group,
             table_group, EMB_VERSION_STRING)) ||
        (status = emb_json_write_string(&b, source, strlen(source))) || (status = emb_buf_add_str(&b, "}")))
        goto out;
    for (size_t i = 0; i < p->count; i++)
        if ((status = add_item(&b, &p->items[i])))
            goto out;
    if ((status = emb_buf_add_str(&b, "}")))
        goto out;
    while ((b.length + 8) % 64 != 0) /* data begins on a cache line */
        if ((status = emb_buf_add_str(&b, " ")))
            goto out;
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)b.length >> 8 * i);
    if (fwrite(length, 1, 8, stream) != 8 || fwrite(b.data, 1, b.length, stream) != b.length)
        status = EMB_E_IO;
out:
    emb_buf_fini(&b);
    if (status == EMB_E_IO)
        return emb_fail_errno(err, "model.safetensors", "writing");
    return status ? emb_fail(err, status, "model.safetensors", "header of model.safetensors: %s",
                             emb_status_text(status))
                  : EMB_OK;
}

/* ---- the data
 * ------------------------------------------------------------------------------------------------- */

typedef struct writer {
    FILE *stream;
    long start; /* of the data */
    const emb_kernels *kernels;
    float *strip;
    char *encoded; /* of a strip, at most 4 bytes an element */
    uint16_t *scales;
    emb_quantize_report *report;
    emb_error *err;
} writer;

static emb_status write_at(const writer *w, size_t offset, const void *data, size_t bytes)
{
    if (fseeko(w->stream, (off_t)w->start + (off_t)offset, SEEK_SET) != 0 ||
        fwrite(data, 1, bytes, w->stream) != bytes)
        return emb_fail_errno(w->err, "model.safetensors", "writing");
    return EMB_OK;
}

static emb_status encode_f16(const writer *w, const item *it, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!(fabsf(w->strip[i]) < 65504.0f))
            return emb_fail(w->err, EMB_E_UNSUPPORTED, it->tensor.name,
                            "tensor %s holds %g, which F16 does not", it->tensor.name, (double)w->strip[i]);
        uint16_t half = f16_from_f32(w->strip[i]);
        memcpy(w->encoded + 2 * i, &half, 2);
    }
    return EMB_OK;
}

/* Quantises n values (whole groups); adds up squares of values and errors. */
static emb_status encode_i8(const writer *w, const item *it, size_t n, uint16_t *scales, double *squares,
                            double *errors)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(w->strip[i]) < 65504.0f))
            return emb_fail(w->err, EMB_E_UNSUPPORTED, it->tensor.name,
                            "tensor %s holds %g, which cannot be quantised", it->tensor.name,
                            (double)w->strip[i]);
    for (size_t g = 0; g < n / it->group; g++) {
        const float *values = w->strip + g * it->group;
        int8_t *integers = (int8_t *)w->encoded + g * it->group;
        emb_quantize_group(values, it->group, integers, &scales[g]);
        float scale = f32_from_f16(scales[g]);
        for (size_t i = 0; i < it->group; i++) {
            double difference = (double)values[i] - (double)scale * integers[i];
            *squares += (double)values[i] * values[i];
            *errors += difference * difference;
        }
    }
    return EMB_OK;
}

static void note_error(const writer *w, const item *it, double squares, double errors)
{
    double relative = squares > 0 ? sqrt(errors / squares) : 0;
    if (relative <= w->report->worst_error)
        return;
    w->report->worst_error = relative;
    snprintf(w->report->worst_tensor, sizeof w->report->worst_tensor, "%s", it->tensor.name);
}

static emb_status write_item(writer *w, const item *it)
{
    static const size_t sizes[] = {4, 2, 1};
    emb_tensor flat = it->tensor, *t = &flat;
    if (flat.rank != 2) { /* one long vector */
        flat.shape[0] = elements_of(&it->tensor);
        flat.rank = 1;
    }
    size_t columns = columns_of(t), rows = columns ? elements_of(t) / columns : 0, done = 0;
    size_t at_once = columns && STRIP_FLOATS / columns ? STRIP_FLOATS / columns : 1;
    double squares = 0, errors = 0;
    emb_status status = EMB_OK;
    for (size_t row = 0; row < rows && !status; row += at_once) {
        size_t some = rows - row < at_once ? rows - row : at_once, n = some * columns;
        emb_tensor_rows(t, w->kernels, row, some, w->strip);
        switch (it->form) {
        case FORM_F32:
            memcpy(w->encoded, w->strip, n * 4);
            break;
        case FORM_F16:
            status = encode_f16(w, it, n);
            break;
        case FORM_I8:
            status = encode_i8(w, it, n, w->scales, &squares, &errors);
            break;
        }
        if (!status)
            status = write_at(w, it->offset + done * sizes[it->form], w->encoded, n * sizes[it->form]);
        if (!status && it->form == FORM_I8)
            status = write_at(w, it->scales_offset + done / it->group * 2, w->scales, n / it->group * 2);
        done += n;
    }
    w->report->tensors++;
    w->report->bytes_before += t->bytes;
    if (it->form == FORM_I8) {
        w->report->quantized++;
        note_error(w, it, squares, errors);
    }
    return status;
}

/* Widest row, so that a strip of one row fits whatever its width. */
static size_t strip_room(const plan *p)
{
    size_t room = STRIP_FLOATS;
    for (size_t i = 0; i < p->count; i++)
        if (columns_of(&p->items[i].tensor) > room)
            room = columns_of(&p->items[i].tensor);
    return room;
}

static emb_status write_file(FILE *stream, const plan *p, const char *source, size_t group,
                             size_t table_group, emb_quantize_report *report, emb_error *err)
{
    size_t room = strip_room(p);
    writer w = {.stream = stream, .report = report, .err = err};
    emb_status status = write_header(stream, p, source, group, table_group, err);
    if (status || (status = emb_kernels_select("portable", &w.kernels, err)))
        return status;
    w.start = ftell(stream);
    w.strip = malloc(room * sizeof *w.strip);
    w.encoded = malloc(room * 4);
    w.scales = malloc(room * sizeof *w.scales);
    if (!w.strip || !w.encoded || !w.scales)
        status = emb_fail_nomem(err, "strip of weights", room * 10);
    for (size_t i = 0; i < p->count && !status; i++)
        status = write_item(&w, &p->items[i]);
    report->bytes_after = p->data_bytes;
    free(w.strip);
    free(w.encoded);
    free(w.scales);
    return status;
}

static emb_status quantize_weights(const emb_model_spec *spec, const char *target, size_t group,
                                   size_t table_group, emb_quantize_report *report, emb_error *err)
{
    emb_safetensors *tensors = NULL;
    emb_atomic_file file = {0};
    plan p = {0};
    char *path = emb_path_join(target, "model.safetensors");
    emb_status status = path ? emb_safetensors_open(spec->transformer, "model", &tensors, err)
                             : emb_fail_nomem(err, "path", 0);
    if (!status)
        status = make_plan(&p, tensors, group, table_group, err);
    if (!status && !(status = emb_atomic_open(&file, path, err))) {
        status = write_file(file.stream, &p, spec->name, group, table_group, report, err);
        if (status)
            emb_atomic_abort(&file);
        else
            status = emb_atomic_commit(&file, err);
    }
    free(p.items);
    emb_safetensors_close(tensors);
    free(path);
    return status;
}

/* ---- the other files
 * --------------------------------------------------------------------------------------------- */

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool ends_with(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);
    return n >= m && strcmp(text + n - m, suffix) == 0;
}

/* What belongs to the model besides the weights that are rewritten. */
static bool is_wanted(const char *name, bool module)
{
    static const char *const names[] = {"config.json",       "modules.json", "vocab.txt",
                                        "vocab.json",        "merges.txt",   "special_tokens_map.json",
                                        "added_tokens.json", "README.md"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    if (module && strcmp(name, "model.safetensors") == 0)
        return true;
    return (starts_with(name, "sentence") && (ends_with(name, ".json") || ends_with(name, ".model"))) ||
           (starts_with(name, "tokenizer") && ends_with(name, ".json")) ||
           strcmp(name, "config_sentence_transformers.json") == 0 || starts_with(name, "LICENSE") ||
           starts_with(name, "NOTICE");
}

static emb_status copy_file(const char *from, const char *to, emb_error *err)
{
    emb_mapping map;
    emb_atomic_file file;
    emb_status status = emb_mapping_open(&map, from, err);
    if (status)
        return status;
    if (!(status = emb_atomic_open(&file, to, err))) {
        if (map.length == 0 || fwrite(map.data, 1, map.length, file.stream) == map.length) {
            status = emb_atomic_commit(&file, err);
        } else {
            status = emb_fail_errno(err, to, "writing");
            emb_atomic_abort(&file);
        }
    }
    emb_mapping_close(&map);
    return status;
}

static emb_status make_directory(const char *path, emb_error *err)
{
    if (mkdir(path, 0777) == 0 || (errno == EEXIST && emb_is_directory(path)))
        return EMB_OK;
    return emb_fail_errno(err, path, "making directory");
}

static emb_status copy_entry(const char *from, const char *to, const char *name, emb_error *err)
{
    char *source = emb_path_join(from, name), *target = emb_path_join(to, name);
    emb_status status = source && target ? EMB_OK : emb_fail_nomem(err, "path", 0);
    if (!status && emb_is_file(source))
        status = copy_file(source, target, err);
    free(source);
    free(target);
    return status;
}

static emb_status copy_folder(const char *from, const char *to, bool module, emb_error *err)
{
    emb_status status = make_directory(to, err);
    if (status)
        return status;
    DIR *directory = opendir(from);
    if (!directory)
        return errno == ENOENT ? EMB_OK : emb_fail_errno(err, from, "reading");
    for (struct dirent *entry; !status && (entry = readdir(directory));)
        if (is_wanted(entry->d_name, module))
            status = copy_entry(from, to, entry->d_name, err);
    closedir(directory);
    return status;
}

/* The folders of modules, as modules.json names them: 1_Pooling, 2_Dense ... */
static emb_status copy_modules(const emb_model_spec *spec, const char *target, emb_error *err)
{
    DIR *directory = opendir(spec->directory);
    emb_status status = EMB_OK;
    if (!directory)
        return emb_fail_errno(err, spec->directory, "reading");
    for (struct dirent *entry; !status && (entry = readdir(directory));) {
        const char *name = entry->d_name, *transformer = spec->transformer + strlen(spec->directory);
        size_t digits = strspn(name, "0123456789");
        if (digits == 0 || name[digits] != '_' || (*transformer && ends_with(transformer, name)))
            continue;
        char *from = emb_path_join(spec->directory, name), *to = emb_path_join(target, name);
        if (!from || !to)
            status = emb_fail_nomem(err, "path", 0);
        else if (emb_is_directory(from))
            status = copy_folder(from, to, true, err);
        free(from);
        free(to);
    }
    closedir(directory);
    return status;
}

/* ---- the whole
 * ------------------------------------------------------------------------------------------------------ */

static emb_status check_target(const char *source, const char *target, emb_error *err)
{
    struct stat a, b;
    if (stat(source, &a) == 0 && stat(target, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        return emb_fail(err, EMB_E_INVALID, target, "%s: is the source itself; give another directory",
                        target);
    return make_directory(target, err);
}

emb_status emb_quantize_directory(const char *source, const char *target, const emb_quantize_options *options,
                                  emb_quantize_report *report, emb_error *err)
{
    emb_quantize_report own;
    emb_model_spec spec;
    emb_status status;
    size_t group = options && options->group ? options->group : GROUP_DEFAULT;
    size_t table_group = options && options->table_group ? options->table_group : TABLE_GROUP_DEFAULT;
    report = report ? report : &own;
    memset(report, 0, sizeof *report);
    if (group < GROUP_LEAST || group > GROUP_MOST || table_group < GROUP_LEAST || table_group > GROUP_MOST)
        return emb_fail(err, EMB_E_INVALID, "group", "groups of %zu and %zu values, %d to %d are possible",
                        group, table_group, GROUP_LEAST, GROUP_MOST);
    if ((status = emb_model_spec_read(&spec, source, err)))
        return status;
    /* The Transformer's folder below the model's, "" mostly. */
    const char *below = spec.transformer + strlen(spec.directory);
    char *transformer = emb_path_join(target, *below == '/' ? below + 1 : below);
    if (!transformer)
        status = emb_fail_nomem(err, "path", 0);
    if (!status && !(status = check_target(source, target, err)) &&
        !(status = copy_folder(source, target, false, err)) &&
        (!*below || !(status = copy_folder(spec.transformer, transformer, false, err))) &&
        !(status = copy_modules(&spec, target, err)))
        status = quantize_weights(&spec, transformer, group, table_group, report, err);
    free(transformer);
    emb_model_spec_fini(&spec);
    return status;
}
