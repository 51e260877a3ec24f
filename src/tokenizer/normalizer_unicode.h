/* normalizer_unicode.h: the Unicode normalization forms, for their own normalizers and for those that
 * begin with one (BertNormalizer's strip_accents is NFD and a filter). */
#ifndef EMB_TOKENIZER_NORMALIZER_UNICODE_H
#define EMB_TOKENIZER_NORMALIZER_UNICODE_H

#include "tokenizer/parts.h"

/* NFD; NFC with compose, NFKD with compatible, NFKC with both. Text and spare may be swapped. */
EMB_MUST_CHECK emb_status emb_normalize_form(emb_span_text *text, emb_span_text *spare, bool compatible,
                                             bool compose, emb_error *err);

#endif
