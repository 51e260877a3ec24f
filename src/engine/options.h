/*
 * options.h: option structs that may come from a program compiled against another version of embedd.h.
 *
 *     emb_embed_options options = EMB_EMBED_OPTIONS_INIT;
 *     if ((st = emb_options_copy(&options, sizeof options, given, "emb_embed_options", err))) return st;
 *
 * A smaller struct leaves the newer fields at their defaults. A larger one is accepted if the fields that
 * this library does not know are zero, i.e. unused.
 */
#ifndef EMB_ENGINE_OPTIONS_H
#define EMB_ENGINE_OPTIONS_H

#include <embedd.h>

/* own holds the defaults and receives what is given; given may be NULL. */
EMB_MUST_CHECK emb_status emb_options_copy(void *own, size_t own_size, const void *given, const char *type,
                                           emb_error *err);

#endif
