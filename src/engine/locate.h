/*
 * locate.h: from a model's name to its directory.
 *
 *     char *path;
 *     if ((st = emb_locate_model("BAAI/bge-small-en-v1.5", NULL, &path, err))) return st;
 *     …; free(path);
 *
 * A model directory is one that holds config.json or modules.json. A name is, in this order,
 *   1. a path to such a directory;
 *   2. looked up as NAME, and as the last part of ORG/NAME, in: models_path, or $EMBEDD_MODELS if that is
 *      NULL (directories with ':' between); ./models; ../models and ../share/embedd/models beside the
 *      program; the place where the library's models were installed;
 *   3. looked up in the Hugging Face hub cache (model/hub_cache.h), as it is or with a well-known organisation
 *      before it. Directories of (2) that have the cache's layout are read like it.
 * Reads directories and small files only. Thread-safe, given that nobody changes the environment.
 */
#ifndef EMB_ENGINE_LOCATE_H
#define EMB_ENGINE_LOCATE_H

#include <embedd.h>

/* *path is released with free. EMB_E_NOT_FOUND says where it looked and which names are near. */
EMB_MUST_CHECK emb_status emb_locate_model(const char *name, const char *models_path, char **path,
                                           emb_error *err);

/* The same for a name that came from outside: (1) is left out, so that it cannot name a directory of its own
 * choice. */
EMB_MUST_CHECK emb_status emb_locate_named(const char *name, const char *models_path, char **path,
                                           emb_error *err);

/* The first directory NAME in the places of (2) that holds `file`: data of the program that is no model. */
EMB_MUST_CHECK emb_status emb_locate_data(const char *name, const char *file, const char *models_path,
                                          char **path, emb_error *err);

/* Calls visit for every model in the places of (2) and (3); a model in several places is visited in each,
 * in the order in which a lookup would find them. visit returns false to stop. */
typedef bool (*emb_locate_visit)(void *context, const char *name, const char *path);
EMB_MUST_CHECK emb_status emb_locate_each(const char *models_path, emb_locate_visit visit, void *context,
                                          emb_error *err);

#endif
