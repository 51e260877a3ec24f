/*
 * cmd_similarity.c: `embedd similarity`: cosines between texts, by a model of this machine or through the
 * gateway.
 */
#include "cli/gate.h"

#include "base/error.h"
#include "base/json_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    emb_model_settings model;
    emb_text_settings text;
    emb_gate_settings gate;
    int mode, format;
} settings;

_Static_assert(sizeof(settings) <= EMB_SETTINGS_MAX, "room for the settings");

enum { MATRIX, FIRST, SEARCH };
enum { TEXT, JSON };

static const emb_option options[] = {
    {.name = "mode",
     .kind = EMB_OPTION_CHOICE,
     .choices = "matrix|first|search",
     .fallback = "matrix",
     .offset = offsetof(settings, mode),
     .help = "of more than two texts. matrix: each with each; first: the first with the others, best "
             "first; search: the same, the first as a query and the others as documents"},
    {.name = "format",
     .letter = 'f',
     .kind = EMB_OPTION_CHOICE,
     .choices = "text|json",
     .fallback = "text",
     .offset = offsetof(settings, format),
     .help = "how to print it"},
    EMB_MODEL_NAME_OPTION(settings, model),
    EMB_TEXT_OPTIONS(settings, text),
    EMB_RUN_OPTIONS(settings, model),
    EMB_GATE_OPTIONS(settings, gate),
    EMB_OPTIONS_END,
};

typedef struct comparison {
    char **texts;
    size_t count, dimension;
    float *vectors;
    emb_gate *gate;            /* NULL: the session's model */
    const char *model, *space; /* space: NULL: of the session */
} comparison;

static double cosine(const comparison *c, size_t i, size_t j)
{
    return emb_cosine(c->vectors + i * c->dimension, c->vectors + j * c->dimension, c->dimension);
}

/* ---- text ---- */

static void print_matrix(const comparison *c)
{
    for (size_t i = 0; i < c->count; i++)
        for (size_t j = 0; j < c->count; j++)
            printf("%9.6f%c", cosine(c, i, j), j + 1 < c->count ? ' ' : '\n');
}

typedef struct ranked {
    double score;
    size_t index;
} ranked;

static int by_score(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

static ranked *rank(const comparison *c)
{
    ranked *list = malloc(c->count * sizeof *list);
    for (size_t i = 1; i < c->count && list; i++)
        list[i - 1] = (ranked){cosine(c, 0, i), i};
    if (list)
        qsort(list, c->count - 1, sizeof *list, by_score);
    return list;
}

static emb_status print_ranking(const comparison *c, emb_error *err)
{
    ranked *list = rank(c);
    if (!list)
        return emb_fail_nomem(err, "ranking", c->count * sizeof *list);
    for (size_t i = 0; i + 1 < c->count; i++)
        printf("%9.6f  %s\n", list[i].score, c->texts[list[i].index]);
    free(list);
    return EMB_OK;
}

/* ---- JSON ---- */

static emb_status add_ranking(const comparison *c, emb_buf *out)
{
    ranked *list = rank(c);
    emb_status status = list ? emb_buf_add_str(out, "\"ranking\":[") : EMB_E_NOMEM;
    for (size_t i = 0; i + 1 < c->count && !status; i++) {
        const char *text = c->texts[list[i].index];
        status = emb_buf_addf(out, "%s{\"index\":%zu,\"similarity\":%.9g,\"text\":", i ? "," : "",
                              list[i].index, list[i].score);
        if (!status)
            status = emb_json_write_string(out, text, strlen(text));
        if (!status)
            status = emb_buf_add(out, "}", 1);
    }
    free(list);
    return status ? status : emb_buf_add(out, "]", 1);
}

static emb_status add_matrix(const comparison *c, emb_buf *out)
{
    emb_status status = emb_buf_add_str(out, "\"similarity\":[");
    for (size_t i = 0; i < c->count && !status; i++)
        for (size_t j = 0; j < c->count && !status; j++)
            status = emb_buf_addf(out, "%s%.9g%s",
                                  j   ? ","
                                  : i ? ",["
                                      : "[",
                                  cosine(c, i, j), j + 1 < c->count ? "" : "]");
    return status ? status : emb_buf_add(out, "]", 1);
}

static emb_status print_json(const settings *s, const comparison *c, emb_error *err)
{
    emb_buf out = EMB_BUF_INIT((size_t)1 << 31);
    emb_status status = emb_buf_add_str(&out, "{\"model\":");
    if (!status)
        status = emb_json_write_string(&out, c->model, strlen(c->model));
    if (!status && c->space)
        status = emb_buf_add_str(&out, ",\"space\":");
    if (!status && c->space)
        status = emb_json_write_string(&out, c->space, strlen(c->space));
    if (!status)
        status = emb_buf_add(&out, ",", 1);
    if (!status && c->count == 2)
        status = emb_buf_addf(&out, "\"similarity\":%.9g", cosine(c, 0, 1));
    else if (!status)
        status = s->mode == MATRIX ? add_matrix(c, &out) : add_ranking(c, &out);
    if (!status)
        status = emb_buf_add_str(&out, "}\n");
    if (!status)
        fwrite(out.data, 1, out.length, stdout);
    else
        status = emb_fail_nomem(err, "output", out.length);
    emb_buf_fini(&out);
    return status;
}

/* ---- the command ---- */

static emb_status make_vectors(comparison *c, emb_error *err)
{
    c->vectors = c->dimension <= SIZE_MAX / sizeof(float) / c->count
                     ? malloc(c->count * c->dimension * sizeof(float))
                     : NULL;
    return c->vectors ? EMB_OK : emb_fail_nomem(err, "vectors", c->count * sizeof(float));
}

/* In search the first text is the query; otherwise all go the same way. */
static emb_status embed_here(const settings *s, const emb_session *session, const emb_text *texts,
                             size_t head, comparison *c, emb_error *err)
{
    emb_embed_options o = EMB_EMBED_OPTIONS_INIT;
    emb_session_apply(session, &s->text, &o);
    c->model = session->info.name;
    c->dimension = o.dimensions ? o.dimensions : session->info.dimension;
    emb_status status = make_vectors(c, err);
    if (s->mode == SEARCH)
        emb_session_set_role(session, EMB_ROLE_QUERY, &o);
    if (!status)
        status = emb_embed(session->model, texts, head, &o, c->vectors, c->count * c->dimension, NULL, err);
    if (s->mode == SEARCH)
        emb_session_set_role(session, EMB_ROLE_DOCUMENT, &o);
    if (!status && head < c->count)
        status = emb_embed(session->model, texts + head, c->count - head, &o,
                           c->vectors + head * c->dimension, (c->count - head) * c->dimension, NULL, err);
    return status;
}

static emb_status embed_range(comparison *c, const emb_text *texts, size_t from, size_t count,
                              const emb_role *role, emb_error *err)
{
    emb_arena arena;
    emb_answer answer;
    emb_arena_init(&arena);
    emb_status status = emb_gate_embed(c->gate, texts + from, count, role, &arena, &answer, err);
    if (!status) {
        c->dimension = answer.dimension;
        if (!c->vectors)
            status = make_vectors(c, err);
        if (!status)
            memcpy(c->vectors + from * c->dimension, answer.vectors,
                   count * c->dimension * sizeof *answer.vectors);
        emb_answer_done(&answer);
    }
    emb_arena_fini(&arena);
    return status;
}

static emb_status embed_through(const settings *s, const emb_text *texts, size_t head, comparison *c,
                                emb_error *err)
{
    static const emb_role query = EMB_ROLE_QUERY, document = EMB_ROLE_DOCUMENT;
    bool search = s->mode == SEARCH;
    emb_gate_place place;
    emb_status status = embed_range(c, texts, 0, head, search ? &query : NULL, err);
    if (!status && head < c->count)
        status = embed_range(c, texts, head, c->count - head, search ? &document : NULL, err);
    if (!status && emb_gate_where(c->gate, &place)) {
        char cost[EMB_COST_TEXT];
        c->model = place.model;
        c->space = place.space;
        emb_report("similarity", "%s / %s, space %s, %s", place.provider, place.model, place.space,
                   emb_cost_text(emb_gate_cost_nusd(c->gate), cost));
    }
    return status;
}

static emb_status embed(const settings *s, const emb_session *session, comparison *c, emb_error *err)
{
    size_t head = s->mode == SEARCH ? 1 : c->count;
    emb_text *texts = calloc(c->count, sizeof *texts);
    if (!texts)
        return emb_fail_nomem(err, "texts", c->count * sizeof *texts);
    for (size_t i = 0; i < c->count; i++)
        texts[i] = (emb_text){c->texts[i], strlen(c->texts[i])};
    emb_status status =
        c->gate ? embed_through(s, texts, head, c, err) : embed_here(s, session, texts, head, c, err);
    free(texts);
    return status;
}

static emb_status print(const settings *s, const comparison *c, emb_error *err)
{
    if (s->format == JSON)
        return print_json(s, c, err);
    if (c->count == 2)
        printf("%.6f\n", cosine(c, 0, 1));
    else if (s->mode == MATRIX)
        print_matrix(c);
    else
        return print_ranking(c, err);
    return EMB_OK;
}

static int run(const void *raw, char **arguments, size_t count)
{
    const settings *s = raw;
    const emb_command *command = &emb_command_similarity;
    emb_session session;
    emb_error err;
    comparison c = {.texts = arguments, .count = count};
    int code = emb_text_settings_check(command, &s->text);
    if (code >= 0)
        return code;
    if (s->mode == SEARCH && (s->text.query || s->text.document || s->text.prompt || s->text.prompt_name))
        return emb_usage_error(command, "--mode search chooses the prompts itself");
    code = emb_gate_or_session(command, &s->gate, &s->model, &s->text, false, NULL, &c.gate, &session);
    if (code >= 0)
        return code;
    emb_status status = embed(s, &session, &c, &err);
    if (!status)
        status = print(s, &c, &err);
    free(c.vectors);
    if (c.gate)
        emb_gate_close(c.gate);
    else
        emb_session_close(&session);
    return status ? emb_report_error("similarity", &err) : EMB_EXIT_OK;
}

const emb_command emb_command_similarity = {
    .name = "similarity",
    .summary = "how alike texts are: the cosine of their vectors",
    .usage = "similarity [OPTION...] TEXT TEXT...",
    .examples = "  embedd similarity \"a cat sleeps\" \"a kitten is napping\"\n"
                "  embedd similarity --mode search \"red planet\" \"Mars is red\" \"Venus is hot\"",
    .options = options,
    .settings_size = sizeof(settings),
    .minimum_arguments = 2,
    .maximum_arguments = SIZE_MAX,
    .needs = "two texts are",
    .run = run,
};
