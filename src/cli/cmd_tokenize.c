/*
 * cmd_tokenize.c: `embedd tokenize`: what a model makes of a text, or how many tokens texts have and what a
 * hosted model takes for them. Weights are not read, and nothing is sent anywhere.
 */
#include "cli/token_source.h"

#include "base/error.h"
#include "base/json_write.h"
#include "cli/input.h"
#include "cli/stop.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct settings {
    emb_model_settings model;
    const char *input, *text_key;
    int format, input_format;
    size_t max_tokens;
    bool no_special, count;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

enum { JSON, TEXT };

static const emb_option options[] = {
    EMB_MODEL_NAME_OPTION(settings, model),
    {.name = "count",
     .letter = 'c',
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, count),
     .help = "only how many tokens the texts have together, and what a hosted model costs for them"},
    {.name = "input",
     .letter = 'i',
     .kind = EMB_OPTION_TEXT,
     .argument = "FILE|-",
     .offset = offsetof(settings, input),
     .help = "read texts from a file, or standard input with -"},
    {.name = "input-format",
     .kind = EMB_OPTION_CHOICE,
     .choices = "auto|lines|jsonl",
     .fallback = "auto",
     .offset = offsetof(settings, input_format),
     .help = "a text per line, or JSON objects; auto: by the name, .jsonl or .ndjson"},
    {.name = "text-key",
     .kind = EMB_OPTION_TEXT,
     .argument = "KEY",
     .fallback = "text",
     .offset = offsetof(settings, text_key),
     .help = "where the text is in a JSON line"},
    {.name = "no-special",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, no_special),
     .help = "without the special tokens that the model puts around a text"},
    {.name = "max-tokens",
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .minimum = 1,
     .maximum = 1 << 20,
     .default_note = "no limit",
     .offset = offsetof(settings, max_tokens),
     .help = "cut at N tokens, special tokens included"},
    {.name = "format",
     .letter = 'f',
     .kind = EMB_OPTION_CHOICE,
     .choices = "json|text",
     .fallback = "json",
     .offset = offsetof(settings, format),
     .help = "json: an object per text; text: a line per token with id, bytes and token; with --count one "
             "object, or one line"},
    EMB_OPTIONS_END,
};

static emb_status add_list(emb_buf *out, const char *name, const emb_token_source *source,
                           const emb_tokens *tokens,
                           emb_status (*add)(emb_buf *, const emb_token_source *, const emb_token *))
{
    emb_status status = emb_buf_addf(out, ",\"%s\":[", name);
    for (size_t i = 0; i < tokens->count && !status; i++) {
        if (i > 0)
            status = emb_buf_add(out, ",", 1);
        if (!status)
            status = add(out, source, &tokens->data[i]);
    }
    return status ? status : emb_buf_add(out, "]", 1);
}

static emb_status add_id(emb_buf *out, const emb_token_source *source, const emb_token *token)
{
    (void)source;
    return emb_buf_addf(out, "%" PRId32, token->id);
}

static emb_status add_text(emb_buf *out, const emb_token_source *source, const emb_token *token)
{
    size_t length = 0;
    const char *text = emb_token_source_text(source, token->id, &length);
    return emb_json_write_string(out, text ? text : "", length);
}

static emb_status add_offsets(emb_buf *out, const emb_token_source *source, const emb_token *token)
{
    (void)source;
    return emb_buf_addf(out, "[%" PRIu32 ",%" PRIu32 "]", token->start, token->end);
}

static emb_status print_json(emb_buf *out, const emb_token_source *source, const emb_record *record,
                             const emb_tokens *tokens)
{
    emb_buf_clear(out);
    emb_status status = emb_buf_addf(out, "{\"index\":%" PRIu64 ",\"text\":", record->index);
    if (!status)
        status = emb_json_write_string(out, record->text, record->length);
    if (!status)
        status = emb_buf_addf(out, ",\"count\":%zu", tokens->count);
    if (!status)
        status = add_list(out, "ids", source, tokens, add_id);
    if (!status)
        status = add_list(out, "tokens", source, tokens, add_text);
    if (!status)
        status = add_list(out, "offsets", source, tokens, add_offsets);
    if (!status)
        status = emb_buf_add_str(out, "}\n");
    if (!status)
        fwrite(out->data, 1, out->length, stdout);
    return status;
}

static void print_text(const emb_token_source *source, uint64_t index, const emb_tokens *tokens)
{
    if (index > 0)
        putchar('\n');
    for (size_t i = 0; i < tokens->count; i++) {
        const emb_token *t = &tokens->data[i];
        char range[32] = "-";
        size_t length = 0;
        const char *text = emb_token_source_text(source, t->id, &length);
        if (!t->special)
            snprintf(range, sizeof range, "%" PRIu32 "-%" PRIu32, t->start, t->end);
        printf("%7" PRId32 "  %-11s  %.*s\n", t->id, range, (int)length, text ? text : "");
    }
}

static emb_status tokenize(const settings *s, emb_token_source *source, emb_buf *out,
                           const emb_record *record, emb_error *err)
{
    emb_tokens tokens;
    emb_status status = emb_token_source_tokenize(source, record->text, record->length, !s->no_special,
                                                  s->max_tokens, &tokens, err);
    if (status)
        return status;
    if (s->format == TEXT)
        print_text(source, record->index, &tokens);
    else if ((status = print_json(out, source, record, &tokens)))
        status = emb_fail_nomem(err, "output", out->length);
    emb_token_source_release(source, &tokens);
    return status;
}

/* ---- counting ---- */

typedef struct totals {
    uint64_t texts, tokens, longest, over_limit;
} totals;

static emb_status count_one(const settings *s, emb_token_source *source, const emb_record *record,
                            totals *sum, emb_error *err)
{
    size_t count;
    emb_status status = emb_token_source_count(source, record->text, record->length, !s->no_special,
                                               s->max_tokens, &count, err);
    if (status)
        return status;
    sum->texts++;
    sum->tokens += count;
    sum->longest = count > sum->longest ? count : sum->longest;
    sum->over_limit += source->limit && count > source->limit;
    return EMB_OK;
}

#define USD "%" PRIu64 ".%09" PRIu64
#define USD_OF(nusd) (nusd) / UINT64_C(1000000000), (nusd) % UINT64_C(1000000000)

static emb_status print_count_json(emb_buf *out, const emb_token_source *source, const totals *sum)
{
    emb_buf_clear(out);
    emb_status status = emb_buf_add_str(out, "{\"model\":");
    if (!status)
        status = emb_json_write_string(out, source->name, strlen(source->name));
    if (!status && source->encoding)
        status = emb_buf_addf(out, ",\"encoding\":\"%s\"", source->encoding);
    if (!status)
        status = emb_buf_addf(out, ",\"texts\":%" PRIu64 ",\"tokens\":%" PRIu64 ",\"longest\":%" PRIu64,
                              sum->texts, sum->tokens, sum->longest);
    if (!status && source->limit)
        status = emb_buf_addf(out, ",\"limit\":%zu,\"over_limit\":%" PRIu64, source->limit, sum->over_limit);
    if (!status && source->entry) {
        uint64_t cost = emb_catalog_cost_nusd(source->entry, sum->tokens);
        status = emb_buf_addf(
            out, ",\"price_nusd_per_1k\":%" PRIu64 ",\"cost_nusd\":%" PRIu64 ",\"cost_usd\":" USD,
            source->entry->price_nusd_per_1k, cost, USD_OF(cost));
    }
    if (!status)
        status = emb_buf_add_str(out, "}\n");
    if (!status)
        fwrite(out->data, 1, out->length, stdout);
    return status;
}

static void print_count_text(const emb_token_source *source, const totals *sum)
{
    printf("%s: %" PRIu64 " %s, %" PRIu64 " %s, longest %" PRIu64, source->name, sum->texts,
           sum->texts == 1 ? "text" : "texts", sum->tokens, sum->tokens == 1 ? "token" : "tokens",
           sum->longest);
    if (sum->over_limit)
        printf(", %" PRIu64 " over the limit of %zu", sum->over_limit, source->limit);
    if (source->entry) {
        uint64_t cost = emb_catalog_cost_nusd(source->entry, sum->tokens);
        printf(", " USD " USD", USD_OF(cost));
    }
    putchar('\n');
}

/* ---- the command ---- */

/* "data.jsonl: line 7: …" */
static emb_status fail_at(const emb_input *input, const emb_record *record, emb_error *err)
{
    emb_error_context(err, "%s: line %" PRIu64, emb_input_name(input), record->index + 1);
    err->where[0] = 0;
    return err->code;
}

static emb_status each(const settings *s, emb_token_source *source, emb_input *input, emb_buf *out,
                       totals *sum, emb_error *err)
{
    emb_record record;
    for (;;) {
        emb_status status = EMB_OK;
        switch (emb_input_next(input, &record, err)) {
        case EMB_INPUT_RECORD:
            status =
                s->count ? count_one(s, source, &record, sum, err) : tokenize(s, source, out, &record, err);
            if (status)
                return emb_input_has_lines(input) ? fail_at(input, &record, err) : status;
            break;
        case EMB_INPUT_END:
            return EMB_OK;
        case EMB_INPUT_BAD:
            return fail_at(input, &record, err);
        case EMB_INPUT_STOPPED:
            return EMB_E_CANCELLED;
        case EMB_INPUT_FAILED:
            return err->code;
        }
    }
}

static emb_status work(const settings *s, emb_token_source *source, emb_input *input, emb_error *err)
{
    totals sum = {0};
    emb_buf out = EMB_BUF_INIT((size_t)1 << 31);
    emb_status status = each(s, source, input, &out, &sum, err);
    if (!status && s->count && s->format == TEXT)
        print_count_text(source, &sum);
    else if (!status && s->count && (status = print_count_json(&out, source, &sum)))
        status = emb_fail_nomem(err, "output", out.length);
    emb_buf_fini(&out);
    return status;
}

static int run(const void *raw, char **arguments, size_t count)
{
    const settings *s = raw;
    emb_token_source source;
    emb_input *input;
    emb_error err;
    if (s->input && count > 0)
        return emb_usage_error(&emb_command_tokenize, "give texts or --input, not both");
    if (!s->input && count == 0)
        return emb_usage_error(&emb_command_tokenize, "a text is needed");
    emb_stop_install();
    emb_input_options o = {.format = (emb_input_format)s->input_format, .text_key = s->text_key};
    if (s->input ? emb_input_open_file(&input, s->input, &o, &err)
                 : emb_input_open_arguments(&input, arguments, count, &o, &err))
        return emb_report_error("tokenize", &err);
    emb_status status = emb_token_source_open(&source, &s->model, &err);
    if (!status) {
        status = work(s, &source, input, &err);
        emb_token_source_close(&source);
    }
    emb_input_close(input);
    emb_stop_die();
    if (status == EMB_E_CANCELLED)
        return EMB_EXIT_FAILURE;
    return status ? emb_report_error("tokenize", &err) : EMB_EXIT_OK;
}

const emb_command emb_command_tokenize = {
    .name = "tokenize",
    .summary = "show the tokens of texts: ids, tokens and where they are",
    .usage = "tokenize [OPTION...] TEXT...\ntokenize [OPTION...] --input FILE",
    .description =
        "Offsets are bytes of the text as given; special tokens have 0, 0. --model cl100k_base, or a\n"
        "hosted model that counts with it (text-embedding-3-small), gives the tokens of OpenAI's\n"
        "tiktoken, and --count their list price. Nothing is sent.",
    .examples = "  embedd tokenize \"hello world\"\n  embedd tokenize --format text \"Straße\"\n"
                "  embedd tokenize --model text-embedding-3-small --count --input texts.jsonl",
    .options = options,
    .settings_size = sizeof(settings),
    .minimum_arguments = 0,
    .maximum_arguments = SIZE_MAX,
    .run = run,
};
