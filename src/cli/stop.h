/*
 * stop.h: stopping long work, by a signal or by a failure elsewhere, without leaving anything half done.
 *
 *     emb_stop_install();
 *     options.cancel = emb_stop_flag();          // the engine ends its pass
 *     if (!emb_stop_wait_readable(fd)) …         // a thread that waits for a descriptor wakes up
 *     emb_stop_die();                            // after cleaning up: end as the signal would have
 *
 * Process-wide. SIGINT, SIGTERM and SIGHUP set the flag; a second one ends the program at once. Any thread
 * may call any of these.
 */
#ifndef EMB_CLI_STOP_H
#define EMB_CLI_STOP_H

#include <stdbool.h>

void emb_stop_install(void);
/* True from the first signal or emb_stop_now() on; and the same as a flag for the engine. */
bool emb_stopped(void);
const volatile int *emb_stop_flag(void);
/* The signal that came, or 0. */
int emb_stop_signal(void);
/* Stops the work from within. */
void emb_stop_now(void);
/* Waits until fd can be read (written); false once the work is to stop. */
bool emb_stop_wait_readable(int fd);
bool emb_stop_wait_writable(int fd);
/* Whether fd can be read within the next milliseconds. */
bool emb_stop_readable_within(int fd, int milliseconds);
/* Ends the process by the signal that came, so that shells and supervisors see it; returns if none did. */
void emb_stop_die(void);
const char *emb_stop_signal_name(void);

#endif
