/*
 * log.h: one line an event, for people or as JSON.
 *
 *     emb_log_open(EMB_LOG_INFO, EMB_LOG_JSON, 2);
 *     emb_log(EMB_LOG_WARN, "cache: L2 is down", EMB_LOG_TEXT("url", url), EMB_LOG_INT("failures", 5));
 *     emb_log_close();
 *
 * Silent until emb_log_open, so that the library never prints. A line is one write(2), at most 4 KiB; longer
 * values are cut. Never put texts, vectors or keys into it: the message and the keys of fields are literals,
 * values are names, numbers and addresses. Thread-safe; open and close are called by the program's main
 * thread.
 */
#ifndef EMB_BASE_LOG_H
#define EMB_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum emb_log_level { EMB_LOG_ERROR, EMB_LOG_WARN, EMB_LOG_INFO, EMB_LOG_DEBUG } emb_log_level;
typedef enum emb_log_format { EMB_LOG_PLAIN, EMB_LOG_JSON } emb_log_format;

typedef struct emb_log_field {
    const char *key;
    enum { EMB_LOG_KIND_TEXT, EMB_LOG_KIND_INT, EMB_LOG_KIND_REAL, EMB_LOG_KIND_BOOL } kind;
    const char *text; /* may be NULL: the field is left out */
    int64_t integer;
    double real;
} emb_log_field;

#define EMB_LOG_TEXT(k, v)                                 \
    {                                                      \
        .key = (k), .kind = EMB_LOG_KIND_TEXT, .text = (v) \
    }
#define EMB_LOG_INT(k, v)                                             \
    {                                                                 \
        .key = (k), .kind = EMB_LOG_KIND_INT, .integer = (int64_t)(v) \
    }
#define EMB_LOG_REAL(k, v)                                 \
    {                                                      \
        .key = (k), .kind = EMB_LOG_KIND_REAL, .real = (v) \
    }
#define EMB_LOG_BOOL(k, v)                                    \
    {                                                         \
        .key = (k), .kind = EMB_LOG_KIND_BOOL, .integer = (v) \
    }

void emb_log_open(emb_log_level level, emb_log_format format, int descriptor);
/* Changes level and format while running. */
void emb_log_set(emb_log_level level, emb_log_format format);
void emb_log_close(void);
bool emb_log_wanted(emb_log_level level);
/* Lines lost since emb_log_open, because whoever reads them did not. Logging never waits for a reader. */
uint64_t emb_log_dropped(void);
void emb_log_write(emb_log_level level, const char *message, const emb_log_field *fields, size_t count);

/* A trailing empty field lets the list be empty. */
#define emb_log(level, message, ...)                                                           \
    do {                                                                                       \
        if (emb_log_wanted(level)) {                                                           \
            const emb_log_field emb_log_fields_[] = {__VA_ARGS__ __VA_OPT__(, ){.key = NULL}}; \
            emb_log_write(level, message, emb_log_fields_,                                     \
                          sizeof emb_log_fields_ / sizeof *emb_log_fields_ - 1);               \
        }                                                                                      \
    } while (0)

#endif
