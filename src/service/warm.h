/*
 * warm.h: embedding texts before anybody asks, so that they are in the cache.
 *
 *     emb_warm_report report;
 *     emb_warm_source source = { .list = "finance" };
 *     emb_warm(service, &source, "bge-small-en-v1.5", EMB_ROLE_QUERY, progress, context, cancel, &report, err);
 *
 * Sources: a list that ships ("finance": 130+ terms; data in lists.c), a file (a text a line, # starts a
 * comment; or JSONL with "text"), texts given, or the most used texts of L2 (needs cache.store_text). Bulk
 * priority.
 */
#ifndef EMB_SERVICE_WARM_H
#define EMB_SERVICE_WARM_H

#include "service/service.h"

typedef struct emb_warm_source {
    const char *list, *file; /* either, or … */
    const emb_text *texts;   /* … these, or … */
    size_t count;
    size_t most_used;         /* … this many */
    const emb_caller *caller; /* whose models and budget they are; or NULL */
} emb_warm_source;

typedef struct emb_warm_report {
    uint64_t texts, cached, computed, failed, tokens;
    uint64_t elapsed_ns;
    char model[128];
} emb_warm_report;

typedef void (*emb_warm_progress)(void *context, uint64_t done, uint64_t total);

EMB_MUST_CHECK emb_status emb_warm(emb_service *service, const emb_warm_source *source, const char *model,
                                   emb_role role, emb_warm_progress progress, void *context,
                                   const volatile int *cancel, emb_warm_report *report, emb_error *err);

/* The lists that ship: name and terms. NULL after the last. */
typedef struct emb_term_list {
    const char *name, *description;
    const char *const *terms;
    size_t count;
} emb_term_list;
const emb_term_list *emb_term_list_at(size_t index);
const emb_term_list *emb_term_list_find(const char *name);

#endif
