/*
 * detokenize.h: token ids back to text, as the reference's decoders do it.
 *
 *     emb_buf text = EMB_BUF_INIT(1 << 20);
 *     if ((st = emb_model_detokenize(model, ids, count, true, &text))) …;   // "hello world"
 *
 * Appends UTF-8 to *out. Ids outside the vocabulary are left out, as the reference does. The text is not what
 * the ids were made from: tokenizers drop letter case and white space. Any thread. EMB_E_NOMEM, EMB_E_LIMIT.
 */
#ifndef EMB_ENGINE_DETOKENIZE_H
#define EMB_ENGINE_DETOKENIZE_H

#include "base/buf.h"

EMB_MUST_CHECK emb_status emb_model_detokenize(const emb_model *model, const int32_t *ids, size_t count,
                                               bool skip_special_tokens, emb_buf *out);

#endif
