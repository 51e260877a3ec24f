/* progress.c: see progress.h. The line is cut to the terminal's width, or it would scroll instead of being
 * drawn over. */
#include "cli/progress.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BAR_CELLS = 24, LINE_MAX_BYTES = 256 };
static const uint64_t quiet_ns = 1000000000, redraw_ns = 200000000;

char *emb_number_text(uint64_t value, char *out)
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    char *to = out;
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = 0;
    return out;
}

char *emb_seconds_text(double seconds, char *out)
{
    unsigned long whole = seconds < 1e9 ? (unsigned long)(seconds + 0.5) : 1000000000ul;
    if (seconds < 9.95)
        snprintf(out, 32, "%.1f s", seconds);
    else if (whole < 60)
        snprintf(out, 32, "%lu s", whole);
    else if (whole < 3600)
        snprintf(out, 32, "%lu:%02lu", whole / 60, whole % 60);
    else
        snprintf(out, 32, "%lu:%02lu:%02lu", whole / 3600, whole / 60 % 60, whole % 60);
    return out;
}

void emb_progress_start(emb_progress *progress, bool wanted)
{
    memset(progress, 0, sizeof *progress);
    progress->wanted = wanted && isatty(STDERR_FILENO);
    progress->start_ns = emb_now_ns();
}

static size_t terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 80;
}

static int draw_bar(char *line, size_t room, double share)
{
    char bar[BAR_CELLS + 1];
    int full = (int)(share * BAR_CELLS);
    for (int i = 0; i < BAR_CELLS; i++)
        bar[i] = i < full ? '#' : '.';
    bar[BAR_CELLS] = 0;
    return snprintf(line, room, "[%s] %3d %%  ", bar, (int)(share * 100));
}

void emb_progress_show(emb_progress *progress, const emb_progress_state *state)
{
    uint64_t now = emb_now_ns();
    if (!progress->wanted || now - progress->start_ns < quiet_ns || now - progress->last_ns < redraw_ns)
        return;
    progress->last_ns = now;
    progress->shown = true;
    double elapsed = (double)(now - progress->start_ns) / 1e9;
    char line[LINE_MAX_BYTES], texts[32], rate[32], tokens[32], left[32];
    int n = 0;
    if (state->share >= 0)
        n = draw_bar(line, sizeof line, state->share > 1 ? 1 : state->share);
    n += snprintf(line + n, sizeof line - (size_t)n, "%s texts  %s texts/s  %s tokens/s",
                  emb_number_text(state->texts, texts),
                  emb_number_text((uint64_t)((double)state->texts / elapsed + 0.5), rate),
                  emb_number_text((uint64_t)((double)state->tokens / elapsed + 0.5), tokens));
    double done = state->share - state->resumed;
    if (state->share >= 0 && done > 0)
        n += snprintf(line + n, sizeof line - (size_t)n, "  %s left",
                      emb_seconds_text(elapsed * (1 - state->share) / done, left));
    size_t width = terminal_width();
    if ((size_t)n >= width)
        line[width > 0 ? width - 1 : 0] = 0;
    fprintf(stderr, "\r\033[K%s", line);
}

void emb_progress_end(emb_progress *progress)
{
    if (progress->shown)
        fprintf(stderr, "\r\033[K");
    progress->shown = false;
}
