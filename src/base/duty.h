/*
 * duty.h: what a thread does for others, and passes on before it waits.
 *
 * The thread that reads requests may run one of them itself, which saves the hand-over to another thread, two
 * switches of context. It must not wait while nobody reads, so code that is about to wait says so:
 *
 *     emb_duty_pass_on();                  // somebody else takes it over; nothing if there is none
 *     pthread_cond_wait(…);
 *
 * and code that waits for descriptors may add the duty's own, and pass it on only when that is ready or the
 * wait takes long (provider/lanes.c). Work that takes the processor for longer than a fraction of a
 * millisecond passes it on as well.
 *
 * A duty belongs to the calling thread. Cost where there is none: one load.
 */
#ifndef EMB_BASE_DUTY_H
#define EMB_BASE_DUTY_H

typedef struct emb_duty {
    void (*pass_on)(struct emb_duty *duty);
    int fd; /* readable when somebody waits for the duty to be done */
} emb_duty;

/* Of the calling thread, until it is passed on or set again; NULL: none. */
void emb_duty_set(emb_duty *duty);
/* Calls pass_on, once. */
void emb_duty_pass_on(void);
/* -1: the thread has none. */
int emb_duty_fd(void);

#endif
