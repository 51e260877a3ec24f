/*
 * What the CPU offers and the operating system lets this process use.
 *
 * CPUID says what the chip can do; XGETBV says which registers the operating system saves on a context
 * switch. Both are needed: a kernel without support for a register file leaves CPUID's bits set, and the
 * first instruction would fault. AMX needs a third step, Linux hands out its 8 KiB tile registers only to
 * processes that ask. The compiler's __builtin_cpu_supports was rejected: it does not know every bit
 * here, and asks nothing of AMX's permission.
 */
#include "kernels/tables.h"

bool emb_cpu_any(void)
{
    return true;
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    XCR0_AVX = 0x6,     /* SSE and upper halves of YMM */
    XCR0_AVX512 = 0xe0, /* mask registers, upper halves of ZMM0-15, ZMM16-31 */
    XCR0_AMX = 0x60000, /* tile configuration and tile data */
    ARCH_REQ_XCOMP_PERM = 0x1023,
    XFEATURE_XTILEDATA = 18
};

typedef struct cpu_bits {
    unsigned basic_c, extended_b, extended_c, extended_d, sub1_a;
    uint64_t xcr0;
} cpu_bits;

static cpu_bits cpu_read(void)
{
    cpu_bits bits = {0};
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return bits;
    bits.basic_c = c;
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    bits.xcr0 = (uint64_t)high << 32 | low;
    if (!__get_cpuid_count(7, 0, &a, &bits.extended_b, &bits.extended_c, &bits.extended_d))
        return bits;
    if (a >= 1)
        __get_cpuid_count(7, 1, &bits.sub1_a, &b, &c, &d);
    return bits;
}

static bool has(uint64_t value, uint64_t wanted)
{
    return (value & wanted) == wanted;
}

static bool has_avx2(const cpu_bits *bits)
{
    return has(bits->xcr0, XCR0_AVX) && has(bits->basic_c, bit_AVX | bit_FMA | bit_F16C) &&
           has(bits->extended_b, bit_AVX2 | bit_BMI2);
}

static bool has_avx512(const cpu_bits *bits)
{
    return has_avx2(bits) && has(bits->xcr0, XCR0_AVX512) &&
           has(bits->extended_b, bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ) &&
           has(bits->extended_c, bit_AVX512VNNI);
}

static bool has_avx512_bf16(const cpu_bits *bits)
{
    return has_avx512(bits) && has(bits->sub1_a, 1u << 5);
}

bool emb_cpu_avx2(void)
{
    cpu_bits bits = cpu_read();
    return has_avx2(&bits);
}

bool emb_cpu_avx512(void)
{
    cpu_bits bits = cpu_read();
    return has_avx512(&bits);
}

bool emb_cpu_fast_bf16(void)
{
    cpu_bits bits = cpu_read();
    unsigned a, b, c, d;
    if (!has_avx512_bf16(&bits) || !__get_cpuid(0, &a, &b, &c, &d))
        return false;
    return b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
}

bool emb_cpu_amx(void)
{
    cpu_bits bits = cpu_read();
    unsigned tile = 1u << 24, int8 = 1u << 25, bf16 = 1u << 22;
    if (!has_avx512_bf16(&bits) || !has(bits.xcr0, XCR0_AMX) || !has(bits.extended_d, tile | int8 | bf16))
        return false;
    /* Asking again is harmless; the permission holds for all threads of the process. */
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#elif defined(__aarch64__)
#include <sys/auxv.h>

/* From the kernel's asm/hwcap.h, whose older versions lack them. */
enum { HWCAP_DOT_PRODUCT = 1 << 20, HWCAP2_BFLOAT16 = 1 << 14 };

bool emb_cpu_neon_dot(void)
{
    return getauxval(AT_HWCAP) & HWCAP_DOT_PRODUCT;
}

bool emb_cpu_neon_bf16(void)
{
    return emb_cpu_neon_dot() && (getauxval(AT_HWCAP2) & HWCAP2_BFLOAT16);
}
#endif
