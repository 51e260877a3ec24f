/*
 * safetensors.h: tensors by name in mapped .safetensors files (one, or shards with an index).
 *
 *     emb_safetensors *s; emb_tensor t;
 *     if ((st = emb_safetensors_open(dir, "model", &s, err))) return st;
 *     if (emb_safetensors_find(s, "embeddings.word_embeddings.weight", &t)) …  // t.data points into the map
 *     emb_safetensors_close(s);
 *
 * Opens <base>.safetensors or <base>.safetensors.index.json in a directory. Header, offsets, shapes and
 * sizes are checked before anything is read; a damaged file is EMB_E_CORRUPT naming the tensor.
 * Immutable after opening, any number of threads may read. Tensor data is mapped, not copied, and lives
 * until close.
 *
 * Tensors of other types than emb_dtype's (integer buffers such as position_ids) are checked like all but
 * not listed; emb_safetensors_other_type tells of them.
 *
 * Quantised tensors, as `embedd quantize` writes them: "X" of dtype I8 with a companion "X.scales" of
 * dtype F16 or F32 and shape [n, k/group]; emb_tensor then carries both.
 */
#ifndef EMB_MODEL_SAFETENSORS_H
#define EMB_MODEL_SAFETENSORS_H

#include "kernels/kernels.h"

typedef struct emb_safetensors emb_safetensors;

typedef struct emb_tensor {
    const char *name;
    emb_dtype dtype;
    size_t rank, shape[4];
    const void *data; /* may be unaligned to the element */
    size_t bytes;
    /* I8 only: */
    const void *scales;
    emb_dtype scales_dtype;
    size_t group; /* elements of a row that share a scale */
} emb_tensor;

EMB_MUST_CHECK emb_status emb_safetensors_open(const char *directory, const char *base, emb_safetensors **out,
                                               emb_error *err);
/* The same from the bytes of one file, which are borrowed until close; `where` names them in errors. */
EMB_MUST_CHECK emb_status emb_safetensors_open_memory(const void *data, size_t length, const char *where,
                                                      emb_safetensors **out, emb_error *err);
void emb_safetensors_close(emb_safetensors *tensors);
bool emb_safetensors_find(const emb_safetensors *tensors, const char *name, emb_tensor *out);
/* "I64", if there is a tensor of that name that cannot be used; else NULL. */
const char *emb_safetensors_other_type(const emb_safetensors *tensors, const char *name);
size_t emb_safetensors_count(const emb_safetensors *tensors);
void emb_safetensors_at(const emb_safetensors *tensors, size_t index, emb_tensor *out);
/* Elements of all tensors listed (scales not counted). */
size_t emb_safetensors_parameters(const emb_safetensors *tensors);
/* The kernel may drop the pages of this tensor; they come back when read. */
void emb_safetensors_forget(const emb_safetensors *tensors, const emb_tensor *tensor);

/* One row of a matrix as floats, added to dst if `add`. */
void emb_tensor_row(const emb_tensor *tensor, const emb_kernels *kernels, size_t row, float *dst, bool add);
/* Rows row0 .. row0+rows-1 of a matrix as floats (dst: rows × shape[1]); of a vector, elements. */
void emb_tensor_rows(const emb_tensor *tensor, const emb_kernels *kernels, size_t row0, size_t rows,
                     float *dst);

#endif
