/*
 * peer.h: what another embedd says of its vectors: the space of a model there. Internal to service/.
 *
 *     emb_peer *peer;
 *     emb_peer_open(&peer, err);
 *     emb_peer_learn(peer, "local/bge-m3@5617a9f61b02:1024:cls:l2");    // from its answer; "": it said nothing
 *     if (emb_peer_space(peer, dimensions, normalize, space)) …
 *     emb_peer_forget(peer);                                            // it answers in another one now
 *
 * Thread-safe.
 */
#ifndef EMB_SERVICE_PEER_H
#define EMB_SERVICE_PEER_H

#include "provider/provider.h"

typedef struct emb_peer emb_peer;

EMB_MUST_CHECK emb_status emb_peer_open(emb_peer **out, emb_error *err);
void emb_peer_close(emb_peer *peer); /* takes NULL */

/* Whether it has been asked. */
bool emb_peer_is_known(emb_peer *peer);
/* A text that is no space counts as none. */
void emb_peer_learn(emb_peer *peer, const char *space);
/* Only if it is still known by this one (by any, for NULL): a later answer may have told a newer one. */
void emb_peer_forget(emb_peer *peer, const char *space);
/* The space of vectors that are asked for so (dimensions 0: the model's). false: it is not known, or the
 * other side says none. */
bool emb_peer_space(emb_peer *peer, size_t dimensions, emb_switch normalize,
                    char out[EMB_PROVIDER_SPACE_BYTES]);

#endif
