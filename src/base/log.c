/*
 * log.c: lines to a descriptor, from any thread, without a lock and without waiting for a reader.
 *
 * A line is built on the caller's stack and goes out in one write(2) of at most 4 KiB, which is PIPE_BUF:
 * pipes take it whole or not at all, files and sockets as good as always. So threads need no lock to keep
 * their lines apart.
 *
 * Whoever reads our stderr may stop reading, and a service must not stand still for that. O_NONBLOCK on the
 * descriptor we were given would belong to everybody who shares it (the shell, for one), so a pipe or
 * terminal is opened once more through /proc/self/fd, which gives a description of our own to make
 * non-blocking; a socket (systemd's journal) takes MSG_DONTWAIT; regular files do not block for readers and
 * are used as they are, since a second description would have its own position. Where a pipe cannot be opened
 * again, a poll before the write does: under a lock, because two threads may see the same last free page. A
 * line that finds no room waits WAIT_MS once; as long as none gets through after that, further ones are
 * dropped at once and counted, and the next one that gets through is followed by a line that says how many
 * were lost.
 *
 * JSON lines are valid whatever the bytes: invalid UTF-8 becomes U+FFFD. Values over VALUE_MAX are cut, and
 * fields that would make the line too long are left out, with "cut":true at the end. Numbers do not depend on
 * the locale and the time is UTC, computed here: gmtime_r takes a lock in glibc.
 */
#include "base/log.h"

#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096, VALUE_MAX = 1024, TAIL_ROOM = 48, WAIT_MS = 20 };

/* How the descriptor is written without waiting. */
typedef enum way { WAY_PLAIN, WAY_OWN, WAY_SOCKET, WAY_POLL } way;

static atomic_int threshold = -1; /* the highest level that is written; -1: silent */
static atomic_int form;           /* emb_log_format */
static atomic_bool stuck, torn;   /* the last line found no room; a line ended in the middle */
static atomic_uint_fast64_t dropped, unreported;
static pthread_mutex_t poll_lock = PTHREAD_MUTEX_INITIALIZER;
/* Set by open, read by writers after they saw `threshold`. */
static int descriptor = -1;
static way how;
static bool owned, coloured;

/* ---- building a line ---- */

typedef struct line {
    char data[LINE_MAX_BYTES];
    size_t length;
    bool json, cut;
} line;

static bool has_room(const line *l, size_t more)
{
    return l->length + more + TAIL_ROOM <= LINE_MAX_BYTES;
}

static void put(line *l, const char *text, size_t length)
{
    if (!has_room(l, length)) {
        l->cut = true;
        return;
    }
    memcpy(l->data + l->length, text, length);
    l->length += length;
}

static void put_text(line *l, const char *text)
{
    put(l, text, strlen(text));
}

/* A character as it stands between quotes. Plain lines use the same escapes. */
static size_t escape(uint32_t c, char out[8])
{
    static const char letters[] = "\"\\\n\r\t", names[] = "\"\\nrt";
    const char *found = c && c < 0x80 ? strchr(letters, (int)c) : NULL;
    if (found)
        return (size_t)snprintf(out, 8, "\\%c", names[found - letters]);
    if (c < 0x20 || (c >= 0x7f && c < 0xa0)) /* 0x80 to 0x9f steer terminals too */
        return (size_t)snprintf(out, 8, "\\u%04x", (unsigned)c);
    return emb_utf8_encode(c, out);
}

/* The text between quotes; all of it or, when it is too long, its beginning and "…". */
static void put_quoted(line *l, const char *text, size_t maximum)
{
    char piece[8];
    size_t length = strlen(text), start = l->length;
    put(l, "\"", 1);
    for (size_t i = 0; i < length;) {
        uint32_t c;
        i += emb_utf8_decode(text + i, length - i, &c);
        size_t n = escape(c, piece);
        if (l->length - start + n > maximum || !has_room(l, n + 8)) {
            put(l, "…", 3);
            l->cut = true;
            break;
        }
        put(l, piece, n);
    }
    put(l, "\"", 1);
}

static bool needs_quotes(const char *text)
{
    if (!*text)
        return true;
    for (; *text; text++)
        if (*text <= ' ' || *text > '~' || *text == '"' || *text == '\\' || *text == '=')
            return true;
    return false;
}

static void put_value_text(line *l, const char *text)
{
    if (l->json || needs_quotes(text) || strlen(text) > VALUE_MAX)
        put_quoted(l, text, VALUE_MAX);
    else
        put_text(l, text);
}

static void put_real(line *l, double value)
{
    char text[40], clean[40];
    size_t n = 0;
    if (!isfinite(value)) {
        put_text(l, "null");
        return;
    }
    snprintf(text, sizeof text, "%.9g", value);
    for (const char *t = text; *t; t++) /* whatever the locale's decimal point is made of */
        if (strchr("0123456789+-e", *t))
            clean[n++] = *t;
        else if (n == 0 || clean[n - 1] != '.')
            clean[n++] = '.';
    put(l, clean, n);
}

static void put_value(line *l, const emb_log_field *field)
{
    char text[24];
    switch (field->kind) {
    case EMB_LOG_KIND_TEXT:
        put_value_text(l, field->text);
        return;
    case EMB_LOG_KIND_INT:
        snprintf(text, sizeof text, "%lld", (long long)field->integer);
        put_text(l, text);
        return;
    case EMB_LOG_KIND_REAL:
        put_real(l, field->real);
        return;
    case EMB_LOG_KIND_BOOL:
        put_text(l, field->integer ? "true" : "false");
        return;
    }
}

/* A field as a whole, or not at all. */
static void put_field(line *l, const emb_log_field *field)
{
    enum { LEAST_VALUE = 32 };
    size_t before = l->length;
    if (field->kind == EMB_LOG_KIND_TEXT && !field->text)
        return;
    if (!has_room(l, strlen(field->key) + LEAST_VALUE)) {
        l->cut = true;
        return;
    }
    put_text(l, l->json ? "," : " ");
    if (l->json) {
        put_quoted(l, field->key, VALUE_MAX);
        put_text(l, ":");
    } else {
        put_text(l, field->key);
        put_text(l, "=");
    }
    size_t value = l->length;
    put_value(l, field);
    if (l->length == value) /* a plain word without room */
        l->length = before;
}

/* RFC 3339 with milliseconds; days to a date as in Howard Hinnant's "civil from days". */
static void put_time(line *l)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t seconds = now.tv_sec, days = seconds / 86400 + 719468;
    unsigned rest = (unsigned)(seconds % 86400);
    int64_t era = days / 146097;
    unsigned day_of_era = (unsigned)(days - era * 146097);
    unsigned year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned shifted = (5 * day_of_year + 2) / 153;
    unsigned day = day_of_year - (153 * shifted + 2) / 5 + 1,
             month = shifted < 10 ? shifted + 3 : shifted - 9;
    long long year = (long long)year_of_era + era * 400 + (month <= 2);
    char text[64];
    snprintf(text, sizeof text, "%04lld-%02u-%02uT%02u:%02u:%02u.%03uZ", year, month, day, rest / 3600,
             rest / 60 % 60, rest % 60, (unsigned)(now.tv_nsec / 1000000));
    put_text(l, text);
}

static const char *const level_names[] = {"error", "warn", "info", "debug"};

static void begin_plain(line *l, emb_log_level level, const char *message)
{
    static const char *const colours[] = {"\033[31m", "\033[33m", "\033[32m", "\033[2m"};
    char text[16];
    put_time(l);
    snprintf(text, sizeof text, "%-5s", level_names[level]);
    put_text(l, coloured ? " " : "");
    put_text(l, coloured ? colours[level] : " ");
    put_text(l, text);
    put_text(l, coloured ? "\033[0m " : " ");
    /* The message is a literal, but a line must stay one whatever happens. */
    size_t n = strcspn(message, "\r\n");
    put(l, message, n < VALUE_MAX ? n : VALUE_MAX);
}

static void begin_json(line *l, emb_log_level level, const char *message)
{
    put_text(l, "{\"time\":\"");
    put_time(l);
    put_text(l, "\",\"level\":\"");
    put_text(l, level_names[level]);
    put_text(l, "\",\"message\":");
    put_quoted(l, message, VALUE_MAX);
}

static void end(line *l)
{
    const char *tail = l->json ? (l->cut ? ",\"cut\":true}\n" : "}\n") : (l->cut ? " cut=true\n" : "\n");
    memcpy(l->data + l->length, tail, strlen(tail)); /* TAIL_ROOM was kept for it */
    l->length += strlen(tail);
}

/* ---- writing it ---- */

static ssize_t try_write(const char *data, size_t length)
{
    ssize_t n;
    do
        n = how == WAY_SOCKET ? send(descriptor, data, length, MSG_DONTWAIT | MSG_NOSIGNAL)
                              : write(descriptor, data, length);
    while (n < 0 && errno == EINTR);
    return n;
}

static bool wait_for_room(int milliseconds)
{
    struct pollfd p = {.fd = descriptor, .events = POLLOUT};
    return poll(&p, 1, milliseconds) == 1 && (p.revents & POLLOUT);
}

/* As much of it as finds room now. */
static ssize_t write_now(const char *data, size_t length)
{
    if (how != WAY_POLL)
        return try_write(data, length);
    ssize_t n = -1;
    pthread_mutex_lock(&poll_lock);
    if (wait_for_room(0))
        n = try_write(data, length);
    else
        errno = EAGAIN;
    pthread_mutex_unlock(&poll_lock);
    return n;
}

/* Whether the whole line went out. */
static bool write_line(const char *data, size_t length)
{
    bool may_wait = !atomic_load_explicit(&stuck, memory_order_relaxed);
    size_t done = 0;
    while (done < length) {
        ssize_t n = write_now(data + done, length - done);
        if (n > 0) {
            done += (size_t)n;
        } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) && may_wait) {
            may_wait = false;
            wait_for_room(WAIT_MS);
        } else {
            break;
        }
    }
    if (done && done < length)
        atomic_store_explicit(&torn, true, memory_order_relaxed);
    atomic_store_explicit(&stuck, done < length, memory_order_relaxed);
    return done == length;
}

static void build(line *l, emb_log_level level, const char *message, const emb_log_field *fields,
                  size_t count)
{
    l->length = 0;
    l->cut = false;
    l->json = atomic_load_explicit(&form, memory_order_relaxed) == EMB_LOG_JSON;
    if (atomic_load_explicit(&torn, memory_order_relaxed) && atomic_exchange(&torn, false))
        put_text(l, "\n");
    if (l->json)
        begin_json(l, level, message);
    else
        begin_plain(l, level, message);
    for (size_t i = 0; i < count; i++)
        put_field(l, &fields[i]);
    end(l);
}

static void report_dropped(void)
{
    uint64_t lost = atomic_exchange(&unreported, 0);
    if (!lost)
        return;
    line l;
    build(&l, EMB_LOG_WARN, "log: lines were dropped, their reader was too slow",
          &(emb_log_field)EMB_LOG_INT("dropped", lost), 1);
    if (!write_line(l.data, l.length))
        atomic_fetch_add(&unreported, lost);
}

void emb_log_write(emb_log_level level, const char *message, const emb_log_field *fields, size_t count)
{
    if (!emb_log_wanted(level))
        return;
    int saved = errno; /* a line may be written before errno is looked at */
    line l;
    build(&l, level, message, fields, count);
    if (!write_line(l.data, l.length)) {
        atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&unreported, 1, memory_order_relaxed);
    } else if (atomic_load_explicit(&unreported, memory_order_relaxed)) {
        report_dropped();
    }
    errno = saved;
}

/* ---- opening ---- */

static void choose_way(int fd)
{
    struct stat info;
    char path[32];
    descriptor = fd;
    how = WAY_PLAIN;
    owned = false;
    if (fstat(fd, &info) != 0)
        return;
    if (S_ISSOCK(info.st_mode)) {
        how = WAY_SOCKET;
    } else if (S_ISFIFO(info.st_mode) || isatty(fd)) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        int own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        how = own >= 0 ? WAY_OWN : WAY_POLL;
        if (own >= 0) {
            descriptor = own;
            owned = true;
        }
    }
}

static bool wants_colour(int fd)
{
    const char *terminal = getenv("TERM"), *plain = getenv("NO_COLOR");
    return isatty(fd) && terminal && strcmp(terminal, "dumb") != 0 && !(plain && *plain);
}

void emb_log_open(emb_log_level level, emb_log_format format, int fd)
{
    emb_log_close();
    choose_way(fd);
    coloured = wants_colour(fd);
    atomic_store(&stuck, false);
    atomic_store(&torn, false);
    atomic_store(&dropped, 0);
    atomic_store(&unreported, 0);
    atomic_store(&form, (int)format);
    atomic_store_explicit(&threshold, (int)level, memory_order_release);
}

void emb_log_set(emb_log_level level, emb_log_format format)
{
    if (atomic_load(&threshold) < 0)
        return;
    atomic_store(&form, (int)format);
    atomic_store_explicit(&threshold, (int)level, memory_order_release);
}

void emb_log_close(void)
{
    if (atomic_exchange(&threshold, -1) < 0)
        return;
    if (owned)
        close(descriptor);
    descriptor = -1;
    owned = false;
}

bool emb_log_wanted(emb_log_level level)
{
    return (int)level <= atomic_load_explicit(&threshold, memory_order_acquire);
}

uint64_t emb_log_dropped(void)
{
    return atomic_load_explicit(&dropped, memory_order_relaxed);
}
