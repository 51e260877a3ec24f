/* The suite of ledger_conformance.h on SQLite. */
#include "unit/ledger/ledger_conformance.h"

#include <unistd.h>

static char folder[] = "/tmp/embedd-ledger-XXXXXX";
static char path[64], url[80];

static void reset(void)
{
    char name[80];
    static const char *const ends[] = {"", "-wal", "-shm"};
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", path, ends[i]);
        unlink(name);
    }
}

int main(void)
{
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/ledger.db", folder);
    snprintf(url, sizeof url, "sqlite:%s", path);
    int failed = ledger_conformance(&(ledger_subject){url, reset});
    reset();
    rmdir(folder);
    return failed;
}
