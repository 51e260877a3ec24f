/* The suite of shadow_conformance.h on SQLite. */
#include "unit/shadow/shadow_conformance.h"

#include <unistd.h>

static char directory[] = "/tmp/embedd-shadow-XXXXXX", url[256], path[200];

static void reset(void)
{
    static const char *const endings[] = {"", "-wal", "-shm"};
    char name[256];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", path, endings[i]);
        unlink(name);
    }
}

int main(void)
{
    if (!mkdtemp(directory))
        return 1;
    snprintf(path, sizeof path, "%s/shadow.db", directory);
    snprintf(url, sizeof url, "sqlite:%s", path);
    const shadow_subject subject = {url, reset};
    int failures = shadow_conformance(&subject);
    reset();
    rmdir(directory);
    return failures;
}
