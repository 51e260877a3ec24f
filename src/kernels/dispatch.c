/*
 * Which kernel table runs: the list of this build's tables, and the choice among them at run time.
 *
 * Tables are listed from the slowest to the fastest, and the choice is the last one that the machine
 * supports. Two tables may share a name, one of them for chips with more. A name, given or in $EMBEDD_ISA, is
 * never silently replaced by something else.
 */
#include "base/error.h"
#include "kernels/tables.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const emb_isa tables[] = {
    {&emb_kernels_portable, emb_cpu_any},
#if defined(__x86_64__)
    {&emb_kernels_avx2, emb_cpu_avx2},
    {&emb_kernels_avx512, emb_cpu_avx512},
    {&emb_kernels_avx512_bf16, emb_cpu_fast_bf16},
    {&emb_kernels_amx, emb_cpu_amx},
#elif defined(__aarch64__)
    {&emb_kernels_neon, emb_cpu_any},
    {&emb_kernels_neon_dot, emb_cpu_neon_dot},
    {&emb_kernels_neon_bf16, emb_cpu_neon_bf16},
#endif
};
enum { TABLE_COUNT = sizeof tables / sizeof tables[0] };

const emb_isa *emb_kernels_all(size_t *count)
{
    *count = TABLE_COUNT;
    return tables;
}

/* "portable, avx2": what this machine can run. */
static void list_supported(char *text, size_t size)
{
    size_t at = 0;
    text[0] = 0;
    for (size_t i = 0; i < TABLE_COUNT; i++)
        if (tables[i].supported() && at < size && /* a name may have several tables */
            (i + 1 == TABLE_COUNT || strcmp(tables[i].kernels->name, tables[i + 1].kernels->name)))
            at += (size_t)snprintf(text + at, size - at, "%s%s", at ? ", " : "", tables[i].kernels->name);
}

static emb_status fail_name(const char *name, const char *where, bool known, emb_error *err)
{
    char supported[128];
    list_supported(supported, sizeof supported);
    if (known)
        return emb_fail(err, EMB_E_UNSUPPORTED, where,
                        "this machine cannot run instruction set \"%s\"; it has %s", name, supported);
    return emb_fail(err, EMB_E_UNSUPPORTED, where, "unknown instruction set \"%.40s\"; this machine has %s",
                    name, supported);
}

emb_status emb_kernels_select(const char *name, const emb_kernels **out, emb_error *err)
{
    const char *where = "isa";
    if (!name) {
        name = getenv("EMBEDD_ISA");
        where = "EMBEDD_ISA";
    }
    *out = NULL;
    bool any = !name || !name[0], known = false;
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        if (!any && strcmp(tables[i].kernels->name, name))
            continue;
        known = true;
        if (tables[i].supported())
            *out = tables[i].kernels;
    }
    return *out ? EMB_OK : fail_name(name, where, known, err);
}
