/*
 * utf8.h: decoding and checking UTF-8 as Unicode defines it (no surrogates, no overlong forms).
 *
 *     for (size_t i = 0; i < n;) { uint32_t c; i += emb_utf8_decode(s + i, n - i, &c); ... }
 *
 * Thread-safe, allocate nothing (emb_utf8_repair aside).
 */
#ifndef EMB_BASE_UTF8_H
#define EMB_BASE_UTF8_H

#include "base/buf.h"

#define EMB_UTF8_REPLACEMENT 0xFFFDu

/* Bytes taken (1..4; n must be > 0). An invalid sequence gives U+FFFD and takes its maximal subpart, as
 * the WHATWG decoder and Python's errors="replace" do. */
size_t emb_utf8_decode(const char *s, size_t n, uint32_t *code_point);
/* Bytes written to out (room for 4). */
size_t emb_utf8_encode(uint32_t code_point, char *out);
/* Length of the valid prefix; == n when all is valid. ASCII runs at memory speed. */
size_t emb_utf8_valid_prefix(const char *s, size_t n);
/* Appends s to buf with each invalid sequence replaced by U+FFFD. */
EMB_MUST_CHECK emb_status emb_utf8_repair(emb_buf *buf, const char *s, size_t n);

#endif
