/*
 * zone.h: days and offsets of a time zone, from the system's zone files, without touching TZ.
 *
 *     emb_zone *zone;
 *     if ((st = emb_zone_open("Europe/Berlin", &zone, err))) return st;
 *     int32_t day = emb_zone_day(zone, time(NULL));                // days since 1970-01-01 there
 *     int64_t turns = emb_zone_day_start(zone, day + 1);           // when it is over
 *     char text[EMB_DAY_TEXT]; emb_day_text(day, text);            // "2026-07-31"
 *
 * "UTC" and "" need no file. Zones are read once and never change: any number of threads may use one.
 */
#ifndef EMB_BASE_ZONE_H
#define EMB_BASE_ZONE_H

#include <embedd.h>

typedef struct emb_zone emb_zone;

enum { EMB_DAY_TEXT = 16 };

/* EMB_E_INVALID for a name that cannot be one, EMB_E_NOT_FOUND where the system has no such zone. */
EMB_MUST_CHECK emb_status emb_zone_open(const char *name, emb_zone **out, emb_error *err);
void emb_zone_close(emb_zone *zone); /* takes NULL */
/* Seconds east of Greenwich. */
int32_t emb_zone_offset(const emb_zone *zone, int64_t unix_s);
/* Days since 1970-01-01 by the zone's clock. */
int32_t emb_zone_day(const emb_zone *zone, int64_t unix_s);
/* The first second of that day; where the zone's clock leapt over the day, of the next that there was. */
int64_t emb_zone_day_start(const emb_zone *zone, int32_t day);

/* "YYYY-MM-DD" of days since 1970-01-01. */
void emb_day_text(int32_t day, char out[EMB_DAY_TEXT]);
/* false: not a date of this form, or none that there is. */
bool emb_day_parse(const char *text, int32_t *day);

#endif
