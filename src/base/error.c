/*
 * The status table and the filling of emb_error. Messages are cut at the size of the field, never
 * allocated: an error about memory must not need memory.
 */
#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *emb_status_text(emb_status status)
{
    switch (status) {
#define EMB_X(name, value, text, http, retry) \
    case name:                                \
        return text;
        EMB_STATUS_TABLE(EMB_X)
#undef EMB_X
    }
    return "unknown status";
}

int emb_status_http(emb_status status)
{
    switch (status) {
#define EMB_X(name, value, text, http, retry) \
    case name:                                \
        return http;
        EMB_STATUS_TABLE(EMB_X)
#undef EMB_X
    }
    return 500;
}

bool emb_status_retryable(emb_status status)
{
    switch (status) {
#define EMB_X(name, value, text, http, retry) \
    case name:                                \
        return retry;
        EMB_STATUS_TABLE(EMB_X)
#undef EMB_X
    }
    return false;
}

emb_status emb_fail(emb_error *err, emb_status code, const char *where, const char *format, ...)
{
    if (!err)
        return code;
    err->code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    snprintf(err->where, sizeof err->where, "%s", where ? where : "");
    return code;
}

emb_status emb_fail_nomem(emb_error *err, const char *what, size_t bytes)
{
    return emb_fail(err, EMB_E_NOMEM, what, "%s: %zu bytes of memory could not be had", what, bytes);
}

emb_status emb_fail_errno(emb_error *err, const char *where, const char *doing)
{
    int number = errno;
    emb_status code = number == ENOENT || number == ENOTDIR ? EMB_E_NOT_FOUND
                      : number == ENOMEM                    ? EMB_E_NOMEM
                                                            : EMB_E_IO;
    char text[128];
    /* glibc's variant returns the string; it may or may not use the buffer */
    return emb_fail(err, code, where, "%s %s: %s", doing, where, strerror_r(number, text, sizeof text));
}

emb_status emb_error_context(emb_error *err, const char *format, ...)
{
    if (!err)
        return EMB_E_INTERNAL;
    char message[sizeof err->message];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n + 2 < sizeof message) {
        size_t room = sizeof message - (size_t)n - 3, length = strlen(err->message);
        memcpy(message + n, ": ", 2);
        memcpy(message + n + 2, err->message, length < room ? length : room);
        message[(size_t)n + 2 + (length < room ? length : room)] = 0;
    }
    memcpy(err->message, message, sizeof message);
    return err->code;
}
