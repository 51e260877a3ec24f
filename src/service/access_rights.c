/*
 * access_rights.c: the words for rights.
 *
 * Rights are bits that do not imply one another, but that admin is all of them: a scraper of metrics may read
 * and not spend, an application may embed and not see what others cost. Rejected: levels, where who may read
 * may embed; roles that a file defines, which nobody needed for three groups of routes.
 */
#include "service/access.h"

#include <stdio.h>
#include <string.h>

static const struct {
    unsigned right;
    const char *name;
} rights[] = {{EMB_RIGHT_USE, "use"}, {EMB_RIGHT_READ, "read"}, {EMB_RIGHT_ADMIN, "admin"}};
enum { RIGHTS = sizeof rights / sizeof *rights };

bool emb_right_parse(const char *name, size_t length, unsigned *add_to)
{
    for (size_t i = 0; i < RIGHTS; i++)
        if (strlen(rights[i].name) == length && memcmp(rights[i].name, name, length) == 0) {
            *add_to |= rights[i].right == EMB_RIGHT_ADMIN ? EMB_RIGHT_ANY : rights[i].right;
            return true;
        }
    return false;
}

bool emb_rights_parse(const char *list, unsigned *out)
{
    *out = 0;
    for (const char *at = list;; at++) {
        at += strspn(at, " \t");
        size_t length = strcspn(at, ", \t");
        if (!emb_right_parse(at, length, out))
            return false;
        at += length;
        at += strspn(at, " \t");
        if (*at != ',')
            return !*at;
    }
}

void emb_rights_text(unsigned set, const char *between, char *out, size_t size)
{
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i < RIGHTS && at < size; i++)
        if (set & rights[i].right)
            at += (size_t)snprintf(out + at, size - at, "%s%s", at ? between : "", rights[i].name);
}
