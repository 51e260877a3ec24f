/*
 * Time zones from TZif files (RFC 8536), versions 1 to 4.
 *
 * Why not localtime_r: it knows one zone, that of the environment variable TZ, and setenv is not for programs
 * with threads. ICU would be a dependency of 30 MiB for three questions.
 *
 * Everything rests on one question, period(): which offset holds at a time, and until when. Up to the last
 * transition of the file it is answered by binary search; after it by the file's footer, a POSIX rule
 * ("CET-1CEST,M3.5.0,M10.5.0/3"), whose transitions are worked out for the years around the time asked for.
 * The start of a day goes through the periods around it, so that days whose midnight does not exist begin
 * when the clock leaps past it.
 *
 * A file comes from the system but is checked as any input: counts, indexes, order, offsets (less than 26
 * hours). Zones with leap seconds ("right/…") count another kind of seconds and are refused. Cost: some 4 KiB
 * a zone; 50 ns a question, 300 ns by the footer.
 */
#include "base/zone.h"

#include "base/error.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NAME_MAX_BYTES = 64,
    FILE_MAX = 1 << 20,
    HEADER = 44,
    OFFSET_MAX = 26 * 3600,
    DAY = 86400,
    RULE_TIMES = 8
};

typedef enum rule_kind { RULE_JULIAN, RULE_DAY, RULE_MONTH } rule_kind; /* Jn, n, Mm.w.d */

typedef struct rule_date {
    rule_kind kind;
    int month, week, day;
    int32_t time_s; /* after midnight */
} rule_date;

typedef struct rule {
    bool known, has_summer;
    int32_t standard, summer; /* offsets */
    rule_date begin, end;     /* of summer */
} rule;

struct emb_zone {
    rule footer;
    int32_t first; /* the offset before the first transition */
    size_t count;
    int64_t *times;   /* ascending */
    int32_t *offsets; /* from times[i] on */
};

typedef struct period {
    int32_t offset;
    int64_t until; /* INT64_MAX: for ever */
} period;

/* ---- the calendar ---- */

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Days since 1970-01-01 of a date of the Gregorian calendar; years begin in March here, so that the leap day
 * is last. */
static int64_t days_of(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = floor_div(year, 400), in_era = year - era * 400;
    int64_t in_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719468;
}

static int64_t date_of(int64_t days, int *month, int *day)
{
    days += 719468;
    int64_t era = floor_div(days, 146097), d = days - era * 146097;
    int64_t y = (d - d / 1460 + d / 36524 - d / 146096) / 365, in_year = d - (365 * y + y / 4 - y / 100);
    int64_t m = (5 * in_year + 2) / 153;
    *day = (int)(in_year - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    return y + era * 400 + (*month <= 2);
}

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int month_days(int64_t year, int month)
{
    static const int DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return DAYS[month - 1] + (month == 2 && is_leap(year));
}

void emb_day_text(int32_t day, char out[EMB_DAY_TEXT])
{
    int month, of_month;
    int64_t year = date_of(day, &month, &of_month);
    if (year < 0 || year > 9999)
        year = year < 0 ? 0 : 9999;
    snprintf(out, EMB_DAY_TEXT, "%04d-%02d-%02d", (int)year, month, of_month);
}

bool emb_day_parse(const char *text, int32_t *day)
{
    static const char FORM[] = "dddd-dd-dd";
    if (!text || strlen(text) != strlen(FORM))
        return false;
    for (size_t i = 0; FORM[i]; i++)
        if (FORM[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != FORM[i])
            return false;
    int year = atoi(text), month = atoi(text + 5), of_month = atoi(text + 8);
    if (month < 1 || month > 12 || of_month < 1 || of_month > month_days(year, month))
        return false;
    *day = (int32_t)days_of(year, month, of_month);
    return true;
}

/* ---- the footer ---- */

/* Digits up to a limit; false if there are none or too many. */
static bool read_number(const char **at, int limit, int *out)
{
    const char *p = *at;
    int value = 0;
    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++)
        if ((value = value * 10 + (*p - '0')) > limit)
            return false;
    *at = p;
    *out = value;
    return true;
}

/* [+-]hh[:mm[:ss]] */
static bool read_time(const char **at, int hours_limit, int32_t *out)
{
    int sign = **at == '-' ? -1 : 1, hours, minutes = 0, seconds = 0;
    *at += **at == '-' || **at == '+';
    if (!read_number(at, hours_limit, &hours))
        return false;
    if (**at == ':') {
        ++*at;
        if (!read_number(at, 59, &minutes))
            return false;
        if (**at == ':') {
            ++*at;
            if (!read_number(at, 59, &seconds))
                return false;
        }
    }
    *out = sign * (hours * 3600 + minutes * 60 + seconds);
    return true;
}

static bool skip_name(const char **at)
{
    const char *p = *at;
    if (*p == '<') {
        p = strchr(p, '>');
        if (!p)
            return false;
        *at = p + 1;
        return true;
    }
    while ((*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z'))
        p++;
    bool some = p != *at;
    *at = p;
    return some;
}

static bool read_month_rule(const char **at, rule_date *out)
{
    out->kind = RULE_MONTH;
    ++*at;
    if (!read_number(at, 12, &out->month) || out->month < 1 || *(*at)++ != '.')
        return false;
    if (!read_number(at, 5, &out->week) || out->week < 1 || *(*at)++ != '.')
        return false;
    return read_number(at, 6, &out->day);
}

/* ",Mm.w.d[/time]", ",Jn[/time]", ",n[/time]" */
static bool read_rule_date(const char **at, rule_date *out)
{
    *out = (rule_date){.time_s = 2 * 3600};
    if (*(*at)++ != ',')
        return false;
    if (**at == 'M') {
        if (!read_month_rule(at, out))
            return false;
    } else {
        out->kind = **at == 'J' ? RULE_JULIAN : RULE_DAY;
        *at += **at == 'J';
        if (!read_number(at, 365, &out->day) || (out->kind == RULE_JULIAN && out->day < 1))
            return false;
    }
    if (**at != '/')
        return true;
    ++*at;
    return read_time(at, 167, &out->time_s);
}

static bool read_rule(const char *text, rule *out)
{
    int32_t west;
    const char *p = text;
    *out = (rule){.known = true};
    if (!skip_name(&p) || !read_time(&p, 24, &west))
        return false;
    out->standard = -west;
    if (!*p)
        return true;
    out->has_summer = true;
    out->summer = out->standard + 3600;
    if (!skip_name(&p))
        return false;
    if (*p && *p != ',') {
        if (!read_time(&p, 24, &west))
            return false;
        out->summer = -west;
    }
    return read_rule_date(&p, &out->begin) && read_rule_date(&p, &out->end) && !*p;
}

/* Midnight of a rule's date as days since 1970. */
static int64_t rule_day(const rule_date *d, int64_t year)
{
    int64_t january = days_of(year, 1, 1);
    if (d->kind == RULE_DAY)
        return january + d->day;
    if (d->kind == RULE_JULIAN)
        return january + d->day - 1 + (is_leap(year) && d->day > 59);
    int64_t first = days_of(year, d->month, 1),
            weekday = ((first + 4) % 7 + 7) % 7; /* 1970-01-01 was a Thursday */
    int64_t day = (d->day - weekday + 7) % 7 + 7 * (d->week - 1);
    if (day >= month_days(year, d->month))
        day -= 7;
    return first + day;
}

typedef struct change {
    int64_t at;
    bool to_summer;
} change;

/* Of equal times the one to summer comes last: that is how a footer says that it is always summer. */
static void insert_change(change *list, size_t count, change c)
{
    size_t i = count;
    for (; i > 0 && (list[i - 1].at > c.at || (list[i - 1].at == c.at && list[i - 1].to_summer)); i--)
        list[i] = list[i - 1];
    list[i] = c;
}

static period rule_period(const rule *r, int64_t t)
{
    change list[RULE_TIMES];
    size_t count = 0;
    int month, day;
    if (!r->has_summer)
        return (period){r->standard, INT64_MAX};
    int64_t year = date_of(floor_div(t, DAY), &month, &day);
    for (int64_t y = year - 2; y < year + 2; y++) {
        insert_change(list, count++,
                      (change){rule_day(&r->begin, y) * DAY + r->begin.time_s - r->standard, true});
        insert_change(list, count++, (change){rule_day(&r->end, y) * DAY + r->end.time_s - r->summer, false});
    }
    bool summer = list[0].at > t ? !list[0].to_summer : list[0].to_summer;
    int64_t until = t + 366 * DAY; /* nearer than any change that was not worked out may be */
    for (size_t i = 0; i < count; i++) {
        if (list[i].at > t) {
            until = list[i].at;
            break;
        }
        summer = list[i].to_summer;
    }
    return (period){summer ? r->summer : r->standard, until};
}

/* ---- the file ---- */

typedef struct tzif {
    const unsigned char *data;
    size_t times, types, characters; /* how many */
    size_t leaps, standards, locals;
    unsigned time_bytes, version;
} tzif;

static uint32_t read_u32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int64_t read_at(const tzif *f, size_t i)
{
    const unsigned char *p = f->data + i * f->time_bytes;
    if (f->time_bytes == 4)
        return (int32_t)read_u32(p);
    return (int64_t)((uint64_t)read_u32(p) << 32 | read_u32(p + 4));
}

/* A header and the block behind it; *size: of both. */
static bool read_block(const unsigned char *data, size_t length, unsigned time_bytes, tzif *out, size_t *size)
{
    if (length < HEADER || memcmp(data, "TZif", 4) != 0)
        return false;
    *out = (tzif){.data = data + HEADER,
                  .time_bytes = time_bytes,
                  .version = data[4],
                  .locals = read_u32(data + 20),
                  .standards = read_u32(data + 24),
                  .leaps = read_u32(data + 28),
                  .times = read_u32(data + 32),
                  .types = read_u32(data + 36),
                  .characters = read_u32(data + 40)};
    if (out->times > FILE_MAX || out->types > 256 || out->characters > FILE_MAX || out->leaps > FILE_MAX ||
        out->standards > 256 || out->locals > 256)
        return false;
    *size = HEADER + out->times * (time_bytes + 1) + out->types * 6 + out->characters +
            out->leaps * (time_bytes + 4) + out->standards + out->locals;
    return *size <= length && out->types > 0;
}

static bool read_offset(const tzif *f, size_t type, int32_t *out)
{
    if (type >= f->types)
        return false;
    *out = (int32_t)read_u32(f->data + f->times * (f->time_bytes + 1) + type * 6);
    return *out > -OFFSET_MAX && *out < OFFSET_MAX;
}

static emb_status corrupt(emb_error *err, const char *name)
{
    return emb_fail(err, EMB_E_CORRUPT, name, "the system's file of this time zone is not a valid TZif file");
}

static emb_status fill(emb_zone *z, const tzif *f, const char *name, emb_error *err)
{
    if (f->leaps)
        return emb_fail(err, EMB_E_UNSUPPORTED, name,
                        "the time zone counts leap seconds, which Unix time does not");
    if (!read_offset(f, 0, &z->first))
        return corrupt(err, name);
    z->times = calloc(f->times + 1, sizeof *z->times);
    z->offsets = calloc(f->times + 1, sizeof *z->offsets);
    if (!z->times || !z->offsets)
        return emb_fail_nomem(err, "the time zone", f->times * 12);
    for (size_t i = 0; i < f->times; i++) {
        z->times[i] = read_at(f, i);
        if ((i > 0 && z->times[i] <= z->times[i - 1]) ||
            !read_offset(f, f->data[f->times * f->time_bytes + i], &z->offsets[i]))
            return corrupt(err, name);
    }
    z->count = f->times;
    return EMB_OK;
}

/* "\n" rule "\n" at the end of the file; an empty rule is none. */
static emb_status read_footer(emb_zone *z, const char *text, size_t length, const char *name, emb_error *err)
{
    char line[128];
    const char *end = length > 1 && *text == '\n' ? memchr(text + 1, '\n', length - 1) : NULL;
    if (!end || (size_t)(end - text) > sizeof line)
        return corrupt(err, name);
    size_t n = (size_t)(end - text) - 1;
    memcpy(line, text + 1, n);
    line[n] = '\0';
    return n == 0 || read_rule(line, &z->footer) ? EMB_OK : corrupt(err, name);
}

static emb_status read_zone(emb_zone *z, const char *data, size_t length, const char *name, emb_error *err)
{
    tzif f;
    size_t size, second;
    const unsigned char *bytes = (const unsigned char *)data;
    if (!read_block(bytes, length, 4, &f, &size))
        return corrupt(err, name);
    if (f.version < '2')
        return fill(z, &f, name, err);
    if (!read_block(bytes + size, length - size, 8, &f, &second))
        return corrupt(err, name);
    emb_status st = fill(z, &f, name, err);
    return st ? st : read_footer(z, data + size + second, length - size - second, name, err);
}

/* Names are paths below the folder of zones and nothing else. */
static bool is_name(const char *name)
{
    size_t length = strlen(name);
    if (length >= NAME_MAX_BYTES || *name == '/' || name[length - 1] == '/' || strstr(name, "//"))
        return false;
    for (const char *p = name; *p; p++)
        if (!((*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '/' ||
              *p == '_' || *p == '+' || *p == '-'))
            return false;
    return true;
}

static emb_status load(emb_zone *z, const char *name, emb_error *err)
{
    static const char *const FOLDERS[] = {"/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/etc/zoneinfo"};
    char path[NAME_MAX_BYTES + 32], *data;
    size_t length;
    if (!is_name(name))
        return emb_fail(err, EMB_E_INVALID, "timezone",
                        "\"%.64s\" is not the name of a time zone such as Europe/Berlin", name);
    for (size_t i = 0; i < sizeof FOLDERS / sizeof *FOLDERS; i++) {
        snprintf(path, sizeof path, "%s/%s", FOLDERS[i], name);
        if (!emb_is_file(path))
            continue;
        emb_status st = emb_read_file(path, FILE_MAX, &data, &length, err);
        if (st == EMB_OK) {
            st = read_zone(z, data, length, name, err);
            free(data);
        }
        return st;
    }
    return emb_fail(err, EMB_E_NOT_FOUND, "timezone", "this system has no time zone \"%s\" (package tzdata)",
                    name);
}

emb_status emb_zone_open(const char *name, emb_zone **out, emb_error *err)
{
    *out = NULL;
    emb_zone *z = calloc(1, sizeof *z);
    if (!z)
        return emb_fail_nomem(err, "the time zone", sizeof *z);
    if (name && *name && strcmp(name, "UTC") != 0 && strcmp(name, "Etc/UTC") != 0) {
        emb_status st = load(z, name, err);
        if (st != EMB_OK) {
            emb_zone_close(z);
            return st;
        }
    }
    *out = z;
    return EMB_OK;
}

void emb_zone_close(emb_zone *z)
{
    if (!z)
        return;
    free(z->times);
    free(z->offsets);
    free(z);
}

/* ---- questions ---- */

static period period_at(const emb_zone *z, int64_t t)
{
    if (z->count == 0 || t < z->times[0]) {
        if (z->count == 0 && z->footer.known)
            return rule_period(&z->footer, t);
        return (period){z->first, z->count ? z->times[0] : INT64_MAX};
    }
    size_t low = 0, high = z->count; /* times[low] <= t < times[high] */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        *(z->times[middle] <= t ? &low : &high) = middle;
    }
    if (high < z->count)
        return (period){z->offsets[low], z->times[high]};
    return z->footer.known ? rule_period(&z->footer, t) : (period){z->offsets[low], INT64_MAX};
}

int32_t emb_zone_offset(const emb_zone *zone, int64_t unix_s)
{
    return period_at(zone, unix_s).offset;
}

int32_t emb_zone_day(const emb_zone *zone, int64_t unix_s)
{
    return (int32_t)floor_div(unix_s + emb_zone_offset(zone, unix_s), DAY);
}

int64_t emb_zone_day_start(const emb_zone *zone, int32_t day)
{
    int64_t midnight = (int64_t)day * DAY, t = midnight - OFFSET_MAX; /* the day has not begun anywhere */
    for (;;) {
        period p = period_at(zone, t);
        int64_t begins = midnight - p.offset;
        if (begins < t)
            begins = t;
        if (begins < p.until)
            return begins;
        t = p.until;
    }
}
