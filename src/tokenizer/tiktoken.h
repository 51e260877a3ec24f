/*
 * tiktoken.h: tokens of OpenAI's cl100k_base, exactly as tiktoken's encode_ordinary gives them.
 *
 *     emb_tiktoken *t; emb_tiktoken_scratch *s; size_t count;
 *     if ((st = emb_tiktoken_open("models/cl100k_base", &t, err))) return st;
 *     if ((st = emb_tiktoken_scratch_new(&s, err))) { emb_tiktoken_close(t); return st; }
 *     st = emb_tiktoken_count(t, s, text, n, &count, err);
 *     emb_tiktoken_scratch_free(s); emb_tiktoken_close(t);
 *
 * An encoding is immutable and shared by all threads; a scratch belongs to one thread at a time and to one
 * encoding. Text is UTF-8; invalid sequences are read as U+FFFD. Special tokens (<|endoftext|>) are text like
 * any other. Time is O(n log n) in the longest run without a break, linear otherwise.
 */
#ifndef EMB_TOKENIZER_TIKTOKEN_H
#define EMB_TOKENIZER_TIKTOKEN_H

#include <embedd.h>

#define EMB_TIKTOKEN_FILE "ranks.bin"

typedef struct emb_tiktoken emb_tiktoken;
typedef struct emb_tiktoken_scratch emb_tiktoken_scratch;

/* Reads ranks.bin of a directory; tools/make-tiktoken-ranks says what is in it. */
EMB_MUST_CHECK emb_status emb_tiktoken_open(const char *directory, emb_tiktoken **out, emb_error *err);
/* The same from memory, which may go afterwards; `where` names it in errors. */
EMB_MUST_CHECK emb_status emb_tiktoken_open_ranks(const void *data, size_t length, const char *where,
                                                  emb_tiktoken **out, emb_error *err);
void emb_tiktoken_close(emb_tiktoken *tiktoken);

/* Highest id + 1. */
size_t emb_tiktoken_size(const emb_tiktoken *tiktoken);
/* The bytes of a token, which need not be whole characters; NULL if there is none with that id. */
const char *emb_tiktoken_token(const emb_tiktoken *tiktoken, int32_t id, size_t *length);

EMB_MUST_CHECK emb_status emb_tiktoken_scratch_new(emb_tiktoken_scratch **out, emb_error *err);
void emb_tiktoken_scratch_free(emb_tiktoken_scratch *scratch);

/* How many tokens the text has. Nothing is allocated but for texts that are not valid UTF-8 and for runs of
 * more than 4 KiB without a break. EMB_E_LIMIT over 1 GiB, EMB_E_NOMEM. */
EMB_MUST_CHECK emb_status emb_tiktoken_count(const emb_tiktoken *tiktoken, emb_tiktoken_scratch *scratch,
                                             const char *text, size_t length, size_t *count, emb_error *err);

/* Starts as {0}; keeps its memory from call to call. */
typedef struct emb_tiktoken_ids {
    int32_t *data; /* malloc'ed */
    size_t count, capacity;
} emb_tiktoken_ids;

/* Replaces the contents of ids by those of the text. */
EMB_MUST_CHECK emb_status emb_tiktoken_encode(const emb_tiktoken *tiktoken, emb_tiktoken_scratch *scratch,
                                              const char *text, size_t length, emb_tiktoken_ids *ids,
                                              emb_error *err);
void emb_tiktoken_ids_fini(emb_tiktoken_ids *ids);

#endif
