/* Doubling growth up to the declared maximum; a failed growth leaves the contents as they were. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void emb_buf_init(emb_buf *buf, size_t maximum_bytes)
{
    *buf = (emb_buf)EMB_BUF_INIT(maximum_bytes);
}

void emb_buf_fini(emb_buf *buf)
{
    free(buf->data);
    buf->data = NULL;
    buf->length = buf->capacity = 0;
}

emb_status emb_buf_reserve(emb_buf *buf, size_t more)
{
    if (more <= buf->capacity - buf->length)
        return EMB_OK;
    if (buf->length > buf->maximum || more > buf->maximum - buf->length)
        return EMB_E_LIMIT;
    size_t need = buf->length + more;
    size_t capacity = buf->capacity > buf->maximum / 2 ? buf->maximum : buf->capacity * 2;
    if (capacity < need)
        capacity = need;
    if (capacity < 64 && buf->maximum >= 64)
        capacity = 64;
    char *data = realloc(buf->data, capacity);
    if (!data)
        return EMB_E_NOMEM;
    buf->data = data;
    buf->capacity = capacity;
    return EMB_OK;
}

emb_status emb_buf_add(emb_buf *buf, const void *data, size_t length)
{
    if (length == 0)
        return EMB_OK;
    emb_status status = emb_buf_reserve(buf, length);
    if (status)
        return status;
    memcpy(buf->data + buf->length, data, length);
    buf->length += length;
    return EMB_OK;
}

emb_status emb_buf_add_str(emb_buf *buf, const char *text)
{
    return emb_buf_add(buf, text, strlen(text));
}

emb_status emb_buf_addf(emb_buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    emb_status status = n < 0 ? EMB_E_INVALID : emb_buf_reserve(buf, (size_t)n + 1);
    if (!status) {
        vsnprintf(buf->data + buf->length, (size_t)n + 1, format, again);
        buf->length += (size_t)n;
    }
    va_end(again);
    return status;
}

const char *emb_buf_cstr(emb_buf *buf)
{
    if (emb_buf_reserve(buf, 1))
        return NULL;
    buf->data[buf->length] = 0;
    return buf->data;
}
