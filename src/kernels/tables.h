/*
 * tables.h: the kernel tables of this build and what the machine must have for each. Private to kernels/.
 *
 *     static const emb_isa all[] = { { &emb_kernels_portable, emb_cpu_any }, … };
 *
 * A table is a constant: nothing is initialised at run time and there is nothing to release. Where one
 * name stands for two tables (AVX-512 with and without bf16 products) dispatch.c picks at run time.
 * The emb_cpu_ functions ask the CPU and the operating system each time; they are thread-safe.
 */
#ifndef EMB_KERNELS_TABLES_H
#define EMB_KERNELS_TABLES_H

#include "kernels/kernels.h"

extern const emb_kernels emb_kernels_portable;
bool emb_cpu_any(void);

#if defined(__x86_64__)
extern const emb_kernels emb_kernels_avx2;
extern const emb_kernels emb_kernels_avx512;      /* F, BW, VL, DQ, VNNI */
extern const emb_kernels emb_kernels_avx512_bf16; /* and BF16, on a chip where that pays */
extern const emb_kernels emb_kernels_amx;         /* and AMX-TILE, -BF16, -INT8 */

bool emb_cpu_avx2(void);      /* AVX2, FMA, F16C, BMI2 and their registers enabled */
bool emb_cpu_avx512(void);    /* F, BW, VL, DQ, VNNI and their registers enabled */
bool emb_cpu_fast_bf16(void); /* and AVX512_BF16 at the rate of fp32 multiply-add, i.e. AMD's */
bool emb_cpu_amx(void);       /* and AMX bf16 and int8, permitted to this process by the kernel */
#elif defined(__aarch64__)
extern const emb_kernels emb_kernels_neon;      /* every aarch64 */
extern const emb_kernels emb_kernels_neon_dot;  /* and SDOT */
extern const emb_kernels emb_kernels_neon_bf16; /* and BFMMLA */

bool emb_cpu_neon_dot(void);
bool emb_cpu_neon_bf16(void);
#endif

#endif
