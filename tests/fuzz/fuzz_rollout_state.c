/*
 * A rollout's state as it lies in a shared database, where others may have written it: the first bytes are
 * numbers, the rest a schedule, or any text. What is accepted is within its limits and is written as it was
 * read; what is refused becomes the configured state.
 */
#include "base/error.h"
#include "router/rollout_store.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void check_steps(const emb_rollout_state *state)
{
    must(state->steps <= EMB_ROLLOUT_STEPS_MAX);
    for (size_t i = 0; i < state->steps; i++)
        must(state->schedule[i].percentage >= 0 && state->schedule[i].percentage <= 100);
    must(state->mode != EMB_ROLLOUT_SCHEDULED || state->step < state->steps);
}

static void check_again(emb_rollout_state *state, int64_t mode)
{
    char text[EMB_ROLLOUT_SCHEDULE_TEXT], again[EMB_ROLLOUT_SCHEDULE_TEXT];
    emb_error err;
    emb_rollout_write_schedule(state, text);
    must(emb_rollout_check_state(state, mode, text, &err) == EMB_OK);
    emb_rollout_write_schedule(state, again);
    must(strcmp(text, again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char shown[40];
    emb_error err = {0};
    emb_rollout_state state = {.version = 1};
    if (size < 12)
        return 0;
    char *text = strndup((const char *)data + 12, size - 12);
    if (!text)
        return 0;
    int64_t mode = (int8_t)data[0];
    memcpy(&state.share, data + 1, sizeof state.share);
    state.step = data[9];
    if (emb_rollout_check_state(&state, mode, text, &err) == EMB_OK) {
        check_steps(&state);
        check_again(&state, mode);
    } else {
        must(err.message[0] != 0 && state.mode == EMB_ROLLOUT_CONFIGURED && state.steps == 0);
    }
    emb_rollout_copy_text(shown, sizeof shown, text);
    must(strlen(shown) < sizeof shown);
    for (const char *p = shown; *p; p++)
        must((unsigned char)*p >= ' ');
    free(text);
    return 0;
}
