/*
 * float_text.h: a float32 as the shortest decimal text that reads back to the same float32.
 *
 *     char t[EMB_FLOAT_TEXT_MAX];
 *     size_t n = emb_float_text(-0.0344778f, t);   // "-0.0344778", not NUL-terminated
 *
 * Plain digits between 1e-5 and 1e9, otherwise an exponent ("1.5e-7"); always valid JSON. The value must be
 * finite. Thread-safe, allocates nothing, independent of the locale.
 */
#ifndef EMB_BASE_FLOAT_TEXT_H
#define EMB_BASE_FLOAT_TEXT_H

#include <stddef.h>

#define EMB_FLOAT_TEXT_MAX 24

size_t emb_float_text(float value, char *out);

#endif
