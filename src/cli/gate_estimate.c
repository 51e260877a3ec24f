/*
 * gate_estimate.c: see gate_estimate.h.
 *
 * The place that the first slice would go to counts for all of them, as in a run. Prices are added up without
 * what a request costs, which depends on how the run cuts its calls; for the few providers that have such a
 * price (Hugging Face) the slices here stand for those calls.
 */
#include "cli/gate_estimate.h"

#include "base/error.h"
#include "base/json_write.h"
#include "cli/progress.h"
#include "cli/slice.h"
#include "cli/stop.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SLICE_TEXTS = 512, SLICE_BYTES = 256 << 10 };

typedef struct total {
    const char *provider, *model;
    emb_estimate first; /* what is told of the place */
    uint64_t texts, private_texts, tokens, cost_nusd, skipped;
} total;

static emb_status add(total *t, emb_gate *gate, emb_slice *slice, emb_arena *names, emb_error *err)
{
    emb_estimate e;
    emb_arena arena;
    emb_status status = slice->count ? emb_slice_prepare(slice, 0, err) : EMB_OK;
    if (status || !slice->count)
        return status;
    emb_arena_init(&arena);
    status = emb_gate_estimate(gate, slice->texts, slice->count, &arena, &e, err);
    if (!status && !t->model) {
        t->first = e;
        t->provider = emb_arena_strndup(names, e.provider, strlen(e.provider));
        t->model = emb_arena_strndup(names, e.model, strlen(e.model));
        if (!t->provider || !t->model)
            status = emb_fail_nomem(err, "names of a provider", 0);
    }
    if (!status) {
        t->texts += e.texts;
        t->private_texts += e.private_texts;
        t->tokens += e.tokens;
        t->cost_nusd += e.cost_nusd;
    }
    emb_arena_fini(&arena);
    return status;
}

static emb_status skip(const char *command, const emb_input *input, const emb_record *record, total *t,
                       bool skip_bad, emb_error *err)
{
    emb_error_context(err, "%s:%" PRIu64, emb_input_name(input), record->index + 1);
    err->where[0] = 0;
    if (!skip_bad)
        return err->code;
    emb_report(command, "%s; skipped", err->message);
    t->skipped++;
    return EMB_OK;
}

static emb_status read_all(const char *command, emb_gate *gate, emb_input *input, bool skip_bad, total *t,
                           emb_slice *slice, emb_arena *names, emb_error *err)
{
    for (;;) {
        emb_record record;
        emb_status status = EMB_OK;
        switch (emb_input_next(input, &record, err)) {
        case EMB_INPUT_RECORD:
            status = emb_slice_add(slice, &record, err);
            break;
        case EMB_INPUT_END:
            return add(t, gate, slice, names, err);
        case EMB_INPUT_BAD:
            status = skip(command, input, &record, t, skip_bad, err);
            break;
        case EMB_INPUT_STOPPED:
            return emb_fail(err, EMB_E_CANCELLED, NULL, "stopped");
        case EMB_INPUT_FAILED:
            return err->code;
        }
        if (!status && (slice->count == SLICE_TEXTS || slice->bytes.length >= SLICE_BYTES)) {
            status = add(t, gate, slice, names, err);
            emb_slice_clear(slice);
        }
        if (status)
            return status;
    }
}

static void print_text(const total *t)
{
    char texts[32], tokens[32], number[32], cost[EMB_COST_TEXT];
    printf("%s / %s\n", t->provider, t->model);
    printf("texts     %s\n", emb_number_text(t->texts, texts));
    if (t->private_texts)
        printf("private   %s texts with personal data would be refused\n",
               emb_number_text(t->private_texts, number));
    if (t->skipped)
        printf("skipped   %s lines that cannot be used\n", emb_number_text(t->skipped, number));
    printf("tokens    %s%s\n", emb_number_text(t->tokens, tokens),
           t->first.is_exact ? "" : "   estimated from bytes");
    if (t->first.is_priced)
        printf("cost      %s   if nothing is in the cache\n", emb_cost_text(t->cost_nusd, cost));
    else
        printf("cost      unknown: nobody said what %s costs (providers.prices)\n", t->model);
}

static emb_status print_json(const total *t)
{
    emb_buf b = EMB_BUF_INIT(1 << 16);
    emb_status status = emb_buf_add_str(&b, "{\"provider\":");
    if (!status)
        status = emb_json_write_string(&b, t->provider, strlen(t->provider));
    if (!status)
        status = emb_buf_add_str(&b, ",\"model\":");
    if (!status)
        status = emb_json_write_string(&b, t->model, strlen(t->model));
    if (!status)
        status = emb_buf_addf(&b,
                              ",\"texts\":%" PRIu64 ",\"private_texts\":%" PRIu64 ",\"skipped\":%" PRIu64
                              ",\"tokens\":%" PRIu64 ",\"exact\":%s,\"estimated_cost_usd\":",
                              t->texts, t->private_texts, t->skipped, t->tokens,
                              t->first.is_exact ? "true" : "false");
    if (!status)
        status = t->first.is_priced ? emb_buf_addf(&b, "%.9f}\n", (double)t->cost_nusd * 1e-9)
                                    : emb_buf_add_str(&b, "null}\n");
    if (!status)
        fwrite(b.data, 1, b.length, stdout);
    emb_buf_fini(&b);
    return status;
}

int emb_gate_estimate_run(const char *command, emb_gate *gate, emb_input *input, bool skip_bad, bool as_json)
{
    total t = {.provider = NULL};
    emb_slice slice;
    emb_arena names;
    emb_error err;
    emb_slice_init(&slice);
    emb_arena_init(&names);
    emb_status status = read_all(command, gate, input, skip_bad, &t, &slice, &names, &err);
    if (!status && !t.model)
        status = emb_fail(&err, EMB_E_INVALID, NULL, "there is no text");
    if (!status && as_json && (status = print_json(&t)))
        status = emb_fail_nomem(&err, "output", 0);
    else if (!status && !as_json)
        print_text(&t);
    emb_slice_fini(&slice);
    emb_arena_fini(&names);
    if (status)
        return emb_report_error(command, &err);
    return emb_finish_stdout(command, EMB_EXIT_OK);
}
