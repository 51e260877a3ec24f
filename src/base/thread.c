#include "base/thread.h"

#include <sched.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NICE = 10 };
#define SLICE_NS UINT64_C(50000000)

/* Of the kernel, sched/types.h, first version; the C library has none. */
typedef struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
} attributes;

void emb_thread_background(const char *name)
{
    /* The runtime is the slice that is asked for, from Linux 6.12 on: who wakes up with a shorter one, as every other
     * thread has, takes the processor at once instead of at the end of the slice. Earlier versions ignore it. */
    const attributes a = {.size = sizeof a, .policy = SCHED_BATCH, .nice = NICE, .runtime = SLICE_NS};
    prctl(PR_SET_NAME, name, 0, 0, 0);
    (void)!syscall(SYS_sched_setattr, 0, &a, 0); /* 0: of this thread alone */
}
