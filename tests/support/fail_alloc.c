/* glibc leaves its own functions under the names __libc_*, so that these may call them. */
#include "support/fail_alloc.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define OWN_MALLOC 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define OWN_MALLOC 1
#endif

static atomic_long countdown; /* 0: nothing fails */
static atomic_bool failed, for_good;
static atomic_size_t live;

void fail_alloc_at(size_t n)
{
    atomic_store(&failed, false);
    atomic_store(&for_good, false);
    atomic_store(&countdown, (long)n);
}

void fail_alloc_from(size_t n)
{
    fail_alloc_at(n);
    atomic_store(&for_good, true);
}

bool fail_alloc_stop(void)
{
    atomic_store(&countdown, 0);
    atomic_store(&for_good, false);
    return atomic_load(&failed);
}

size_t fail_alloc_live(void)
{
    return atomic_load(&live);
}

#ifdef OWN_MALLOC

bool fail_alloc_available(void)
{
    return false;
}

#else

bool fail_alloc_available(void)
{
    return true;
}

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

/* Seen from libraries too, although everything is compiled with hidden symbols. */
#pragma GCC visibility push(default)
void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *old, size_t size);
void *memalign(size_t alignment, size_t size);
void *aligned_alloc(size_t alignment, size_t size);
int posix_memalign(void **out, size_t alignment, size_t size);
void free(void *memory);
#pragma GCC visibility pop

static bool fails(void)
{
    if (atomic_load_explicit(&countdown, memory_order_relaxed) <= 0) {
        if (!atomic_load_explicit(&for_good, memory_order_relaxed) || !atomic_load(&failed))
            return false;
    } else if (atomic_fetch_sub(&countdown, 1) != 1) {
        return false;
    }
    atomic_store(&failed, true);
    errno = ENOMEM;
    return true;
}

static void *counted(void *memory)
{
    if (memory)
        atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return memory;
}

void *malloc(size_t size)
{
    return fails() ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : counted(__libc_calloc(count, size));
}

void *realloc(void *old, size_t size)
{
    if (fails())
        return NULL;
    void *memory = __libc_realloc(old, size);
    if (!old)
        counted(memory);
    else if (!memory && size == 0)
        atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    return memory;
}

void *memalign(size_t alignment, size_t size)
{
    return fails() ? NULL : counted(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    int saved = errno;
    void *memory = memalign(alignment, size);
    errno = saved;
    if (!memory)
        return ENOMEM;
    *out = memory;
    return 0;
}

void free(void *memory)
{
    if (!memory)
        return;
    atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    __libc_free(memory);
}

#endif
