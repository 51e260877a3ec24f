/*
 * nearest.h: the word that a mistyped one most likely stands for.
 *
 *     const char *names[] = {"listen", "loops"};
 *     const char *hint = emb_nearest("lisen", names, 2); // "listen"; NULL when nothing is near
 *
 * Edit distance with neighbours exchanged counted as one mistake; a third of the letters may be wrong. A
 * candidate that begins with the word counts as near from three letters on. Thread-safe, allocates nothing.
 */
#ifndef EMB_BASE_NEAREST_H
#define EMB_BASE_NEAREST_H

#include <stddef.h>

const char *emb_nearest(const char *word, const char *const *candidates, size_t count);
/* The distance itself, of words cut at 64 bytes. */
size_t emb_edit_distance(const char *a, const char *b);

#endif
