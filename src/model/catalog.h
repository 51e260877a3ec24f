/*
 * catalog.h: the well-known embedding models: what they cost, how good and how large they are.
 *
 *     const emb_catalog_entry *e = emb_catalog_find("BAAI/bge-m3");
 *     if (e)
 *         printf("%u dimensions\n", e->dimension);
 *     const emb_catalog_entry *best[EMB_CATALOG_PICKS];
 *     size_t n = emb_catalog_recommend(EMB_GOAL_SPEED, best);
 *
 * Constant data, any thread, nothing to release. A model that is not listed works all the same; the table
 * only helps to choose.
 */
#ifndef EMB_MODEL_CATALOG_H
#define EMB_MODEL_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct emb_catalog_entry {
    const char *name;       /* "bge-m3" */
    const char *provider;   /* "local": runs in this process; "openai" */
    const char *repository; /* on the Hugging Face hub; NULL for hosted models */
    unsigned dimension;
    unsigned max_tokens;        /* per text, special tokens included */
    unsigned max_batch;         /* texts a request; 0: no limit but memory */
    unsigned parameters_k;      /* thousands; 0: not published */
    unsigned download_mb;       /* 10^6 bytes of the published weights; 0: nothing to download */
    float mteb;                 /* average over the 56 tasks of MTEB English v1; 0: none published */
    uint64_t price_nusd_per_1k; /* nano-dollars for 1,000 tokens; 0: free */
    bool multilingual;
    bool shortens;               /* trained for `dimensions` (Matryoshka) */
    const char *licence;         /* SPDX, or "hosted" */
    const char *query_prompt;    /* goes before queries; "" if none */
    const char *document_prompt; /* goes before documents; "" if none */
} emb_catalog_entry;

typedef enum emb_goal {
    EMB_GOAL_QUALITY,
    EMB_GOAL_SPEED,
    EMB_GOAL_BALANCE,
    EMB_GOAL_MULTILINGUAL,
    EMB_GOAL_CODE
} emb_goal;

/* The names of the goals in their order, '|' between. */
#define EMB_GOAL_NAMES "quality|speed|balance|multilingual|code"

enum { EMB_CATALOG_PICKS = 3 };

const emb_catalog_entry *emb_catalog_all(size_t *count);
/* By name or hub repository, letter case ignored; NULL if it is not listed. */
const emb_catalog_entry *emb_catalog_find(const char *name);
/* The encoding whose tokens a hosted model counts ("cl100k_base"); NULL for models that run here. */
const char *emb_catalog_encoding(const emb_catalog_entry *entry);
/* What so many tokens cost by the list price, in nano-dollars, rounded up; UINT64_MAX where that does not
 * fit. */
uint64_t emb_catalog_cost_nusd(const emb_catalog_entry *entry, uint64_t tokens);
/* Best first; returns how many. */
size_t emb_catalog_recommend(emb_goal goal, const emb_catalog_entry *picks[EMB_CATALOG_PICKS]);
/* Why the first pick of a goal is that, in a sentence. */
const char *emb_catalog_reason(emb_goal goal);

#endif
