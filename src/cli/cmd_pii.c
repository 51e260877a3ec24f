/*
 * cmd_pii.c: `embedd pii`: personal data and secrets in texts, what kind and where. Values are never printed;
 * --redact prints the texts with <KIND> in their place.
 */
#include "cli/command.h"
#include "cli/input.h"

#include "base/error.h"
#include "base/json_write.h"
#include "pii/pii.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct settings {
    const char *kinds, *pattern, *text_key;
    int format, input;
    bool redact;
} settings;

enum { TEXT, JSON, FOUND_AT_ONCE = 64, PATTERN_NAME_MAX = 64 };

static const emb_option options[] = {
    {.name = "kinds",
     .letter = 'k',
     .kind = EMB_OPTION_TEXT,
     .argument = "LIST",
     .default_note = "all",
     .offset = offsetof(settings, kinds),
     .help = "kinds to look for, comma between: email, phone, us_ssn, us_itin, credit_card, iban, "
             "us_routing, passport, "
             "driving_licence, ip_address, mac_address, birth_date, street_address, crypto_wallet, api_key, "
             "private_key"},
    {.name = "pattern",
     .kind = EMB_OPTION_TEXT,
     .argument = "NAME=REGEX",
     .offset = offsetof(settings, pattern),
     .help = "a kind of your own, as a Perl-compatible expression"},
    {.name = "format",
     .letter = 'f',
     .kind = EMB_OPTION_CHOICE,
     .choices = "text|json",
     .fallback = "text",
     .offset = offsetof(settings, format),
     .help =
         "text: a line per finding with line, kind, offset, length and confidence; json: an object per text"},
    {.name = "redact",
     .kind = EMB_OPTION_FLAG,
     .offset = offsetof(settings, redact),
     .help = "print the texts with <KIND> in place of what was found"},
    {.name = "input-format",
     .kind = EMB_OPTION_CHOICE,
     .choices = "auto|lines|jsonl",
     .fallback = "auto",
     .offset = offsetof(settings, input),
     .help = "auto: jsonl for names that end in .jsonl or .ndjson"},
    {.name = "text-key",
     .kind = EMB_OPTION_TEXT,
     .argument = "KEY",
     .fallback = "text",
     .offset = offsetof(settings, text_key),
     .help = "the member of a JSON line that holds the text"},
    EMB_OPTIONS_END,
};

typedef struct work {
    const settings *settings;
    emb_pii *scanner;
    emb_buf out;
    size_t at; /* of the text: redacted so far */
    bool first;
    bool gave_up;
} work;

static emb_status add_redacted(work *w, const emb_record *r, const emb_pii_finding *f)
{
    const char *name = f ? emb_pii_kind_name(w->scanner, f->kind) : "";
    size_t end = f ? f->start : r->length;
    emb_status status = emb_buf_add(&w->out, r->text + w->at, end - w->at);
    if (!status && f) {
        status = emb_buf_add(&w->out, "<", 1);
        for (; *name && !status; name++) {
            char c = *name >= 'a' && *name <= 'z' ? (char)(*name - 32) : *name;
            status = emb_buf_add(&w->out, &c, 1);
        }
        w->at = f->end;
    }
    return status ? status : emb_buf_add(&w->out, f ? ">" : "\n", 1);
}

static emb_status add_finding(work *w, const emb_record *r, const emb_pii_finding *f)
{
    const char *kind = emb_pii_kind_name(w->scanner, f->kind), *by = emb_pii_confidence_name(f->confidence);
    if (w->settings->redact)
        return add_redacted(w, r, f);
    if (w->settings->format == TEXT)
        return emb_buf_addf(&w->out, "%" PRIu64 "\t%s\t%zu\t%zu\t%s\n", r->index + 1, kind, f->start,
                            f->end - f->start, by);
    emb_status status =
        emb_buf_addf(&w->out, "%s{\"kind\":\"%s\",\"offset\":%zu,\"length\":%zu,\"confidence\":\"%s\"}",
                     w->first ? "" : ",", kind, f->start, f->end - f->start, by);
    w->first = false;
    return status;
}

static emb_status scan(work *w, const emb_record *r)
{
    emb_pii_finding found[FOUND_AT_ONCE];
    emb_pii_progress p = {0};
    bool json = w->settings->format == JSON && !w->settings->redact;
    emb_status status = EMB_OK;
    w->at = 0;
    w->first = true;
    emb_buf_clear(&w->out);
    if (json)
        status = emb_buf_addf(&w->out, "{\"line\":%" PRIu64 ",\"findings\":[", r->index + 1);
    while (p.next < r->length && !status) {
        size_t n = emb_pii_scan(w->scanner, r->text, r->length, found, FOUND_AT_ONCE, &p);
        for (size_t i = 0; i < n && !status; i++)
            status = add_finding(w, r, &found[i]);
    }
    w->gave_up = w->gave_up || p.gave_up;
    if (!status && w->settings->redact)
        status = add_redacted(w, r, NULL);
    if (!status && json)
        status = emb_buf_add_str(&w->out, "]}\n");
    if (!status && w->out.length)
        fwrite(w->out.data, 1, w->out.length, stdout);
    return status;
}

static int scan_all(work *w, emb_input *input)
{
    emb_record r;
    emb_error err;
    int exit_status = EMB_EXIT_OK;
    for (;;) {
        emb_input_result got = emb_input_next(input, &r, &err);
        if (got == EMB_INPUT_END || got == EMB_INPUT_STOPPED)
            break;
        if (got == EMB_INPUT_RECORD && scan(w, &r)) {
            emb_fail_nomem(&err, "the answer", w->out.length);
            got = EMB_INPUT_FAILED;
        }
        if (got != EMB_INPUT_RECORD)
            exit_status = emb_report_error("pii", &err);
        if (got == EMB_INPUT_FAILED)
            break;
    }
    if (w->gave_up) {
        emb_report("pii", "the pattern took too many steps on a text and was left out for the rest of it; "
                          "more may be there");
        exit_status = EMB_EXIT_FAILURE;
    }
    return emb_finish_stdout("pii", exit_status);
}

static int run(const void *opaque, char **arguments, size_t count)
{
    const settings *s = opaque;
    char name[PATTERN_NAME_MAX + 1] = "";
    emb_pii_pattern pattern = {name, NULL};
    emb_pii_options o = {.kinds = s->kinds};
    if (s->pattern) {
        size_t n = strcspn(s->pattern, "=");
        if (!s->pattern[n] || n == 0 || n > PATTERN_NAME_MAX)
            return emb_usage_error(&emb_command_pii, "--pattern: is not NAME=REGEX");
        memcpy(name, s->pattern, n);
        pattern.regex = s->pattern + n + 1;
        o.patterns = &pattern;
        o.pattern_count = 1;
    }
    work w = {.settings = s, .out = EMB_BUF_INIT((size_t)1 << 31)};
    emb_input *input = NULL;
    emb_error err;
    emb_input_options io = {.format = (emb_input_format)s->input, .text_key = s->text_key};
    emb_status status = emb_pii_open(&w.scanner, &o, &err);
    if (status == EMB_E_INVALID)
        return emb_usage_error(&emb_command_pii, "--%s: %s", err.where[0] == 'k' ? "kinds" : "pattern",
                               err.message);
    if (!status)
        status = emb_input_open_file(&input, count ? arguments[0] : "-", &io, &err);
    int exit_status = status ? emb_report_error("pii", &err) : scan_all(&w, input);
    if (input)
        emb_input_close(input);
    emb_pii_close(w.scanner);
    emb_buf_fini(&w.out);
    return exit_status;
}

const emb_command emb_command_pii = {
    .name = "pii",
    .summary = "find personal data and secrets in texts: kind and place, never the value",
    .usage = "pii [OPTION...] [FILE|-]",
    .description =
        "Offsets and lengths are bytes of the text. Nothing found is no failure: the exit status is 0.",
    .examples = "  embedd pii notes.txt\n  embedd pii --redact --kinds email,phone - <notes.txt\n"
                "  embedd pii --format json --pattern 'ticket=TCK-[0-9]{6}' texts.jsonl",
    .options = options,
    .settings_size = sizeof(settings),
    .maximum_arguments = 1,
    .run = run,
};
