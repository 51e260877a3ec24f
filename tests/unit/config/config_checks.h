/* config_checks.h: loading a configuration from texts in a test. */
#ifndef EMB_TESTS_CONFIG_CHECKS_H
#define EMB_TESTS_CONFIG_CHECKS_H

#include "config/parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define ENVIRONMENT(...) ((char *const[]){__VA_ARGS__, NULL})
#define NO_ENVIRONMENT ((char *const[]){NULL})

/* Writes /tmp/embedd-PID-NAME, which the test removes. */
static inline const char *write_file(const char *name, const char *text, size_t length)
{
    char path_text[200];
    snprintf(path_text, sizeof path_text, "/tmp/embedd-%d-%s", (int)getpid(), name);
    const char *path = strdup(path_text);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, length, f), length);
    assert_int_equal(fclose(f), 0);
    return path;
}

static inline void remove_file(const char *path)
{
    unlink(path);
    free((char *)path);
}

static inline emb_config *load_environment(char *const *environment)
{
    emb_error err = {0};
    emb_config *config = NULL;
    emb_config_sources sources = {.environment = environment};
    if (emb_config_load(&sources, &config, &err))
        fail_msg("%s", err.message);
    return config;
}

static inline emb_config *load_flag(const char *name, const char *value)
{
    emb_error err = {0};
    emb_config *config = NULL;
    emb_config_flag flag = {name, value};
    emb_config_sources sources = {.environment = NO_ENVIRONMENT, .flags = &flag, .flag_count = 1};
    if (emb_config_load(&sources, &config, &err))
        fail_msg("%s", err.message);
    return config;
}

static inline void refuses_sources(const emb_config_sources *sources, const char *message)
{
    emb_error err = {0};
    emb_config *config = (void *)1;
    emb_status status = emb_config_load(sources, &config, &err);
    if (!status)
        fail_msg("was accepted; expected: %s", message);
    assert_string_equal(err.message, message);
    assert_int_equal(err.code, status);
    assert_null(config);
}

static inline void refuses_environment(const char *variable, const char *message)
{
    emb_config_sources sources = {.environment = ENVIRONMENT((char *)variable)};
    refuses_sources(&sources, message);
}

/* The value as a user would write it. */
static inline const char *written(const emb_config *config, const char *path)
{
    static char text[512];
    emb_buf out = EMB_BUF_INIT(1 << 16);
    const emb_setting *setting = emb_setting_find(path);
    assert_non_null(setting);
    assert_int_equal(emb_setting_write(config, setting, &out), EMB_OK);
    snprintf(text, sizeof text, "%.*s", (int)out.length, out.data ? out.data : "");
    emb_buf_fini(&out);
    return text;
}

static inline const char *origin(const emb_config *config, const char *path)
{
    return emb_setting_origin(config, emb_setting_find(path));
}

#endif
