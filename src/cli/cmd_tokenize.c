/*
 * cmd_tokenize.c: `embedd tokenize`: what a model makes of a text. The weights are not read.
 */
#include "cli/session.h"

#include "base/error.h"
#include "base/json_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct settings {
    emb_model_settings model;
    int format;
    size_t max_tokens;
    bool no_special;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

enum { JSON, TEXT };

static const emb_option options[] = {
    EMB_MODEL_NAME_OPTION(settings, model),
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
     .help = "json: an object per text; text: a line per token with id, bytes and token"},
    EMB_OPTIONS_END,
};

static emb_status add_list(emb_buf *out, const char *name, const emb_model *model, const emb_tokens *tokens,
                           emb_status (*add)(emb_buf *, const emb_model *, const emb_token *))
{
    emb_status status = emb_buf_addf(out, ",\"%s\":[", name);
    for (size_t i = 0; i < tokens->count && !status; i++) {
        if (i > 0)
            status = emb_buf_add(out, ",", 1);
        if (!status)
            status = add(out, model, &tokens->data[i]);
    }
    return status ? status : emb_buf_add(out, "]", 1);
}

static emb_status add_id(emb_buf *out, const emb_model *model, const emb_token *token)
{
    (void)model;
    return emb_buf_addf(out, "%" PRId32, token->id);
}

static emb_status add_text(emb_buf *out, const emb_model *model, const emb_token *token)
{
    size_t length = 0;
    const char *text = emb_token_text(model, token->id, &length);
    return emb_json_write_string(out, text ? text : "", length);
}

static emb_status add_offsets(emb_buf *out, const emb_model *model, const emb_token *token)
{
    (void)model;
    return emb_buf_addf(out, "[%" PRIu32 ",%" PRIu32 "]", token->start, token->end);
}

static emb_status print_json(emb_buf *out, const emb_model *model, const char *text, size_t index,
                             const emb_tokens *tokens)
{
    emb_buf_clear(out);
    emb_status status = emb_buf_addf(out, "{\"index\":%zu,\"text\":", index);
    if (!status)
        status = emb_json_write_string(out, text, strlen(text));
    if (!status)
        status = emb_buf_addf(out, ",\"count\":%zu", tokens->count);
    if (!status)
        status = add_list(out, "ids", model, tokens, add_id);
    if (!status)
        status = add_list(out, "tokens", model, tokens, add_text);
    if (!status)
        status = add_list(out, "offsets", model, tokens, add_offsets);
    if (!status)
        status = emb_buf_add_str(out, "}\n");
    if (!status)
        fwrite(out->data, 1, out->length, stdout);
    return status;
}

static void print_text(const emb_model *model, size_t index, const emb_tokens *tokens)
{
    if (index > 0)
        putchar('\n');
    for (size_t i = 0; i < tokens->count; i++) {
        const emb_token *t = &tokens->data[i];
        char range[32] = "-";
        size_t length = 0;
        const char *text = emb_token_text(model, t->id, &length);
        if (!t->special)
            snprintf(range, sizeof range, "%" PRIu32 "-%" PRIu32, t->start, t->end);
        printf("%7" PRId32 "  %-11s  %.*s\n", t->id, range, (int)length, text ? text : "");
    }
}

static emb_status tokenize(const settings *s, const emb_session *session, emb_buf *out, const char *text,
                           size_t index, emb_error *err)
{
    emb_tokens tokens;
    emb_status status =
        emb_tokenize(session->model, text, strlen(text), !s->no_special, s->max_tokens, &tokens, err);
    if (status)
        return status;
    if (s->format == TEXT)
        print_text(session->model, index, &tokens);
    else if ((status = print_json(out, session->model, text, index, &tokens)))
        status = emb_fail_nomem(err, "output", out->length);
    emb_tokens_free(&tokens);
    return status;
}

static int run(const void *raw, char **arguments, size_t count)
{
    const settings *s = raw;
    emb_session session;
    emb_error err;
    if (emb_session_open(&session, &s->model, true, &err))
        return emb_report_error("tokenize", &err);
    emb_buf out = EMB_BUF_INIT((size_t)1 << 31);
    emb_status status = EMB_OK;
    for (size_t i = 0; i < count && !status; i++)
        status = tokenize(s, &session, &out, arguments[i], i, &err);
    emb_buf_fini(&out);
    emb_session_close(&session);
    return status ? emb_report_error("tokenize", &err) : EMB_EXIT_OK;
}

const emb_command emb_command_tokenize = {
    .name = "tokenize",
    .summary = "show the tokens of texts: ids, tokens and where they are",
    .usage = "tokenize [OPTION...] TEXT...",
    .description = "Offsets are bytes of the text as given; special tokens have 0, 0.",
    .examples = "  embedd tokenize \"hello world\"\n  embedd tokenize --format text \"Straße\"",
    .options = options,
    .settings_size = sizeof(settings),
    .minimum_arguments = 1,
    .maximum_arguments = SIZE_MAX,
    .needs = "a text is",
    .run = run,
};
