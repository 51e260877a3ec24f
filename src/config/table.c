/*
 * table.c: the table of settings.h as data.
 *
 * The one list of settings.h is expanded three times: into the fields of emb_config, into indices (parts.h)
 * and here into descriptions with the offset of each field. Parsers, printers and documents walk over the
 * descriptions and switch on the kind, so a new setting is one line. Rejected: libcyaml, whose schema is a
 * second, static list of structs for the YAML file alone, which would have to agree with variables, flags and
 * documents.
 *
 * The column `minimum` holds numbers or, for CHOICE, a string; hence a macro for each kind.
 */
#include "config/parts.h"

#include <string.h>

#define RANGE(low, high) .choices = NULL, .minimum = (low), .maximum = (high)
#define EMB_RANGE_BOOL(low, high) RANGE(low, high)
#define EMB_RANGE_COUNT(low, high) RANGE(low, high)
#define EMB_RANGE_BYTES(low, high) RANGE(low, high)
#define EMB_RANGE_REAL(low, high) RANGE(low, high)
#define EMB_RANGE_TEXT(low, high) RANGE(low, high)
#define EMB_RANGE_CHOICE(names, unused) .choices = (names), .minimum = 0, .maximum = 0

/* Whether a trait's letter stands in a literal of up to four: known to the compiler, so that the table stays
 * constant. */
#define HAS(traits, c)                                                                      \
    ((traits "    ")[0] == (c) || (traits "    ")[1] == (c) || (traits "    ")[2] == (c) || \
     (traits "    ")[3] == (c))

static const emb_setting settings[EMB_SETTING_TOTAL] = {
#define EMB_X(kind_, field_, path_, environment_, fallback_, minimum_, maximum_, traits_, help_) \
    {.kind = EMB_SETTING_##kind_,                                                                \
     .field = #field_,                                                                           \
     .path = path_,                                                                              \
     .environment = environment_,                                                                \
     .fallback = fallback_,                                                                      \
     .help = help_,                                                                              \
     EMB_RANGE_##kind_(minimum_, maximum_),                                                      \
     .live = HAS(traits_, 'L'),                                                                  \
     .secret = HAS(traits_, 'S'),                                                                \
     .future = HAS(traits_, 'F'),                                                                \
     .separator = HAS(traits_, ',')   ? ','                                                      \
                  : HAS(traits_, ':') ? ':'                                                      \
                                      : 0,                                                       \
     .offset = offsetof(emb_config, field_)},
    EMB_SETTING_TABLE(EMB_X)
#undef EMB_X
};

const emb_setting *emb_settings(size_t *count)
{
    *count = EMB_SETTING_TOTAL;
    return settings;
}

const emb_setting *emb_setting_find(const char *path)
{
    for (size_t i = 0; i < EMB_SETTING_TOTAL; i++)
        if (strcmp(settings[i].path, path) == 0)
            return &settings[i];
    return NULL;
}

size_t emb_setting_index(const emb_setting *setting)
{
    return (size_t)(setting - settings);
}

void emb_config_each(const char *list, bool (*visit)(void *context, const char *item, size_t length),
                     void *context)
{
    static const char blank[] = " \t";
    while (*list) {
        size_t length = strcspn(list, ",");
        const char *item = list, *end = list + length;
        item += strspn(item, blank); /* stops at the comma at the latest */
        while (end > item && strchr(blank, end[-1]))
            end--;
        if (end > item && !visit(context, item, (size_t)(end - item)))
            return;
        list += length + (list[length] == ',');
    }
}
