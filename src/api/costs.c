/*
 * costs.c: what embedding has cost, what it is going to cost this month, and how near the limits are.
 *
 * All of it is read from the ledger's store, so all of it runs on workers. Money is written as exact decimals
 * of dollars. A row names what it is of by the members that `by` asked for:
 * {"day":"2026-11-27","category":"faq",...}.
 *
 * A key without the right to read gets the report of what it cost itself: the filter is its name, and asking
 * for another's is refused rather than answered with nothing.
 */
#include "api/hybrid.h"

#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 16 }; /* of a dimension */

typedef struct costs_state {
    emb_ledger_query query;
    const char *by[2];
} costs_state;

/* NULL after an answer. */
static emb_ledger *ledger_of(emb_api_call *call)
{
    emb_ledger *ledger = emb_service_ledger(call->service);
    if (!ledger)
        emb_call_fail(
            call, 503, "ledger_off", NULL,
            "This service keeps no ledger of costs: it could not be opened at the start; the log says why.");
    return ledger;
}

static void fail(emb_api_call *call, const emb_error *err)
{
    static const char *const parameters[] = {"from", "to", "by"};
    char where[NAME_BYTES];
    bool of_client = err->code == EMB_E_INVALID || err->code == EMB_E_LIMIT;
    for (size_t i = 0; of_client && i < sizeof parameters / sizeof *parameters; i++)
        if (strcmp(err->where, parameters[i]) == 0) {
            snprintf(where, sizeof where, "?%s", parameters[i]);
            emb_call_fail(call, 422, "invalid_value", where, "%s.", err->message);
            return;
        }
    if (of_client || err->code == EMB_E_NOMEM)
        emb_call_fail_error(call, err);
    else
        emb_call_fail(call, 503, "ledger_unavailable", NULL, "The ledger cannot be read now: %s.",
                      err->message);
}

/* ---- what was spent ---- */

static void write_sum(emb_out *o, const emb_ledger_sum *s)
{
    emb_out_count(o, "calls", s->calls);
    emb_out_count(o, "texts", s->texts);
    emb_out_count(o, "cached_texts", s->cached_texts);
    emb_out_count(o, "local_texts", s->local_texts);
    emb_out_count(o, "tokens", s->tokens);
    emb_out_usd(o, "cost_usd", s->nusd);
    emb_out_usd(o, "saved_cache_usd", s->saved_cache_nusd);
    emb_out_usd(o, "saved_local_usd", s->saved_local_nusd);
}

static void write_rows(emb_out *o, const costs_state *state, const emb_ledger_report *r)
{
    emb_out_open(o, "rows", '[');
    for (size_t i = 0; i < r->count; i++) {
        emb_out_open(o, NULL, '{');
        for (int n = 0; n < 2 && state->by[n]; n++)
            emb_out_text(o, state->by[n], r->rows[i].name[n]);
        write_sum(o, &r->rows[i]);
        emb_out_close(o, '}');
    }
    emb_out_close(o, ']');
}

static void report_on_worker(emb_api_call *call)
{
    costs_state *state = call->state;
    emb_ledger *ledger = ledger_of(call);
    emb_ledger_report r;
    emb_error err = {0};
    if (!ledger)
        return;
    if (emb_ledger_make_report(ledger, &state->query, call->arena, &r, &err)) {
        fail(call, &err);
        return;
    }
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_text(&o, "from", r.from);
    emb_out_text(&o, "to", r.to);
    emb_out_text(&o, "timezone", *call->config->budget_timezone ? call->config->budget_timezone : "UTC");
    emb_out_open(&o, "by", '[');
    for (int n = 0; n < 2 && state->by[n]; n++)
        emb_out_text(&o, NULL, state->by[n]);
    emb_out_close(&o, ']');
    emb_out_open(&o, "total", '{');
    write_sum(&o, &r.total);
    emb_out_close(&o, '}');
    write_rows(&o, state, &r);
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, NULL);
}

/* "day,category" */
static bool read_by(emb_api_call *call, const char *text, costs_state *state)
{
    const char *at = text;
    for (int n = 0; n < 2; n++) {
        size_t length = strcspn(at, ",");
        const char *name = emb_arena_strndup(call->arena, at, length);
        if (!name) {
            emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
            return false;
        }
        if (!emb_ledger_by_parse(name, &state->query.by[n]))
            break;
        state->by[n] = state->query.by[n] == EMB_BY_TOTAL ? NULL : name;
        if (!at[length])
            return true;
        at += length + 1;
    }
    emb_call_fail(call, 422, "invalid_value", "?by",
                  "by: \"%.80s\" is not one or two of " EMB_LEDGER_BY_NAMES ", a comma between.", text);
    return false;
}

/* Whether the caller may have the report that it asks for; of its own rows, if it may see no others. */
static bool narrow(emb_api_call *call, emb_ledger_query *query)
{
    if (emb_caller_rights(call->caller) & EMB_RIGHT_READ)
        return true;
    const char *own = emb_caller_name(call->caller);
    if (query->key && strcmp(query->key, own) != 0) {
        emb_exchange_set_refused(call->x, "right");
        emb_call_fail(call, 403, "right_needed", "?key",
                      "Costs of other keys need a key with the right read; this one sees its own, %s.", own);
        return false;
    }
    query->key = own;
    return true;
}

static void get_costs(emb_api_call *call)
{
    costs_state *state = emb_arena_calloc(call->arena, 1, sizeof *state);
    const char *by = emb_exchange_query(call->x, "by");
    if (!state) {
        emb_call_fail(call, 503, "out_of_memory", NULL, "Memory is short; try again later.");
        return;
    }
    state->query.from = emb_exchange_query(call->x, "from");
    state->query.to = emb_exchange_query(call->x, "to");
    state->query.provider = emb_exchange_query(call->x, "provider");
    state->query.model = emb_exchange_query(call->x, "model");
    state->query.key = emb_exchange_query(call->x, "key");
    state->query.category = emb_exchange_query(call->x, "category");
    if (!narrow(call, &state->query) || !read_by(call, by ? by : "day", state))
        return;
    call->state = state;
    emb_call_park(call, report_on_worker);
}

/* ---- what will be spent ---- */

static void project_on_worker(emb_api_call *call)
{
    emb_ledger *ledger = ledger_of(call);
    emb_ledger_projection p;
    emb_error err = {0};
    if (!ledger)
        return;
    if (emb_ledger_project(ledger, &p, &err)) {
        fail(call, &err);
        return;
    }
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_text(&o, "month", p.month);
    emb_out_usd(&o, "spent_usd", p.spent_nusd);
    emb_out_usd(&o, "projected_usd", p.projected_nusd);
    emb_out_usd(&o, "low_usd", p.low_nusd);
    emb_out_usd(&o, "high_usd", p.high_nusd);
    emb_out_count(&o, "days_left", p.days_left);
    emb_out_count(&o, "days_of_history", p.days_of_history);
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, NULL);
}

static void get_projection(emb_api_call *call)
{
    emb_call_park(call, project_on_worker);
}

/* ---- how near the limits are ---- */

static void write_alert(emb_out *o, const char *name, uint64_t spent, double limit_usd, double warning,
                        double critical)
{
    double limit = limit_usd * 1e9, share = limit > 0 ? (double)spent / limit : spent ? 1 : 0;
    const char *level = critical > 0 && share >= critical ? "critical" : share >= warning ? "warning" : "ok";
    emb_out_open(o, NULL, '{');
    emb_out_text(o, "name", name);
    emb_out_text(o, "level", level);
    emb_out_usd(o, "spent_usd", spent);
    emb_out_usd(o, "limit_usd", (uint64_t)(limit + 0.5));
    emb_out_real(o, "share", share, 6);
    emb_out_close(o, '}');
}

static void alerts_on_worker(emb_api_call *call)
{
    const emb_config *c = call->config;
    emb_ledger *ledger = ledger_of(call);
    emb_ledger_report today;
    emb_error err = {0};
    if (!ledger)
        return;
    if (emb_ledger_make_report(ledger, &(emb_ledger_query){.from = "today", .to = "today"}, call->arena,
                               &today, &err)) {
        fail(call, &err);
        return;
    }
    emb_out o;
    emb_out_begin(&o, call);
    emb_out_open(&o, NULL, '{');
    emb_out_open(&o, "alerts", '[');
    write_alert(&o, "daily_api_budget", today.total.nusd, c->daily_api_budget_usd, c->alert_budget_warning,
                c->alert_budget_critical);
    write_alert(&o, "monthly_cost", emb_ledger_month_nusd(ledger), c->alert_monthly_cost_usd, 1, 0);
    emb_out_close(&o, ']');
    emb_out_close(&o, '}');
    emb_out_reply(&o, call, NULL);
}

static void get_alerts(emb_api_call *call)
{
    emb_call_park(call, alerts_on_worker);
}

/* ---- the table ---- */

#define COUNT EMB_HYBRID_COUNT
#define USD "{\"type\":\"number\",\"minimum\":0,\"description\":\"Dollars, exact.\"}"
#define SUM_REQUIRED                                                                                      \
    "\"required\":[\"calls\",\"texts\",\"cached_texts\",\"local_texts\",\"tokens\",\"cost_usd\",\"saved_" \
    "cache_usd\","                                                                                        \
    "\"saved_local_usd\"]"
#define SUM_MEMBERS                                                                             \
    "\"calls\":" COUNT ",\"texts\":" COUNT ",\"cached_texts\":" COUNT ",\"local_texts\":" COUNT \
    ",\"tokens\":" COUNT ",\"cost_usd\":" USD ",\"saved_cache_usd\":" USD ",\"saved_local_usd\":" USD
#define DATE "{\"type\":\"string\",\"pattern\":\"^[0-9]{4}-[0-9]{2}-[0-9]{2}$\"}"
#define NAME "{\"type\":\"string\"}"
#define ROW                                                                                            \
    "{\"type\":\"object\"," SUM_REQUIRED ",\"properties\":{\"day\":" NAME ",\"week\":" NAME            \
    ",\"month\":" NAME ",\"category\":" NAME ",\"model\":" NAME ",\"provider\":" NAME ",\"key\":" NAME \
    ",\"context\":" NAME ",\"kind\":" NAME "," SUM_MEMBERS "}}"
#define COSTS_ANSWER                                                                              \
    "{\"type\":\"object\",\"required\":[\"from\",\"to\",\"timezone\",\"by\",\"total\",\"rows\"]," \
    "\"properties\":{"                                                                            \
    "\"from\":" DATE ",\"to\":" DATE ",\"timezone\":" NAME                                        \
    ",\"by\":{\"type\":\"array\",\"maxItems\":2,\"items\":" NAME                                  \
    "},\"total\":{\"type\":\"object\"," SUM_REQUIRED ",\"properties\":{" SUM_MEMBERS              \
    "}},\"rows\":{\"type\":\"array\","                                                            \
    "\"items\":" ROW "}}}"
#define PROJECTION_ANSWER                                                                                    \
    "{\"type\":\"object\",\"required\":[\"month\",\"spent_usd\",\"projected_usd\",\"low_usd\",\"high_usd\"," \
    "\"days_left\","                                                                                         \
    "\"days_of_history\"],\"properties\":{\"month\":{\"type\":\"string\",\"pattern\":\"^[0-9]{4}-[0-9]{2}$"  \
    "\"},"                                                                                                   \
    "\"spent_usd\":" USD ",\"projected_usd\":" USD ",\"low_usd\":" USD ",\"high_usd\":" USD                  \
    ",\"days_left\":" COUNT ",\"days_of_history\":" COUNT "}}"
#define ALERTS_ANSWER                                                                                     \
    "{\"type\":\"object\",\"required\":[\"alerts\"],\"properties\":{\"alerts\":{\"type\":\"array\","      \
    "\"items\":{\"type\":"                                                                                \
    "\"object\",\"required\":[\"name\",\"level\",\"spent_usd\",\"limit_usd\",\"share\"],\"properties\":{" \
    "\"name\":{"                                                                                          \
    "\"enum\":[\"daily_api_budget\",\"monthly_cost\"]},\"level\":{\"enum\":[\"ok\",\"warning\","          \
    "\"critical\"]},"                                                                                     \
    "\"spent_usd\":" USD ",\"limit_usd\":" USD ",\"share\":" EMB_HYBRID_AMOUNT "}}}}}"

const emb_route emb_routes_costs[] = {
    {EMB_HTTP_GET, "/api/v1/embeddings/costs", EMB_FAMILY_HYBRID, EMB_AUTH_KEY,
     EMB_RIGHT_USE | EMB_RIGHT_READ, get_costs,
     "What was spent and saved, by one or two of " EMB_LEDGER_BY_NAMES
     "; from and to are dates, both included. A key without the right read sees its own costs.",
     NULL, COSTS_ANSWER, NULL, "from,to,by,provider,model,key,category"},
    {EMB_HTTP_GET, "/api/v1/embeddings/costs/projection", EMB_FAMILY_HYBRID, EMB_AUTH_KEY, EMB_RIGHT_READ,
     get_projection, "What this month is going to cost, and between what it will most likely be (80 %).",
     NULL, PROJECTION_ANSWER, NULL, NULL},
    {EMB_HTTP_GET, "/api/v1/embeddings/costs/alerts", EMB_FAMILY_HYBRID, EMB_AUTH_KEY, EMB_RIGHT_READ,
     get_alerts, "Today's and this month's spend against their limits.", NULL, ALERTS_ANSWER, NULL, NULL},
    {0}};
