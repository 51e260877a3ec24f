/*
 * float_mode.h: denormals as zero for the calling thread, the common part of emb_kernels.thread_begin.
 *
 *     uint64_t saved = emb_float_mode_enter();
 *     …
 *     emb_float_mode_restore(saved);
 *
 * Denormals cost some hundred cycles an operation on most chips. The mode also fixes rounding to nearest
 * and masks exceptions, so that a host program's settings change no result. Per thread; no memory.
 */
#ifndef EMB_KERNELS_FLOAT_MODE_H
#define EMB_KERNELS_FLOAT_MODE_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>

static inline uint64_t emb_float_mode_enter(void)
{
    uint64_t saved = _mm_getcsr();
    _mm_setcsr(0x9fc0); /* flush to zero, denormals are zero, all exceptions masked, nearest even */
    return saved;
}

static inline void emb_float_mode_restore(uint64_t saved)
{
    _mm_setcsr((unsigned)saved);
}
#elif defined(__aarch64__)
static inline uint64_t emb_float_mode_enter(void)
{
    uint64_t saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)1 << 24)); /* FZ; nearest even, no traps */
    return saved;
}

static inline void emb_float_mode_restore(uint64_t saved)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(saved));
}
#else
static inline uint64_t emb_float_mode_enter(void)
{
    return 0;
}

static inline void emb_float_mode_restore(uint64_t saved)
{
    (void)saved;
}
#endif

#endif
