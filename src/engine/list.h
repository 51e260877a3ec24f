/*
 * list.h: circular doubly linked lists whose links lie in the elements.
 *
 *     emb_list list; emb_list_init(&list);
 *     emb_list_append(&list, &call->link);
 *     emb_call *first = EMB_LIST_ENTRY(emb_list_first(&list), emb_call, link);
 *
 * An element is in at most one list per link; a link that is in none has next == NULL. Not thread-safe.
 */
#ifndef EMB_ENGINE_LIST_H
#define EMB_ENGINE_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct emb_link {
    struct emb_link *prev, *next;
} emb_link;

typedef struct emb_list {
    emb_link head;
} emb_list;

#define EMB_LIST_ENTRY(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

static inline void emb_list_init(emb_list *list)
{
    list->head.prev = list->head.next = &list->head;
}
static inline bool emb_list_empty(const emb_list *list)
{
    return list->head.next == &list->head;
}
/* NULL if empty. */
static inline emb_link *emb_list_first(const emb_list *list)
{
    return emb_list_empty(list) ? NULL : list->head.next;
}
/* NULL behind the last. */
static inline emb_link *emb_list_after(const emb_list *list, const emb_link *link)
{
    return link->next == &list->head ? NULL : link->next;
}
static inline bool emb_link_listed(const emb_link *link)
{
    return link->next != NULL;
}
static inline void emb_list_append(emb_list *list, emb_link *link)
{
    link->prev = list->head.prev;
    link->next = &list->head;
    link->prev->next = link;
    list->head.prev = link;
}
static inline void emb_list_remove(emb_link *link)
{
    if (!link->next)
        return;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->prev = link->next = NULL;
}

#endif
