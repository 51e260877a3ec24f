/*
 * stop.c: a flag for those that compute and a pipe for those that wait.
 *
 * The pipe is written once and never read, so every poll that includes it returns from then on. Signals
 * interrupting system calls would have been the other way, but a signal arrives at one thread only and a
 * blocking call entered just after it would wait for ever.
 */
#include "cli/stop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

static volatile int stopped; /* by __atomic operations: threads and a signal handler share it */
static volatile sig_atomic_t signal_number;
static int wake[2] = {-1, -1};

static void wake_all(void)
{
    int saved = errno;
    ssize_t ignored = write(wake[1], "", 1);
    (void)ignored; /* a full pipe is as good */
    errno = saved;
}

static void on_signal(int number)
{
    if (emb_stopped() && signal_number) { /* asked twice: do not wait for anything */
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    signal_number = number;
    __atomic_store_n(&stopped, 1, __ATOMIC_RELEASE);
    wake_all();
}

void emb_stop_install(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    if (wake[0] < 0 && pipe2(wake, O_CLOEXEC | O_NONBLOCK) < 0)
        return; /* no descriptors: the default action of the signals stays */
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct sigaction action, old;
        memset(&action, 0, sizeof action);
        action.sa_handler = on_signal;
        action.sa_flags = SA_RESTART;
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) /* nohup stays in force */
            sigaction(numbers[i], &action, NULL);
    }
}

bool emb_stopped(void)
{
    return __atomic_load_n(&stopped, __ATOMIC_ACQUIRE) != 0;
}

const volatile int *emb_stop_flag(void)
{
    return &stopped;
}

int emb_stop_signal(void)
{
    return signal_number;
}

void emb_stop_now(void)
{
    __atomic_store_n(&stopped, 1, __ATOMIC_RELEASE);
    wake_all();
}

static bool wait_for(int fd, short events)
{
    struct pollfd p[2] = {{.fd = fd, .events = events}, {.fd = wake[0], .events = POLLIN}};
    for (;;) {
        if (emb_stopped())
            return false;
        int n = poll(p, 2, -1);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return true; /* let the call itself say what is wrong */
        if (n > 0 && p[1].revents)
            return false;
        if (n > 0 && p[0].revents)
            return true;
    }
}

bool emb_stop_wait_readable(int fd)
{
    return wait_for(fd, POLLIN);
}

bool emb_stop_wait_writable(int fd)
{
    return wait_for(fd, POLLOUT);
}

bool emb_stop_readable_within(int fd, int milliseconds)
{
    struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = wake[0], .events = POLLIN}};
    return poll(p, 2, milliseconds) > 0;
}

void emb_stop_die(void)
{
    int number = signal_number;
    if (!number)
        return;
    signal(number, SIG_DFL);
    raise(number);
}

const char *emb_stop_signal_name(void)
{
    const char *name = sigabbrev_np(signal_number);
    return name ? name : "?";
}
