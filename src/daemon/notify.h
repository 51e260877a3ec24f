/*
 * notify.h: telling systemd how the service is (sd_notify's datagrams).
 *
 *     emb_notify("READY=1\nSTATUS=serving on 127.0.0.1:8000");
 *     uint64_t every_ns = emb_notify_watchdog_ns();   // half of WATCHDOG_USEC, 0: none is set
 *
 * The protocol is a datagram to $NOTIFY_SOCKET, documented as stable in sd_notify(3), so no library is
 * needed. Does nothing, and reports nothing, where there is no such socket. Thread-safe.
 */
#ifndef EMB_DAEMON_NOTIFY_H
#define EMB_DAEMON_NOTIFY_H

#include <stdint.h>

void emb_notify(const char *state);
void emb_notifyf(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t emb_notify_watchdog_ns(void);

#endif
