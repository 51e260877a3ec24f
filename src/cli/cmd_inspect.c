/*
 * cmd_inspect.c: `embedd inspect`: what a model directory holds and how it will be run, or what stands
 * in the way.
 *
 * The parts are read one by one rather than through the engine alone, so that a directory with a fault
 * still shows everything else and all its faults at once. At the end the model is really loaded: only
 * that proves that every tensor is there in the right shape.
 */
#include "cli/session.h"

#include "base/error.h"
#include "base/json_write.h"
#include "cli/progress.h"
#include "engine/locate.h"
#include "model/catalog.h"
#include "model/safetensors.h"
#include "model/spec.h"
#include "tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    emb_model_settings model;
    int format;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

enum { TEXT, JSON };

static const emb_option options[] = {
    {.name = "format",
     .letter = 'f',
     .kind = EMB_OPTION_CHOICE,
     .choices = "text|json",
     .fallback = "text",
     .offset = offsetof(settings, format),
     .help = "how to print it"},
    EMB_RUN_OPTIONS(settings, model),
    EMB_OPTIONS_END,
};

enum { TYPES = 4, MAX_PROBLEMS = 4 };
static const char *const type_names[TYPES] = {"F32", "F16", "BF16", "I8"};

typedef struct findings {
    char *directory;
    bool has_spec, has_tokenizer, has_weights, has_session;
    emb_model_spec spec;
    char tokenizer_kind[24];
    size_t tokens;
    size_t tensors, parameters, bytes, count_by_type[TYPES];
    emb_session session;
    emb_error problems[MAX_PROBLEMS];
    size_t problem_count;
} findings;

static void add_problem(findings *f, const emb_error *err)
{
    for (size_t i = 0; i < f->problem_count; i++)
        if (strcmp(f->problems[i].message, err->message) == 0)
            return;
    if (f->problem_count < MAX_PROBLEMS)
        f->problems[f->problem_count++] = *err;
}

/* ---- looking ---- */

static void look_at_tokenizer(findings *f, const char *directory)
{
    emb_tokenizer *tokenizer;
    emb_error err;
    if (emb_tokenizer_open(directory, &tokenizer, &err)) {
        add_problem(f, &err);
        return;
    }
    snprintf(f->tokenizer_kind, sizeof f->tokenizer_kind, "%s", emb_tokenizer_kind(tokenizer));
    f->tokens = emb_tokenizer_vocab_size(tokenizer);
    f->has_tokenizer = true;
    emb_tokenizer_close(tokenizer);
}

static void look_at_weights(findings *f, const char *directory)
{
    emb_safetensors *file;
    emb_error err;
    if (emb_safetensors_open(directory, "model", &file, &err)) {
        add_problem(f, &err);
        return;
    }
    f->tensors = emb_safetensors_count(file);
    f->parameters = emb_safetensors_parameters(file);
    for (size_t i = 0; i < f->tensors; i++) {
        emb_tensor t;
        emb_safetensors_at(file, i, &t);
        f->bytes += t.bytes;
        if ((unsigned)t.dtype < TYPES)
            f->count_by_type[t.dtype]++;
    }
    f->has_weights = true;
    emb_safetensors_close(file);
}

static emb_status look(findings *f, const settings *s, const char *name, emb_error *err)
{
    memset(f, 0, sizeof *f);
    emb_status status = emb_locate_model(name, NULL, &f->directory, err);
    if (status)
        return status;
    if (emb_model_spec_read(&f->spec, f->directory, err))
        add_problem(f, err);
    else
        f->has_spec = true;
    const char *transformer = f->has_spec && f->spec.transformer ? f->spec.transformer : f->directory;
    look_at_tokenizer(f, transformer);
    look_at_weights(f, transformer);
    emb_model_settings m = s->model;
    m.model = f->directory;
    if (emb_session_open(&f->session, &m, false, err))
        add_problem(f, err);
    else
        f->has_session = true;
    return EMB_OK;
}

static void forget(findings *f)
{
    if (f->has_session)
        emb_session_close(&f->session);
    if (f->has_spec)
        emb_model_spec_fini(&f->spec);
    free(f->directory);
}

/* ---- text ---- */

static const char *activation_name(emb_activation activation)
{
    static const char *const names[] = {"none", "gelu", "gelu (tanh)", "relu", "tanh", "silu"};
    return (unsigned)activation < sizeof names / sizeof *names ? names[activation] : "?";
}

static void size_text(double bytes, char *out, size_t size)
{
    snprintf(out, size, bytes >= 1e9 ? "%.2f GB" : "%.1f MB", bytes >= 1e9 ? bytes / 1e9 : bytes / 1e6);
}

static void pooling_text(const emb_model_spec *spec, char *out, size_t size)
{
    size_t used = 0;
    out[0] = 0;
    for (size_t i = 0; i < spec->pooling_count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i ? " + " : "",
                                 emb_pooling_name(spec->poolings[i]));
    if (spec->pooling_count == 0)
        snprintf(out, size, "%s", emb_pooling_name(spec->pooling));
}

static void print_modules(const emb_model_spec *spec)
{
    char pooling[80];
    pooling_text(spec, pooling, sizeof pooling);
    printf("modules       transformer, pooling (%s)", pooling);
    for (size_t i = 0; i < spec->module_count; i++) {
        const emb_module *m = &spec->modules[i];
        if (m->kind == EMB_MODULE_DENSE)
            printf(", dense (%zu to %zu, %s)", m->in_features, m->out_features,
                   activation_name(m->activation));
        else
            printf(", %s", m->kind == EMB_MODULE_LAYER_NORM ? "layer norm" : "normalize");
    }
    printf("%s\n", spec->normalize ? ", normalize" : "");
}

/* A prompt in quotes, so that a space at its end can be seen. */
static void print_prompts(const emb_model_spec *spec)
{
    size_t shown = 0;
    for (size_t i = 0; i < spec->prompt_count; i++)
        if (spec->prompts[i].length > 0)
            printf("%-12s  %s: \"%s\"%s\n", shown++ ? "" : "prompts", spec->prompts[i].name,
                   spec->prompts[i].text,
                   spec->default_prompt && strcmp(spec->default_prompt, spec->prompts[i].name) == 0
                       ? " (for texts without a role)"
                       : "");
    if (shown)
        return;
    const emb_catalog_entry *known = emb_catalog_find(spec->name);
    if (known && (known->query_prompt[0] || known->document_prompt[0]))
        printf("prompts       none in its files; trained with \"%s\" for queries, \"%s\" for documents\n",
               known->query_prompt, known->document_prompt);
    else
        printf("prompts       none\n");
}

static void print_spec(const emb_model_spec *spec)
{
    char a[32];
    printf("architecture  %s: %zu layers, %zu wide, %zu heads, %s feed-forward, %s\n",
           emb_architecture_name(spec->architecture), spec->layers, spec->hidden, spec->heads,
           emb_number_text(spec->intermediate, a), activation_name(spec->activation));
    printf("texts         up to %s tokens, longer ones cut at the %s%s\n",
           emb_number_text(spec->max_tokens, a), spec->truncate_left ? "beginning" : "end",
           spec->lower_case ? ", lower-cased first" : "");
    printf("vectors       %zu dimensions%s\n", spec->dimension,
           spec->normalize ? ", of length 1" : ", length as it comes");
    print_modules(spec);
    print_prompts(spec);
}

static void print_weights(const findings *f)
{
    char count[32], size[32];
    size_text((double)f->bytes, size, sizeof size);
    printf("weights       %s parameters in %zu tensors", emb_number_text(f->parameters, count), f->tensors);
    for (int t = 0; t < TYPES; t++)
        if (f->count_by_type[t])
            printf(", %zu %s", f->count_by_type[t], type_names[t]);
    printf(": %s\n", size);
}

static void print_run(const findings *f)
{
    char size[32], time[32];
    const emb_model_info *info = &f->session.info;
    size_text((double)info->weight_bytes, size, sizeof size);
    printf("runs with     %s products on %s, %u thread%s; %s in memory, loaded in %s\n",
           emb_precision_name(info->precision), emb_engine_isa(f->session.engine),
           emb_engine_threads(f->session.engine), emb_engine_threads(f->session.engine) == 1 ? "" : "s", size,
           emb_seconds_text((double)f->session.load_ns / 1e9, time));
}

static void print_findings(const findings *f)
{
    char a[32];
    printf("%s\n", f->has_spec ? f->spec.name : f->directory);
    printf("directory     %s\n", f->directory);
    if (f->has_spec)
        print_spec(&f->spec);
    if (f->has_tokenizer)
        printf("tokenizer     %s, %s tokens\n", f->tokenizer_kind, emb_number_text(f->tokens, a));
    if (f->has_weights)
        print_weights(f);
    if (f->has_session)
        print_run(f);
    for (size_t i = 0; i < f->problem_count; i++)
        printf("%s%s\n", i ? "              " : "cannot run    ", f->problems[i].message);
}

/* ---- JSON ---- */

static emb_status add_prompts(emb_buf *out, const emb_model_spec *spec)
{
    emb_status status = emb_buf_add_str(out, ",\"prompts\":{");
    for (size_t i = 0; i < spec->prompt_count && !status; i++) {
        if (i > 0)
            status = emb_buf_add(out, ",", 1);
        if (!status)
            status = emb_json_write_string(out, spec->prompts[i].name, strlen(spec->prompts[i].name));
        if (!status)
            status = emb_buf_add(out, ":", 1);
        if (!status)
            status = emb_json_write_string(out, spec->prompts[i].text, spec->prompts[i].length);
    }
    return status ? status : emb_buf_add(out, "}", 1);
}

static emb_status add_spec(emb_buf *out, const emb_model_spec *spec)
{
    char pooling[80];
    pooling_text(spec, pooling, sizeof pooling);
    emb_status status = emb_json_write_member(out, "name", spec->name);
    if (!status)
        status = emb_json_write_member(out, "architecture", emb_architecture_name(spec->architecture));
    if (!status)
        status = emb_buf_addf(out, ",\"layers\":%zu,\"heads\":%zu,\"hidden\":%zu,\"intermediate\":%zu",
                              spec->layers, spec->heads, spec->hidden, spec->intermediate);
    if (!status)
        status = emb_json_write_member(out, "activation", activation_name(spec->activation));
    if (!status)
        status = emb_buf_addf(out, ",\"max_tokens\":%zu,\"truncation\":\"%s\",\"dimension\":%zu",
                              spec->max_tokens, spec->truncate_left ? "left" : "right", spec->dimension);
    if (!status)
        status = emb_json_write_member(out, "pooling", pooling);
    if (!status)
        status = emb_buf_addf(out, ",\"normalize\":%s", spec->normalize ? "true" : "false");
    return status ? status : add_prompts(out, spec);
}

static emb_status add_parts(emb_buf *out, const findings *f)
{
    emb_status status = EMB_OK;
    if (f->has_tokenizer)
        status = emb_json_write_member(out, "tokenizer", f->tokenizer_kind);
    if (!status && f->has_tokenizer)
        status = emb_buf_addf(out, ",\"vocabulary\":%zu", f->tokens);
    if (!status && f->has_weights)
        status = emb_buf_addf(
            out, ",\"tensors\":%zu,\"parameters\":%zu,\"weight_file_bytes\":%zu,\"tensors_by_type\":{",
            f->tensors, f->parameters, f->bytes);
    const char *separator = "";
    for (int t = 0; t < TYPES && !status && f->has_weights; t++)
        if (f->count_by_type[t]) {
            status = emb_buf_addf(out, "%s\"%s\":%zu", separator, type_names[t], f->count_by_type[t]);
            separator = ",";
        }
    if (!status && f->has_weights)
        status = emb_buf_add(out, "}", 1);
    if (!status && f->has_session)
        status =
            emb_buf_addf(out, ",\"precision\":\"%s\",\"isa\":\"%s\",\"threads\":%u,\"memory_bytes\":%zu",
                         emb_precision_name(f->session.info.precision), emb_engine_isa(f->session.engine),
                         emb_engine_threads(f->session.engine), f->session.info.weight_bytes);
    return status;
}

static emb_status print_json(const findings *f, emb_error *err)
{
    emb_buf out = EMB_BUF_INIT(1 << 24);
    emb_status status = emb_buf_addf(&out, "{\"runnable\":%s", f->has_session ? "true" : "false");
    if (!status)
        status = emb_json_write_member(&out, "directory", f->directory);
    if (!status && f->has_spec)
        status = add_spec(&out, &f->spec);
    if (!status)
        status = add_parts(&out, f);
    if (!status)
        status = emb_buf_add_str(&out, ",\"problems\":[");
    for (size_t i = 0; i < f->problem_count && !status; i++) {
        if (i > 0)
            status = emb_buf_add(&out, ",", 1);
        if (!status)
            status = emb_json_write_string(&out, f->problems[i].message, strlen(f->problems[i].message));
    }
    if (!status)
        status = emb_buf_add_str(&out, "]}\n");
    if (!status)
        fwrite(out.data, 1, out.length, stdout);
    else
        status = emb_fail_nomem(err, "output", out.length);
    emb_buf_fini(&out);
    return status;
}

/* ---- the command ---- */

static int run(const void *raw, char **arguments, size_t count)
{
    const settings *s = raw;
    findings f;
    emb_error err;
    (void)count;
    if (look(&f, s, arguments[0], &err))
        return emb_report_error("inspect", &err);
    int code = f.has_session ? EMB_EXIT_OK : EMB_EXIT_FAILURE;
    if (s->format == TEXT)
        print_findings(&f);
    else if (print_json(&f, &err))
        code = emb_report_error("inspect", &err);
    forget(&f);
    return code;
}

const emb_command emb_command_inspect = {
    .name = "inspect",
    .summary = "what a model directory holds and how it will be run",
    .usage = "inspect [OPTION...] NAME|DIR",
    .description = "Ends with 1 if the model cannot be run, and says why.",
    .examples = "  embedd inspect all-MiniLM-L6-v2\n  embedd inspect ./my-model --format json",
    .options = options,
    .settings_size = sizeof(settings),
    .minimum_arguments = 1,
    .maximum_arguments = 1,
    .needs = "a model is",
    .run = run,
};
