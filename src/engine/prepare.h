/*
 * prepare.h: what sentence-transformers does to a text before its tokenizer.
 *
 *     emb_prepare(&buf, "query: ", 7, text, n, false);   // buf: prompt and text, lowered if asked
 *
 * Thread-safe; only emb_prepare allocates (in buf).
 */
#ifndef EMB_ENGINE_PREPARE_H
#define EMB_ENGINE_PREPARE_H

#include "base/buf.h"

/* Replaces buf's contents. EMB_E_NOMEM. */
EMB_MUST_CHECK emb_status emb_prepare(emb_buf *buf, const char *prompt, size_t prompt_length,
                                      const char *text, size_t length, bool lower);

#endif
