/*
 * fake_model.h: a model, a tokenizer and a forward pass that a test has in its hands, in place of those of
 * src/model and src/tokenizer, to test the engine alone.
 *
 *     fake_model_reset();
 *     fake_model_make("one");                       // a directory "one" below fake_model_root()
 *     emb_model_open(engine, fake_model_path("one"), NULL, &model, &err);
 *
 * Tokens: one per byte, id = the byte, with 256 before and 257 behind. Vectors: of FAKE_DIMENSION floats,
 * a function of the ids and of the settings of the batch, see fake_vector. A program that calls any function
 * of this header gets the fake of all functions of encoder.h, spec.h and tokenizer.h.
 *
 * A directory is a model if it holds config.json. Files in it change its ways: "broken" (loading the weights
 * fails), "prompts" (query "Q:", document "D:", default "any" = "A:"), "exclude" (prompts not pooled),
 * "left" (truncates left), "lower" (do_lower_case), "bare" (no special tokens), "foreign" (an id that is too
 * high).
 */
#ifndef EMB_TESTS_FAKE_MODEL_H
#define EMB_TESTS_FAKE_MODEL_H

#include <embedd.h>
#include <pthread.h>
#include <stdatomic.h>

enum { FAKE_DIMENSION = 6, FAKE_MAX_TOKENS = 64, FAKE_VOCAB = 300, FAKE_LOG = 4096 };

/* One forward pass. */
typedef struct fake_pass {
    pthread_t thread;
    char model; /* first letter of the directory's name */
    size_t sequences, tokens;
    int32_t first_id;  /* of the first sequence's text, behind the special token */
    bool letters[256]; /* which ids are in it */
    unsigned team;
} fake_pass;

typedef struct fake_control {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    fake_pass log[FAKE_LOG];
    size_t passes;    /* in log */
    bool closed_gate; /* passes wait in the gate while it is closed */
    size_t in_gate;
    unsigned pass_us; /* how long a pass takes */
    unsigned load_us; /* and loading weights */
    size_t loads, open_encoders, open_workspaces;
    size_t workspace_limit;  /* tokens of the largest workspace there is memory for; 0: any */
    size_t workspaces_limit; /* how many there is memory for; 0: any */
    atomic_int nan_id;       /* vectors of texts with this token hold NaN; 0: none */
} fake_control;

extern fake_control fake;

/* Forgets everything that was set or logged; a fresh empty root. */
void fake_model_reset(void);
const char *fake_model_root(void);
/* Creates a model. `files`: names of further files, separated by spaces. Returns its path, which lives until
 * the second next call. */
const char *fake_model_make(const char *name, const char *files);
void fake_model_remove_file(const char *name, const char *file);
/* The vector of a text without prompt under default settings. */
void fake_vector(const char *text, size_t length, float *out);
size_t fake_loads(void);
void fake_gate(bool closed);
/* Until `count` passes stand in the gate. */
void fake_wait_gate(size_t count);

#endif
