/* Lines as they arrive: their form, what is escaped and cut, threads, and readers that are slow, gone or
 * short. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <regex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int ends[2];

static void open_pipe(emb_log_level level, emb_log_format format)
{
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    emb_log_open(level, format, ends[1]);
}

static void close_pipe(void)
{
    emb_log_close();
    close(ends[0]);
    close(ends[1]);
}

/* What is there now, NUL-terminated. */
static size_t take(char *out, size_t size)
{
    size_t length = 0;
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    while (length + 1 < size && poll(&p, 1, 0) == 1 && (p.revents & POLLIN)) {
        ssize_t n = read(ends[0], out + length, size - 1 - length);
        if (n <= 0)
            break;
        length += (size_t)n;
    }
    out[length] = 0;
    return length;
}

static void assert_matches(const char *text, const char *pattern)
{
    regex_t regex;
    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    if (regexec(&regex, text, 0, NULL, 0) != 0)
        fail_msg("'%s' does not match '%s'", text, pattern);
    regfree(&regex);
}

#define TIME "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9][.][0-9]{3}Z"

static void plain_lines(void **state)
{
    (void)state;
    char text[8192];
    open_pipe(EMB_LOG_INFO, EMB_LOG_PLAIN);
    emb_log(EMB_LOG_WARN, "cache: L2 is down", EMB_LOG_TEXT("url", "redis://h"), EMB_LOG_INT("failures", -5),
            EMB_LOG_REAL("ms", 12.5), EMB_LOG_BOOL("again", true), EMB_LOG_TEXT("left_out", NULL));
    take(text, sizeof text);
    assert_matches(text,
                   "^" TIME " warn  cache: L2 is down url=redis://h failures=-5 ms=12[.]5 again=true\n$");
    emb_log(EMB_LOG_INFO, "no fields");
    take(text, sizeof text);
    assert_matches(text, "^" TIME " info  no fields\n$");
    emb_log(EMB_LOG_INFO, "m", EMB_LOG_TEXT("a", "two words"), EMB_LOG_TEXT("b", ""),
            EMB_LOG_TEXT("c", "x=\"\\\n\033[31m"), EMB_LOG_TEXT("d", "ä\xff"));
    take(text, sizeof text);
    assert_non_null(
        strstr(text, " m a=\"two words\" b=\"\" c=\"x=\\\"\\\\\\n\\u001b[31m\" d=\"ä\xEF\xBF\xBD\"\n"));
    close_pipe();
}

static void levels(void **state)
{
    (void)state;
    char text[8192];
    emb_log(EMB_LOG_ERROR, "nobody listens");
    assert_false(emb_log_wanted(EMB_LOG_ERROR));
    emb_log_set(EMB_LOG_DEBUG, EMB_LOG_PLAIN); /* not open: still silent */
    assert_false(emb_log_wanted(EMB_LOG_ERROR));
    open_pipe(EMB_LOG_WARN, EMB_LOG_PLAIN);
    assert_true(emb_log_wanted(EMB_LOG_ERROR));
    assert_true(emb_log_wanted(EMB_LOG_WARN));
    assert_false(emb_log_wanted(EMB_LOG_INFO));
    emb_log(EMB_LOG_INFO, "quiet");
    emb_log_write(EMB_LOG_DEBUG, "quiet", NULL, 0);
    assert_int_equal(take(text, sizeof text), 0);
    emb_log_set(EMB_LOG_DEBUG, EMB_LOG_JSON);
    emb_log(EMB_LOG_DEBUG, "loud");
    take(text, sizeof text);
    assert_matches(text, "^[{]\"time\":\"" TIME "\",\"level\":\"debug\",\"message\":\"loud\"[}]\n$");
    emb_log_close();
    emb_log(EMB_LOG_ERROR, "closed");
    assert_int_equal(take(text, sizeof text), 0);
    close_pipe();
}

static emb_json *parse_line(const char *text, size_t length)
{
    emb_json *json = NULL;
    emb_error err = {0};
    assert_int_equal(text[length - 1], '\n');
    assert_null(memchr(text, '\n', length - 1));
    if (emb_json_open(text, length - 1, "line", &json, &err))
        fail_msg("%s: %s", err.message, text);
    return json;
}

static void json_lines(void **state)
{
    (void)state;
    char text[8192];
    open_pipe(EMB_LOG_INFO, EMB_LOG_JSON);
    emb_log(EMB_LOG_ERROR, "a \"message\"", EMB_LOG_TEXT("t", "x\ty"), EMB_LOG_INT("min", INT64_MIN),
            EMB_LOG_REAL("tiny", 1.25e-7), EMB_LOG_REAL("nan", NAN), EMB_LOG_REAL("inf", -INFINITY),
            EMB_LOG_BOOL("off", false), EMB_LOG_TEXT("none", NULL));
    size_t n = take(text, sizeof text);
    emb_json_close(parse_line(text, n));
    assert_non_null(strstr(text, "\"level\":\"error\",\"message\":\"a \\\"message\\\"\",\"t\":\"x\\ty\","
                                 "\"min\":-9223372036854775808,\"tiny\":1.25e-07,\"nan\":null,\"inf\":null,"
                                 "\"off\":false}\n"));
    close_pipe();
}

/* Any bytes in any place of a value, also where it is cut. */
static void json_is_valid_whatever_the_bytes(void **state)
{
    (void)state;
    static char value[6000], text[8192];
    unsigned seed = 7;
    open_pipe(EMB_LOG_INFO, EMB_LOG_JSON);
    for (unsigned round = 0; round < 600; round++) {
        size_t length = round < 255 ? 1 : (size_t)rand_r(&seed) % sizeof value;
        for (size_t i = 0; i < length; i++)
            value[i] = (char)(round < 255 ? round + 1 : 1 + rand_r(&seed) % 255);
        value[length < sizeof value ? length : sizeof value - 1] = 0;
        emb_log(EMB_LOG_INFO, "m", EMB_LOG_TEXT("a", value), EMB_LOG_TEXT("b", value),
                EMB_LOG_TEXT("c", value), EMB_LOG_TEXT("d", value), EMB_LOG_TEXT("e", value),
                EMB_LOG_INT("f", 1));
        size_t n = take(text, sizeof text);
        assert_true(n > 0 && n <= 4096);
        emb_json_close(parse_line(text, n));
        assert_int_equal(strstr(text, "\"cut\":true}") != NULL,
                         strstr(text, "…") || !strstr(text, "\"f\":1"));
    }
    close_pipe();
}

static void long_lines_are_cut(void **state)
{
    (void)state;
    static char value[5000], text[8192];
    memset(value, 'x', sizeof value - 1);
    for (int format = EMB_LOG_PLAIN; format <= EMB_LOG_JSON; format++) {
        open_pipe(EMB_LOG_INFO, (emb_log_format)format);
        emb_log(EMB_LOG_INFO, "m", EMB_LOG_TEXT("a", value), EMB_LOG_INT("b", 7));
        take(text, sizeof text);
        assert_true(strlen(text) < 1200);
        assert_non_null(strstr(text, "x…\""));
        assert_non_null(strstr(text, format == EMB_LOG_JSON ? "\"b\":7,\"cut\":true}\n" : " b=7 cut=true\n"));
        emb_log_field many[100];
        for (size_t i = 0; i < 100; i++)
            many[i] = (emb_log_field)EMB_LOG_TEXT("key", "a value of some length, and then some more of it");
        emb_log_write(EMB_LOG_INFO, "many", many, 100);
        size_t n = take(text, sizeof text);
        assert_true(n > 3500 && n <= 4096);
        assert_non_null(strstr(text, format == EMB_LOG_JSON ? ",\"cut\":true}\n" : " cut=true\n"));
        close_pipe();
    }
}

static void numbers_do_not_depend_on_the_locale(void **state)
{
    (void)state;
    char text[8192];
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8") && !setlocale(LC_NUMERIC, "fr_FR.UTF-8"))
        skip();
    open_pipe(EMB_LOG_INFO, EMB_LOG_JSON);
    emb_log(EMB_LOG_INFO, "m", EMB_LOG_REAL("x", 0.5));
    take(text, sizeof text);
    setlocale(LC_NUMERIC, "C");
    assert_non_null(strstr(text, "\"x\":0.5}"));
    close_pipe();
}

static void time_is_now(void **state)
{
    (void)state;
    char text[8192];
    struct tm tm = {0};
    time_t before = time(NULL);
    open_pipe(EMB_LOG_INFO, EMB_LOG_PLAIN);
    emb_log(EMB_LOG_INFO, "m");
    take(text, sizeof text);
    assert_non_null(strptime(text, "%Y-%m-%dT%H:%M:%S", &tm));
    time_t then = timegm(&tm);
    assert_true(then >= before && then <= time(NULL));
    close_pipe();
}

/* ---- readers ---- */

/* Nobody reads: lines are dropped without waiting, and counted when somebody does. */
static void check_stuck_reader(void)
{
    static char value[900], text[1 << 18];
    memset(value, 'x', sizeof value - 1);
    uint64_t start = emb_now_ns();
    for (int i = 0; i < 2000; i++)
        emb_log(EMB_LOG_INFO, "m", EMB_LOG_TEXT("v", value));
    assert_true(emb_now_ns() - start <
                5000000000u); /* blocked writes would last for ever, waits of 20 ms 40 s */
    uint64_t lost = emb_log_dropped();
    assert_true(lost > 500 && lost < 2000);
    size_t n = take(text, sizeof text);
    assert_int_equal(text[n - 1], '\n');
    size_t lines = 0;
    for (size_t i = 0; i < n; i++)
        lines += text[i] == '\n';
    assert_int_equal(lines, 2000 - lost);
    emb_log(EMB_LOG_INFO, "through again");
    n = take(text, sizeof text);
    char expected[64];
    snprintf(expected, sizeof expected, "their reader was too slow dropped=%llu\n", (unsigned long long)lost);
    assert_non_null(strstr(text, "through again\n"));
    assert_string_equal(text + n - strlen(expected), expected);
    assert_int_equal(emb_log_dropped(), lost);
}

static void a_stuck_pipe_does_not_stall(void **state)
{
    (void)state;
    open_pipe(EMB_LOG_INFO, EMB_LOG_PLAIN);
    assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0); /* shared with others: left as it was */
    check_stuck_reader();
    assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
    close_pipe();
}

static void a_stuck_socket_does_not_stall(void **state)
{
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    emb_log_open(EMB_LOG_INFO, EMB_LOG_PLAIN, ends[1]);
    check_stuck_reader();
    close_pipe();
}

/* A pipe that may not be opened again, as where the service gave up the user that made it. */
static void a_stuck_pipe_of_somebody_else_does_not_stall(void **state)
{
    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(fchmod(ends[1], 0), 0);
    setfsuid(65534); /* root may open everything */
    char own[64];
    snprintf(own, sizeof own, "/proc/self/fd/%d", ends[1]);
    int again = open(own, O_WRONLY | O_NONBLOCK);
    emb_log_open(EMB_LOG_INFO, EMB_LOG_PLAIN, ends[1]);
    setfsuid(geteuid());
    assert_int_equal(again, -1);
    check_stuck_reader();
    close_pipe();
}

/* A terminal gets colours, and one that was stopped (Ctrl-S) does not stop us. */
static void terminals(void **state)
{
    (void)state;
    char text[8192];
    ends[0] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (ends[0] < 0 || grantpt(ends[0]) || unlockpt(ends[0]))
        skip();
    ends[1] = open(ptsname(ends[0]), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(ends[1] >= 0);
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    emb_log_open(EMB_LOG_INFO, EMB_LOG_PLAIN, ends[1]);
    emb_log(EMB_LOG_WARN, "m", EMB_LOG_INT("a", 1));
    take(text, sizeof text);
    assert_matches(text, "^" TIME " \033\\[33mwarn \033\\[0m m a=1\r\n$");
    emb_log_set(EMB_LOG_INFO, EMB_LOG_JSON);
    emb_log(EMB_LOG_WARN, "m");
    take(text, sizeof text);
    assert_null(strchr(text, '\033'));
    uint64_t start = emb_now_ns();
    for (int i = 0; i < 2000; i++)
        emb_log(EMB_LOG_INFO, "nobody reads this terminal");
    assert_true(emb_now_ns() - start < 5000000000u && emb_log_dropped() > 0);
    static const char *const plain[] = {"NO_COLOR", "TERM"};
    for (size_t i = 0; i < 2; i++) {
        setenv("TERM", "xterm", 1);
        setenv(plain[i], "dumb", 1);
        while (take(text, sizeof text))
            ;
        emb_log_open(EMB_LOG_INFO, EMB_LOG_PLAIN, ends[1]);
        emb_log(EMB_LOG_WARN, "m");
        take(text, sizeof text);
        assert_null(strchr(text, '\033'));
        unsetenv("NO_COLOR");
    }
    close_pipe();
}

static void a_closed_reader_is_no_harm(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN); /* as the program does */
    open_pipe(EMB_LOG_INFO, EMB_LOG_PLAIN);
    close(ends[0]);
    errno = 77;
    emb_log(EMB_LOG_INFO, "m");
    assert_int_equal(errno, 77);
    assert_int_equal(emb_log_dropped(), 1);
    emb_log_close();
    close(ends[1]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    emb_log_open(EMB_LOG_INFO, EMB_LOG_PLAIN, ends[1]);
    close(ends[0]);
    signal(SIGPIPE, SIG_DFL); /* a socket needs nobody's help */
    emb_log(EMB_LOG_INFO, "m");
    assert_int_equal(emb_log_dropped(), 1);
    emb_log_close();
    close(ends[1]);
}

static void a_full_disk_is_no_harm(void **state)
{
    (void)state;
    int fd = open("/dev/full", O_WRONLY);
    if (fd < 0)
        skip();
    emb_log_open(EMB_LOG_INFO, EMB_LOG_PLAIN, fd);
    emb_log(EMB_LOG_INFO, "m");
    emb_log(EMB_LOG_INFO, "m");
    assert_int_equal(emb_log_dropped(), 2);
    emb_log_close();
    close(fd);
}

/* `embedd serve >file 2>&1`: what others write to the same file stays. */
static void a_file_is_shared(void **state)
{
    (void)state;
    char path[] = "/tmp/embedd-log-XXXXXX", text[4096];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "before\n", 7), 7);
    emb_log_open(EMB_LOG_INFO, EMB_LOG_PLAIN, fd);
    emb_log(EMB_LOG_INFO, "one");
    assert_int_equal(write(fd, "between\n", 8), 8);
    emb_log(EMB_LOG_INFO, "two");
    emb_log_close();
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    assert_true(n > 0);
    text[n] = 0;
    assert_matches(text, "^before\n" TIME " info  one\nbetween\n" TIME " info  two\n$");
    close(fd);
    unlink(path);
}

/* ---- threads ---- */

enum { THREADS = 4, LINES = 500 };

static void *write_lines(void *context)
{
    static const char filler[] =
        "some text that makes the line longer, so that two of them would mix more easily";
    for (int i = 0; i < LINES; i++)
        emb_log(EMB_LOG_INFO, "line", EMB_LOG_INT("thread", (intptr_t)context), EMB_LOG_INT("number", i),
                EMB_LOG_TEXT("filler", filler));
    return NULL;
}

static void *read_lines(void *context)
{
    FILE *f = fdopen(dup(ends[0]), "r");
    int *next = context;
    char *text = NULL;
    size_t size = 0;
    for (ssize_t n; (n = getline(&text, &size, f)) > 0;) {
        long thread, number;
        emb_json_close(parse_line(text, (size_t)n));
        const char *at = strstr(text, "\"thread\":");
        if (!at)
            continue; /* the line about dropped ones */
        assert_int_equal(sscanf(at, "\"thread\":%ld,\"number\":%ld", &thread, &number), 2);
        assert_true(number >= next[thread]); /* in order, dropped ones aside */
        next[thread] = (int)number + 1;
    }
    free(text);
    fclose(f);
    return NULL;
}

static void lines_of_threads_do_not_mix(void **state)
{
    (void)state;
    pthread_t threads[THREADS], reader;
    int next[THREADS] = {0};
    open_pipe(EMB_LOG_INFO, EMB_LOG_JSON);
    pthread_create(&reader, NULL, read_lines, next);
    for (intptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, write_lines, (void *)i);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    emb_log_close();
    close(ends[1]);
    pthread_join(reader, NULL);
    close(ends[0]);
    for (size_t i = 0; i < THREADS; i++)
        assert_true(next[i] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_lines),
        cmocka_unit_test(levels),
        cmocka_unit_test(json_lines),
        cmocka_unit_test(json_is_valid_whatever_the_bytes),
        cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(numbers_do_not_depend_on_the_locale),
        cmocka_unit_test(time_is_now),
        cmocka_unit_test(a_stuck_pipe_does_not_stall),
        cmocka_unit_test(a_stuck_socket_does_not_stall),
        cmocka_unit_test(a_stuck_pipe_of_somebody_else_does_not_stall),
        cmocka_unit_test(terminals),
        cmocka_unit_test(a_closed_reader_is_no_harm),
        cmocka_unit_test(a_full_disk_is_no_harm),
        cmocka_unit_test(a_file_is_shared),
        cmocka_unit_test(lines_of_threads_do_not_mix),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
