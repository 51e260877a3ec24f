/*
 * resume.c: a line of output begins with everything that the input decides (index, id, text, model,
 * dimension), so the same bytes are made again and compared: any change of the input, of its order or of
 * the options that show in a line is found, at the speed of reading. Options that change only the numbers
 * are found by the caller, who computes the last line again (see sink.h). Keeping a file beside the
 * output with a description of the run was rejected: it could be lost or left over, and proves nothing.
 */
#include "cli/resume.h"

#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

emb_status emb_resume_open(emb_resume *r, const char *path, uint64_t end, emb_error *err)
{
    memset(r, 0, sizeof *r);
    emb_buf_init(&r->prefix, EMB_LINE_MAX * 7);
    r->name = path;
    r->end = end;
    if (end == 0)
        return EMB_OK;
    r->stream = fopen(path, "rbe");
    return r->stream ? EMB_OK : emb_fail_errno(err, path, "opening");
}

void emb_resume_close(emb_resume *r)
{
    if (r->stream)
        fclose(r->stream);
    free(r->line);
    emb_buf_fini(&r->prefix);
    memset(r, 0, sizeof *r);
}

bool emb_resume_active(const emb_resume *r)
{
    return r->length > 0 || r->position < r->end;
}

static emb_status mismatch(const emb_resume *r, emb_error *err)
{
    return emb_fail(err, EMB_E_INVALID, r->name,
                    "%s: line %" PRIu64
                    " does not belong to this input, model and options; give what the first run "
                    "was given, or delete the file to start over",
                    r->name, r->lines + 1);
}

static bool line_index(const emb_resume *r, uint64_t *index)
{
    return sscanf(r->line, "{\"index\":%" SCNu64 ",", index) == 1;
}

emb_status emb_resume_check(emb_resume *r, const emb_formatter *formatter, const emb_record *record,
                            bool gaps, bool *there, emb_error *err)
{
    uint64_t index;
    *there = false;
    if (r->length <= 0) {
        r->length = getline(&r->line, &r->capacity, r->stream);
        if (r->length <= 0)
            return emb_fail_errno(err, r->name, "reading");
        r->position += (uint64_t)r->length;
    }
    if (gaps && line_index(r, &index) && index > record->index)
        return EMB_OK;
    emb_buf_clear(&r->prefix);
    emb_status status = emb_format_prefix(formatter, &r->prefix, record);
    if (status)
        return emb_fail_nomem(err, "line", record->length);
    size_t n = r->prefix.length, length = (size_t)r->length;
    if (length < n + 3 || memcmp(r->line, r->prefix.data, n) != 0 ||
        memcmp(r->line + length - 3, "]}\n", 3) != 0)
        return mismatch(r, err);
    r->length = 0;
    r->lines++;
    *there = true;
    return EMB_OK;
}
