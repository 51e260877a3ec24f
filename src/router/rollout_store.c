/*
 * rollout_store.c: which database, and the parts of a row that both kinds read and write alike.
 *
 * A schedule is one text in the row of state and not a table of steps: it is read and replaced as a whole,
 * and a compare-and-set of one row stays a compare-and-set.
 */
#include "router/rollout_store.h"

#include "base/error.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has_scheme(const char *schemes, const char *url, size_t length)
{
    for (const char *s = schemes; *s; s += strcspn(s, ","), s += *s == ',')
        if (strcspn(s, ",") == length && strncmp(s, url, length) == 0)
            return true;
    return false;
}

emb_status emb_rollout_store_open(const char *url, emb_rollout_store **out, emb_error *err)
{
    static const emb_rollout_store_kind *const kinds[] = {&emb_rollout_sqlite, &emb_rollout_postgresql};
    size_t length = strcspn(url, ":");
    for (size_t i = 0; url[length] && i < sizeof kinds / sizeof *kinds; i++)
        if (has_scheme(kinds[i]->schemes, url, length))
            return kinds[i]->open(url, out, err);
    return emb_fail(err, EMB_E_INVALID, "data.store_url",
                    "\"%.20s\" is not a store for the rollout; sqlite:PATH and postgresql://... are",
                    url[length] ? url : "");
}

int64_t emb_rollout_to_share(double percentage)
{
    return llround(percentage * EMB_ROLLOUT_SHARE_ONE);
}

double emb_rollout_from_share(int64_t share)
{
    return share < 0 ? (double)NAN : (double)share / EMB_ROLLOUT_SHARE_ONE;
}

void emb_rollout_write_schedule(const emb_rollout_state *state, char out[EMB_ROLLOUT_SCHEDULE_TEXT])
{
    size_t at = 0;
    *out = 0;
    for (size_t i = 0; i < state->steps; i++)
        at +=
            (size_t)snprintf(out + at, EMB_ROLLOUT_SCHEDULE_TEXT - at, "%s%" PRId64 ":%" PRIu64, i ? " " : "",
                             emb_rollout_to_share(state->schedule[i].percentage), state->schedule[i].hold_s);
}

static bool read_schedule(const char *text, emb_rollout_state *state)
{
    char *end;
    for (state->steps = 0; *text; state->steps++) {
        if (state->steps == EMB_ROLLOUT_STEPS_MAX)
            return false;
        long long share = strtoll(text, &end, 10);
        if (end == text || *end != ':' || share < 0 || share > 100ll * EMB_ROLLOUT_SHARE_ONE)
            return false;
        text = end + 1;
        unsigned long long hold = strtoull(text, &end, 10);
        if (end == text || (*end && *end != ' ') || hold > INT32_MAX)
            return false;
        text = end + (*end == ' ');
        state->schedule[state->steps] = (emb_rollout_step_config){emb_rollout_from_share(share), hold};
    }
    return true;
}

emb_status emb_rollout_check_state(emb_rollout_state *state, int64_t mode, const char *schedule,
                                   emb_error *err)
{
    bool good = mode >= EMB_ROLLOUT_CONFIGURED && mode <= EMB_ROLLOUT_FINISHED &&
                read_schedule(schedule, state) && state->version > 0 &&
                state->share <= 100ll * EMB_ROLLOUT_SHARE_ONE;
    state->mode = (emb_rollout_mode)mode;
    if (good && mode == EMB_ROLLOUT_SCHEDULED)
        good = state->step < state->steps;
    if (good && mode != EMB_ROLLOUT_CONFIGURED)
        good = state->share >= 0;
    if (good)
        return EMB_OK;
    *state = (emb_rollout_state){.version = state->version, .share = EMB_ROLLOUT_SHARE_CONFIGURED};
    return emb_fail(err, EMB_E_CORRUPT, "rollout",
                    "the stored state of the rollout makes no sense; `embedd rollout clear` "
                    "or `set` writes a new one");
}

void emb_rollout_copy_text(char *out, size_t size, const char *text)
{
    size_t at = 0, length = text ? strlen(text) : 0;
    for (size_t i = 0; i < length;) {
        uint32_t c;
        size_t taken = emb_utf8_decode(text + i, length - i, &c);
        char bytes[4];
        size_t n = emb_utf8_encode(c < ' ' ? ' ' : c, bytes);
        if (at + n >= size)
            break;
        memcpy(out + at, bytes, n);
        at += n;
        i += taken;
    }
    out[at] = 0;
}

emb_status emb_rollout_events(emb_arena *arena, size_t count, emb_rollout_event **out, emb_error *err)
{
    *out = emb_arena_calloc(arena, count ? count : 1, sizeof **out);
    return *out ? EMB_OK : emb_fail_nomem(err, "the audit log of the rollout", count * sizeof **out);
}

emb_status emb_rollout_event_text(emb_arena *arena, const char *text, const char **out, emb_error *err)
{
    if (!text)
        text = "";
    *out = emb_arena_strndup(arena, text, strlen(text));
    return *out ? EMB_OK : emb_fail_nomem(err, "the audit log of the rollout", strlen(text));
}
