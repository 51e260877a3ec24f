/*
 * A file of a time zone from any bytes, in place of the system's: the first eight are a time to ask about.
 * What is accepted answers every question in time and consistently: offsets stay below a day and two hours,
 * and the day of a time has begun by then.
 */
#include "base/error.h"
#include "base/file.h"
#include "base/zone.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
bool __wrap_emb_is_file(const char *path);
emb_status __wrap_emb_read_file(const char *path, size_t max_bytes, char **out, size_t *length,
                                emb_error *err);

static const uint8_t *contents;
static size_t contents_length;

static void must(bool condition)
{
    if (!condition)
        abort();
}

bool __wrap_emb_is_file(const char *path)
{
    return path != NULL;
}

emb_status __wrap_emb_read_file(const char *path, size_t max_bytes, char **out, size_t *length,
                                emb_error *err)
{
    (void)path;
    must(contents_length <= max_bytes);
    *out = malloc(contents_length + 1);
    if (!*out)
        return emb_fail_nomem(err, "a file", contents_length);
    memcpy(*out, contents, contents_length);
    (*out)[contents_length] = 0;
    *length = contents_length;
    return EMB_OK;
}

static void ask(const emb_zone *zone, int64_t t)
{
    int32_t offset = emb_zone_offset(zone, t), day = emb_zone_day(zone, t);
    int64_t start = emb_zone_day_start(zone, day);
    char text[EMB_DAY_TEXT];
    must(offset >= -26 * 3600 && offset <= 26 * 3600);
    must(start <= t && emb_zone_day(zone, start) >= day);
    emb_day_text(day, text);
    must(strlen(text) == 10);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int64_t some[] = {
        0, 1, -1, 1700000000, 1774738800, INT64_C(4102444800), -INT64_C(2208988800)};
    emb_zone *zone;
    emb_error err = {0};
    int64_t t;
    if (size < sizeof t)
        return 0;
    memcpy(&t, data, sizeof t);
    contents = data + sizeof t;
    contents_length = size - sizeof t;
    if (emb_zone_open("Fuzz/Zone", &zone, &err)) {
        must(err.message[0] != 0);
        return 0;
    }
    ask(zone, t % INT64_C(100000000000)); /* some three thousand years */
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        ask(zone, some[i]);
    emb_zone_close(zone);
    return 0;
}
