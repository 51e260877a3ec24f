/*
 * The YAML file of settings, the file of API keys and .env from any bytes. The first byte chooses. What is
 * accepted must be printed as a file that says the same; messages are one line and have their end.
 */
#include "base/error.h"
#include "config/gateway_parts.h"
#include "config/yaml.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good)
{
    if (!good)
        abort();
}

static void check_message(const emb_error *err)
{
    must(err->message[0] && memchr(err->message, 0, sizeof err->message) && !strpbrk(err->message, "\r\n"));
}

static void init(emb_config_state *state)
{
    size_t count;
    const emb_setting *settings = emb_settings(&count);
    memset(state, 0, sizeof *state);
    emb_arena_init(&state->arena);
    for (size_t i = 0; i < count; i++) {
        emb_origin origin = {EMB_SOURCE_DEFAULT, "default", settings[i].path};
        must(!emb_config_set(state, &settings[i], &origin, settings[i].fallback, strlen(settings[i].fallback),
                             NULL));
    }
}

/* What a comment says is not read again, and a list of nothing but comments is empty. */
static void drop_comments(emb_buf *b)
{
    size_t kept = 0;
    for (size_t i = 0, n; i < b->length; i += n) {
        const char *line = b->data + i, *end = memchr(line, '\n', b->length - i);
        n = end ? (size_t)(end - line) + 1 : b->length - i;
        size_t blanks = 0;
        while (blanks < n && line[blanks] == ' ')
            blanks++;
        bool sinks = n == 9 && memcmp(line, "  sinks:\n", 9) == 0;
        if (line[blanks] != '#' && !sinks) {
            memmove(b->data + kept, line, n);
            kept += n;
        }
    }
    b->length = kept;
}

static void try_again(const emb_config_state *first)
{
    emb_buf text = EMB_BUF_INIT(64 << 20), again = EMB_BUF_INIT(64 << 20);
    emb_config_state second;
    emb_error err = {0};
    init(&second);
    must(!emb_config_write_yaml(&first->values, false, &text));
    must(!emb_config_parse_file(&second, "again.yaml", text.data, text.length, &err));
    for (size_t i = 0, count; i < EMB_SETTING_TOTAL; i++) { /* secrets are not printed */
        const emb_setting *s = &emb_settings(&count)[i];
        if (s->secret)
            *(const char **)((char *)&second.values + s->offset) =
                *(const char *const *)((const char *)&first->values + s->offset);
    }
    must(!emb_config_write_yaml(&second.values, false, &again));
    drop_comments(&text);
    drop_comments(&again);
    must(text.length == again.length && memcmp(text.data, again.data, text.length) == 0);
    emb_buf_fini(&text);
    emb_buf_fini(&again);
    emb_arena_fini(&second.arena);
}

/* Files of keys are not opened here: their names are made up. */
static bool names_key_file(const emb_config_state *state)
{
    const emb_drafts *list = &state->gateway.lists[EMB_RECORD_PROVIDER];
    for (size_t i = 0; i < list->count; i++)
        if (((const emb_provider_draft *)list->items[i])->api_key_file)
            return true;
    return false;
}

/* Instances, defaults and references as at the end of a loading; what comes out is complete. */
static emb_status finish(emb_config_state *state, emb_error *err)
{
    static char *const environment[] = {"K=k", NULL};
    emb_variables none = {0};
    emb_buf text = EMB_BUF_INIT(64 << 20);
    emb_status status = names_key_file(state) ? EMB_E_IO : emb_gateway_finish(state, environment, &none, err);
    if (status == EMB_E_IO)
        return EMB_OK;
    const emb_gateway_config *g = &state->values.gateway;
    for (size_t i = 0; i < g->provider_count && !status; i++) {
        must(*g->providers[i].name && *g->providers[i].base_url && g->providers[i].model_count &&
             g->providers[i].api_key);
        for (size_t j = 0; j < g->providers[i].model_count; j++)
            must(*g->providers[i].models[j].name && *g->providers[i].models[j].upstream &&
                 *g->providers[i].models[j].origin);
    }
    if (!status)
        must(!emb_config_write_yaml(&state->values, true, &text) &&
             !emb_config_write_yaml(&state->values, false, &text));
    emb_buf_fini(&text);
    return status;
}

static void parse_settings(const char *text, size_t size)
{
    emb_config_state state;
    emb_error err = {0};
    init(&state);
    emb_status status = emb_config_parse_file(&state, "f.yaml", text, size, &err);
    if (!status) {
        try_again(&state);
        status = emb_config_check(&state, &err);
        if (!status)
            status = finish(&state, &err);
    }
    if (status)
        check_message(&err);
    emb_arena_fini(&state.arena);
}

static size_t walk(const emb_yaml_node *n, int depth)
{
    size_t bytes = 0, count = 0;
    for (const emb_yaml_node *child = depth ? n->first : NULL; child; child = child->next, count++) {
        must((child->key != NULL) == (n->kind == EMB_YAML_MAPPING) && child->line > 0);
        bytes += walk(child, depth - 1);
    }
    must(!depth || count == n->count);
    return bytes + (n->kind == EMB_YAML_SCALAR ? strlen(n->text) : 0);
}

static void parse_tree(const char *text, size_t size)
{
    emb_yaml *yaml;
    emb_error err = {0};
    if (emb_yaml_parse("f.yaml", text, size, &yaml, &err))
        check_message(&err);
    else if (emb_yaml_root(yaml))
        walk(emb_yaml_root(yaml), 3); /* as deep as the readers go */
    emb_yaml_close(yaml);
}

static void parse_dotenv(const char *text, size_t size)
{
    emb_arena arena;
    emb_variables variables;
    emb_error err = {0};
    emb_arena_init(&arena);
    if (emb_dotenv_parse(".env", text, size, &arena, &variables, &err))
        check_message(&err);
    else
        for (size_t i = 0; i < variables.count; i++)
            must(*variables.items[i].name && variables.items[i].value && variables.items[i].line > 0);
    emb_arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char *text = malloc(size - 1 ? size - 1 : 1); /* exactly as large, so that reading beyond it is seen */
    if (!text)
        return 0;
    memcpy(text, data + 1, size - 1);
    if (data[0] == 'e')
        parse_dotenv(text, size - 1);
    else if (data[0] == 't')
        parse_tree(text, size - 1);
    else
        parse_settings(text, size - 1);
    free(text);
    return 0;
}
