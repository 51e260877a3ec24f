/* The suite of l2_conformance.h on SQLite. */
#include "unit/cache/l2_conformance.h"

#include <unistd.h>

static char directory[] = "/tmp/embedd-l2-XXXXXX", url[256], path[200];

static void reset(void)
{
    char log[256];
    unlink(path);
    snprintf(log, sizeof log, "%s-wal", path);
    unlink(log);
    snprintf(log, sizeof log, "%s-shm", path);
    unlink(log);
}

int main(void)
{
    if (!mkdtemp(directory))
        return 1;
    snprintf(path, sizeof path, "%s/cache.sqlite", directory);
    snprintf(url, sizeof url, "sqlite:%s", path);
    const l2_subject subject = {&emb_l2_sqlite, url, reset, .has_tidy = true};
    int failures = l2_conformance(&subject);
    reset();
    rmdir(directory);
    return failures;
}
