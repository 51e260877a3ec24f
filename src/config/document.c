/*
 * document.c: the table and a configuration as documents: YAML that loads again, a JSON schema, a page of
 * Markdown.
 *
 * The printed YAML is a complete file: every setting stands in it, so that what it says does not depend on
 * later defaults. Secrets are left out as comments; a file made of it gets them from the environment as
 * before. Texts are quoted unless nobody could read them as anything else, since other readers of YAML take
 * yes, 1.2 or null for something of their own.
 *
 * Structured sections (instances, limits and so on) come from gateway_document.c, below the settings of their
 * section.
 *
 * Two steps write everything: a value for a human (value.c) and a JSON string, which is also YAML's
 * double-quoted form.
 */
#include "config/gateway_parts.h"
#include "config/writer.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static size_t section_length(const emb_setting *s)
{
    return strcspn(s->path, ".");
}

static bool begins_section(const emb_setting *settings, size_t i)
{
    size_t n = section_length(&settings[i]);
    return i == 0 || strncmp(settings[i].path, settings[i - 1].path, n + 1) != 0;
}

static const char *name_of(const emb_setting *s)
{
    return s->path + section_length(s) + 1;
}

/* ---- YAML ---- */

/* A word that every YAML reader takes for a text. */
static bool is_plain(const char *text)
{
    static const char *const others[] = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"};
    size_t length = strlen(text);
    if (!isalpha((unsigned char)*text) && *text != '/')
        return false;
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("/._-", text[i]))
            return false;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcasecmp(text, others[i]) == 0)
            return false;
    return true;
}

void emb_add_yaml_text(emb_writer *w, const char *text)
{
    if (is_plain(text))
        emb_add(w, text);
    else
        emb_add_string(w, text);
}

static bool is_textual(const emb_setting *s)
{
    return s->kind == EMB_SETTING_TEXT || s->kind == EMB_SETTING_CHOICE;
}

static void write_setting(emb_writer *w, const emb_config *config, const emb_setting *s, bool with_origin)
{
    emb_buf value = EMB_BUF_INIT(EMB_CONFIG_VALUE_MAX);
    w->status = emb_setting_write(config, s, &value);
    const char *text = w->status ? NULL : emb_buf_cstr(&value);
    if (!text && !w->status)
        w->status = EMB_E_NOMEM;
    if (!w->status) {
        bool hidden = s->secret && *text;
        emb_add(w, hidden ? "  # " : "  ");
        emb_add(w, name_of(s));
        emb_add(w, ": ");
        if (!hidden && is_textual(s))
            emb_add_yaml_text(w, text);
        else
            emb_add(w, text);
        if (with_origin) {
            emb_add(w, "  # ");
            emb_add(w, emb_setting_origin(config, s));
        }
        emb_add(w, "\n");
    }
    emb_buf_fini(&value);
}

/* The structured sections that belong to the one of a setting. */
static void write_lists(emb_writer *w, const emb_config *config, const emb_setting *s, bool with_origin)
{
    emb_gateway_write_yaml(w, config, s->path, section_length(s), with_origin);
}

emb_status emb_config_write_yaml(const emb_config *config, bool with_origin, emb_buf *out)
{
    emb_writer w = {.out = out};
    size_t count;
    const emb_setting *settings = emb_settings(&count);
    for (size_t i = 0; i < count && !w.status; i++) {
        if (begins_section(settings, i)) {
            if (i)
                write_lists(&w, config, &settings[i - 1], with_origin);
            emb_add(&w, i ? "\n" : "");
            emb_add_bytes(&w, settings[i].path, section_length(&settings[i]));
            emb_add(&w, ":\n");
        }
        if (!w.status)
            write_setting(&w, config, &settings[i], with_origin);
    }
    write_lists(&w, config, &settings[count - 1], with_origin);
    if (emb_gateway_has_section(config, "rollout", 7)) { /* which has no settings */
        emb_add(&w, "\nrollout:\n");
        emb_gateway_write_yaml(&w, config, "rollout", 7, with_origin);
    }
    return w.status;
}

/* ---- JSON schema ---- */

static void write_range(emb_writer *w, const emb_setting *s)
{
    char text[80];
    if (s->maximum > 0) {
        snprintf(text, sizeof text, ",\"minimum\":%.0f,\"maximum\":%.0f", s->minimum, s->maximum);
        emb_add(w, text);
    }
}

static void write_choices(emb_writer *w, const char *choices)
{
    emb_add(w, "\"enum\":[");
    for (const char *c = choices; *c;) {
        size_t n = strcspn(c, "|");
        emb_add(w, c == choices ? "\"" : ",\"");
        emb_add_bytes(w, c, n);
        emb_add(w, "\"");
        c += n + (c[n] == '|');
    }
    emb_add(w, "]");
}

void emb_add_schema_type(emb_writer *w, const emb_setting *s)
{
    switch (s->kind) {
    case EMB_SETTING_BOOL:
        emb_add(w, "\"type\":\"boolean\"");
        return;
    case EMB_SETTING_COUNT:
        emb_add(w, "\"type\":\"integer\"");
        write_range(w, s);
        return;
    case EMB_SETTING_REAL:
        emb_add(w, "\"type\":\"number\"");
        write_range(w, s);
        return;
    case EMB_SETTING_BYTES:
        emb_add(w, "\"anyOf\":[{\"type\":\"integer\"");
        write_range(w, s);
        emb_add(w, "},{\"type\":\"string\",\"pattern\":\"^[0-9]+([.][0-9]+)? ?[KkMmGgTt][Ii]?[Bb]$\"}]");
        return;
    case EMB_SETTING_CHOICE:
        write_choices(w, s->choices);
        return;
    case EMB_SETTING_TEXT:
        emb_add(w,
                s->separator
                    ? "\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":{\"type\":\"string\"}}]"
                    : "\"type\":\"string\"");
        return;
    }
}

/* Numbers and booleans as they are, texts in quotes. */
void emb_add_schema_default(emb_writer *w, const emb_setting *s)
{
    bool number = s->kind == EMB_SETTING_BOOL || s->kind == EMB_SETTING_COUNT || s->kind == EMB_SETTING_REAL;
    emb_add(w, ",\"default\":");
    if (number || (s->kind == EMB_SETTING_BYTES && strcmp(s->fallback, "0") == 0))
        emb_add(w, s->fallback);
    else
        emb_add_string(w, s->fallback);
}

emb_status emb_config_write_schema(emb_buf *out)
{
    emb_writer w = {.out = out};
    size_t count;
    const emb_setting *settings = emb_settings(&count);
    emb_add(&w, "{\n\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\n\"title\":\"embedd "
                "configuration\",\n"
                "\"type\":\"object\",\n\"additionalProperties\":false,\n\"properties\":{");
    for (size_t i = 0; i < count; i++) {
        if (begins_section(settings, i)) {
            if (i)
                emb_gateway_write_schema(&w, settings[i - 1].path, section_length(&settings[i - 1]));
            emb_add(&w, i ? "\n}},\n\"" : "\n\"");
            emb_add_bytes(&w, settings[i].path, section_length(&settings[i]));
            emb_add(&w, "\":{\"type\":[\"object\",\"null\"],\"additionalProperties\":false,\"properties\":{");
        } else {
            emb_add(&w, ",");
        }
        emb_add(&w, "\n  \"");
        emb_add(&w, name_of(&settings[i]));
        emb_add(&w, "\":{");
        emb_add_schema_type(&w, &settings[i]);
        emb_add_schema_default(&w, &settings[i]);
        emb_add(&w, ",\"description\":");
        emb_add_string(&w, settings[i].help);
        emb_add(&w, "}");
    }
    emb_gateway_write_schema(&w, settings[count - 1].path, section_length(&settings[count - 1]));
    emb_add(
        &w,
        "\n}},\n\"rollout\":{\"type\":[\"object\",\"null\"],\"additionalProperties\":false,\"properties\":{");
    emb_gateway_write_schema(&w, "rollout", 7);
    emb_add(&w, "\n}}\n}\n}\n");
    return w.status;
}

/* ---- Markdown ---- */

/* In a cell of a table: a bar ends it, and * would begin emphasis. */
void emb_add_cell(emb_writer *w, const char *text)
{
    for (; *text; text++) {
        if (strchr("|*<", *text))
            emb_add(w, "\\");
        emb_add_bytes(w, text, 1);
    }
}

/* "`a`, `b`" of names between `separator`. */
static void add_names(emb_writer *w, const char *names, char separator)
{
    const char stop[] = {separator, 0};
    for (const char *n = names; *n;) {
        size_t length = strcspn(n, stop);
        emb_add(w, n == names ? "`" : ", `");
        emb_add_bytes(w, n, length);
        emb_add(w, "`");
        n += length + (n[length] != 0);
    }
}

static void write_row(emb_writer *w, const emb_setting *s)
{
    char range[EMB_RANGE_MAX];
    emb_add(w, "| `");
    emb_add(w, name_of(s));
    emb_add(w, "` | ");
    add_names(w, s->environment, ',');
    emb_add(w, " | ");
    if (*s->fallback) {
        emb_add(w, "`");
        emb_add(w, s->fallback);
        emb_add(w, "`");
    }
    emb_add(w, " | ");
    if (s->kind == EMB_SETTING_CHOICE)
        add_names(w, s->choices, '|');
    else if (s->kind == EMB_SETTING_BOOL)
        emb_add(w, "`true`, `false`");
    else
        emb_add(w, s->separator ? "list" : *emb_setting_range(s, range) ? range : "text");
    emb_add(w, " | ");
    emb_add_cell(w, s->help);
    emb_add(w, s->live ? " *(live)*" : "");
    emb_add(w, s->secret ? " *(secret)*" : "");
    emb_add(w, s->future ? " *(no effect yet)*" : "");
    emb_add(w, " |\n");
}

static const char page_head[] = "# Configuration\n"
                                "\n"
                                "<!-- Made by `embedd config docs` from the table in src/config/settings.h; "
                                "a test compares the two. -->\n"
                                "\n"
                                "Every setting can stand in a YAML file, in the environment and on the "
                                "command line. Order, the last wins:\n"
                                "built-in default, YAML file (`--config FILE`, or `EMBEDD_CONFIG`), `.env` "
                                "in the working directory, environment,\n"
                                "flag. `embedd config print` shows what holds and where each value comes "
                                "from, `embedd config check` what is wrong,\n"
                                "`embedd config schema` is a JSON schema of the file for editors.\n"
                                "\n"
                                "A key that is not known, or a value that cannot be used, ends the program "
                                "with status 2 before it does anything,\n"
                                "and the message names place, setting, value, reason and what is allowed.\n"
                                "\n"
                                "**The file.** Sections hold settings; `server.listen: …` on one line is the "
                                "same as `listen` in `server`. Lists may\n"
                                "be written as texts with their separator or as YAML lists. The file is "
                                "UTF-8, one document, at most 1 MiB.\n"
                                "\n"
                                "```yaml\n"
                                "server:\n"
                                "  listen: [\"127.0.0.1:8000\", \"unix:/run/embedd/embedd.sock\"]\n"
                                "  max_body_bytes: 32MiB\n"
                                "models:\n"
                                "  default: bge-small-en-v1.5\n"
                                "  allowed: [\"bge-*\", all-MiniLM-L6-v2]\n"
                                "log.level: info,json\n"
                                "```\n"
                                "\n"
                                "**The environment.** Of several names for a setting the first that is set "
                                "and not empty counts. `.env` holds\n"
                                "`NAME=value` lines, with quotes, `export` and comments; a variable in the "
                                "environment, even an empty one, hides its\n"
                                "namesake there. Variables that begin with `EMBEDD_` and are not known are "
                                "reported by `embedd config check` and at\n"
                                "start.\n"
                                "\n"
                                "**Flags.** The flag of `server.max_body_bytes` is "
                                "`--server-max-body-bytes`. `embedd serve` and every command that\n"
                                "works with the service's cache or models takes them all.\n"
                                "\n"
                                "**Values.** Sizes are bytes or carry a unit: kB, MB, GB, TB (thousands), "
                                "KiB, MiB, GiB, TiB (1024s), also `1.5GiB`.\n"
                                "Switches are `true`, `yes`, `on`, `1` and their opposites.\n"
                                "\n"
                                "**Reload.** `SIGHUP` reads file and `.env` again. Settings marked *(live)* "
                                "take effect at once; a change of\n"
                                "another is reported and waits for a restart. A configuration that is not "
                                "good is refused as a whole, and the one\n"
                                "in force stays. Values marked *(secret)* are never printed or logged. Those "
                                "marked *(no effect yet)* are checked,\n"
                                "and wait for a part of the program that this version does not have.\n";

static const char page_tail[] =
    "\n## The file of API keys\n"
    "`access.api_keys_file` names a YAML file with the SHA-256 of each key, which `embedd key` makes:\n"
    "\n"
    "```yaml\n"
    "keys:\n"
    "  - name: search                # in logs and metrics; a word of up to 64 characters\n"
    "    sha256: 9f86d081884c7d65…   # 64 digits\n"
    "    requests_per_minute: 600    # optional, as all that follow\n"
    "    burst: 60                   # requests at once after a pause; default: a tenth of a minute's\n"
    "    tokens_per_minute: 100000   # counted when a request is done; over it, the next ones wait\n"
    "    models: [all-MiniLM-L6-v2, \"bge-*\"]\n"
    "    rights: [use, read]         # a word or a list; default: access.api_keys_file_rights\n"
    "```\n"
    "\n"
    "Names and keys are unique, 10,000 at most. A file without keys lets nobody in. It is read again on "
    "`SIGHUP`; a bad\n"
    "one is refused and the keys in force stay, and limits go on where they were for keys that keep their "
    "name. A file\n"
    "that others can read, or its group write, gives a warning: `chmod 0640` is enough.\n";

emb_status emb_config_write_markdown(emb_buf *out)
{
    emb_writer w = {.out = out};
    size_t count;
    const emb_setting *settings = emb_settings(&count);
    emb_add(&w, page_head);
    for (size_t i = 0; i < count; i++) {
        if (begins_section(settings, i)) {
            emb_add(&w, "\n## ");
            emb_add_bytes(&w, settings[i].path, section_length(&settings[i]));
            emb_add(&w, "\n| setting | variable | default | allowed | |\n|---|---|---|---|---|\n");
        }
        write_row(&w, &settings[i]);
    }
    emb_gateway_write_markdown(&w);
    emb_add(&w, page_tail);
    return w.status;
}
