/*
 * listing.h: the files of a repository at a commit, and which of them a model needs.
 *
 *     emb_hub_listing l;
 *     if ((st = emb_hub_listing_parse(&l, &arena, text, length, "the hub's answer", err))) return st;
 *     emb_hub_listing_choose(&l, modules, modules_length, options, repository, err);   // sets entry.wanted
 *
 * A commit never changes, so its listing is kept beside the cache's own folders (.embedd/COMMIT.json) in the
 * form in which huggingface_hub keeps its own (trees/COMMIT.json, read too): it is what tells, without a
 * network, whether a snapshot is complete. Not under huggingface_hub's name: that library takes a snapshot
 * that lacks any listed file for broken, and ours lack those that embedd has no use for.
 */
#ifndef EMB_HUB_LISTING_H
#define EMB_HUB_LISTING_H

#include "base/arena.h"
#include "hub/hub.h"
#include "hub/place.h"

typedef struct emb_hub_entry {
    const char *name;
    const char *etag; /* NULL: the hub did not say, a HEAD request will */
    uint64_t size;    /* or EMB_HUB_SIZE_UNKNOWN */
    bool wanted;
} emb_hub_entry;

typedef struct emb_hub_listing {
    char commit[72];
    emb_hub_entry *entries; /* by name */
    size_t count;
} emb_hub_listing;

/* The answer to /api/models/REPOSITORY/revision/REVISION?blobs=true. A file name that could leave the
 * snapshot is EMB_E_CORRUPT. Strings go to the arena. */
EMB_MUST_CHECK emb_status emb_hub_listing_parse(emb_hub_listing *listing, emb_arena *arena, const char *text,
                                                size_t length, const char *where, emb_error *err);
/* EMB_E_NOT_FOUND if none was kept, or none that can be used. */
EMB_MUST_CHECK emb_status emb_hub_listing_read(emb_hub_listing *listing, emb_arena *arena,
                                               const emb_hub_place *place, const char *commit,
                                               emb_error *err);
EMB_MUST_CHECK emb_status emb_hub_listing_write(const emb_hub_listing *listing, emb_arena *arena,
                                                const emb_hub_place *place, emb_error *err);
emb_hub_entry *emb_hub_listing_find(const emb_hub_listing *listing, const char *name);

/* Marks what is to be fetched; modules is the text of modules.json, or NULL where there is none.
 * EMB_E_UNSUPPORTED: there are no weights that embedd reads (not with options->all). */
EMB_MUST_CHECK emb_status emb_hub_listing_choose(emb_hub_listing *listing, const char *modules, size_t length,
                                                 const emb_hub_options *options, const char *repository,
                                                 emb_error *err);

#endif
