/* The least there is: one text, one vector.   cc first.c $(pkg-config --cflags --libs embedd) && ./a.out */
#include <embedd.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    emb_engine *engine;
    emb_model *model;
    emb_error error;
    const char *name = argc > 1 ? argv[1] : "all-MiniLM-L6-v2";
    if (emb_engine_open(NULL, &engine, &error) || emb_model_open(engine, name, NULL, &model, &error))
        return fprintf(stderr, "%s\n", error.message), 1;

    emb_model_info info = EMB_MODEL_INFO_INIT;
    emb_model_get_info(model, &info);
    float *vector = malloc(info.dimension * sizeof *vector);
    emb_text text = {"hello world", 11};
    if (!vector || emb_embed(model, &text, 1, NULL, vector, info.dimension, NULL, &error))
        return fprintf(stderr, "%s\n", vector ? error.message : "out of memory"), 1;
    printf("%zu dimensions: %.5f %.5f %.5f ...\n", info.dimension, vector[0], vector[1], vector[2]);

    free(vector);
    emb_model_close(model);
    emb_engine_close(engine);
    return 0;
}
