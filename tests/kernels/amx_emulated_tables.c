/* The AMX table with emulated tiles, as a list of tables for kernel_checks.h. */
#include "kernels/tables.h"

extern const emb_kernels emb_kernels_amx_emulated;
const emb_isa *amx_emulated_tables(size_t *count);

static bool supported(void)
{
    return emb_cpu_avx512() && __builtin_cpu_supports("avx512bf16");
}

const emb_isa *amx_emulated_tables(size_t *count)
{
    static const emb_isa tables[] = {{&emb_kernels_amx_emulated, supported}};
    *count = 1;
    return tables;
}
