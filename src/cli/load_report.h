/*
 * load_report.h: what a load test found, for people and as JSON.
 *
 *     emb_load_print(&outcome, &about);
 *     emb_load_print_json(&outcome, &about, err);
 */
#ifndef EMB_CLI_LOAD_REPORT_H
#define EMB_CLI_LOAD_REPORT_H

#include "cli/load_client.h"

typedef struct emb_load_about {
    const char *url; /* what was asked, with the route */
    const emb_load_plan *plan;
    const emb_load_shape *shape;
    bool series; /* for people: also second by second */
} emb_load_about;

void emb_load_print(const emb_load_outcome *outcome, const emb_load_about *about);
EMB_MUST_CHECK emb_status emb_load_print_json(const emb_load_outcome *outcome, const emb_load_about *about,
                                              emb_error *err);

#endif
