/*
 * hub.h: fetching a model from the Hugging Face hub into its standard cache.
 *
 *     emb_hub_options o = EMB_HUB_OPTIONS_INIT;
 *     emb_hub_result r;
 *     o.name = "bge-small-en-v1.5";              // or "BAAI/bge-small-en-v1.5"
 *     o.cancel = &stop;
 *     if ((st = emb_hub_pull(&o, &r, err))) return st;
 *     printf("%s\n", r.path);                    // ".../snapshots/COMMIT", what emb_model_open takes
 *     emb_hub_result_fini(&r);
 *
 * Fetches what embedd runs: configuration, tokenizer, safetensors, the folders that modules.json names; not
 * the weights of other formats. Everything is checked against the hub's sizes and hashes (SHA-256 of large
 * files, git's SHA-1 of small ones) before it is seen under its name, and a snapshot appears when all of it
 * is there. What was fetched before is not fetched again; a transfer that was cut off, killed or out of disk
 * goes on where it stopped.
 *
 * The cache is shared with Python's huggingface_hub, in both directions and at the same time, by its file
 * locks.
 *
 * Any number of threads and processes may pull at once, the same model too. A pull runs in the calling
 * thread, and so does its progress function. Strings of the options are borrowed for the call.
 */
#ifndef EMB_HUB_HUB_H
#define EMB_HUB_HUB_H

#include <embedd.h>

typedef enum emb_hub_event {
    EMB_HUB_LISTED,  /* what is to be fetched is known */
    EMB_HUB_STARTED, /* a file's transfer began; file.done is what was there before */
    EMB_HUB_MOVED,   /* bytes came; a few times a second, for all files together */
    EMB_HUB_DONE,    /* a file is complete and checked */
    EMB_HUB_NOTE     /* something that people should know: a retry, a wait; see message */
} emb_hub_event;

typedef struct emb_hub_file {
    const char *name; /* "1_Pooling/config.json" */
    uint64_t size;    /* EMB_HUB_SIZE_UNKNOWN until the hub said it */
    uint64_t done;    /* bytes on disk */
    uint64_t resumed; /* of these, from earlier runs */
    bool running, complete;
} emb_hub_file;

#define EMB_HUB_SIZE_UNKNOWN UINT64_MAX

typedef struct emb_hub_progress {
    emb_hub_event event;
    const emb_hub_file *files; /* those that were not there when the pull began */
    size_t count;
    const emb_hub_file *file; /* the one concerned, or NULL */
    const char *message;      /* of NOTE: a sentence; else NULL */
} emb_hub_progress;

typedef void (*emb_hub_on_progress)(void *context, const emb_hub_progress *progress);

typedef struct emb_hub_options {
    const char *name;            /* a name of the catalog, or ORG/NAME as on the hub */
    const char *revision;        /* branch, tag or commit; NULL: main */
    const char *endpoint;        /* NULL: $HF_ENDPOINT, https://huggingface.co */
    const char *token;           /* NULL: $HF_TOKEN, the file at $HF_TOKEN_PATH, HF_HOME/token; "": none */
    const char *cache_directory; /* NULL: as emb_hub_cache_directory says */
    const char *include;         /* patterns (commas between) of further files, '*' crossing '/'; or NULL */
    bool all;                    /* every file of the repository */
    bool offline;         /* never ask the hub; what is missing is EMB_E_NOT_FOUND. See emb_hub_offline */
    unsigned parallel;    /* files at a time; 0: 4 */
    unsigned retries;     /* after a failure that may pass, without progress in between; 0: none */
    unsigned connect_ms;  /* 0: 10,000 */
    unsigned stall_ms;    /* a transfer that (almost) stands still this long is begun again; 0: 30,000 */
    uint64_t deadline_ns; /* by emb_now_ns; 0: none */
    const volatile int *cancel;      /* looked at several times a second; may be NULL */
    emb_hub_on_progress on_progress; /* may be NULL */
    void *context;
} emb_hub_options;

#define EMB_HUB_RETRIES 5
#define EMB_HUB_OPTIONS_INIT       \
    {                              \
        .retries = EMB_HUB_RETRIES \
    }

typedef struct emb_hub_result {
    char *path;       /* of the snapshot */
    char *repository; /* "BAAI/bge-small-en-v1.5" */
    char commit[72];
    size_t files;           /* of the snapshot that were asked for */
    size_t fetched;         /* of these, now; 0: all was there */
    uint64_t bytes;         /* of all of them */
    uint64_t fetched_bytes; /* that came over the network */
    bool unconfirmed;       /* the hub was not asked, or did not answer: what is here was taken */
} emb_hub_result;

/* EMB_E_NOT_FOUND: no such repository, revision or file, or no access to it, or (offline) not in the cache;
 * EMB_E_UNSUPPORTED: no weights that embedd reads; EMB_E_INVALID: a name that cannot be one, a token that is
 * not accepted; EMB_E_CORRUPT: what came is not what the hub announced; EMB_E_IO: network or disk;
 * EMB_E_BUSY: the hub asks to wait longer than is sensible; EMB_E_DEADLINE; EMB_E_CANCELLED. No message holds
 * the token. */
EMB_MUST_CHECK emb_status emb_hub_pull(const emb_hub_options *options, emb_hub_result *result,
                                       emb_error *err);
void emb_hub_result_fini(emb_hub_result *result);

/* Whether $HF_HUB_OFFLINE or $TRANSFORMERS_OFFLINE asks for it (1, ON, YES, TRUE). */
bool emb_hub_offline(void);

#endif
