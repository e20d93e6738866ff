/*
 * dtype.c - traits of element types, and conversions to and from float and double
 *
 * Conversions are integer arithmetic that compilers vectorise, with the same bits on
 * every processor: no F16C, no table. A narrowing works on the magnitude a of the bits:
 *
 *   normal target:     (a + half - 1 + lsb) >> dropped bits, exponent rebiased
 *   subnormal target:  bits of (|x| + 2^k) - bits of 2^k, where the last place of 2^k
 *                      is the smallest subnormal: the addition rounds to nearest even
 *
 * NaN is stored as one canonical quiet NaN per dtype, positive, without payload: which
 * NaN an addition returns depends on the order of its operands, which compilers choose.
 */
#include "wsurg/dtype.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#include "wsurg/export.h" // WS_HOT
#include "wsurg/text.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensor bytes are little-endian, and the loops below load them as they are"
#endif

#define INLINE static inline __attribute__((always_inline))

enum { BLOCK = 4096 };

static const ws_dtype_traits traits[WS_DT_COUNT] = {
    [WS_DT_U64] = { "U64", "uint64", 64, false },
    [WS_DT_I64] = { "I64", "int64", 64, false },
    [WS_DT_F64] = { "F64", "float64", 64, true },
    [WS_DT_C64] = { "C64", "complex64", 64, false },
    [WS_DT_F32] = { "F32", "float32", 32, true },
    [WS_DT_U32] = { "U32", "uint32", 32, false },
    [WS_DT_I32] = { "I32", "int32", 32, false },
    [WS_DT_BF16] = { "BF16", "bfloat16", 16, true },
    [WS_DT_F16] = { "F16", "float16", 16, true },
    [WS_DT_U16] = { "U16", "uint16", 16, false },
    [WS_DT_I16] = { "I16", "int16", 16, false },
    [WS_DT_F8_E5M2FNUZ] = { "F8_E5M2FNUZ", "float8_e5m2fnuz", 8, false },
    [WS_DT_F8_E4M3FNUZ] = { "F8_E4M3FNUZ", "float8_e4m3fnuz", 8, false },
    [WS_DT_F8_E8M0] = { "F8_E8M0", "float8_e8m0fnu", 8, false },
    [WS_DT_F8_E4M3] = { "F8_E4M3", "float8_e4m3fn", 8, true },
    [WS_DT_F8_E5M2] = { "F8_E5M2", "float8_e5m2", 8, true },
    [WS_DT_I8] = { "I8", "int8", 8, false },
    [WS_DT_U8] = { "U8", "uint8", 8, false },
    [WS_DT_F6_E3M2] = { "F6_E3M2", NULL, 6, false },
    [WS_DT_F6_E2M3] = { "F6_E2M3", NULL, 6, false },
    [WS_DT_F4] = { "F4", NULL, 4, false },
    [WS_DT_BOOL] = { "BOOL", "bool", 8, false },
};

const ws_dtype_traits *ws_dtype_info(ws_dtype dt)
{
    return &traits[dt];
}

bool ws_dtype_parse(const char *name, size_t len, ws_dtype *out)
{
    for (int i = 0; i < WS_DT_COUNT; i++) {
        if (strlen(traits[i].name) == len && memcmp(traits[i].name, name, len) == 0) {
            *out = (ws_dtype)i;
            return true;
        }
    }
    return false;
}

/** @p name in lower case; false when @p low has no room for it. */
static bool lower(char *low, size_t size, const char *name)
{
    const size_t n = strlen(name);
    for (size_t i = 0; n < size && i <= n; i++)
        low[i] = (char)tolower((unsigned char)name[i]);
    return n < size;
}

bool ws_dtype_parse_user(const char *name, ws_dtype *out)
{
    static const struct {
        const char *name;
        ws_dtype dt;
    } also[] = {
        { "double", WS_DT_F64 },        { "fp64", WS_DT_F64 },
        { "float", WS_DT_F32 },         { "fp32", WS_DT_F32 },
        { "half", WS_DT_F16 },          { "fp16", WS_DT_F16 },
        { "f8_e4m3fn", WS_DT_F8_E4M3 }, { "fp8_e4m3", WS_DT_F8_E4M3 },
        { "fp8_e5m2", WS_DT_F8_E5M2 },
    };
    char low[24], ours[24];
    if (!lower(low, sizeof low, name))
        return false;
    for (int i = 0; i < WS_DT_COUNT; i++) {
        const char *torch = traits[i].torch_name;
        if ((lower(ours, sizeof ours, traits[i].name) && ws_name_equal(low, ours)) ||
            (torch != NULL && ws_name_equal(low, torch))) {
            *out = (ws_dtype)i;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof also / sizeof *also; i++) {
        if (ws_name_equal(low, also[i].name)) {
            *out = also[i].dt;
            return true;
        }
    }
    return false;
}

/* ---- widening ---- */

INLINE float f32_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

INLINE uint32_t bits_of_f32(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

INLINE double f64_of(uint64_t bits)
{
    double f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

INLINE uint64_t bits_of_f64(double f)
{
    uint64_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/*
 * b where `which` is nonzero, else a. Masks, because compilers turn `?:` into branches
 * around floating-point arithmetic, which might trap, and then do not vectorise.
 */
INLINE uint32_t pick32(int which, uint32_t b, uint32_t a)
{
    const uint32_t mask = -(uint32_t)(which != 0);
    return (b & mask) | (a & ~mask);
}

INLINE uint64_t pick64(int which, uint64_t b, uint64_t a)
{
    const uint64_t mask = -(uint64_t)(which != 0);
    return (b & mask) | (a & ~mask);
}

INLINE float widen_f32(float v)
{
    return v;
}

INLINE double widen_f64(double v)
{
    return v;
}

INLINE float widen_bf16(uint16_t v)
{
    return f32_of((uint32_t)v << 16);
}

INLINE float widen_f16(uint16_t v)
{
    const uint32_t sign = ((uint32_t)v & 0x8000u) << 16, a = (uint32_t)v & 0x7FFFu;
    const uint32_t normal = (a << 13) + (112u << 23);
    const uint32_t special = (a << 13) + (224u << 23); // infinity and NaN
    // a subnormal is a whole number of 2^-24: exact, and a normal float
    const uint32_t small = bits_of_f32((float)(int32_t)a * 0x1p-24f);
    const uint32_t r = pick32(a < 0x400u, small, normal);
    return f32_of(sign | pick32(a < 0x7C00u, r, special));
}

INLINE float widen_e5m2(uint8_t v)
{
    return widen_f16((uint16_t)(v << 8)); // the top half of an F16
}

INLINE float widen_e4m3(uint8_t v)
{
    const uint32_t sign = ((uint32_t)v & 0x80u) << 24, a = (uint32_t)v & 0x7Fu;
    const uint32_t normal = (a << 20) + (120u << 23);
    const uint32_t small = bits_of_f32((float)(int32_t)a * 0x1p-9f);
    const uint32_t r = pick32(a < 8u, small, normal);
    return f32_of(sign | pick32(a < 0x7Fu, r, 0x7FC00000u));
}

// NOLINTBEGIN(bugprone-macro-parentheses): the arguments are types
#define WIDEN(name, src_type, dst_type, convert)                                       \
    static WS_HOT void name(const unsigned char *restrict src, dst_type *restrict dst, \
                            size_t n)                                                  \
    {                                                                                  \
        for (size_t i = 0; i < n; i++) {                                               \
            src_type v;                                                                \
            memcpy(&v, src + i * sizeof v, sizeof v);                                  \
            dst[i] = (dst_type)convert(v);                                             \
        }                                                                              \
    }
// NOLINTEND(bugprone-macro-parentheses)

WIDEN(f32_to_f32, float, float, widen_f32)
WIDEN(f64_to_f64, double, double, widen_f64)
WIDEN(f64_to_f32, double, float, widen_f64)
WIDEN(bf16_to_f32, uint16_t, float, widen_bf16)
WIDEN(f16_to_f32, uint16_t, float, widen_f16)
WIDEN(e4m3_to_f32, uint8_t, float, widen_e4m3)
WIDEN(e5m2_to_f32, uint8_t, float, widen_e5m2)
WIDEN(f32_to_f64, float, double, widen_f32)
WIDEN(bf16_to_f64, uint16_t, double, widen_bf16)
WIDEN(f16_to_f64, uint16_t, double, widen_f16)
WIDEN(e4m3_to_f64, uint8_t, double, widen_e4m3)
WIDEN(e5m2_to_f64, uint8_t, double, widen_e5m2)

/* ---- narrowing ---- */

/*
 * A target format: bits of mantissa, bias, place of the sign; its codes of infinity
 * (NaN where it has none), NaN and the largest finite value; the bits of the largest
 * float and double that round to a finite code.
 */
struct format {
    int mantissa, bias, sign;
    uint64_t inf, nan, max;
    uint32_t last32;
    uint64_t last64;
};

#define INF32 0x7F800000u
#define INF64 0x7FF0000000000000u

// a tie at 65520 goes up, past 65504
static const struct format f16_format = {
    .mantissa = 10,
    .bias = 15,
    .sign = 15,
    .inf = 0x7C00u,
    .nan = 0x7E00u,
    .max = 0x7BFFu,
    .last32 = 0x477FEFFFu,
    .last64 = 0x40EFFDFFFFFFFFFFu,
};
static const struct format bf16_format = {
    .mantissa = 7,
    .bias = 127,
    .sign = 15,
    .inf = 0x7F80u,
    .nan = 0x7FC0u,
    .max = 0x7F7Fu,
    .last32 = 0x7F7F7FFFu,
    .last64 = 0x47EFEFFFFFFFFFFFu,
};
// no infinity; 464 is a tie that goes down to 448
static const struct format e4m3_format = {
    .mantissa = 3,
    .bias = 7,
    .sign = 7,
    .inf = 0x7Fu,
    .nan = 0x7Fu,
    .max = 0x7Eu,
    .last32 = 0x43E80000u,
    .last64 = 0x407D000000000000u,
};
static const struct format e5m2_format = {
    .mantissa = 2,
    .bias = 15,
    .sign = 7,
    .inf = 0x7Cu,
    .nan = 0x7Fu,
    .max = 0x7Bu,
    .last32 = 0x476FFFFFu,
    .last64 = 0x40EDFFFFFFFFFFFFu,
};
static const struct format f32_format = {
    .sign = 31,
    .inf = INF32,
    .nan = 0x7FC00000u,
    .max = INF32 - 1,
    .last64 = 0x47EFFFFFEFFFFFFFu,
};
static const struct format f64_format = {
    .sign = 63,
    .inf = INF64,
    .nan = 0x7FF8000000000000u,
    .max = INF64 - 1,
};

/*
 * Code of the float with these bits, which must round to a finite one. All of f is
 * constant where this is inlined; comparisons are signed, as SSE2 has no others.
 */
INLINE uint32_t narrow32(uint32_t bits, const struct format *f)
{
    const int drop = 23 - f->mantissa;
    const uint32_t a = bits & 0x7FFFFFFFu;
    uint32_t r = (a + ((1u << (drop - 1)) - 1) + ((a >> drop) & 1)) >> drop;
    if (f->bias < 127) { // else both formats are subnormal together
        const uint32_t k = (uint32_t)(127 + 24 - f->bias - f->mantissa) << 23;
        const uint32_t small = bits_of_f32(f32_of(a) + f32_of(k)) - k;
        r -= (uint32_t)(127 - f->bias) << f->mantissa;
        r = pick32((int32_t)a < (128 - f->bias) << 23, small, r);
    }
    return r | ((bits >> 31) << f->sign);
}

INLINE uint32_t narrow64(uint64_t bits, const struct format *f)
{
    const int drop = 52 - f->mantissa;
    const uint64_t a = bits & 0x7FFFFFFFFFFFFFFFu;
    uint64_t r = (a + ((UINT64_C(1) << (drop - 1)) - 1) + ((a >> drop) & 1)) >> drop;
    const uint64_t k = (uint64_t)(1023 + 53 - f->bias - f->mantissa) << 52;
    const uint64_t small = bits_of_f64(f64_of(a) + f64_of(k)) - k;
    r -= (uint64_t)(1023 - f->bias) << f->mantissa;
    r = pick64((int64_t)a < (int64_t)(1024 - f->bias) << 52, small, r);
    return (uint32_t)(r | ((bits >> 63) << f->sign));
}

INLINE uint32_t f32_from_64(uint64_t bits)
{
    return bits_of_f32((float)f64_of(bits));
}

INLINE uint64_t f64_from_32(uint32_t bits)
{
    return bits_of_f64((double)f32_of(bits));
}

/*
 * A block at full speed, as if every element rounded to a finite code: whether that was
 * so. If not, what was stored means nothing.
 */
#define NARROW(name, real, word, signed_word, dst_type, last, code)                    \
    static WS_HOT bool name(const real *restrict src, unsigned char *restrict dst,     \
                            size_t n)                                                  \
    {                                                                                  \
        signed_word top = 0;                                                           \
        for (size_t i = 0; i < n; i++) {                                               \
            word bits;                                                                 \
            memcpy(&bits, &src[i], sizeof bits);                                       \
            const signed_word a = (signed_word)(bits << 1 >> 1);                       \
            top = a > top ? a : top;                                                   \
            const dst_type r = (dst_type)(code);                                       \
            memcpy(dst + i * sizeof r, &r, sizeof r);                                  \
        }                                                                              \
        return (word)top <= (last);                                                    \
    }
#define NARROW32(name, dst_type, last, code)                                           \
    NARROW(name, float, uint32_t, int32_t, dst_type, last, code)
#define NARROW64(name, dst_type, last, code)                                           \
    NARROW(name, double, uint64_t, int64_t, dst_type, last, code)

NARROW32(f16_from_f32, uint16_t, f16_format.last32, narrow32(bits, &f16_format))
NARROW32(bf16_from_f32, uint16_t, bf16_format.last32, narrow32(bits, &bf16_format))
NARROW32(e4m3_from_f32, uint8_t, e4m3_format.last32, narrow32(bits, &e4m3_format))
NARROW32(e5m2_from_f32, uint8_t, e5m2_format.last32, narrow32(bits, &e5m2_format))
NARROW32(f32_from_f32, uint32_t, INF32 - 1, bits)
NARROW32(f64_from_f32, uint64_t, INF32 - 1, f64_from_32(bits))
NARROW64(f16_from_f64, uint16_t, f16_format.last64, narrow64(bits, &f16_format))
NARROW64(bf16_from_f64, uint16_t, bf16_format.last64, narrow64(bits, &bf16_format))
NARROW64(e4m3_from_f64, uint8_t, e4m3_format.last64, narrow64(bits, &e4m3_format))
NARROW64(e5m2_from_f64, uint8_t, e5m2_format.last64, narrow64(bits, &e5m2_format))
NARROW64(f32_from_f64, uint32_t, f32_format.last64, f32_from_64(bits))
NARROW64(f64_from_f64, uint64_t, INF64 - 1, bits)

/* ---- all of them ---- */

typedef unsigned char byte;

/** Conversions of the arithmetic dtypes; NULL for the others. */
static const struct conversion {
    const struct format *format;
    void (*to_f32)(const byte *restrict src, float *restrict dst, size_t n);
    void (*to_f64)(const byte *restrict src, double *restrict dst, size_t n);
    bool (*from_f32)(const float *restrict src, byte *restrict dst, size_t n);
    bool (*from_f64)(const double *restrict src, byte *restrict dst, size_t n);
} conversions[WS_DT_COUNT] = {
#define CONVERSION(name)                                                               \
    {                                                                                  \
        &name##_format, name##_to_f32, name##_to_f64, name##_from_f32, name##_from_f64 \
    }
    [WS_DT_F64] = CONVERSION(f64),      [WS_DT_F32] = CONVERSION(f32),
    [WS_DT_BF16] = CONVERSION(bf16),    [WS_DT_F16] = CONVERSION(f16),
    [WS_DT_F8_E4M3] = CONVERSION(e4m3), [WS_DT_F8_E5M2] = CONVERSION(e5m2),
};

void ws_to_f32(ws_dtype dt, const void *src, float *dst, size_t n)
{
    conversions[dt].to_f32(src, dst, n);
}

void ws_to_f64(ws_dtype dt, const void *src, double *dst, size_t n)
{
    conversions[dt].to_f64(src, dst, n);
}

/** Note that element `at` has no finite code. */
static void tally_add(ws_store_tally *t, bool finite, size_t at)
{
    t->overflowed += finite;
    t->not_finite += !finite;
    if (t->first_bad == SIZE_MAX)
        t->first_bad = at;
}

/** The code for what does not round to a finite one: NaN, infinity or saturated. */
static uint64_t special_code(const struct format *f, uint64_t bits64)
{
    const uint64_t a = bits64 & 0x7FFFFFFFFFFFFFFFu;
    if (a > INF64)
        return f->nan;
    return (a == INF64 ? f->inf : f->max) | ((bits64 >> 63) << f->sign);
}

// The loops above only say that something in a block is bad. Such blocks, which are
// rare, are stored once more element by element.

void ws_from_f32(ws_dtype dt, const float *src, void *dst, size_t n,
                 ws_store_tally *tally)
{
    const struct conversion *v = &conversions[dt];
    const size_t width = traits[dt].bits / 8;
    ws_store_tally t = { 0, 0, SIZE_MAX };
    unsigned char *out = dst;
    for (size_t i = 0; i < n; i += BLOCK) {
        const size_t end = n - i < BLOCK ? n : i + BLOCK;
        if (v->from_f32(src + i, out + i * width, end - i))
            continue;
        for (size_t k = i; k < end; k++) {
            if (v->from_f32(src + k, out + k * width, 1))
                continue;
            const uint64_t code = special_code(v->format, bits_of_f64((double)src[k]));
            memcpy(out + k * width, &code, width);
            tally_add(&t, isfinite(src[k]), k);
        }
    }
    if (tally != NULL)
        *tally = t;
}

void ws_from_f64(ws_dtype dt, const double *src, void *dst, size_t n,
                 ws_store_tally *tally)
{
    const struct conversion *v = &conversions[dt];
    const size_t width = traits[dt].bits / 8;
    ws_store_tally t = { 0, 0, SIZE_MAX };
    unsigned char *out = dst;
    for (size_t i = 0; i < n; i += BLOCK) {
        const size_t end = n - i < BLOCK ? n : i + BLOCK;
        if (v->from_f64(src + i, out + i * width, end - i))
            continue;
        for (size_t k = i; k < end; k++) {
            if (v->from_f64(src + k, out + k * width, 1))
                continue;
            const uint64_t code = special_code(v->format, bits_of_f64(src[k]));
            memcpy(out + k * width, &code, width);
            tally_add(&t, isfinite(src[k]), k);
        }
    }
    if (tally != NULL)
        *tally = t;
}
