/*
 * decode.h: members of a JSON body into C values, with errors that name the member, what is wrong with its
 * value and the limit. Internal to api/.
 *
 *     bool normalize = true; size_t dimensions = 0;
 *     if (!emb_decode_bool(call, root, "normalize", &normalize) ||
 *         !emb_decode_count(call, root, "dimensions", 1, 65536, &dimensions) ||
 *         !emb_decode_texts(call, root, "texts", EMB_TEXTS_ONE | EMB_TEXTS_MANY, &request)) return;  // has answered
 *
 * A member that is absent or null leaves its output alone, except where a function says that it is needed.
 * false: an error has been answered. Strings point into the document, which lives as long as the call; they
 * are valid UTF-8.
 */
#ifndef EMB_API_DECODE_H
#define EMB_API_DECODE_H

#include "api/call.h"

EMB_MUST_CHECK bool emb_decode_bool(emb_api_call *call, emb_json_value object, const char *member, bool *out);
EMB_MUST_CHECK bool emb_decode_count(emb_api_call *call, emb_json_value object, const char *member,
                                     size_t minimum, size_t maximum, size_t *out);
/* NUL bytes are refused; *out is NUL-terminated, in the arena. */
EMB_MUST_CHECK bool emb_decode_name(emb_api_call *call, emb_json_value object, const char *member,
                                    const char **out);
/* The index of the member's value in choices ("float|base64"), letter case as given. */
EMB_MUST_CHECK bool emb_decode_choice(emb_api_call *call, emb_json_value object, const char *member,
                                      const char *choices, int *out);
/* Needed. NUL bytes are refused. */
EMB_MUST_CHECK bool emb_decode_text(emb_api_call *call, emb_json_value object, const char *member,
                                    emb_text *out);

enum {
    EMB_TEXTS_ONE = 1,         /* a string */
    EMB_TEXTS_MANY = 2,        /* an array of strings, at least one, at most server.max_inputs */
    EMB_TEXTS_IDS = 4,         /* an array of token ids, or an array of such arrays */
    EMB_TEXTS_NOT_EMPTY = 8,   /* empty or white-space texts are refused, naming their indexes */
    EMB_TEXTS_EMPTY_LIST = 16, /* an empty array is fine */
    EMB_TEXTS_NOT_ZERO = 32    /* "" is refused, naming the indexes; white space is fine */
};
/* Needed. Fills request->texts or ids, offsets, and count. *single (may be NULL): it was one string or one id
 * list. */
EMB_MUST_CHECK bool emb_decode_texts(emb_api_call *call, emb_json_value object, const char *member,
                                     unsigned kinds, emb_request *request, bool *single);

/* Nothing but white space, as Python's str.strip sees it. */
bool emb_text_is_blank(emb_text text);

/* "model": NULL or "" stands for the default. */
EMB_MUST_CHECK bool emb_decode_model(emb_api_call *call, emb_json_value object, emb_request *request);
/* true or absent: the model's own side; false or "none": a text over the limit is an error; "start" or
 * "left": cut there; "end" or "right". Letter case does not matter. */
EMB_MUST_CHECK bool emb_decode_truncate(emb_api_call *call, emb_json_value object, const char *member,
                                        emb_truncation *out);
/* What all families take besides: model, dimensions, prompt_name, normalize, truncate, context, category and
 * preferred_provider, each optional. After emb_call_headers, so that the body wins. */
EMB_MUST_CHECK bool emb_decode_common(emb_api_call *call, emb_json_value object, emb_request *request);
/* A context by name, "realtime", "analysis", "batch", "sensitive" or "default", into the request; false if
 * unknown. */
EMB_MUST_CHECK bool emb_request_set_context(emb_request *request, const char *name);

#endif
