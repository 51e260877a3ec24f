/*
 * How many CPUs this process may use: the affinity mask (taskset, cpusets) and the quota of its control
 * group (containers), whichever is less. More threads than that would only take turns, and a thread that
 * the quota stops in the middle of a shared pass would hold up the others.
 *
 * The quota is looked for from the process's own group up to the root, since a parent's limit binds too,
 * in version 2 (cpu.max) and version 1 (cpu.cfs_quota_us). Inside a container the group's own path is
 * often not visible; its files are then those of the mount's root, which the walk ends with.
 */
#include "engine/engine.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned affinity_count(void)
{
    for (int cpus = 1024; cpus <= 1 << 20; cpus *= 4) {
        cpu_set_t *set = CPU_ALLOC(cpus);
        if (!set)
            return 1;
        size_t bytes = CPU_ALLOC_SIZE(cpus);
        int failed = sched_getaffinity(0, bytes, set);
        int count = failed ? 0 : CPU_COUNT_S(bytes, set);
        CPU_FREE(set);
        if (!failed)
            return count > 0 ? (unsigned)count : 1;
    }
    return 1;
}

/* The first line of a small file; false if it cannot be read. */
static bool read_line(const char *path, char *line, size_t size)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool ok = fgets(line, (int)size, file) != NULL;
    fclose(file);
    return ok;
}

/* CPUs that quota / period allows, rounded up; 0 for no limit. */
static unsigned quota_cpus(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return 0;
    long long cpus = quota / period + (quota % period != 0);
    return cpus > EMB_MAX_THREADS ? EMB_MAX_THREADS : (unsigned)cpus;
}

static unsigned quota_of_group(const char *group)
{
    char path[4096 + 64], line[128];
    long long quota = 0, period = 0;
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
    if (read_line(path, line, sizeof line))
        return sscanf(line, "%lld %lld", &quota, &period) == 2 ? quota_cpus(quota, period) : 0;
    snprintf(path, sizeof path, "/sys/fs/cgroup/cpu%s/cpu.cfs_quota_us", group);
    if (!read_line(path, line, sizeof line) || sscanf(line, "%lld", &quota) != 1)
        return 0;
    snprintf(path, sizeof path, "/sys/fs/cgroup/cpu%s/cpu.cfs_period_us", group);
    if (!read_line(path, line, sizeof line) || sscanf(line, "%lld", &period) != 1)
        return 0;
    return quota_cpus(quota, period);
}

/* The least quota from `group` up to the root. Shortens group as it goes. */
static unsigned quota_of_branch(char *group, unsigned least)
{
    for (;;) {
        unsigned cpus = quota_of_group(group);
        if (cpus && cpus < least)
            least = cpus;
        char *slash = strrchr(group, '/');
        if (!slash)
            return least;
        *slash = 0;
    }
}

unsigned emb_cpus_usable(void)
{
    unsigned cpus = affinity_count();
    char line[4096], group[4096];
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = 0;
        if (controllers[1] && !strstr(controllers, "cpu"))
            continue; /* version 1, another controller */
        snprintf(group, sizeof group, "%s", strcmp(path, "/") ? path : "");
        cpus = quota_of_branch(group, cpus);
    }
    if (file)
        fclose(file);
    return cpus > EMB_MAX_THREADS ? EMB_MAX_THREADS : cpus;
}
