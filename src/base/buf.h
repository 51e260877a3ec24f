/*
 * buf.h: a growable byte buffer that knows its maximum.
 *
 *     emb_buf b = EMB_BUF_INIT(1 << 20);
 *     if (emb_buf_add(&b, data, n) != EMB_OK) ... // EMB_E_NOMEM, or EMB_E_LIMIT over 1 MiB
 *     emb_buf_fini(&b);
 *
 * Not thread-safe. data is NULL while nothing was added. emb_buf_add keeps the buffer unchanged on
 * failure. The contents are not NUL-terminated; emb_buf_cstr makes them so.
 */
#ifndef EMB_BASE_BUF_H
#define EMB_BASE_BUF_H

#include <embedd.h>

typedef struct emb_buf {
    char *data;
    size_t length, capacity, maximum;
} emb_buf;

#define EMB_BUF_INIT(maximum_bytes) \
    {                               \
        NULL, 0, 0, (maximum_bytes) \
    }

void emb_buf_init(emb_buf *buf, size_t maximum_bytes);
void emb_buf_fini(emb_buf *buf);
/* Room for `more` bytes behind length. */
EMB_MUST_CHECK emb_status emb_buf_reserve(emb_buf *buf, size_t more);
EMB_MUST_CHECK emb_status emb_buf_add(emb_buf *buf, const void *data, size_t length);
EMB_MUST_CHECK emb_status emb_buf_add_str(emb_buf *buf, const char *text);
EMB_MUST_CHECK emb_status emb_buf_addf(emb_buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* NUL behind the contents (not counted in length); NULL when memory is short. */
EMB_MUST_CHECK const char *emb_buf_cstr(emb_buf *buf);
static inline void emb_buf_clear(emb_buf *buf)
{
    buf->length = 0;
}

#endif
