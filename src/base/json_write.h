/*
 * json_write.h: writing JSON pieces into an emb_buf.
 *
 *     emb_json_write_string(&b, text, n);      // "…", escaped; invalid UTF-8 becomes U+FFFD
 *     emb_json_write_floats(&b, v, 384);       // [0.1,-0.25,…], each the shortest text that reads back
 *
 *     emb_json_write_member(&b, "name", text);  // ,"name":"…"
 *
 * The caller writes the punctuation between other pieces. EMB_E_NOMEM / EMB_E_LIMIT from the buffer; floats
 * that are not finite are EMB_E_INVALID.
 */
#ifndef EMB_BASE_JSON_WRITE_H
#define EMB_BASE_JSON_WRITE_H

#include "base/buf.h"

EMB_MUST_CHECK emb_status emb_json_write_string(emb_buf *buf, const char *text, size_t length);
/* "name":"text" of an object, with a comma in front unless '{' is there; null for a NULL. */
EMB_MUST_CHECK emb_status emb_json_write_member(emb_buf *buf, const char *name, const char *text);
EMB_MUST_CHECK emb_status emb_json_write_floats(emb_buf *buf, const float *values, size_t count);

#endif
