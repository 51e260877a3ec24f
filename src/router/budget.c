/*
 * Reserving, and the thread that keeps a process and the store together.
 *
 * A reserve is one step in the store. Refused, it gives up reservations whose time is over and tries once
 * more, so that dead ones never cost a live call and the ordinary step stays small. A step has command_ms,
 * or what is left of the caller's time; budget_contact.c says when it is tried again, and when the store
 * counts as away. A deadline of the caller's that is shorter than command_ms says nothing of the store and
 * is not counted. While the store is away the thread tries to reach it four times a second.
 *
 * A remote store that did not answer may have reserved all the same. Such a ticket is taken back through the
 * queue of settlements, and marked so that the step, should it still stand in the server's buffers, does
 * nothing any more.
 *
 * The thread, in this order: writes settlements, a batch a step, oldest first, again and again until the
 * store has them; about once a second gives up what is over and reads today's totals; once an hour drops old
 * rows. When closing it writes for CLOSE_NS at most.
 *
 * Rejected: slices of the budget leased to each process (an overrun by as many slices, or refusals while
 * others hold unused ones); counting on locally while the store is away (that is an overrun by as many
 * processes).
 */
#include "router/budget.h"
#include "base/duty.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/zone.h"
#include "crypto/crypto.h"
#include "router/budget_contact.h"
#include "router/budget_queue.h"
#include "router/budget_store.h"
#include "router/budget_view.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    COMMAND_MS = 500,
    TRIES = 20, /* of a caller without a deadline */
    RESERVATION_S = 120,
    RETRY_FIRST_MS = 20,
    RETRY_LONGEST_MS = 1000
};
#define SECOND UINT64_C(1000000000)
#define OPEN_NS SECOND         /* to meet the store at the beginning */
#define THREAD_NS (SECOND / 2) /* for one step of the thread */
#define REFRESH_NS SECOND
#define REFRESH_DOWN_NS (SECOND / 4)
#define TIDY_NS (3600 * SECOND)
#define CLOSE_NS (3 * SECOND)

struct emb_budget {
    emb_budget_store *store;
    emb_budget_view *view;
    emb_budget_queue queue;
    emb_zone *zone;
    emb_metrics *metrics;
    emb_budget_contact contact;
    int64_t (*now_s)(void);
    uint32_t command_ms;
    char zone_name[64];
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    int32_t day;          /* as long as day_begins <= now < day_ends */
    int64_t day_begins, day_ends;
};

/* ---- today ---- */

static int64_t now_s(const emb_budget *b)
{
    return b->now_s ? b->now_s() : (int64_t)time(NULL);
}

int32_t emb_budget_today(emb_budget *b, uint64_t *seconds_left)
{
    int64_t now = now_s(b);
    pthread_mutex_lock(&b->lock);
    if (now < b->day_begins || now >= b->day_ends) {
        b->day = emb_zone_day(b->zone, now);
        b->day_begins = now;
        b->day_ends = emb_zone_day_start(b->zone, b->day + 1);
        if (b->day_ends <= now) /* a clock that went back over midnight */
            b->day_ends = now + 1;
    }
    int32_t day = b->day;
    if (seconds_left)
        *seconds_left = (uint64_t)(b->day_ends - now);
    pthread_mutex_unlock(&b->lock);
    return day;
}

bool emb_budget_is_up(const emb_budget *b)
{
    return emb_budget_contact_is_up(&b->contact);
}

/* ---- reserve ---- */

static void money(char out[40], uint64_t nusd)
{
    int n = snprintf(out, 40, "$%" PRIu64 ".%09" PRIu64, nusd / 1000000000u, nusd % 1000000000u);
    while (n > 3 && out[n - 1] == '0' && out[n - 3] != '.')
        out[--n] = '\0';
}

static emb_status check(const emb_budget_scope *scopes, size_t count, uint64_t nusd, emb_error *err)
{
    if (count > EMB_BUDGET_SCOPES)
        return emb_fail(err, EMB_E_INVALID, "scopes", "%zu scopes, at most %d can be reserved in at once",
                        count, EMB_BUDGET_SCOPES);
    if (nusd > EMB_BUDGET_NUSD_MAX)
        return emb_fail(err, EMB_E_INVALID, "nusd",
                        "a call of more than a million dollars (%" PRIu64 " nano-dollars)", nusd);
    for (size_t i = 0; i < count; i++) {
        size_t length = scopes[i].name ? strlen(scopes[i].name) : 0;
        if (length == 0 || length >= EMB_BUDGET_NAME)
            return emb_fail(err, EMB_E_INVALID, "scopes",
                            "the name of a budget's scope has %zu bytes, 1 to %d are possible", length,
                            EMB_BUDGET_NAME - 1);
        for (size_t j = 0; j < i; j++)
            if (strcmp(scopes[i].name, scopes[j].name) == 0)
                return emb_fail(err, EMB_E_INVALID, "scopes", "the budget's scope \"%s\" stands there twice",
                                scopes[i].name);
    }
    return EMB_OK;
}

static emb_status refused(emb_budget *b, const emb_budget_order *o, emb_error *err)
{
    const emb_budget_want *w = &o->wants[o->refusing];
    char limit[40], spent[40], reserved[40], asked[40], next[EMB_DAY_TEXT];
    uint64_t left;
    emb_budget_today(b, &left);
    money(limit, (uint64_t)w->limit);
    money(spent, w->use.spent_nusd);
    money(reserved, w->use.reserved_nusd);
    money(asked, o->nusd);
    emb_day_text(o->day + 1, next);
    return emb_fail(err, EMB_E_BUDGET, w->name,
                    "the day's budget of \"%s\" is %s: %s are spent, %s reserved, and %s would be needed; %s "
                    "(%s) begins in "
                    "%" PRIu64 " h %" PRIu64 " min",
                    w->name, limit, spent, reserved, asked, next, b->zone_name, left / 3600, left / 60 % 60);
}

static void take_back(emb_budget *b, const emb_budget_ticket *ticket)
{
    emb_budget_item *item = emb_budget_item_make(ticket, 0, EMB_BUDGET_UNSURE);
    if (item)
        (void)!emb_budget_queue_add(&b->queue, item);
}

/* One try, and after giving up what is over another. */
static emb_status order(emb_budget *b, emb_budget_order *o, uint64_t deadline_ns, emb_error *err)
{
    const emb_budget_store_ops *ops = b->store->ops;
    uint64_t count = 0;
    emb_duty_pass_on(); /* a store may have to write */
    emb_status st = ops->reserve(b->store, o, deadline_ns, err);
    if (st != EMB_OK || o->granted)
        return st;
    for (bool more = true; more; more = count == EMB_BUDGET_EXPIRE_BATCH) {
        if ((st = ops->expire(b->store, &count, deadline_ns, err)) != EMB_OK)
            return st;
        if (count > 0 && ((st = ops->reserve(b->store, o, deadline_ns, err)) != EMB_OK || o->granted))
            return st;
    }
    return EMB_OK;
}

static emb_status fill_ticket(emb_budget *b, const emb_budget_scope *scopes, size_t count, uint64_t nusd,
                              emb_budget_ticket *t, emb_budget_want wants[EMB_BUDGET_SCOPES], emb_error *err)
{
    *t = (emb_budget_ticket){.nusd = nusd, .day = emb_budget_today(b, NULL), .count = count};
    if (!emb_random_bytes(t->id, sizeof t->id))
        return emb_fail(err, EMB_E_INTERNAL, NULL, "the system has no random bytes to give");
    for (size_t i = 0; i < count; i++) {
        snprintf(t->names[i], EMB_BUDGET_NAME, "%s", scopes[i].name);
        wants[i] =
            (emb_budget_want){.name = t->names[i],
                              .limit = scopes[i].limit_nusd > INT64_MAX ? -1 : (int64_t)scopes[i].limit_nusd};
    }
    return EMB_OK;
}

/* With a turn. As long as the store has time only for others it is asked again, under the same id, which
 * makes of several arrivals one reservation. */
static emb_status ask(emb_budget *b, emb_budget_order *o, uint64_t deadline_ns, bool *repeated,
                      emb_error *err)
{
    for (unsigned tries = 1;; tries++, *repeated = true) {
        uint64_t since = emb_now_ns(), end = since + b->command_ms * UINT64_C(1000000);
        bool shortened = deadline_ns && deadline_ns < end;
        emb_status st = order(b, o, shortened ? deadline_ns : end, err);
        if (st == EMB_OK)
            emb_budget_contact_answered(&b->contact);
        if (st == EMB_OK || (shortened && st == EMB_E_DEADLINE) ||
            !emb_budget_contact_failed(&b->contact, st, since, err) || tries == TRIES)
            return st;
    }
}

emb_status emb_budget_reserve(emb_budget *b, const emb_budget_scope *scopes, size_t count, uint64_t nusd,
                              uint64_t deadline_ns, emb_budget_ticket *ticket, emb_error *err)
{
    emb_budget_want wants[EMB_BUDGET_SCOPES];
    emb_error why = {0};
    emb_status st = check(scopes, count, nusd, err);
    if (st == EMB_OK)
        st = fill_ticket(b, scopes, count, nusd, ticket, wants, err);
    if (st != EMB_OK || count == 0 ||
        (st = emb_budget_contact_enter(&b->contact, deadline_ns, err)) != EMB_OK)
        return st;
    emb_budget_order o = {.day = ticket->day, .nusd = nusd, .wants = wants, .count = count};
    memcpy(o.id, ticket->id, sizeof o.id);
    st = ask(b, &o, deadline_ns, &ticket->repeated, &why);
    emb_budget_contact_leave(&b->contact);
    memcpy(ticket->id, o.id, sizeof o.id);
    if (st != EMB_OK) {
        if (b->store->ops->is_remote)
            take_back(b, ticket);
        return emb_budget_contact_refuse(err, why.message);
    }
    if (!o.granted)
        emb_budget_view_refused(b->view, &o);
    else
        emb_budget_view_reserved(b->view, &o);
    return o.granted ? EMB_OK : refused(b, &o, err);
}

/* ---- settle ---- */

void emb_budget_settle(emb_budget *b, const emb_budget_ticket *ticket, uint64_t actual_nusd)
{
    if (ticket->count == 0)
        return;
    if (actual_nusd > EMB_BUDGET_NUSD_MAX)
        actual_nusd = EMB_BUDGET_NUSD_MAX;
    emb_budget_item *item =
        emb_budget_item_make(ticket, actual_nusd, ticket->repeated ? EMB_BUDGET_REPEATED : EMB_BUDGET_SURE);
    if (!item) {
        emb_log(EMB_LOG_ERROR, "budget: memory is short; what a call cost is not counted",
                EMB_LOG_INT("nusd", actual_nusd));
        return;
    }
    emb_budget_view_queued(b->view, &item->settlement, item->reserved_nusd);
    (void)!emb_budget_queue_add(&b->queue, item);
}

bool emb_budget_flush(emb_budget *b, uint64_t deadline_ns)
{
    return emb_budget_queue_wait_empty(&b->queue, deadline_ns);
}

/* ---- looking ---- */

bool emb_budget_peek(emb_budget *b, const char *scope, emb_budget_use *out)
{
    return emb_budget_view_get(b->view, emb_budget_today(b, NULL), scope, out);
}

typedef struct wanted {
    const char *scope;
    emb_budget_use *out;
} wanted;

static void pick(void *context, const char *scope, const emb_budget_use *use)
{
    wanted *w = context;
    if (strcmp(scope, w->scope) == 0)
        *w->out = *use;
}

emb_status emb_budget_read(emb_budget *b, const char *scope, uint64_t deadline_ns, emb_budget_use *out,
                           emb_error *err)
{
    wanted w = {scope, out};
    emb_error why = {0};
    *out = (emb_budget_use){0};
    emb_status st = b->store->ops->read(b->store, emb_budget_today(b, NULL), pick, &w, deadline_ns, &why);
    return st ? emb_budget_contact_refuse(err, why.message) : EMB_OK;
}

static void collect(void *context)
{
    emb_budget *b = context;
    emb_budget_view_collect(b->view, emb_budget_today(b, NULL));
}

/* ---- the thread ---- */

static emb_status refresh(emb_budget *b, uint64_t within_ns, emb_error *err)
{
    uint64_t given_up = 0, deadline = emb_now_ns() + within_ns;
    emb_status st = b->store->ops->expire(b->store, &given_up, deadline, err);
    if (given_up)
        emb_log(EMB_LOG_WARN, "budget: reservations that nobody settled were given up",
                EMB_LOG_INT("count", given_up));
    if (st != EMB_OK)
        return st;
    int32_t day = emb_budget_today(b, NULL);
    emb_budget_view_begin(b->view, day);
    st = b->store->ops->read(b->store, day, emb_budget_view_seen, b->view, deadline, err);
    emb_budget_view_end(b->view, st == EMB_OK);
    return st;
}

/* EMB_OK also if there was nothing. */
static emb_status write_batch(emb_budget *b, emb_error *err)
{
    const emb_budget_item *items[EMB_BUDGET_SETTLE_BATCH];
    emb_budget_settlement list[EMB_BUDGET_SETTLE_BATCH];
    size_t count = emb_budget_queue_peek(&b->queue, items);
    for (size_t i = 0; i < count; i++)
        list[i] = items[i]->settlement;
    if (count == 0)
        return EMB_OK;
    emb_status st = b->store->ops->settle(b->store, list, count, emb_now_ns() + THREAD_NS, err);
    if (st != EMB_OK)
        return st;
    for (size_t i = 0; i < count; i++)
        emb_budget_view_settled(b->view, &list[i], items[i]->reserved_nusd);
    emb_budget_queue_done(&b->queue, count);
    return EMB_OK;
}

typedef struct schedule {
    uint64_t write_ns, refresh_ns, tidy_ns, close_ns;
    uint32_t retry_ms;
} schedule;

static void do_write(emb_budget *b, schedule *s)
{
    emb_error err = {0};
    uint64_t since = emb_now_ns();
    emb_status st = write_batch(b, &err);
    if (st == EMB_OK) {
        emb_budget_contact_answered(&b->contact);
        s->retry_ms = 0;
        s->write_ns = 0;
        return;
    }
    (void)emb_budget_contact_failed(&b->contact, st, since, &err);
    s->retry_ms = !s->retry_ms                         ? RETRY_FIRST_MS
                  : s->retry_ms * 2 < RETRY_LONGEST_MS ? s->retry_ms * 2
                                                       : RETRY_LONGEST_MS;
    s->write_ns = emb_now_ns() + s->retry_ms * UINT64_C(1000000);
}

static void do_refresh(emb_budget *b, schedule *s)
{
    emb_error err = {0};
    bool was_down = !emb_budget_is_up(b);
    uint64_t since = emb_now_ns();
    emb_status st = refresh(b, THREAD_NS, &err);
    if (st == EMB_OK) {
        emb_budget_contact_answered(&b->contact);
        if (was_down)
            s->write_ns = 0;
    } else {
        (void)emb_budget_contact_failed(&b->contact, st, since, &err);
    }
    uint64_t now = emb_now_ns();
    s->refresh_ns = now + (emb_budget_is_up(b) ? REFRESH_NS : REFRESH_DOWN_NS);
    if (now >= s->tidy_ns && emb_budget_is_up(b)) {
        (void)!b->store->ops->tidy(b->store, emb_budget_today(b, NULL) - EMB_BUDGET_KEPT_DAYS,
                                   now + THREAD_NS, &err);
        s->tidy_ns = now + TIDY_NS;
    }
}

/* Whether there is something to write. */
static bool look(emb_budget *b, bool *closing)
{
    pthread_mutex_lock(&b->queue.lock);
    bool any = b->queue.count > 0;
    *closing = b->queue.closing;
    pthread_mutex_unlock(&b->queue.lock);
    return any;
}

static void *run(void *context)
{
    emb_budget *b = context;
    schedule s = {.refresh_ns = emb_now_ns() + REFRESH_NS};
    emb_thread_background("embedd-budget");
    for (;;) {
        bool closing, any = look(b, &closing);
        uint64_t now = emb_now_ns();
        if (closing && !s.close_ns)
            s.close_ns = now + CLOSE_NS, s.write_ns = 0;
        if (closing && (!any || now >= s.close_ns))
            return NULL;
        if (any && now >= s.write_ns)
            do_write(b, &s);
        else if (!closing && now >= s.refresh_ns)
            do_refresh(b, &s);
        else if (closing)
            nanosleep(&(struct timespec){0, 5000000}, NULL);
        else
            emb_budget_queue_sleep(
                &b->queue, s.write_ns && any && s.write_ns < s.refresh_ns ? s.write_ns : s.refresh_ns, !any);
    }
}

/* ---- opening and closing ---- */

static void release(emb_budget *b)
{
    if (b->store)
        b->store->ops->close(b->store);
    emb_budget_queue_fini(&b->queue);
    emb_budget_view_close(b->view);
    emb_zone_close(b->zone);
    emb_budget_contact_fini(&b->contact);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

/* A store that is away is no failure; one that is something else is. */
static emb_status meet(emb_budget *b, emb_error *err)
{
    emb_error why = {0};
    emb_status st = refresh(b, OPEN_NS, &why);
    if (st == EMB_E_CORRUPT || st == EMB_E_UNSUPPORTED || st == EMB_E_INVALID || st == EMB_E_NOMEM) {
        if (err)
            *err = why;
        return st;
    }
    if (st == EMB_OK)
        emb_budget_contact_answered(&b->contact);
    else
        emb_budget_contact_lost(&b->contact, &why);
    emb_series_set(b->contact.series_up, st == EMB_OK);
    return EMB_OK;
}

static emb_status start(emb_budget *b, emb_error *err)
{
    emb_status st = b->metrics ? emb_metrics_on_collect(b->metrics, collect, b) : EMB_OK;
    if (st != EMB_OK)
        return emb_fail(err, st, "budget", "the budget's gauges could not be registered");
    if (pthread_create(&b->thread, NULL, run, b) != 0) {
        emb_metrics_off_collect(b->metrics, b);
        return emb_fail(err, EMB_E_NOMEM, "budget", "no thread could be started for the budget");
    }
    return EMB_OK;
}

emb_status emb_budget_open(const char *url, const emb_budget_options *options, emb_budget **out,
                           emb_error *err)
{
    *out = NULL;
    emb_budget *b = calloc(1, sizeof *b);
    if (!b)
        return emb_fail_nomem(err, "a budget", sizeof *b);
    emb_budget_store_options store = {.reservation_s =
                                          options->reservation_s ? options->reservation_s : RESERVATION_S,
                                      .expired_are_spent = options->expired_are_spent,
                                      .now_s = options->now_s};
    b->now_s = options->now_s;
    b->command_ms = options->command_ms ? options->command_ms : COMMAND_MS;
    b->metrics = options->metrics;
    emb_budget_contact_init(&b->contact,
                            emb_metrics_series(options->metrics, EMB_METRIC_SHARED_STATE_UP, "budget"));
    snprintf(b->zone_name, sizeof b->zone_name, "%s",
             options->timezone && *options->timezone ? options->timezone : "UTC");
    pthread_mutex_init(&b->lock, NULL);
    emb_budget_queue_init(&b->queue);
    emb_status st = emb_zone_open(options->timezone, &b->zone, err);
    if (st == EMB_OK)
        st = emb_budget_view_open(options->metrics, &b->view, err);
    if (st == EMB_OK)
        st = emb_budget_store_open(url, &store, &b->store, err);
    if (st == EMB_OK)
        st = meet(b, err);
    if (st == EMB_OK)
        st = start(b, err);
    if (st != EMB_OK) {
        release(b);
        return st;
    }
    *out = b;
    return EMB_OK;
}

void emb_budget_close(emb_budget *b)
{
    if (!b)
        return;
    emb_metrics_off_collect(b->metrics, b);
    pthread_mutex_lock(&b->queue.lock);
    b->queue.closing = true;
    pthread_cond_signal(&b->queue.work);
    pthread_mutex_unlock(&b->queue.lock);
    pthread_join(b->thread, NULL);
    if (b->queue.count)
        emb_log(EMB_LOG_ERROR,
                "budget: the store did not take what was spent; it ends as reservations that expire",
                EMB_LOG_INT("settlements", b->queue.count));
    release(b);
}
