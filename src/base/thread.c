#include "base/thread.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NICE = 10 };

void emb_thread_background(const char *name)
{
    prctl(PR_SET_NAME, name, 0, 0, 0);
    (void)!sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}); /* 0: of this thread alone */
    (void)!setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
}
