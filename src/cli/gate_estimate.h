/*
 * gate_estimate.h: what embedding an input would take at a provider: `embedd embed --estimate`.
 *
 *     return emb_gate_estimate_run("embed", gate, input, skip_bad, as_json);
 *
 * Reads the whole input in slices, sends nothing.
 */
#ifndef EMB_CLI_GATE_ESTIMATE_H
#define EMB_CLI_GATE_ESTIMATE_H

#include "cli/gate.h"
#include "cli/input.h"

/* The exit status. skip_bad: lines that cannot be read are reported and left out. */
int emb_gate_estimate_run(const char *command, emb_gate *gate, emb_input *input, bool skip_bad, bool as_json);

#endif
