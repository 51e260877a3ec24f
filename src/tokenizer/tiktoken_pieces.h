/*
 * tiktoken_pieces.h: where cl100k_base cuts a text before it looks for tokens. Internal to tokenizer/.
 *
 *     for (size_t at = 0, end; at < n; at = end) { end = emb_cl100k_piece_end(s, n, at); ... }
 *
 * Pure. s is valid UTF-8.
 */
#ifndef EMB_TOKENIZER_TIKTOKEN_PIECES_H
#define EMB_TOKENIZER_TIKTOKEN_PIECES_H

#include <stddef.h>

/* The end of the piece that starts at `at` < n; > at. */
size_t emb_cl100k_piece_end(const char *s, size_t n, size_t at);

#endif
