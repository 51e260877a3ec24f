/*
 * kernels.h: the arithmetic of an encoder, one table of functions per instruction set.
 *
 *     const emb_kernels *k = emb_kernels_select(NULL, &err);          // best for this CPU, or EMBEDD_ISA
 *     w.data = aligned_alloc(64, k->weight_bytes(p, n, k_in));        // pack once …
 *     k->weight_pack(p, n, k_in, 0, n, src, w.data);
 *     k->operand_from_f32(p, k_in, x, k_in, m, a, k->operand_stride(p, k_in));
 *     k->linear(&(emb_linear){ .weight = &w, .a = a, … }, scratch);   // … multiply often
 *
 * Words: a *weight* is a matrix W [n × k] of a linear layer y = W x + b, packed into a layout private to
 * its table. An *operand* is a row matrix of activations in the form that a table's products read: a float
 * row is its own FP32 operand; bf16 rows, and int8 rows with their scales, may be padded or transformed as
 * the table likes. Strides are in bytes.
 *
 * Numerics: products accumulate in fp32 (int8: int32 within a group of k, then fp32). Element i of a
 * result is computed by the same sequence of operations whatever the number of rows m, the row's
 * position, the column range or the thread: a row's result is bit-identical in every batch.
 * GELU is the exact one (erf) unless EMB_ACT_GELU_TANH. Layer norm, softmax, pooling are fp32.
 *
 * All functions are pure: they keep no state, allocate nothing, and may run on any thread that has
 * called emb_kernels.thread_begin. Pointers to data are 64-byte aligned where said, otherwise 4.
 */
#ifndef EMB_KERNELS_KERNELS_H
#define EMB_KERNELS_KERNELS_H

#include <embedd.h>

typedef enum emb_activation {
    EMB_ACT_NONE,
    EMB_ACT_GELU,      /* x/2 · (1 + erf(x/√2)), absolute error ≤ 2e-7·max(1,|x|) (fp32) */
    EMB_ACT_GELU_TANH, /* the tanh approximation of Hendrycks & Gimpel (arXiv 1606.08415) */
    EMB_ACT_RELU,
    EMB_ACT_TANH,
    EMB_ACT_SILU
} emb_activation;

typedef enum emb_dtype { EMB_DTYPE_F32, EMB_DTYPE_F16, EMB_DTYPE_BF16, EMB_DTYPE_I8 } emb_dtype;

typedef struct emb_weight {
    emb_precision precision; /* never AUTO */
    size_t n, k;             /* outputs, inputs */
    void *data;              /* weight_bytes(), 64-byte aligned */
} emb_weight;

/* out[m × n] = activation(a · Wᵀ + bias) + residual, for columns n_begin .. n_end-1. */
typedef struct emb_linear {
    const emb_weight *weight;
    const float *bias; /* n floats, or NULL */
    const void *a;     /* m operand rows of the weight's precision, 64-byte aligned */
    size_t a_stride, m;
    size_t n_begin, n_end; /* n_begin a multiple of column_block; n_end too, or n */
    emb_activation activation;
    emb_precision out_precision; /* FP32: float rows; BF16: bf16 rows; INT8: operand rows (only if the
                                     table says emits_int8). For BF16 and INT8 a row is what
                                     operand_from_f32 would make of the float row with k = n */
    void *out;                   /* row i at out + i·out_stride, column 0 first */
    size_t out_stride;
    const float *residual; /* fp32 rows added at the end, may be `out` itself; or NULL */
    size_t residual_stride;
} emb_linear;

/* Self-attention of one sequence, heads head_begin .. head_end-1:
 * out = softmax(scale · q·kᵀ + bias) · v, per head, without an len × len buffer (online softmax over
 * blocks of keys). q, k, v: rows of `precision` FP32 or BF16, token t at q + t·stride, head h at columns
 * h·head_dim …; out rows likewise in the same precision. head_dim is any multiple of 8 up to 256. */
typedef struct emb_attention {
    emb_precision precision; /* FP32 or BF16 */
    const void *q, *k, *v;
    size_t stride; /* of q, k and v rows */
    void *out;
    size_t out_stride;
    size_t length, head_dim, head_begin, head_end;
    float scale;
    const float *bias;  /* relative position bias or NULL: the score of query i and key j in head h
                                gets bias[h·bias_stride + j - i], so bias points at offset 0 */
    size_t bias_stride; /* in floats */
} emb_attention;

typedef struct emb_kernels {
    const char *name;             /* "avx512" */
    size_t column_block;          /* granularity of n_begin, a power of two */
    size_t int8_group;            /* inputs that share a scale in INT8 weights and operands; 0: a whole row */
    bool emits_int8;              /* linear can write INT8 operands itself */
    emb_precision auto_precision; /* what EMB_PRECISION_AUTO means here */
    /* rows of q, k, v and of the attention output, per product precision */
    emb_precision attention_precision[4];

    /* Once per thread before anything below: denormals to zero, tile configuration; and the undoing,
     * which restores the thread's former state. */
    uint64_t (*thread_begin)(void);
    void (*thread_end)(uint64_t saved);

    size_t (*weight_bytes)(emb_precision p, size_t n, size_t k);
    /* Packs rows row0 .. row0+rows-1 (src: rows × k floats). row0 is a multiple of 64, rows too or up to
     * n. Strips may be packed from different threads. */
    void (*weight_pack)(emb_precision p, size_t n, size_t k, size_t row0, size_t rows, const float *src,
                        void *packed);

    size_t (*operand_stride)(emb_precision p,
                             size_t k); /* bytes, a multiple of 64; never a multiple of 4096 */
    void (*operand_from_f32)(emb_precision p, size_t k, const float *src, size_t src_stride, size_t rows,
                             void *dst, size_t dst_stride);

    size_t (*linear_scratch)(size_t max_n, size_t max_k); /* bytes, 64-byte aligned, per thread */
    void (*linear)(const emb_linear *args, void *scratch);

    size_t (*attention_scratch)(size_t max_length, size_t head_dim);
    void (*attention)(const emb_attention *args, void *scratch);

    /* y = (x - mean)/sqrt(var + eps)·gamma + beta per row of n. x and y may be the same; operand (of
     * precision p, stride operand_stride bytes) also receives y unless NULL. beta may be NULL. */
    void (*layer_norm)(size_t rows, size_t n, const float *x, size_t x_stride, const float *gamma,
                       const float *beta, float eps, float *y, size_t y_stride, emb_precision p,
                       void *operand, size_t operand_stride);

    /* dst[i] (+)= value of src[i]; I8 is multiplied by scales[i / group]. src may have any alignment. */
    void (*widen)(emb_dtype type, const void *src, const float *scales, size_t group, size_t n, float *dst,
                  bool add);

    /* Pools rows of one sequence into out[n] (kind never MODEL). */
    void (*pool)(emb_pooling kind, size_t rows, size_t n, const float *x, size_t x_stride, float *out);
    /* v /= max(|v|, 1e-12), the norm accumulated in fp32 lanes or better. */
    void (*normalize)(float *v, size_t n);
    float (*dot)(const float *a, const float *b, size_t n);
} emb_kernels;

/* Whether this CPU and operating system can run a table: "portable", "avx2", "avx512", "amx", "neon".
 * NULL for tables that were not built in. */
typedef struct emb_isa {
    const emb_kernels *kernels;
    bool (*supported)(void);
} emb_isa;

/* All tables of this build, worst first; *count receives how many. */
const emb_isa *emb_kernels_all(size_t *count);

/* The named table, or for NULL the one of $EMBEDD_ISA, else the best supported. A name that is unknown or
 * unsupported here: EMB_E_UNSUPPORTED, saying what the machine has. */
EMB_MUST_CHECK emb_status emb_kernels_select(const char *name, const emb_kernels **out, emb_error *err);

#endif
