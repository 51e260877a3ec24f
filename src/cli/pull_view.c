/*
 * pull_view.c: see pull_view.h. The bars are a block of lines that is drawn over: the cursor goes up by the
 * lines drawn last, and what is below is cleared. Lines are cut to the terminal's width, since a wrapped line
 * would count as two. Messages go above the block.
 */
#include "cli/pull_view.h"

#include "base/clock.h"
#include "cli/command.h"
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BAR_CELLS = 20, NAME_CELLS = 34, LINE_BYTES = 320 };
static const uint64_t redraw_ns = 100000000;

char *emb_bytes_text(double bytes, char *out)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    int unit = 0;
    for (; bytes >= 999.95 && unit < 4; unit++)
        bytes /= 1000;
    snprintf(out, 32, unit == 0 ? "%.0f %s" : unit < 3 ? "%.1f %s" : "%.2f %s", bytes, units[unit]);
    return out;
}

void emb_pull_view_start(emb_pull_view *view, bool quiet)
{
    memset(view, 0, sizeof *view);
    view->quiet = quiet;
    view->terminal = !quiet && isatty(STDERR_FILENO);
    view->start_ns = emb_now_ns();
}

static void erase(emb_pull_view *view)
{
    if (view->lines)
        fprintf(stderr, "\033[%uA\r\033[J", view->lines);
    view->lines = 0;
}

static size_t terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 10 ? size.ws_col : 80;
}

static unsigned terminal_rows(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 4 ? size.ws_row : 24;
}

static void draw_line(emb_pull_view *view, const char *name, uint64_t done, uint64_t size, const char *tail)
{
    char line[LINE_BYTES], bar[BAR_CELLS + 1], a[32], b[32];
    size_t length = strlen(name), cut = length > NAME_CELLS ? length - NAME_CELLS + 1 : 0;
    bool known = size != EMB_HUB_SIZE_UNKNOWN;
    int full = known && size > 0 ? (int)((double)done / (double)size * BAR_CELLS) : known ? BAR_CELLS : 0;
    for (int i = 0; i < BAR_CELLS; i++)
        bar[i] = i < full ? '#' : '.';
    bar[BAR_CELLS] = 0;
    snprintf(line, sizeof line, "%s%-*s [%s] %8s / %-8s %s", cut ? "<" : "",
             cut ? NAME_CELLS - 1 : NAME_CELLS, name + cut, bar, emb_bytes_text((double)done, a),
             known ? emb_bytes_text((double)size, b) : "?", tail);
    size_t columns = terminal_columns();
    if (strlen(line) >= columns)
        line[columns - 1] = 0;
    fprintf(stderr, "%s\n", line);
    view->lines++;
}

static void draw(emb_pull_view *view, const emb_hub_progress *p)
{
    uint64_t done = 0, size = 0;
    size_t complete = 0;
    unsigned room = terminal_rows() - 2;
    char name[48], tail[96] = "", rate[32], left[32];
    erase(view);
    for (size_t i = 0; i < p->count; i++) {
        const emb_hub_file *f = &p->files[i];
        done += f->done;
        size += f->size == EMB_HUB_SIZE_UNKNOWN ? f->done : f->size;
        complete += f->complete;
        if (f->running && !f->complete && view->lines < room)
            draw_line(view, f->name, f->done, f->size, "");
    }
    double seconds = (double)(emb_now_ns() - view->start_ns) / 1e9;
    double came = done > view->start_bytes ? (double)(done - view->start_bytes) : 0;
    if (came > 0 && seconds > 0.5)
        snprintf(tail, sizeof tail, "%s/s  %s left", emb_bytes_text(came / seconds, rate),
                 emb_seconds_text((double)(size - done) * seconds / came, left));
    snprintf(name, sizeof name, "%zu of %zu files", complete, p->count);
    draw_line(view, name, done, size, tail);
    fflush(stderr);
}

static void begin(emb_pull_view *view, const emb_hub_progress *p)
{
    uint64_t size = 0;
    char text[32];
    view->start_ns = emb_now_ns();
    for (size_t i = 0; i < p->count; i++)
        size += p->files[i].size == EMB_HUB_SIZE_UNKNOWN ? 0 : p->files[i].size;
    emb_report("pull", "%zu file%s to fetch, %s", p->count, p->count == 1 ? "" : "s",
               emb_bytes_text((double)size, text));
}

/* For logs: what is complete, and what was gone on with. */
static void print_plainly(const emb_hub_progress *p)
{
    char a[32], b[32];
    if (p->event == EMB_HUB_STARTED && p->file->resumed > 0)
        emb_report("pull", "%s: going on at %s of %s", p->file->name,
                   emb_bytes_text((double)p->file->resumed, a), emb_bytes_text((double)p->file->size, b));
    else if (p->event == EMB_HUB_DONE)
        emb_report("pull", "%s: complete, %s", p->file->name, emb_bytes_text((double)p->file->size, a));
}

void emb_pull_view_show(void *context, const emb_hub_progress *p)
{
    emb_pull_view *view = context;
    if (view->quiet)
        return;
    if (p->event == EMB_HUB_STARTED)
        view->start_bytes += p->file->resumed;
    if (p->event == EMB_HUB_LISTED || p->event == EMB_HUB_NOTE)
        erase(view);
    if (p->event == EMB_HUB_LISTED)
        begin(view, p);
    else if (p->event == EMB_HUB_NOTE)
        emb_report("pull", "%s", p->message);
    else if (!view->terminal)
        print_plainly(p);
    uint64_t now = emb_now_ns();
    if (view->terminal && p->count > 0 && now - view->drawn_ns >= redraw_ns) {
        view->drawn_ns = now;
        draw(view, p);
    }
}

void emb_pull_view_end(emb_pull_view *view)
{
    erase(view);
    if (view->terminal)
        fflush(stderr);
}
