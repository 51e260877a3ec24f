/*
 * hub_cache.h: where the Hugging Face hub's cache is on this machine.
 *
 *     char *path = emb_hub_cache_directory();
 *     if (path) …
 *     free(path);
 *
 * $HF_HUB_CACHE, $HUGGINGFACE_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub,
 * ~/.cache/huggingface/hub, the first of these that is set; "~" at the beginning is the user's home, as in
 * Python's huggingface_hub. Looked for by whoever reads the cache and by whoever writes it, so that they
 * cannot disagree. Thread-safe, given that nobody changes the environment.
 */
#ifndef EMB_MODEL_HUB_CACHE_H
#define EMB_MODEL_HUB_CACHE_H

/* In malloc'ed memory. NULL with errno 0 if none of the variables is set, $HOME included; with ENOMEM if
 * memory is short. */
char *emb_hub_cache_directory(void);
/* A file in the hub's home ($HF_HOME, …/huggingface), where the access token is kept too. Like the above. */
char *emb_hub_home_path(const char *name);
/* A path of the user's with "~" replaced. */
char *emb_hub_expand(const char *path);

#endif
