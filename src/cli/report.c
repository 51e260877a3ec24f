/*
 * report.c: messages to people on stderr, and the last look at stdout.
 *
 * Every message is one line that starts with the program and the command. A progress bar may stand on
 * the current line of a terminal, so the line is cleared first where stderr is one.
 */
#include "cli/command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *clear_line(void)
{
    return isatty(STDERR_FILENO) ? "\r\033[K" : "";
}

int emb_report_error(const char *command, const emb_error *err)
{
    const char *message = err->message[0] ? err->message : emb_status_text(err->code);
    if (err->where[0] && !strstr(message, err->where))
        fprintf(stderr, "%sembedd %s: %s: %s\n", clear_line(), command, err->where, message);
    else
        fprintf(stderr, "%sembedd %s: %s\n", clear_line(), command, message);
    return EMB_EXIT_FAILURE;
}

void emb_report(const char *command, const char *format, ...)
{
    char line[2048]; /* one write, so that lines of several threads do not mix */
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    fprintf(stderr, "%sembedd %s: %s\n", clear_line(), command, line);
}

int emb_print_answer(const char *command, emb_buf *answer, emb_status status)
{
    if (status == EMB_OK)
        fwrite(answer->data ? answer->data : "", 1, answer->length, stdout);
    else
        emb_report(command, "the answer cannot be written: %s", emb_status_text(status));
    emb_buf_fini(answer);
    return status ? EMB_EXIT_FAILURE : EMB_EXIT_OK;
}

int emb_finish_stdout(const char *command, int status)
{
    int failed = ferror(stdout);
    int saved = errno;
    if (fflush(stdout) != 0) {
        failed = 1;
        saved = errno;
    }
    if (!failed)
        return status;
    if (saved == EPIPE)
        emb_report(command, "standard output was closed by its reader");
    else
        emb_report(command, "cannot write standard output: %s", strerror(saved));
    return status ? status : EMB_EXIT_FAILURE;
}
