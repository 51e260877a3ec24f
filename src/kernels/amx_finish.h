/*
 * amx_finish.h: what happens to a block of sums after the tile products: scaling, bias, activation,
 * residual, conversion and the store. Private to amx_linear.c and amx_finish.c.
 *
 *     job.until = …; emb_amx_job_advance(&job, rows);     // a few rows, between tile instructions
 *     emb_amx_job_advance(&job, 16);                      // all that is left
 *
 * A job borrows everything it points to until it is done. No state of its own.
 */
#ifndef EMB_KERNELS_AMX_FINISH_H
#define EMB_KERNELS_AMX_FINISH_H

#include "kernels/amx.h"
#include <immintrin.h>

/* 16 rows × 32 columns of the result: two tiles side by side. */
typedef struct emb_amx_part {
    size_t rows;       /* that exist, 0 to 16 */
    __mmask32 columns; /* that exist */
    __mmask32 stored;  /* of a bf16 row, zeros behind the last column included */
    const float *bias;
    const char *residual; /* or NULL */
    char *out;
    const char *row_scale; /* INT8: of this group, row_scale_stride apart */
    const float *column_scale;
} emb_amx_part;

typedef struct emb_amx_job emb_amx_job;
typedef void (*emb_amx_rows)(const emb_amx_job *job, size_t begin, size_t end);

struct emb_amx_job {
    emb_amx_part part[2];
    const void *staged;    /* 2 × 16 × 32 floats, or int32 for INT8 */
    float *sums;           /* the fp32 sums: `staged` itself, or for INT8 where groups are added up */
    size_t done;           /* rows of each part */
    bool scale, add, last; /* INT8: convert and scale; add to sums; last group, finish too */
    emb_amx_rows finish;
    size_t out_stride, residual_stride, row_scale_stride;
};

/* The function that finishes rows, for a linear layer's activation and output. */
emb_amx_rows EMB_AMX(finish_function)(emb_activation activation, emb_precision out);

/* Turns a group's integers into floats in job->sums. */
void EMB_AMX(scale_rows)(const emb_amx_job *job, size_t begin, size_t end);

/* Works on rows up to `end` (at most 16) of both parts. */
static inline void emb_amx_job_advance(emb_amx_job *job, size_t end)
{
    if (job->done >= end)
        return;
    if (job->scale)
        EMB_AMX(scale_rows)(job, job->done, end);
    if (job->last)
        job->finish(job, job->done, end);
    job->done = end;
}

#endif
