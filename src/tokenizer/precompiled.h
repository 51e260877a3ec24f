/*
 * precompiled.h: the character map of a SentencePiece model ("Precompiled" normalizer).
 *
 *     emb_normalizer *n;
 *     if ((st = emb_precompiled_from_bytes(bytes, length, arena, where, &n, err))) return st;
 *     st = n->apply(n, &text, &spare, err);
 */
#ifndef EMB_TOKENIZER_PRECOMPILED_H
#define EMB_TOKENIZER_PRECOMPILED_H

#include "tokenizer/parts.h"

/* From the map itself (not its base64); the bytes are copied into the arena. */
EMB_MUST_CHECK emb_status emb_precompiled_from_bytes(const void *bytes, size_t length, emb_arena *arena,
                                                     const char *where, emb_normalizer **out, emb_error *err);

#endif
