/*
 * base64.h: RFC 4648's base64, standard alphabet, with padding. Pure functions, thread-safe.
 */
#ifndef EMB_BASE_BASE64_H
#define EMB_BASE_BASE64_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

static inline size_t emb_base64_size(size_t length)
{
    return (length + 2) / 3 * 4;
}
/* out has room for emb_base64_size(length), no NUL is written. Returns the characters written. */
size_t emb_base64_encode(const void *data, size_t length, char *out);
/* Strict: alphabet, padding, no white space, no stray bits; out has room for length / 4 * 3 bytes. false if
 * it is not base64; then out holds anything. */
EMB_MUST_CHECK bool emb_base64_decode(const char *text, size_t length, void *out, size_t *out_length);

#endif
