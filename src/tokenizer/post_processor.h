/*
 * post_processor.h: the special tokens around a text, and the trimming of offsets.
 *
 *     emb_post_processor post;
 *     if ((st = emb_post_processor_parse(&post, json, where, err))) return st;
 *     // result: post.prefix ids, the text's tokens, post.suffix ids
 *
 * Immutable once parsed; holds no memory of its own.
 */
#ifndef EMB_TOKENIZER_POST_PROCESSOR_H
#define EMB_TOKENIZER_POST_PROCESSOR_H

#include "base/arena.h"
#include "base/json.h"

/* A step that takes spaces at the ends of tokens out of their offsets. */
typedef struct emb_trim {
    bool add_prefix_space; /* one leading space of the first token was added and belongs to nothing */
    size_t prefix_before;  /* tokens that earlier steps have put in front, but for templates */
} emb_trim;

enum { EMB_POST_MAX_IDS = 64, EMB_POST_MAX_STEPS = 16 };

typedef struct emb_post_processor {
    int32_t prefix[EMB_POST_MAX_IDS], suffix[EMB_POST_MAX_IDS];
    size_t prefix_count, suffix_count;
    emb_trim trims[EMB_POST_MAX_STEPS];
    size_t trim_count;
    size_t glued;      /* while parsing: what prefix_before of the next trim is */
    bool has_template; /* while parsing */
} emb_post_processor;

/* json may be JSON null: nothing is added. */
EMB_MUST_CHECK emb_status emb_post_processor_parse(emb_post_processor *post, emb_json_value json,
                                                   const char *where, emb_error *err);

#endif
