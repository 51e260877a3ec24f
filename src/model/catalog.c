/*
 * catalog.c: one row per model; recommendations are picks by name, checked by a test.
 *
 * Quality is the average over the 56 tasks of MTEB English (v1) that the authors published. bge-m3 has
 * none: its authors evaluate retrieval in many languages instead, so its figure is left open rather than
 * taken from tables of unknown origin. Prices are list prices and change; a configuration may override
 * them, and nothing but display and estimates may depend on them here.
 *
 * Prompts are those the authors trained with. A model directory that carries its own prompts wins.
 */
#include "model/catalog.h"

#include <string.h>
#include <strings.h>

#define BGE_QUERY "Represent this sentence for searching relevant passages: "

/*    name, provider, repository, dimension, tokens, batch, thousands of parameters, MB, MTEB, nano-dollars,
      multilingual, shortens, licence, query prompt, document prompt */
static const emb_catalog_entry catalog[] = {
    {"all-MiniLM-L6-v2", "local", "sentence-transformers/all-MiniLM-L6-v2", 384, 256, 0, 22713, 91, 56.26f, 0,
     false, false, "Apache-2.0", "", ""},
    {"all-mpnet-base-v2", "local", "sentence-transformers/all-mpnet-base-v2", 768, 384, 0, 109486, 438,
     57.78f, 0, false, false, "Apache-2.0", "", ""},
    {"bge-small-en-v1.5", "local", "BAAI/bge-small-en-v1.5", 384, 512, 0, 33360, 133, 62.17f, 0, false, false,
     "MIT", BGE_QUERY, ""},
    {"bge-base-en-v1.5", "local", "BAAI/bge-base-en-v1.5", 768, 512, 0, 109482, 438, 63.55f, 0, false, false,
     "MIT", BGE_QUERY, ""},
    {"bge-large-en-v1.5", "local", "BAAI/bge-large-en-v1.5", 1024, 512, 0, 335142, 1341, 64.23f, 0, false,
     false, "MIT", BGE_QUERY, ""},
    {"bge-m3", "local", "BAAI/bge-m3", 1024, 8192, 0, 567754, 2271, 0, 0, true, false, "MIT", "", ""},
    {"e5-small-v2", "local", "intfloat/e5-small-v2", 384, 512, 0, 33360, 133, 59.93f, 0, false, false, "MIT",
     "query: ", "passage: "},
    {"e5-base-v2", "local", "intfloat/e5-base-v2", 768, 512, 0, 109482, 438, 61.50f, 0, false, false, "MIT",
     "query: ", "passage: "},
    {"e5-large-v2", "local", "intfloat/e5-large-v2", 1024, 512, 0, 335142, 1341, 62.25f, 0, false, false,
     "MIT", "query: ", "passage: "},
    {"multilingual-e5-small", "local", "intfloat/multilingual-e5-small", 384, 512, 0, 117654, 471, 57.87f, 0,
     true, false, "MIT", "query: ", "passage: "},
    {"multilingual-e5-base", "local", "intfloat/multilingual-e5-base", 768, 512, 0, 278044, 1112, 59.45f, 0,
     true, false, "MIT", "query: ", "passage: "},
    {"multilingual-e5-large", "local", "intfloat/multilingual-e5-large", 1024, 512, 0, 559890, 2240, 61.50f,
     0, true, false, "MIT", "query: ", "passage: "},
    {"gte-small", "local", "thenlper/gte-small", 384, 512, 0, 33360, 67, 61.36f, 0, false, false, "MIT", "",
     ""},
    {"gte-base", "local", "thenlper/gte-base", 768, 512, 0, 109482, 219, 62.39f, 0, false, false, "MIT", "",
     ""},
    {"gte-large", "local", "thenlper/gte-large", 1024, 512, 0, 335142, 670, 63.13f, 0, false, false, "MIT",
     "", ""},
    {"text-embedding-3-small", "openai", NULL, 1536, 8191, 2048, 0, 0, 62.3f, 20000, true, true, "hosted", "",
     ""},
    {"text-embedding-3-large", "openai", NULL, 3072, 8191, 2048, 0, 0, 64.6f, 130000, true, true, "hosted",
     "", ""},
    {"text-embedding-ada-002", "openai", NULL, 1536, 8191, 2048, 0, 0, 61.0f, 100000, true, false, "hosted",
     "", ""},
};

enum { ENTRIES = sizeof catalog / sizeof *catalog };

/* By emb_goal. Local models first: they cost nothing and no text leaves the machine. */
static const struct {
    const char *picks[EMB_CATALOG_PICKS];
    const char *reason;
} goals[] = {
    [EMB_GOAL_QUALITY] = {{"bge-large-en-v1.5", "text-embedding-3-large", "gte-large"},
                          "the highest published MTEB average of the models that run locally"},
    [EMB_GOAL_SPEED] = {{"all-MiniLM-L6-v2", "bge-small-en-v1.5", "gte-small"},
                        "the smallest: 6 layers of 384, several times faster than any other here"},
    [EMB_GOAL_BALANCE] = {{"bge-base-en-v1.5", "bge-small-en-v1.5", "gte-base"},
                          "within a point of the large models at a third of their work"},
    [EMB_GOAL_MULTILINGUAL] = {{"bge-m3", "multilingual-e5-large", "multilingual-e5-small"},
                               "made for over 100 languages, and texts of up to 8,192 tokens"},
    [EMB_GOAL_CODE] = {{"bge-base-en-v1.5", "text-embedding-3-large", "all-mpnet-base-v2"},
                       "does well on code with its documentation; none of these is made for code alone"},
};

const emb_catalog_entry *emb_catalog_all(size_t *count)
{
    *count = ENTRIES;
    return catalog;
}

const emb_catalog_entry *emb_catalog_find(const char *name)
{
    for (size_t i = 0; i < ENTRIES; i++)
        if (strcasecmp(name, catalog[i].name) == 0 ||
            (catalog[i].repository && strcasecmp(name, catalog[i].repository) == 0))
            return &catalog[i];
    return NULL;
}

const char *emb_catalog_encoding(const emb_catalog_entry *entry)
{
    return strcmp(entry->provider, "openai") == 0 ? "cl100k_base" : NULL;
}

uint64_t emb_catalog_cost_nusd(const emb_catalog_entry *entry, uint64_t tokens)
{
    uint64_t price = entry->price_nusd_per_1k, whole, rest, sum;
    if (__builtin_mul_overflow(tokens / 1000, price, &whole) ||
        __builtin_mul_overflow(tokens % 1000, price, &rest) ||
        __builtin_add_overflow(whole, rest / 1000 + (rest % 1000 != 0), &sum))
        return UINT64_MAX;
    return sum;
}

size_t emb_catalog_recommend(emb_goal goal, const emb_catalog_entry *picks[EMB_CATALOG_PICKS])
{
    size_t count = 0;
    if ((unsigned)goal >= sizeof goals / sizeof *goals)
        return 0;
    for (size_t i = 0; i < EMB_CATALOG_PICKS; i++) {
        picks[count] = emb_catalog_find(goals[goal].picks[i]);
        count += picks[count] != NULL;
    }
    return count;
}

const char *emb_catalog_reason(emb_goal goal)
{
    return (unsigned)goal < sizeof goals / sizeof *goals ? goals[goal].reason : "";
}
