/*
 * Semantic search in a few sentences: embed them once, embed a question, print the nearest.
 *     cc search.c $(pkg-config --cflags --libs embedd) -o search
 *     ./search "how do I reset my password?" [MODEL]
 */
#include <embedd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const documents[] = {
    "To change your password, open Settings and choose Security.",
    "Invoices are sent by e-mail on the first day of each month.",
    "The library is open from nine to five, except on Sundays.",
    "If the screen stays black, hold the power button for ten seconds.",
    "Our office in Lisbon overlooks the river.",
};
enum { COUNT = sizeof documents / sizeof *documents };

static void stop(const char *what)
{
    fprintf(stderr, "search: %s\n", what);
    exit(1);
}

int main(int argc, char **argv)
{
    const char *question = argc > 1 ? argv[1] : "how do I reset my password?";
    emb_engine *engine;
    emb_model *model;
    emb_error error;
    if (emb_engine_open(NULL, &engine, &error))
        stop(error.message);
    if (emb_model_open(engine, argc > 2 ? argv[2] : "all-MiniLM-L6-v2", NULL, &model, &error))
        stop(error.message);

    emb_model_info info = EMB_MODEL_INFO_INIT;
    emb_model_get_info(model, &info);
    size_t dimension = info.dimension;
    float *vectors = malloc((COUNT + 1) * dimension * sizeof *vectors);
    if (!vectors)
        stop("out of memory");

    /* Models that distinguish questions from documents put different prompts before them. */
    emb_embed_options options = EMB_EMBED_OPTIONS_INIT;
    emb_text texts[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        texts[i] = (emb_text){documents[i], strlen(documents[i])};
    options.role = EMB_ROLE_DOCUMENT;
    if (emb_embed(model, texts, COUNT, &options, vectors, COUNT * dimension, NULL, &error))
        stop(error.message);

    emb_text text = {question, strlen(question)};
    float *wanted = vectors + COUNT * dimension;
    options.role = EMB_ROLE_QUERY;
    if (emb_embed(model, &text, 1, &options, wanted, dimension, NULL, &error))
        stop(error.message);

    size_t best = 0;
    for (size_t i = 0; i < COUNT; i++) {
        printf("%.3f  %s\n", emb_cosine(wanted, vectors + i * dimension, dimension), documents[i]);
        if (emb_cosine(wanted, vectors + i * dimension, dimension) >
            emb_cosine(wanted, vectors + best * dimension, dimension))
            best = i;
    }
    printf("best: %s\n", documents[best]);

    free(vectors);
    emb_model_close(model);
    emb_engine_close(engine);
    return 0;
}
