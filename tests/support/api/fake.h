/*
 * fake.h: an HTTP exchange and a service under a test's control, in place of src/http and src/service, so
 * that routes can be tested without a server, a model or threads.
 *
 *     fake_answer a;
 *     fake_ask(api, "POST", "/v1/embeddings", NULL, "{\"input\":\"a\"}", 13, &a);
 *     assert_int_equal(a.status, 200); … fake_header(&a, "x-embedd-tokens") …
 *     fake_answer_fini(&a);
 *
 * A parked exchange runs at once. When it is answered its arena is released, so that a sanitizer sees a
 * handler that touches its call afterwards; a second answer aborts. exchange.c alone serves programs that
 * have the real service.
 */
#ifndef TESTS_SUPPORT_API_FAKE_H
#define TESTS_SUPPORT_API_FAKE_H

#include "api/api.h"

typedef struct fake_answer {
    int status; /* 0: it was never answered */
    char type[80], route[128], refused[32], key_name[64];
    char headers[16][2][256];
    size_t header_count;
    emb_buf body; /* NUL behind it */
    bool parked;
} fake_answer;

/* headers: "name: value" lines, or NULL */
void fake_ask(emb_api *api, const char *method, const char *path, const char *headers, const char *body,
              size_t length, fake_answer *out);
const char *fake_header(const fake_answer *a, const char *name); /* NULL: none */
void fake_answer_fini(fake_answer *a);

/* What the fakes do, and what they saw. */
typedef struct fake_world {
    bool no_workers;     /* parking fails */
    void (*begin)(void); /* called just before a request is handled … */
    void (*end)(void);   /* … and when it is answered; or NULL */
    /* of service.c */
    size_t dimension;       /* of vectors: component j of text i is fake_component() */
    bool cached;            /* the cache has everything */
    emb_error fail;         /* code other than EMB_OK: embed fails so */
    bool not_finite;        /* vectors hold a NaN */
    const char *key;        /* the key that is asked for, or NULL */
    const char *only_model; /* that it may use, or NULL */
    bool limited;
    size_t max_inputs;
    emb_request seen; /* of the last embed; its strings as below */
    char seen_model[256], seen_prompt[256];
    char seen_first[256]; /* text 0 */
    int held;             /* configurations, callers, models and answers not given back */
    size_t embeds, cached_embeds, series;
} fake_world;
extern fake_world fake;
void fake_reset(void);
float fake_component(const char *text, size_t length, size_t j);

#endif
