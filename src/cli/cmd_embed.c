/*
 * cmd_embed.c: `embedd embed`: options to input, output and pipeline, and what is said at the end.
 *
 * A model of this machine is opened as ever, and nothing of the service with it. The gateway is opened where
 * an option asks for it, or where the model is not here and the configuration has a provider that serves it;
 * the configuration is not even read before the model was looked for.
 */
#include "cli/gate_estimate.h"
#include "cli/pipeline.h"
#include "cli/progress.h"
#include "cli/stop.h"

#include "base/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct settings {
    emb_model_settings model;
    emb_text_settings text;
    emb_gate_settings gate;
    const char *input, *output, *text_key, *id_key;
    int format, input_format, on_error;
    size_t batch_size;
    bool resume, skip_empty, no_text, quiet, estimate;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

static const emb_option options[] = {
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
    {.name = "id-key",
     .kind = EMB_OPTION_TEXT,
     .argument = "KEY",
     .default_note = "id, if there is one",
     .offset = offsetof(settings, id_key),
     .help = "where the id is that is repeated in the output"},
    {.name = "skip-empty",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, skip_empty),
     .help = "leave empty texts out; without it they get a vector too"},
    {.name = "on-error",
     .kind = EMB_OPTION_CHOICE,
     .choices = "stop|skip",
     .fallback = "stop",
     .offset = offsetof(settings, on_error),
     .help = "at a line that cannot be used: stop there, or report it and go on"},
    {.name = "output",
     .letter = 'o',
     .kind = EMB_OPTION_TEXT,
     .argument = "FILE",
     .default_note = "standard output",
     .offset = offsetof(settings, output),
     .help = "write to a file, which appears when it is complete"},
    {.name = "format",
     .letter = 'f',
     .kind = EMB_OPTION_CHOICE,
     .choices = EMB_FORMAT_NAMES,
     .default_note = "json for one text, else jsonl",
     .offset = offsetof(settings, format),
     .help = "json: an object, or an array of them; jsonl: an object per line; npy: a float32 array "
             "for NumPy; base64: little-endian float32, a line per text; text: numbers, a line per text"},
    {.name = "resume",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, resume),
     .help = "with --output and jsonl: keep what is done in FILE.partial when stopped, and go on from there"},
    {.name = "no-text",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, no_text),
     .help = "do not repeat the texts in json and jsonl"},
    EMB_MODEL_NAME_OPTION(settings, model),
    EMB_TEXT_OPTIONS(settings, text),
    EMB_RUN_OPTIONS(settings, model),
    EMB_GATE_OPTIONS(settings, gate),
    {.name = "estimate",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, estimate),
     .help = "through the gateway: print what it would take, and send nothing"},
    {.name = "batch-size",
     .kind = EMB_OPTION_COUNT,
     .argument = "N",
     .maximum = 1 << 20,
     .default_note = "as many as are good",
     .environment = "LOCAL_EMBEDDING_BATCH_SIZE,EMBEDDING_BATCH_SIZE",
     .offset = offsetof(settings, batch_size),
     .help = "most texts handed to the engine at once"},
    {.name = "quiet",
     .letter = 'q',
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, quiet),
     .help = "no progress and no notes, only errors"},
    EMB_OPTIONS_END,
};

static const char *const command_name = "embed";

/* ---- opening ---- */

static int check(const settings *s, size_t count)
{
    const emb_command *c = &emb_command_embed;
    if (s->input && count > 0)
        return emb_usage_error(c, "give texts or --input, not both");
    if (!s->input && count == 0)
        return emb_usage_error(c, "no text; 'embedd embed --input -' reads standard input");
    if (s->resume && !s->output)
        return emb_usage_error(c, "--resume needs --output");
    if (s->estimate && (s->resume || s->output))
        return emb_usage_error(c, "--estimate makes no vectors, so --output and --resume mean nothing");
    if (s->estimate && s->format > EMB_FORMAT_JSON)
        return emb_usage_error(c, "--estimate prints text, or --format json");
    if (s->resume && s->format >= 0 && s->format != EMB_FORMAT_JSONL)
        return emb_usage_error(c, "--resume works with --format jsonl only");
    return emb_text_settings_check(c, &s->text);
}

static emb_status open_input(const settings *s, char **arguments, size_t count, emb_input **out,
                             emb_error *err)
{
    emb_input_options o = {.format = (emb_input_format)s->input_format,
                           .text_key = s->text_key,
                           .id_key = s->id_key,
                           .skip_empty = s->skip_empty};
    return s->input ? emb_input_open_file(out, s->input, &o, err)
                    : emb_input_open_arguments(out, arguments, count, &o, err);
}

static emb_status open_output(const settings *s, emb_format format, emb_sink *sink, emb_error *err)
{
    bool rewinds = format == EMB_FORMAT_NPY;
    if (s->resume)
        return emb_sink_open_partial(sink, s->output, err);
    if (s->output && strcmp(s->output, "-") != 0)
        return emb_sink_open_file(sink, s->output, rewinds, err);
    return emb_sink_open_stdout(sink, rewinds, err);
}

/* ---- what is said ---- */

/* "1 text", "1,234 texts" */
static const char *texts_of(uint64_t count, char out[48])
{
    char number[32];
    snprintf(out, 48, "%s text%s", emb_number_text(count, number), count == 1 ? "" : "s");
    return out;
}

static void note_speed(const emb_pipeline_result *r)
{
    char texts[48], tokens[32], time[32], text_rate[32], token_rate[32];
    emb_report(command_name, "%s, %s tokens in %s: %s texts/s, %s tokens/s", texts_of(r->texts, texts),
               emb_number_text(r->tokens, tokens), emb_seconds_text(r->seconds, time),
               emb_number_text((uint64_t)((double)r->texts / r->seconds), text_rate),
               emb_number_text((uint64_t)((double)r->tokens / r->seconds), token_rate));
}

/* Who answered and what it cost. Said after failures, too: it was spent. */
static void note_gate(emb_gate *gate, const emb_pipeline_result *r)
{
    char texts[48], tokens[32], cached[48], cost[EMB_COST_TEXT];
    uint64_t hits = emb_gate_cached(gate);
    emb_gate_place place;
    if (!emb_gate_where(gate, &place))
        return;
    emb_report(command_name, "%s%s%s, space %s: %s, %s token%s, %s from the cache, %s", place.provider,
               *place.provider ? " / " : "", place.model, place.space, texts_of(r->texts, texts),
               emb_number_text(r->tokens, tokens), r->tokens == 1 ? "" : "s", emb_number_text(hits, cached),
               emb_cost_text(emb_gate_cost_nusd(gate), cost));
}

static void note_end(const settings *s, const emb_session *session, const emb_pipeline_result *r)
{
    char a[48], b[48];
    size_t limit = s->text.max_tokens ? s->text.max_tokens : session ? session->info.max_tokens : 0;
    if (r->resumed > 0)
        emb_report(command_name, "%s %s there already", texts_of(r->resumed, a),
                   r->resumed == 1 ? "was" : "were");
    if (r->truncated > 0)
        emb_report(command_name, "%s of %s had more than %zu tokens and %s cut (--truncate none refuses %s)",
                   emb_number_text(r->truncated, a), texts_of(r->texts, b), limit,
                   r->truncated == 1 ? "was" : "were", r->truncated == 1 ? "it" : "them");
    if (r->skipped > 0)
        emb_report(command_name, "%s %s skipped", texts_of(r->skipped, a), r->skipped == 1 ? "was" : "were");
    if (s->output && r->seconds >= 1)
        note_speed(r);
}

static int stopped(const settings *s, const emb_pipeline_result *r)
{
    char a[48];
    const char *done = texts_of(r->texts + r->resumed, a);
    if (s->resume)
        emb_report(command_name, "stopped by SIG%s after %s; the same command goes on from there",
                   emb_stop_signal_name(), done);
    else if (s->output)
        emb_report(command_name, "stopped by SIG%s; %s was not written", emb_stop_signal_name(), s->output);
    else
        emb_report(command_name, "stopped by SIG%s after %s", emb_stop_signal_name(), done);
    return EMB_EXIT_FAILURE;
}

static int failed(const settings *s, const emb_pipeline_result *r, const emb_error *err)
{
    char a[48];
    uint64_t kept = r->texts + r->resumed;
    emb_report_error(command_name, err);
    if (s->resume && kept > 0 && err->code != EMB_E_INVALID)
        emb_report(command_name, "%s %s kept in %s.partial; the same command goes on from there",
                   texts_of(kept, a), kept == 1 ? "is" : "are", s->output);
    return EMB_EXIT_FAILURE;
}

/* ---- running ---- */

/* What the texts go through: one of the two. */
typedef struct route {
    emb_session session;
    emb_gate *gate; /* NULL: the session */
} route;

static void close_route(route *r)
{
    if (r->gate)
        emb_gate_close(r->gate);
    else
        emb_session_close(&r->session);
}

static void describe_model(const settings *s, const route *r, emb_formatter *formatter)
{
    if (r->gate)
        return; /* the first answer tells */
    formatter->model = r->session.info.name;
    formatter->dimension = s->text.dimensions ? s->text.dimensions : r->session.info.dimension;
}

static int run_pipeline(const settings *s, route *r, emb_input *input, emb_sink *sink, emb_format format,
                        bool array)
{
    emb_embed_options embed = EMB_EMBED_OPTIONS_INIT;
    emb_pipeline_result result;
    emb_error err;
    if (!r->gate)
        emb_session_apply(&r->session, &s->text, &embed);
    embed.priority = s->input ? EMB_PRIORITY_BULK : EMB_PRIORITY_INTERACTIVE;
    emb_formatter formatter = {.format = format, .array = array, .without_text = s->no_text};
    describe_model(s, r, &formatter);
    emb_status status = emb_pipeline_run(&(emb_pipeline_options){.command = command_name,
                                                                 .session = r->gate ? NULL : &r->session,
                                                                 .gate = r->gate,
                                                                 .input = input,
                                                                 .sink = sink,
                                                                 .formatter = &formatter,
                                                                 .embed = &embed,
                                                                 .batch_texts = s->batch_size,
                                                                 .skip_bad = s->on_error == 1,
                                                                 .quiet = s->quiet},
                                         &result, &err);
    if (status)
        emb_sink_abort(sink);
    else
        status = emb_sink_commit(sink, &err);
    if (r->gate && !s->quiet)
        note_gate(r->gate, &result);
    if (status == EMB_E_CANCELLED && emb_stop_signal())
        return stopped(s, &result);
    if (status)
        return failed(s, &result, &err);
    if (!s->quiet)
        note_end(s, r->gate ? NULL : &r->session, &result);
    return EMB_EXIT_OK;
}

static emb_status check_dimensions(const settings *s, const emb_session *session, emb_error *err)
{
    if (s->text.dimensions <= session->info.dimension)
        return EMB_OK;
    return emb_fail(err, EMB_E_INVALID, NULL, "--dimensions %zu is more than the %zu that %s has",
                    s->text.dimensions, session->info.dimension, session->info.name);
}

/* -1, or the exit status. */
static int open_route(const settings *s, route *r)
{
    emb_error err;
    memset(r, 0, sizeof *r);
    int code = emb_gate_or_session(&emb_command_embed, &s->gate, &s->model, &s->text, s->input != NULL,
                                   s->estimate ? "--estimate" : NULL, &r->gate, &r->session);
    if (code >= 0 || r->gate || check_dimensions(s, &r->session, &err) == EMB_OK)
        return code;
    emb_session_close(&r->session);
    return emb_report_error(command_name, &err);
}

static int run_open(const settings *s, route *r, emb_input *input, bool single)
{
    emb_sink sink;
    emb_error err;
    if (s->estimate)
        return emb_gate_estimate_run(command_name, r->gate, input, s->on_error == 1,
                                     s->format == EMB_FORMAT_JSON);
    emb_format format = s->format >= 0         ? (emb_format)s->format
                        : single && !s->resume ? EMB_FORMAT_JSON
                                               : EMB_FORMAT_JSONL;
    if (open_output(s, format, &sink, &err))
        return emb_report_error(command_name, &err);
    return run_pipeline(s, r, input, &sink, format, !single);
}

static int run(const void *raw, char **arguments, size_t count)
{
    const settings *s = raw;
    route r;
    emb_input *input;
    emb_error err;
    int code = check(s, count);
    if (code >= 0)
        return code;
    emb_stop_install();
    if (open_input(s, arguments, count, &input, &err))
        return emb_report_error(command_name, &err);
    code = open_route(s, &r);
    if (code < 0) {
        code = run_open(s, &r, input, count == 1);
        close_route(&r);
    }
    emb_input_close(input);
    emb_stop_die();
    return code;
}

const emb_command emb_command_embed = {
    .name = "embed",
    .summary = "turn texts into vectors",
    .usage = "embed [OPTION...] TEXT...\nembed [OPTION...] --input FILE|-",
    .description =
        "With --provider, --route or --space, or a model that is not here and that a configured\n"
        "provider serves, the texts go through the gateway, as requests to the server do: planner,\n"
        "privacy, budgets, breakers, retries, cache and ledger are the same. The first text decides\n"
        "the space and all others are asked for in it, so that an output never mixes two. At the\n"
        "end the provider, the space and what it cost are told.",
    .examples = "  embedd embed \"hello world\"\n"
                "  embedd embed --input lines.txt --format npy --output vectors.npy\n"
                "  embedd embed --input data.jsonl --output vectors.jsonl --resume\n"
                "  tail -f log.txt | embedd embed --input -\n"
                "  embedd embed --provider openai --input data.jsonl --estimate\n"
                "  embedd embed --provider openai --input data.jsonl -o vectors.jsonl --resume --max-cost 2",
    .options = options,
    .settings_size = sizeof(settings),
    .maximum_arguments = SIZE_MAX,
    .needs = "a text is",
    .run = run,
};
