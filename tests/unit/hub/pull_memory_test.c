/* Memory runs out at every point of a pull over HTTP: an error, nothing lost, and the next pull completes.
 * The hub is a child process, which has memory enough. */
#include "hub/hub.h"
#include "support/fail_alloc.h"

#include <arpa/inet.h>
#include <ftw.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define COMMIT "0123456789012345678901234567890123456789"

/* git's hashes: printf TEXT | git hash-object --stdin */
static const struct {
    const char *path, *type, *text;
} answers[] = {
    {"/api/models/org/name/revision/main", "application/json",
     "{\"sha\":\"" COMMIT "\",\"siblings\":["
     "{\"rfilename\":\"config.json\",\"size\":2,\"blobId\":\"9e26dfeeb6e641a33dae4961196235bdb965b21b\"},"
     "{\"rfilename\":\"modules.json\",\"size\":2,\"blobId\":\"0637a088a01e8ddab3bf3fa98dbe804cbde1a0dc\"},"
     "{\"rfilename\":\"model.safetensors\",\"size\":5,\"lfs\":{\"sha256\":"
     "\"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\",\"size\":5}},"
     "{\"rfilename\":\"vocab.txt\"}]}"},
    {"/resolve/" COMMIT "/config.json", "text/plain", "{}"},
    {"/resolve/" COMMIT "/modules.json", "text/plain", "[]"},
    {"/resolve/" COMMIT "/model.safetensors", "text/plain", "hello"},
    {"/resolve/" COMMIT "/vocab.txt", "text/plain", "hello"},
};

static void serve_one(int s)
{
    char request[8192], answer[2048];
    size_t length = 0;
    for (ssize_t n; length + 1 < sizeof request &&
                    (n = recv(s, request + length, sizeof request - 1 - length, 0)) > 0;) {
        length += (size_t)n;
        request[length] = 0;
        if (strstr(request, "\r\n\r\n"))
            break;
    }
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        if (!strstr(request, answers[i].path))
            continue;
        int n = snprintf(answer, sizeof answer,
                         "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n"
                         "ETag: \"b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0\"\r\n\r\n%s",
                         answers[i].type, strlen(answers[i].text),
                         strncmp(request, "HEAD", 4) ? answers[i].text : "");
        send(s, answer, (size_t)n, MSG_NOSIGNAL);
        break;
    }
    close(s);
}

static pid_t start_hub(char *url, size_t size)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof a;
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(s >= 0 && bind(s, (struct sockaddr *)&a, sizeof a) == 0 && listen(s, 64) == 0);
    assert_int_equal(getsockname(s, (struct sockaddr *)&a, &length), 0);
    snprintf(url, size, "http://127.0.0.1:%u", ntohs(a.sin_port));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (int c; (c = accept(s, NULL, NULL)) >= 0;)
            serve_one(c);
        _exit(0);
    }
    close(s);
    return child;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info, (void)type, (void)walk;
    return remove(path);
}

static emb_status pull(const char *url, const char *cache)
{
    emb_hub_options o = EMB_HUB_OPTIONS_INIT;
    emb_hub_result r;
    emb_error err;
    o.name = "org/name";
    o.endpoint = url;
    o.token = "hf_token";
    o.cache_directory = cache;
    o.retries = 0;
    emb_status status = emb_hub_pull(&o, &r, &err);
    if (!status) {
        assert_int_equal(r.files, 4);
        emb_hub_result_fini(&r);
    } else {
        assert_null(strstr(err.message, "hf_token"));
    }
    return status;
}

static void memory_runs_out(void **state)
{
    (void)state;
    char url[64], memory[] = "/dev/shm/embedd-hub-XXXXXX", disk[] = "/tmp/embedd-hub-XXXXXX", *cache = memory;
    if (!fail_alloc_available())
        skip();
    assert_int_equal(setenv("no_proxy", "*", 1), 0);
    bool fast = mkdtemp(memory) != NULL; /* a pull syncs a dozen times, which on a disk takes its time */
    if (!fast)
        assert_non_null(cache = mkdtemp(disk));
    pid_t hub = start_hub(url, sizeof url);
    assert_int_equal(pull(url, cache), EMB_OK); /* what libraries allocate once for ever */
    for (size_t n = 1;; n += fast ? 1 : 1 + n / 32) {
        size_t lost = 1;
        bool failed = false;
        emb_status status = EMB_OK;
        for (int again = 0; again < 2 && lost;
             again++) { /* libraries may keep something once, not each time */
            nftw(cache, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
            size_t live = fail_alloc_live();
            fail_alloc_at(n);
            status = pull(url, cache);
            failed = fail_alloc_stop();
            lost = fail_alloc_live() - live;
        }
        assert_int_equal(lost, 0);
        assert_true(status == EMB_OK || failed);
        if (status)
            assert_int_equal(pull(url, cache), EMB_OK);
        if (!failed)
            break;
    }
    nftw(cache, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    kill(hub, SIGKILL);
    waitpid(hub, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(memory_runs_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
