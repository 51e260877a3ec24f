/*
 * error.h: filling the caller's emb_error.
 *
 *     if (rank != 2)
 *         return emb_fail(err, EMB_E_CORRUPT, name, "tensor has %zu dimensions, 2 are needed", rank);
 *
 * emb_fail returns its status so that it can be returned in one statement. err may be NULL. `where`
 * names the file, key or argument concerned and may be NULL. Thread-safe.
 */
#ifndef EMB_BASE_ERROR_H
#define EMB_BASE_ERROR_H

#include <embedd.h>
#include <stdarg.h>

emb_status emb_fail(emb_error *err, emb_status code, const char *where, const char *format, ...)
    __attribute__((format(printf, 4, 5), cold));

/* EMB_E_NOMEM, naming what could not be allocated. */
emb_status emb_fail_nomem(emb_error *err, const char *what, size_t bytes) __attribute__((cold));

/* EMB_E_IO (or NOT_FOUND, NOMEM) with errno's text. */
emb_status emb_fail_errno(emb_error *err, const char *where, const char *doing) __attribute__((cold));

/* Puts "outer: " before the message that is there, for context. Returns err's code. */
emb_status emb_error_context(emb_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3), cold));

#endif
