/*
 * split.h: a call's texts as parts that a provider takes: by texts, tokens and bytes of the body.
 *
 *     emb_split_limits most = { .texts = 96, .tokens = 0, .bytes = 2000000, .fixed_bytes = 400 };
 *     st = emb_split(texts, NULL, token_counts, n, &most, &parts, &count, err);
 *     free(parts);
 *
 * Parts are runs of the texts in their order and about equally long. Thread-safe.
 */
#ifndef EMB_PROVIDER_SPLIT_H
#define EMB_PROVIDER_SPLIT_H

#include <embedd.h>

typedef struct emb_split_limits {
    size_t texts, tokens, bytes; /* 0: no limit */
    size_t fixed_bytes;          /* of a body without texts, at most */
} emb_split_limits;

typedef struct emb_split_part {
    size_t first, count;
    uint64_t tokens;
} emb_split_part;

/* offsets: the texts go out as lists of token ids, list i of offsets[i+1] - offsets[i]; or NULL.
 * A text alone over `tokens` is a part of its own (the provider may cut it); one over `bytes` is EMB_E_LIMIT.
 * token_counts may be NULL. *parts is the caller's to free. */
EMB_MUST_CHECK emb_status emb_split(const emb_text *texts, const size_t *offsets,
                                    const uint32_t *token_counts, size_t count, const emb_split_limits *most,
                                    emb_split_part **parts, size_t *part_count, emb_error *err);
/* Bytes that a text takes in a body as JSON, at most; exact for valid UTF-8 apart from control characters. */
size_t emb_split_json_bytes(const emb_text *text);

#endif
