/*
 * fidelity: how close a model (quantised, or in another precision) keeps to its original.
 *
 *     fidelity ORIGINAL_DIR OTHER_DIR PRECISION < texts
 *
 * Embeds each line of standard input with the original in fp32 and with the other in PRECISION, and prints
 * the number of texts, mean and worst cosine and the text of the worst.
 */
#include <embedd.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXTS_MAX = 200000 };

static emb_error err;

static void die(const char *what)
{
    fprintf(stderr, "fidelity: %s: %s\n", what, err.message);
    exit(1);
}

static float *embed(const char *directory, emb_precision precision, const emb_text *texts, size_t count,
                    size_t *dimension)
{
    emb_engine *engine;
    emb_model *model;
    emb_model_info info = {.size = sizeof info};
    emb_model_options options = EMB_MODEL_OPTIONS_INIT;
    options.precision = precision;
    if (emb_engine_open(NULL, &engine, &err) || emb_model_open(engine, directory, &options, &model, &err))
        die(directory);
    emb_model_get_info(model, &info);
    *dimension = info.dimension;
    float *vectors = malloc(count * info.dimension * sizeof *vectors);
    if (!vectors || emb_embed(model, texts, count, NULL, vectors, count * info.dimension, NULL, &err))
        die("embedding");
    emb_model_close(model);
    emb_engine_close(engine);
    return vectors;
}

int main(int argc, char **argv)
{
    static emb_text texts[TEXTS_MAX];
    emb_precision precision;
    char *line = NULL;
    size_t room = 0, count = 0, dimension, worst = 0;
    ssize_t length;
    double sum = 0, least = 2;
    if (argc < 4 || !emb_precision_parse(argv[3], &precision)) {
        fprintf(stderr, "usage: fidelity ORIGINAL_DIR OTHER_DIR PRECISION < texts\n");
        return 2;
    }
    while (count < TEXTS_MAX && (length = getline(&line, &room, stdin)) > 0)
        texts[count++] = (emb_text){strndup(line, (size_t)length), (size_t)length};
    if (count == 0)
        return 1;
    float *a = embed(argv[1], EMB_PRECISION_FP32, texts, count, &dimension);
    float *b = embed(argv[2], precision, texts, count, &dimension);
    for (size_t i = 0; i < count; i++) {
        double cosine = emb_cosine(a + i * dimension, b + i * dimension, dimension);
        sum += cosine;
        if (cosine < least) {
            least = cosine;
            worst = i;
        }
    }
    printf("%zu texts: mean cosine %.6f, worst %.6f: %.80s\n", count, sum / (double)count, least,
           texts[worst].data);
    return 0;
}
