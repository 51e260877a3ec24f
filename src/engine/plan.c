/*
 * From the caller's options and the model's settings to what one call does. All checks of options are
 * here, before any work.
 *
 * Prompts follow sentence-transformers: a literal prompt, else the prompt of that name, else the role's
 * ("query"; "document", "passage" or "corpus"), else the model's default. A role for which the model has no
 * prompt gets what its authors tell people to write (catalog.h: e5 and bge publish empty ones), else none;
 * not the default, which is for texts without a role. If the model pools without its prompt, the tokens to
 * leave out are those of the prompt encoded alone, less the closing special token.
 */
#include "base/clock.h"
#include "base/error.h"
#include "engine/engine.h"
#include "engine/options.h"
#include "model/catalog.h"

#include <stdio.h>
#include <string.h>

#define EMB_POLL_NS UINT64_C(5000000)

const char *emb_role_prompt(const emb_model_spec *spec, emb_role role)
{
    static const char *const names[2][3] = {{"query", "query", "query"}, {"document", "passage", "corpus"}};
    bool query = role == EMB_ROLE_QUERY;
    for (size_t i = 0; i < 3; i++) {
        const emb_prompt *prompt = emb_model_spec_prompt(spec, names[!query][i]);
        if (prompt && prompt->length)
            return prompt->text;
    }
    const emb_catalog_entry *known = emb_catalog_find(spec->name);
    return !known ? "" : query ? known->query_prompt : known->document_prompt;
}

static emb_status unknown_prompt(const emb_model_spec *spec, const char *name, emb_error *err)
{
    char known[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < spec->prompt_count && used < sizeof known; i++) {
        int n = snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", spec->prompts[i].name);
        used += n > 0 ? (size_t)n : 0;
    }
    return emb_fail(err, EMB_E_INVALID, "prompt_name", "the model %s has no prompt \"%s\"%s%s%s", spec->name,
                    name, spec->prompt_count ? " (it has: " : "", known, spec->prompt_count ? ")" : "");
}

static emb_status choose_prompt(emb_plan *plan, const emb_model_spec *spec, const emb_embed_options *options,
                                emb_error *err)
{
    const emb_prompt *prompt = NULL;
    plan->prompt = "";
    if (options->prompt) {
        plan->prompt = options->prompt;
        plan->prompt_length = strlen(options->prompt);
        return EMB_OK;
    }
    if (options->prompt_name) {
        prompt = emb_model_spec_prompt(spec, options->prompt_name);
        if (!prompt)
            return unknown_prompt(spec, options->prompt_name, err);
    } else if (options->role != EMB_ROLE_NONE) {
        plan->prompt = emb_role_prompt(spec, options->role);
        plan->prompt_length = strlen(plan->prompt);
    } else if (spec->default_prompt) {
        prompt = emb_model_spec_prompt(spec, spec->default_prompt);
    }
    if (prompt) {
        plan->prompt = prompt->text;
        plan->prompt_length = prompt->length;
    }
    return EMB_OK;
}

/* Special tokens that the tokenizer puts behind a text. */
static bool ends_in_special(const emb_encoding *encoding)
{
    return encoding->count && encoding->special[encoding->count - 1];
}

static emb_status count_skip(emb_plan *plan, const emb_core *core, emb_scratch *scratch, emb_error *err)
{
    if (core->spec.include_prompt || !plan->prompt_length || plan->settings.pooling == EMB_POOLING_CLS)
        return EMB_OK;
    emb_plan alone = *plan;
    alone.prompt = "";
    alone.prompt_length = 0;
    alone.truncation = EMB_TRUNCATE_RIGHT;
    emb_text text = {plan->prompt, plan->prompt_length};
    emb_status status = emb_tokenize_text(core, &alone, &text, 0, scratch, err);
    if (status)
        return status;
    size_t count = scratch->encoding.count;
    emb_encode_options options = {.add_special_tokens = true, .offsets = true};
    status = emb_tokenizer_encode(core->tokenizer, "", 0, &options, &scratch->encoding, err);
    if (!status)
        plan->skip = (uint32_t)(count - (count > 0 && ends_in_special(&scratch->encoding)));
    return status;
}

static emb_status check_choices(const emb_embed_options *options, emb_error *err)
{
    struct {
        const char *name;
        int value, last;
    } choices[] = {
        {"role", (int)options->role, EMB_ROLE_DOCUMENT},
        {"pooling", (int)options->pooling, EMB_POOLING_LAST},
        {"normalize", (int)options->normalize, EMB_OFF},
        {"truncation", (int)options->truncation, EMB_TRUNCATE_NONE},
        {"priority", (int)options->priority, EMB_PRIORITY_BULK},
    };
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++)
        if (choices[i].value < 0 || choices[i].value > choices[i].last)
            return emb_fail(err, EMB_E_INVALID, choices[i].name, "%s is %d, the last value is %d",
                            choices[i].name, choices[i].value, choices[i].last);
    if (options->timeout_ms < 0)
        return emb_fail(err, EMB_E_INVALID, "timeout_ms", "timeout_ms is %lld",
                        (long long)options->timeout_ms);
    return EMB_OK;
}

static emb_status choose_limits(emb_plan *plan, const emb_core *core, const emb_embed_options *options,
                                bool special, emb_error *err)
{
    const emb_model_spec *spec = &core->spec;
    size_t added = special ? emb_tokenizer_added_count(core->tokenizer) : 0;
    plan->width = options->dimensions ? options->dimensions : spec->dimension;
    plan->max_tokens = options->max_tokens ? options->max_tokens : spec->max_tokens;
    if (options->dimensions > spec->dimension)
        return emb_fail(err, EMB_E_INVALID, "dimensions", "dimensions is %zu, the model's vectors have %zu",
                        options->dimensions, spec->dimension);
    if (plan->max_tokens > spec->max_tokens)
        return emb_fail(err, EMB_E_INVALID, "max_tokens", "max_tokens is %zu, the model takes %zu",
                        plan->max_tokens, spec->max_tokens);
    if (options->pooling != EMB_POOLING_MODEL && spec->pooling_count > 1)
        return emb_fail(err, EMB_E_INVALID, "pooling",
                        "pooling is %s, but %s joins %zu kinds of pooling and takes no other",
                        emb_pooling_name(options->pooling), spec->name, spec->pooling_count);
    if (plan->max_tokens < added)
        return emb_fail(err, EMB_E_INVALID, "max_tokens",
                        "max_tokens is %zu, the special tokens alone are %zu", plan->max_tokens, added);
    return EMB_OK;
}

emb_status emb_plan_make(emb_plan *plan, const emb_core *core, const emb_embed_options *given, bool prompts,
                         emb_scratch *scratch, emb_error *err)
{
    emb_embed_options options = EMB_EMBED_OPTIONS_INIT;
    memset(plan, 0, sizeof *plan);
    plan->prompt = "";
    emb_status status = emb_options_copy(&options, sizeof options, given, "emb_embed_options", err);
    if (!status)
        status = check_choices(&options, err);
    if (!status)
        status = choose_limits(plan, core, &options, prompts, err);
    if (status)
        return status;
    plan->settings.pooling = options.pooling;
    plan->settings.normalize = options.normalize;
    plan->settings.dimensions = options.dimensions == core->spec.dimension ? 0 : options.dimensions;
    if (options.pooling == EMB_POOLING_MODEL && core->spec.pooling_count < 2)
        plan->settings.pooling = core->spec.pooling;
    plan->truncation = options.truncation;
    if (plan->truncation == EMB_TRUNCATE_MODEL)
        plan->truncation = core->spec.truncate_left ? EMB_TRUNCATE_LEFT : EMB_TRUNCATE_RIGHT;
    plan->priority = options.priority;
    plan->cancel = options.cancel;
    if (options.timeout_ms > 0) {
        uint64_t now = emb_now_ns(), wait = (uint64_t)options.timeout_ms;
        plan->deadline_ns = wait < (UINT64_MAX - now) / 1000000 ? now + wait * 1000000 : UINT64_MAX;
    }
    if (!prompts)
        return EMB_OK;
    status = choose_prompt(plan, &core->spec, &options, err);
    return status ? status : count_skip(plan, core, scratch, err);
}

bool emb_plan_expired(const emb_plan *plan, uint64_t now_ns, emb_error *error)
{
    if (plan->cancel && __atomic_load_n(plan->cancel, __ATOMIC_RELAXED)) {
        (void)emb_fail(error, EMB_E_CANCELLED, NULL, "the call was cancelled");
        return true;
    }
    if (plan->deadline_ns && now_ns >= plan->deadline_ns) {
        (void)emb_fail(error, EMB_E_DEADLINE, "timeout_ms", "the time for the call ran out");
        return true;
    }
    return false;
}

struct timespec emb_plan_poll_time(const emb_plan *plan)
{
    uint64_t at = plan->deadline_ns ? plan->deadline_ns : UINT64_MAX;
    if (plan->cancel) {
        uint64_t poll = emb_now_ns() + EMB_POLL_NS;
        at = poll < at ? poll : at;
    }
    const uint64_t far = UINT64_C(1000000000) * INT32_MAX;
    at = at < far ? at : far;
    return (struct timespec){.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)};
}
