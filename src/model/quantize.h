/*
 * quantize.h: a model directory with its large matrices as int8 in small groups.
 *
 *     emb_quantize_options options = EMB_QUANTIZE_OPTIONS_INIT;
 *     emb_quantize_report report;
 *     st = emb_quantize_directory("all-MiniLM-L6-v2-fp32", "all-MiniLM-L6-v2", &options, &report, err);
 *
 * Writes model.safetensors with each large matrix X as I8 and X.scales as F16 [rows, columns / group]: the
 * value is integer · scale. Vectors and small matrices become F32, matrices that cannot be divided F16.
 * Configuration, tokenizer, licence and module files are copied. The same input gives the same bytes.
 * The target may exist, files of these names in it are replaced; it must not be the source.
 */
#ifndef EMB_MODEL_QUANTIZE_H
#define EMB_MODEL_QUANTIZE_H

#include <embedd.h>

typedef struct emb_quantize_options {
    size_t group;       /* values of a row that share a scale, 8 to 256; 0: 16 */
    size_t table_group; /* the same for word embeddings, which bear more; 0: 64 */
} emb_quantize_options;
#define EMB_QUANTIZE_OPTIONS_INIT \
    {                             \
        0, 0                      \
    }

typedef struct emb_quantize_report {
    size_t tensors, quantized;          /* tensors written (scales not counted), and how many of them as I8 */
    uint64_t bytes_before, bytes_after; /* of tensor data */
    double worst_error; /* largest root mean square error of a matrix relative to its values */
    char worst_tensor[128];
} emb_quantize_report;

/* report may be NULL. */
EMB_MUST_CHECK emb_status emb_quantize_directory(const char *source, const char *target,
                                                 const emb_quantize_options *options,
                                                 emb_quantize_report *report, emb_error *err);

/* One group: integers and the scale's F16 bits for n values. The integers reach ±127 (scales below 2^-14,
 * where F16 is coarse, aside), so that quantising integer · scale again over the same group gives the same
 * integers. */
void emb_quantize_group(const float *values, size_t n, int8_t *integers, uint16_t *scale);

#endif
