/*
 * parts.h: what the files of alerts/ share. Internal to alerts/, and for its tests.
 *
 *     rules.c    the table of rules: signals in, readings out; no state
 *     alerts.c   the state machine over the rules, and what is told and kept of its changes
 *     notice.c   a change as JSON, for webhooks and for Alertmanager
 *     sinks.c    a queue and a thread for each sink: order, retries, repetition
 *     send.c     one POST, by libcurl
 *     store*.c   what is kept over a restart: alerts, and notices that were not told yet
 *
 * Locks, in the order in which they are taken: evaluating (one evaluation at a time; the store's work is done
 * under it), lock (rows and thresholds), a sink's own.
 */
#ifndef EMB_ALERTS_PARTS_H
#define EMB_ALERTS_PARTS_H

#include "alerts/alerts.h"
#include "base/buf.h"
#include "store/db.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    EMB_SEVERITIES = EMB_SEVERITY_CRITICAL + 1,
    EMB_ALERT_ROWS_MAX = 256,     /* pending and firing at a time */
    EMB_ALERT_RESOLVED_MAX = 256, /* remembered in memory */
    EMB_NOTICES_MAX = 256,        /* waiting in a sink's queue */
    EMB_NOTICE_LIFE_S = 86400,    /* after which a notice is given up */
    EMB_REPEAT_S = 60,            /* Alertmanager is told again, the store's rows are refreshed */
    EMB_ALERT_KEPT_S = 30 * 86400 /* resolved alerts stay in the store */
};

/* ---- rules.c ---- */

/* What a rule sees now. */
typedef struct emb_reading {
    bool known;                              /* false: too little was observed; no condition holds */
    bool below;                              /* the condition is value < threshold, not value > threshold */
    bool reaches;                            /* equal counts, too */
    double value, threshold[EMB_SEVERITIES]; /* NAN where the rule has no such severity */
    const char *subject, *reason;            /* borrowed from the signals; "" */
} emb_reading;

typedef struct emb_rule {
    const char *name;
    bool per_provider;
    void (*read)(const emb_alert_signals *signals, const emb_alert_thresholds *thresholds,
                 const emb_provider_signal *provider, emb_reading *out);
    void (*summarize)(const emb_reading *reading, double threshold, char *out, size_t size);
} emb_rule;

extern const emb_rule emb_rules[];
extern const size_t emb_rule_count;
const emb_rule *emb_rule_find(const char *name);
/* The highest severity whose condition holds; -1: none. */
int emb_reading_level(const emb_reading *reading);

/* ---- records ---- */

/* An alert as it is shown, told and kept. Longer texts are cut at whole characters; what is no UTF-8 and
 * control characters are replaced. */
typedef struct emb_alert_record {
    char instance[256], name[48], subject[128], summary[256];
    emb_severity severity;
    emb_alert_state state;
    double value, threshold;
    int64_t since_s, fired_s, resolved_s;
} emb_alert_record;

void emb_copy_text(char *out, size_t size, const char *text);

/* ---- notice.c ---- */

/* A change as one sink sees it: severities before and after, -1 where it was or is not told. */
typedef struct emb_change {
    const emb_alert_record *alert;
    int before, after;
    int64_t now_s;
} emb_change;

EMB_MUST_CHECK emb_status emb_notice_webhook(const emb_change *change, emb_buf *out);
EMB_MUST_CHECK emb_status emb_notice_alertmanager(const emb_change *change, emb_buf *out);
/* One element of Alertmanager's array; ends_s 0: it fires on. */
EMB_MUST_CHECK emb_status emb_notice_element(const emb_alert_record *alert, emb_severity severity,
                                             int64_t ends_s, emb_buf *out);

/* ---- send.c ---- */

typedef struct emb_sink_request {
    const emb_sink_config *sink;
    const char *body;
    size_t length;
    const _Atomic uint64_t *stop_at_ns; /* emb_now_ns's clock; may come nearer while it runs */
} emb_sink_request;

/* EMB_OK for 2xx; *http_status 0: no answer. Errors name the sink, never its address. */
typedef emb_status (*emb_sink_send)(void *context, const emb_sink_request *request, int *http_status,
                                    emb_error *err);
emb_status emb_sink_send_http(void *context, const emb_sink_request *request, int *http_status,
                              emb_error *err);

/* ---- sinks.c ---- */

typedef struct emb_notice {
    struct emb_notice *next;
    struct emb_alert_sink *to;
    int64_t number, created_s;
    char name[48]; /* of the alert, for the log */
    size_t length;
    char body[];
} emb_notice;

typedef struct emb_alert_sink {
    emb_alerts *alerts;
    emb_sink_config config; /* its texts are in `texts` */
    char *texts;
    int minimum; /* emb_severity */
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    emb_notice *first, *last; /* the first may be on its way */
    size_t count;
    bool sending, failing;
    unsigned attempts;
    uint64_t retry_ns, repeat_ns;
    emb_series *sent, *failed, *given_up;
} emb_alert_sink;

EMB_MUST_CHECK emb_status emb_alert_sink_init(emb_alert_sink *sink, emb_alerts *alerts,
                                              const emb_sink_config *config, emb_error *err);
EMB_MUST_CHECK emb_status emb_alert_sink_start(emb_alert_sink *sink, emb_error *err);
void emb_alert_sink_fini(emb_alert_sink *sink); /* after alerts->closing was set; waits for its thread */
void emb_alert_sink_wake(emb_alert_sink *sink);
/* Takes the notice. Of a full queue the oldest that is not on its way is given up. */
void emb_alert_sink_add(emb_alert_sink *sink, emb_notice *notice);
bool emb_alert_sink_has(emb_alert_sink *sink, int64_t number);
/* Sends what is due at now_ns; returns when there will be something again, UINT64_MAX: when it is woken. */
uint64_t emb_alert_sink_step(emb_alert_sink *sink, uint64_t now_ns);
/* NULL when memory is short. */
emb_notice *emb_notice_new(int64_t number, int64_t created_s, const char *name, const char *body,
                           size_t length);

/* ---- store.c ---- */

typedef struct emb_alert_op {
    enum { EMB_OP_PUT, EMB_OP_FORGET, EMB_OP_NOTICE, EMB_OP_TOLD, EMB_OP_TIDY } kind;
    emb_alert_record alert; /* PUT; FORGET: instance, name, subject, since_s */
    const char *instance, *sink;
    const char *alert_name, *body; /* NOTICE */
    size_t length;
    int64_t number, now_s; /* number: NOTICE, TOLD */
} emb_alert_op;

typedef struct emb_alert_visitor {
    void *context;
    void (*alert)(void *context, const emb_alert_record *alert);
    /* In order of their numbers; NULL: not wanted. */
    void (*notice)(void *context, const char *sink, int64_t number, int64_t created_s, const char *name,
                   const char *body, size_t length);
} emb_alert_visitor;

EMB_MUST_CHECK emb_status emb_alert_store_open(const char *url, emb_db **out, emb_error *err);
/* All or nothing. */
EMB_MUST_CHECK emb_status emb_alert_store_apply(emb_db *store, const emb_alert_op *ops, size_t count,
                                                uint64_t deadline_ns, emb_error *err);
/* instance NULL: of all. */
EMB_MUST_CHECK emb_status emb_alert_store_load(emb_db *store, const char *instance,
                                               const emb_alert_visitor *visitor, uint64_t deadline_ns,
                                               emb_error *err);

/* ---- alerts.c ---- */

typedef struct emb_alert_row {
    emb_alert_record record;
    const emb_rule *rule; /* NULL: of a version that knows more rules */
    bool seen;            /* in this evaluation */
    bool active[EMB_SEVERITIES];
    bool differs[EMB_SEVERITIES]; /* the condition is not as `active` says, since differs_s */
    int64_t differs_s[EMB_SEVERITIES];
    bool
        holds[EMB_SEVERITIES]; /* the condition, at every evaluation since holds_s; not kept over a restart */
    int64_t holds_s[EMB_SEVERITIES];
    int64_t kept_s; /* when it was last written to the store */
} emb_alert_row;

struct emb_alerts {
    pthread_mutex_t evaluating, lock;
    emb_alert_thresholds thresholds;
    char instance[256];
    emb_alert_row *rows;
    size_t row_count, row_capacity;
    emb_alert_record *resolved; /* the newest last */
    size_t resolved_count;
    emb_alert_sink *sinks;
    size_t sink_count;
    emb_db *store; /* NULL: nothing is kept */
    bool loaded, store_failed, read_only;
    emb_alert_op *ops; /* for the store, not written yet */
    size_t op_count, op_capacity;
    int64_t number, tidied_s; /* of the last notice */
    emb_metrics *metrics;
    emb_series *firing[EMB_SEVERITIES];
    int64_t (*now_s)(void);
    emb_sink_send send;
    void *send_context;
    atomic_bool closing;
    _Atomic uint64_t stop_at_ns;
};

/* For tests: another sender; threads false: nobody runs the sinks but emb_alert_sink_step. */
EMB_MUST_CHECK emb_status emb_alerts_open_with(const emb_alerts_options *options, emb_sink_send send,
                                               void *context, bool threads, emb_alerts **out, emb_error *err);
/* Before anything else is changed: what is added then cannot fail. Called with the lock. */
EMB_MUST_CHECK bool emb_alerts_reserve_ops(emb_alerts *alerts, size_t count);
/* An older one about the same alert is replaced. Called with the lock, after a reservation. */
void emb_alerts_add_op(emb_alerts *alerts, const emb_alert_op *op);
/* Writes what is to be written. `evaluating` is held. */
void emb_alerts_save(emb_alerts *alerts);
/* Takes over what the store holds, once. `evaluating` is held, or nobody else knows of the alerts yet. */
EMB_MUST_CHECK emb_status emb_alerts_load(emb_alerts *alerts, uint64_t deadline_ns, emb_error *err);
/* A row that the caller fills; NULL when there is no room. Called with the lock. */
emb_alert_row *emb_alerts_add_row(emb_alerts *alerts);
emb_alert_row *emb_alerts_find_row(emb_alerts *alerts, const char *name, const char *subject);
void emb_alerts_add_resolved(emb_alerts *alerts, const emb_alert_record *record);
/* The highest that is active, or -1. */
int emb_alert_row_severity(const emb_alert_row *row);
/* What fires now for this sink as Alertmanager's array; *count 0: nothing does. */
EMB_MUST_CHECK emb_status emb_alerts_write_firing(emb_alerts *alerts, int minimum, emb_buf *out,
                                                  size_t *count);
/* A notice was told or given up: the store forgets it. */
void emb_alerts_told(emb_alerts *alerts, const char *sink, int64_t number);

#endif
