/* Shared by the tests of the service with a fake model: configurations, metrics, waiting for a condition. */
#ifndef EMB_TESTS_SERVICE_FIXTURE_H
#define EMB_TESTS_SERVICE_FIXTURE_H

#include "base/clock.h"
#include "base/error.h"
#include "service/models_parts.h"
#include "support/fail_alloc.h"
#include "support/fake_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define OK(call)                                   \
    do {                                           \
        emb_error e_;                              \
        memset(&e_, 0, sizeof e_);                 \
        emb_error *err = &e_;                      \
        emb_status s_ = (call);                    \
        if (s_)                                    \
            fail_msg("%s: %s", #call, e_.message); \
        (void)err;                                 \
    } while (0)

/* Fails with this status, and the error says `what` (NULL: anything). */
#define FAILS(status, what, call)                                                              \
    do {                                                                                       \
        emb_error e_;                                                                          \
        memset(&e_, 0, sizeof e_);                                                             \
        emb_error *err = &e_;                                                                  \
        emb_status s_ = (call);                                                                \
        (void)err;                                                                             \
        if (s_ != (status))                                                                    \
            fail_msg("%s: %s (%s)", #call, emb_status_text(s_), e_.message);                   \
        const char *what_ = (what);                                                            \
        if (what_ && !strstr(e_.message, what_) && strcmp(e_.where, what_) != 0)               \
            fail_msg("%s: neither \"%s\" nor %s says %s", #call, e_.message, e_.where, what_); \
    } while (0)

/* Until the condition holds, at most half a minute. */
#define UNTIL(condition)                                          \
    do {                                                          \
        uint64_t until_ = emb_now_ns() + UINT64_C(30000000000);   \
        while (!(condition)) {                                    \
            if (emb_now_ns() > until_)                            \
                fail_msg("waited 30 seconds for %s", #condition); \
            usleep(500);                                          \
        }                                                         \
    } while (0)

/* Pairs "section-setting", "value", …, NULL over: models from the fake's folder, one thread, no second level,
 * nothing kept. */
static inline emb_config *make_config(const char *first, ...)
{
    static char *none[] = {NULL};
    emb_config_flag flags[32] = {
        {"models-path", fake_model_root()}, {"models-threads", "1"},   {"cache-url", "none"},
        {"models-default", "one"},          {"models-memory", "1GiB"}, {"data-dir", "/dev/null/none"}};
    size_t count = 6;
    va_list args;
    va_start(args, first);
    for (const char *name = first; name; name = va_arg(args, const char *)) {
        const char *value = va_arg(args, const char *);
        size_t i = 0;
        while (i < count && strcmp(flags[i].name, name) != 0)
            i++;
        flags[i] = (emb_config_flag){name, value};
        count = i == count ? count + 1 : count;
    }
    va_end(args);
    emb_config_sources sources = {.environment = none, .flags = flags, .flag_count = count};
    emb_config *config;
    OK(emb_config_load(&sources, &config, err));
    return config;
}

/* A file in the fake's folder; directories above it are made. */
static inline void make_file(const char *name, const char *contents)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", fake_model_root(), name);
    for (char *at = path + strlen(fake_model_root()) + 1; *at; at++)
        if (*at == '/') {
            *at = 0;
            mkdir(path, 0777);
            *at = '/';
        }
    FILE *stream = fopen(path, "w");
    assert_non_null(stream);
    fputs(contents, stream);
    fclose(stream);
}

#endif
