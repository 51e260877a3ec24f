/*
 * breaker_machine.h: the states of one breaker, without lock, store or clock. Internal to router/.
 *
 * `now` never goes back: an earlier one counts as the latest that was seen.
 */
#ifndef EMB_ROUTER_BREAKER_MACHINE_H
#define EMB_ROUTER_BREAKER_MACHINE_H

#include "router/breaker_store.h"

enum { EMB_BREAKER_SLICES = 10, EMB_BREAKER_STREAK_MAX = 1000 };

typedef struct emb_breaker_slice {
    uint64_t number; /* of the slice of time */
    uint64_t calls, failures;
} emb_breaker_slice;

typedef struct emb_breaker_machine {
    emb_breaker_rules rules;
    emb_breaker_state state;
    uint64_t generation; /* changes with every state and every probe: permits of an older one count nothing */
    uint64_t now_ns;     /* the latest seen */
    unsigned failures;   /* in a row */
    uint64_t *streak;    /* when the last of them were, a ring of failure_threshold */
    size_t streak_room;
    emb_breaker_slice slices[EMB_BREAKER_SLICES];
    unsigned openings;
    uint64_t opened_ns, retry_ns, probe_until_ns;
    bool probing;
    char reason[EMB_BREAKER_REASON];
} emb_breaker_machine;

typedef enum emb_breaker_change {
    EMB_BREAKER_SAME,
    EMB_BREAKER_OPENED,
    EMB_BREAKER_WAS_CLOSED,
    EMB_BREAKER_GAVE_BACK
} emb_breaker_change;

/* Also for new rules later on. */
EMB_MUST_CHECK emb_status emb_breaker_machine_rules(emb_breaker_machine *machine,
                                                    const emb_breaker_rules *rules, emb_error *err);
void emb_breaker_machine_fini(emb_breaker_machine *machine);
uint64_t emb_breaker_machine_now(emb_breaker_machine *machine, uint64_t now_ns);
/* Whether a probe may begin. */
bool emb_breaker_machine_is_due(const emb_breaker_machine *machine, uint64_t now_ns);
emb_breaker_permit emb_breaker_machine_probe(emb_breaker_machine *machine, uint64_t now_ns,
                                             uint64_t probe_ns);
emb_breaker_change emb_breaker_machine_report(emb_breaker_machine *machine, emb_breaker_permit permit,
                                              emb_breaker_outcome outcome, uint64_t duration_ns,
                                              const char *reason, uint64_t now_ns);
void emb_breaker_machine_open(emb_breaker_machine *machine, uint64_t now_ns, uint64_t retry_ns,
                              unsigned openings, const char *reason);
void emb_breaker_machine_close(emb_breaker_machine *machine);

#endif
