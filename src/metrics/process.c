/*
 * The process_* family, named as Prometheus' own clients name it, from /proc/self. Each number is left out
 * where the system does not tell it (no /proc in a chroot). The time of start is read once, since the
 * difference of two clocks would give another fraction each time. Only counting open files allocates
 * (opendir).
 */
#include "metrics/registry.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

typedef struct process_numbers {
    double cpu_seconds, virtual_bytes, resident_bytes, threads, open_files,
        most_files;     /* negative: not known */
    double start_ticks; /* since boot */
} process_numbers;

/* As much of a small file as fits, NUL behind it; false if it cannot be read. */
static bool read_small(const char *path, char *text, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    size_t length = 0;
    for (ssize_t n; length + 1 < room && (n = read(fd, text + length, room - 1 - length)) != 0;) {
        if (n < 0 && errno != EINTR)
            break;
        length += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    text[length] = 0;
    return length > 0;
}

/* Seconds since 1970 at which the system started; negative: not known. */
static double boot_seconds(void)
{
    struct timespec now, up;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0 || clock_gettime(CLOCK_BOOTTIME, &up) != 0)
        return -1;
    return (double)(now.tv_sec - up.tv_sec) + (double)(now.tv_nsec - up.tv_nsec) / 1e9;
}

/* Fields 20 (threads), 22 (start, in ticks since boot), 23 (virtual bytes), 24 (resident pages); see
 * proc(5). */
static void read_stat(process_numbers *p)
{
    char text[2048];
    long threads, pages;
    unsigned long long start, bytes;
    const char *rest = read_small("/proc/self/stat", text, sizeof text) ? strrchr(text, ')') : NULL;
    if (!rest ||
        sscanf(rest + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d %llu %llu %ld",
               &threads, &start, &bytes, &pages) != 4)
        return;
    p->start_ticks = (double)start;
    p->threads = (double)threads;
    p->virtual_bytes = (double)bytes;
    p->resident_bytes = (double)pages * (double)sysconf(_SC_PAGESIZE);
}

double emb_process_start_seconds(void)
{
    process_numbers p = {.start_ticks = -1};
    double boot = boot_seconds();
    read_stat(&p);
    return boot < 0 || p.start_ticks < 0 ? -1 : boot + p.start_ticks / (double)sysconf(_SC_CLK_TCK);
}

static emb_status count_files(process_numbers *p)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        p->most_files = (double)limit.rlim_cur;
    DIR *folder = opendir("/proc/self/fd");
    if (!folder)
        return errno == ENOMEM ? EMB_E_NOMEM : EMB_OK;
    p->open_files = -1; /* the folder's own */
    for (struct dirent *entry; (entry = readdir(folder));)
        p->open_files += entry->d_name[0] != '.';
    closedir(folder);
    return EMB_OK;
}

static emb_status write_one(emb_buf *out, const char *name, const char *type, const char *help, double value)
{
    if (value < 0)
        return EMB_OK;
    emb_status status = emb_buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n%s ", name, help, name, type, name);
    if (!status)
        status = emb_metrics_write_number(out, value);
    return status ? status : emb_buf_add(out, "\n", 1);
}

emb_status emb_metrics_write_process(emb_buf *out, double start_seconds)
{
    process_numbers p = {-1, -1, -1, -1, -1, -1, -1};
    struct timespec cpu;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0)
        p.cpu_seconds = (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9;
    read_stat(&p);
    emb_status status = count_files(&p);
    const struct {
        const char *name, *type, *help;
        double value;
    } rows[] = {
        {"process_cpu_seconds_total", "counter", "User and system CPU time spent in seconds.", p.cpu_seconds},
        {"process_open_fds", "gauge", "Number of open file descriptors.", p.open_files},
        {"process_max_fds", "gauge", "Maximum number of open file descriptors.", p.most_files},
        {"process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", p.virtual_bytes},
        {"process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", p.resident_bytes},
        {"process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.",
         start_seconds},
        {"process_threads", "gauge", "Number of threads.", p.threads},
    };
    for (size_t i = 0; !status && i < sizeof rows / sizeof *rows; i++)
        status = write_one(out, rows[i].name, rows[i].type, rows[i].help, rows[i].value);
    return status;
}
