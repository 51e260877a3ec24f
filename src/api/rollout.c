/*
 * rollout.c: the share of callers on the hybrid path: what it is and was, and changing it.
 *
 * One POST with an action, not a route for each: what is done to a rollout is an event in one log, and a
 * client that puts an earlier state back (`embedd rollout verify`) sends what it read. Every answer is the
 * state after it, read from the store, so that it is what other processes will see, too.
 *
 * Both routes ask the store, so they run on workers. Who did it is the name of the API key; a body cannot say
 * otherwise.
 */
#include "api/decode.h"
#include "api/hybrid.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

enum { STEPS_MAX = 32, HOLD_MAX_S = 366 * 86400, AUDIT_DEFAULT = 20, AUDIT_MAX = 1000, REASON_MAX = 199 };

#define ACTIONS "set|schedule|rollback|clear|verified"
typedef enum action { SET, SCHEDULE, ROLLBACK, CLEAR, VERIFIED } action;

typedef struct rollout_state {
    int action;
    double percentage;
    emb_rollout_step_config steps[STEPS_MAX];
    size_t step_count;
    const char *reason;
    size_t audit;
} rollout_state;

/* ---- the answer ---- */

static void write_time(emb_out *o, const char *name, int64_t time_s)
{
    if (time_s > 0)
        emb_out_count(o, name, (uint64_t)time_s);
    else
        emb_out_null(o, name);
}

static void write_view(emb_out *o, const emb_rollout_view *v)
{
    emb_out_text(o, "mode", emb_rollout_mode_name(v->mode));
    emb_out_real(o, "percentage", v->percentage, 6);
    emb_out_text(o, "actor", v->actor[0] ? v->actor : NULL);
    emb_out_text(o, "reason", v->reason[0] ? v->reason : NULL);
    write_time(o, "changed_at", v->changed_s);
    write_time(o, "rollback_verified_at", v->rollback_verified_s);
    if (v->mode == EMB_ROLLOUT_SCHEDULED)
        emb_out_count(o, "step", v->step + 1);
    else
        emb_out_null(o, "step");
    write_time(o, "step_since", v->step_since_s);
    write_time(o, "step_until", v->step_until_s);
    emb_out_open(o, "schedule", '[');
    for (size_t i = 0; i < v->steps; i++) {
        emb_out_open(o, NULL, '{');
        emb_out_real(o, "percentage", v->schedule[i].percentage, 6);
        emb_out_count(o, "hold_seconds", v->schedule[i].hold_s);
        emb_out_close(o, '}');
    }
    emb_out_close(o, ']');
}

static void write_audit(emb_out *o, const emb_rollout_event *events, size_t count)
{
    emb_out_open(o, "audit", '[');
    for (size_t i = 0; i < count; i++) {
        emb_out_open(o, NULL, '{');
        emb_out_count(o, "id", (uint64_t)events[i].id);
        emb_out_count(o, "time", (uint64_t)(events[i].time_s > 0 ? events[i].time_s : 0));
        emb_out_text(o, "action", events[i].action);
        emb_out_real(o, "from", events[i].from, 6);
        emb_out_real(o, "to", events[i].to, 6);
        emb_out_text(o, "actor", events[i].actor);
        emb_out_text(o, "reason", events[i].reason[0] ? events[i].reason : NULL);
        emb_out_close(o, '}');
    }
    emb_out_close(o, ']');
}

/* What is wrong with the store is not the client's fault. */
static void fail(emb_api_call *call, const emb_error *err)
{
    if (err->code == EMB_E_CORRUPT)
        emb_call_fail(call, 500, "rollout_corrupt", NULL, "%s", err->message);
    else
        emb_call_fail_error(call, err);
}

static void answer(emb_api_call *call, emb_rollout *rollout)
{
    const rollout_state *state = call->state;
    emb_rollout_view view;
    emb_rollout_event *events = NULL;
    size_t count = 0;
    emb_error err = {0};
    if (emb_rollout_refresh(rollout, &err) ||
        (state->audit && emb_rollout_audit(rollout, state->audit, call->arena, &events, &count, &err))) {
        fail(call, &err);
        return;
    }
    emb_rollout_get(rollout, call->config->rollout_percentage, &view);
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    write_view(&o, &view);
    write_audit(&o, events, count);
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, NULL);
}

/* The rollout, or NULL after an answer. */
static emb_rollout *find_rollout(emb_api_call *call)
{
    emb_rollout *rollout = emb_service_rollout(call->service);
    if (!rollout)
        emb_call_fail(
            call, 503, "rollout_off", NULL,
            "There is no rollout here: its store could not be opened; the log and data.store_url say more.");
    return rollout;
}

static rollout_state *new_state(emb_api_call *call)
{
    rollout_state *state = emb_arena_calloc(call->arena, 1, sizeof *state);
    if (!state)
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
    else
        state->audit = AUDIT_DEFAULT;
    return state;
}

/* ---- GET ---- */

static bool read_limit(emb_api_call *call, size_t *out)
{
    const char *text = emb_exchange_query(call->x, "audit");
    size_t number = 0;
    if (!text)
        return true;
    for (const char *p = text; *p >= '0' && *p <= '9' && number <= AUDIT_MAX; p++)
        number = number * 10 + (size_t)(*p - '0');
    if (!*text || strspn(text, "0123456789") != strlen(text) || number > AUDIT_MAX) {
        emb_call_fail(call, 422, "invalid_value", "?audit", "audit: \"%.40s\" is no number from 0 to %d.",
                      text, AUDIT_MAX);
        return false;
    }
    *out = number;
    return true;
}

static void get_on_worker(emb_api_call *call)
{
    answer(call, emb_service_rollout(call->service));
}

static void get_rollout(emb_api_call *call)
{
    rollout_state *state = new_state(call);
    if (!state || !read_limit(call, &state->audit) || !find_rollout(call))
        return;
    call->state = state;
    emb_call_park(call, get_on_worker);
}

/* ---- POST ---- */

static bool is_there(emb_json_value object, const char *member, emb_json_value *value)
{
    return emb_json_get(object, member, value) && emb_json_type_of(*value) != EMB_JSON_NULL;
}

static bool read_percentage(emb_json_value object, double *out)
{
    emb_json_value value;
    return emb_json_get(object, "percentage", &value) && emb_json_double(value, out) && *out >= 0 &&
           *out <= 100;
}

static bool decode_percentage(emb_api_call *call, emb_json_value root, rollout_state *state)
{
    emb_json_value value;
    if (!is_there(root, "percentage", &value)) {
        emb_call_fail_missing(call, "percentage");
        return false;
    }
    if (read_percentage(root, &state->percentage))
        return true;
    emb_call_fail_field(call, "percentage", "must be a number from 0 to 100.");
    return false;
}

static bool read_step(emb_json_value object, emb_rollout_step_config *out)
{
    emb_json_value value;
    int64_t hold;
    if (emb_json_type_of(object) != EMB_JSON_OBJECT || !read_percentage(object, &out->percentage) ||
        !emb_json_get(object, "hold_seconds", &value) || !emb_json_int(value, &hold) || hold < 1 ||
        hold > HOLD_MAX_S)
        return false;
    out->hold_s = (uint64_t)hold;
    return true;
}

static bool decode_steps(emb_api_call *call, emb_json_value root, rollout_state *state)
{
    emb_json_value steps, step;
    if (!is_there(root, "steps", &steps)) {
        emb_call_fail_missing(call, "steps");
        return false;
    }
    size_t count = emb_json_count(steps);
    if (emb_json_type_of(steps) != EMB_JSON_ARRAY || count < 1 || count > STEPS_MAX) {
        emb_call_fail_field(call, "steps", "must be an array of 1 to %d steps.", STEPS_MAX);
        return false;
    }
    emb_json_iter it = emb_json_begin(steps);
    while (emb_json_next(&it, NULL, NULL, &step)) {
        emb_rollout_step_config *s = &state->steps[state->step_count];
        if (!read_step(step, s)) {
            emb_call_fail_field(call, "steps",
                                "step %zu must have percentage, 0 to 100, and hold_seconds, 1 to %d.",
                                state->step_count, HOLD_MAX_S);
            return false;
        }
        if (state->step_count && !(s->percentage > s[-1].percentage)) {
            emb_call_fail_field(call, "steps", "step %zu is not above the one before it; percentages rise.",
                                state->step_count);
            return false;
        }
        state->step_count++;
    }
    return true;
}

static bool decode_action(emb_api_call *call, emb_json_value root, rollout_state *state)
{
    emb_json_value value;
    if (!is_there(root, "action", &value)) {
        emb_call_fail_missing(call, "action");
        return false;
    }
    if (!emb_decode_choice(call, root, "action", ACTIONS, &state->action) ||
        !emb_decode_name(call, root, "reason", &state->reason))
        return false;
    if (state->reason && strlen(state->reason) > REASON_MAX) {
        emb_call_fail_field(call, "reason", "must be at most %d bytes; it has %zu.", REASON_MAX,
                            strlen(state->reason));
        return false;
    }
    if (state->action == SET)
        return decode_percentage(call, root, state);
    return state->action != SCHEDULE || decode_steps(call, root, state);
}

static emb_status change(emb_rollout *rollout, const rollout_state *s, const char *actor, emb_error *err)
{
    switch ((action)s->action) {
    case SET:
        return emb_rollout_set(rollout, s->percentage, actor, s->reason, err);
    case SCHEDULE:
        return emb_rollout_schedule(rollout, s->steps, s->step_count, actor, s->reason, err);
    case ROLLBACK:
        return emb_rollout_back(rollout, actor, s->reason, err);
    case CLEAR:
        return emb_rollout_clear(rollout, actor, s->reason, err);
    case VERIFIED:
        break;
    }
    return emb_rollout_note_verified(rollout, actor, s->reason, err);
}

static void change_on_worker(emb_api_call *call)
{
    static const char *const names[] = {"set", "schedule", "rollback", "clear", "verified"};
    const rollout_state *state = call->state;
    emb_rollout *rollout = emb_service_rollout(call->service);
    const char *name = emb_caller_name(call->caller);
    const char *actor = name[0] ? name : "api";
    emb_error err = {0};
    emb_status status = change(rollout, state, actor, &err);
    emb_log(EMB_LOG_INFO, "audit: rollout", EMB_LOG_TEXT("action", names[state->action]),
            EMB_LOG_TEXT("actor", actor), EMB_LOG_TEXT("reason", state->reason),
            EMB_LOG_BOOL("done", status == EMB_OK));
    if (status != EMB_OK)
        fail(call, &err);
    else
        answer(call, rollout);
}

static void post_rollout(emb_api_call *call)
{
    emb_json_value root;
    rollout_state *state = new_state(call);
    if (!state || !emb_call_json(call, &root) || !decode_action(call, root, state) || !find_rollout(call))
        return;
    call->state = state;
    emb_call_park(call, change_on_worker);
}

/* ---- the table ---- */

#define PERCENTAGE "{\"type\":\"number\",\"minimum\":0,\"maximum\":100}"
#define SHARE "{\"type\":[\"number\",\"null\"],\"minimum\":0,\"maximum\":100}"
#define WHEN "{\"type\":[\"integer\",\"null\"],\"minimum\":0}"
#define TEXT "{\"type\":[\"string\",\"null\"]}"
#define HOLD "{\"type\":\"integer\",\"minimum\":1,\"maximum\":31622400}"
#define STEP                                                                               \
    "{\"type\":\"object\",\"required\":[\"percentage\",\"hold_seconds\"],\"properties\":{" \
    "\"percentage\":" PERCENTAGE ",\"hold_seconds\":" HOLD "}}"
#define REQUEST                                                                                              \
    "{\"type\":\"object\",\"required\":[\"action\"],\"description\":\"set needs percentage, schedule needs " \
    "steps that "                                                                                            \
    "rise.\",\"properties\":{\"action\":{\"enum\":[\"set\",\"schedule\",\"rollback\",\"clear\","             \
    "\"verified\"]},"                                                                                        \
    "\"percentage\":" SHARE                                                                                  \
    ",\"steps\":{\"type\":[\"array\",\"null\"],\"minItems\":1,\"maxItems\":32,\"items\":" STEP               \
    "},\"reason\":{\"type\":[\"string\",\"null\"],\"maxLength\":199}},\"examples\":[{\"action\":\"set\","    \
    "\"percentage\":"                                                                                        \
    "25,\"reason\":\"the canary looks good\"}]}"
#define EVENT                                                                                              \
    "{\"type\":\"object\",\"required\":[\"id\",\"time\",\"action\",\"from\",\"to\",\"actor\",\"reason\"]," \
    "\"properties\":"                                                                                      \
    "{\"id\":" EMB_HYBRID_COUNT ",\"time\":" EMB_HYBRID_COUNT                                              \
    ",\"action\":{\"type\":\"string\"},\"from\":" SHARE ",\"to\":" SHARE                                   \
    ",\"actor\":{\"type\":\"string\"},\"reason\":" TEXT "}}"
#define ANSWER                                                                                          \
    "{\"type\":\"object\",\"required\":[\"mode\",\"percentage\",\"actor\",\"reason\",\"changed_at\","   \
    "\"rollback_verified_at\",\"step\",\"step_since\",\"step_until\",\"schedule\",\"audit\"],"          \
    "\"properties\":{\"mode\":"                                                                         \
    "{\"enum\":[\"configured\",\"fixed\",\"scheduled\",\"rolled_back\",\"finished\"]},"                 \
    "\"percentage\":" PERCENTAGE ",\"actor\":" TEXT ",\"reason\":" TEXT ",\"changed_at\":" WHEN         \
    ",\"rollback_verified_at\":" WHEN ",\"step\":" WHEN ",\"step_since\":" WHEN ",\"step_until\":" WHEN \
    ",\"schedule\":{\"type\":\"array\",\"items\":" STEP "},\"audit\":"                                  \
    "{\"type\":\"array\",\"items\":" EVENT "}}}"

const emb_route emb_routes_rollout[] = {
    {EMB_HTTP_GET, "/api/v1/embeddings/rollout", EMB_FAMILY_HYBRID, EMB_AUTH_KEY, EMB_RIGHT_READ, get_rollout,
     "The share of callers on the hybrid path, its schedule, and what was done to it, the newest first.",
     NULL, ANSWER, NULL, "audit"},
    {EMB_HTTP_POST, "/api/v1/embeddings/rollout", EMB_FAMILY_HYBRID, EMB_AUTH_KEY, EMB_RIGHT_ADMIN,
     post_rollout,
     "Set a share, start a schedule, roll back, or go back to the configuration; the answer is the state "
     "after it.",
     REQUEST, ANSWER, NULL, NULL},
    {0}};
