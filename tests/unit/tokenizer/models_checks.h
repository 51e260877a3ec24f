/* models_checks.h: building models and stages from JSON in tests, and reading what they give. */
#ifndef EMB_TESTS_MODELS_CHECKS_H
#define EMB_TESTS_MODELS_CHECKS_H

#include "base/arena.h"
#include "base/json.h"
#include "tokenizer/parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef emb_status (*model_parser)(emb_json_value, emb_arena *, const char *, emb_vocab_model **,
                                   emb_error *);

typedef struct model_under_test {
    emb_arena arena;
    emb_vocab_model *model;
    void *scratch;
    emb_token_sink sink;
    char text[4096]; /* what the last tokenize gave: "id:begin-end ..." */
} model_under_test;

static inline emb_status open_model(model_under_test *m, model_parser parse, const char *json, emb_error *err)
{
    emb_json *doc;
    memset(m, 0, sizeof *m);
    emb_arena_init(&m->arena);
    m->sink.with_ranges = true;
    if (emb_json_open(json, strlen(json), "test", &doc, err) != EMB_OK)
        fail_msg("%s", err->message);
    emb_status status = parse(emb_json_root(doc), &m->arena, "test", &m->model, err);
    emb_json_close(doc); /* a model keeps nothing of its document */
    if (status != EMB_OK)
        emb_arena_fini(&m->arena);
    return status;
}

static inline void close_model(model_under_test *m)
{
    m->model->scratch_free(m->scratch);
    if (m->model->release != NULL)
        m->model->release(m->model);
    emb_token_sink_fini(&m->sink);
    emb_arena_fini(&m->arena);
}

static inline const char *tokens_of(model_under_test *m, const char *word)
{
    emb_error err;
    size_t at = 0;
    m->sink.count = 0;
    m->text[0] = 0;
    emb_status status =
        m->model->tokenize(m->model, word, (uint32_t)strlen(word), 100, &m->scratch, &m->sink, &err);
    if (status != EMB_OK) {
        snprintf(m->text, sizeof m->text, "status %d", status);
        return m->text;
    }
    for (size_t i = 0; i < m->sink.count && at < sizeof m->text; i++)
        at += (size_t)snprintf(m->text + at, sizeof m->text - at, "%s%d:%u-%u", i ? " " : "", m->sink.ids[i],
                               m->sink.ranges[i].begin - 100, m->sink.ranges[i].end - 100);
    return m->text;
}

#endif
