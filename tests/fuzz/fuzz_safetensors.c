/* A safetensors file from any bytes: opens or is refused; every tensor of an opened one can be read. */
#include "model/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_tensor(const emb_tensor *t, const emb_kernels *kernels)
{
    size_t columns = t->rank > 1 ? t->shape[1] : 1, rows = t->rank ? t->shape[0] : 1;
    float *row = malloc((columns ? columns : 1) * sizeof *row);
    if (t->rank > 2 || !row || rows == 0) {
        free(row);
        return;
    }
    emb_tensor_rows(t, kernels, 0, 1, row);
    emb_tensor_rows(t, kernels, rows - 1, 1, row);
    if (t->rank == 2)
        emb_tensor_row(t, kernels, rows - 1, row, true);
    free(row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const emb_kernels *kernels;
    emb_safetensors *s;
    emb_tensor t, again;
    emb_error err;
    if (!kernels && emb_kernels_select("portable", &kernels, &err))
        abort();
    /* An exact copy, so that reading past its end is seen. */
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    if (emb_safetensors_open_memory(copy, size, "input", &s, &err) == EMB_OK) {
        for (size_t i = 0; i < emb_safetensors_count(s); i++) {
            emb_safetensors_at(s, i, &t);
            read_tensor(&t, kernels);
            if (!emb_safetensors_find(s, t.name, &again) || again.data != t.data)
                abort();
        }
        emb_safetensors_close(s);
    }
    free(copy);
    return 0;
}
