/*
 * gguf_types.c - types of GGUF tensors and their blocks
 *
 * Formulas of formats.md 5.3; products in float, in the order shown there.
 */
#include <math.h>
#include <string.h>

#include "ckpt/gguf.h"

static float half_at(const unsigned char *p)
{
    float v;
    ws_to_f32(WS_DT_F16, p, &v, 1);
    return v;
}

/** Element @p i of 32 packed as halves: the low ones first. */
static unsigned nibble(const unsigned char *q, unsigned i)
{
    return i < 16 ? q[i] & 15u : (unsigned)q[i - 16] >> 4;
}

/** The same with a fifth bit from @p high. */
static unsigned five(const unsigned char *high, const unsigned char *q, unsigned i)
{
    return nibble(q, i) | (high[i / 8] >> i % 8 & 1u) << 4;
}

static void decode_q8_0(const unsigned char *b, float *out)
{
    const float d = half_at(b);
    for (unsigned i = 0; i < 32; i++)
        out[i] = (float)(int8_t)b[2 + i] * d;
}

static void decode_q4_0(const unsigned char *b, float *out)
{
    const float d = half_at(b);
    for (unsigned i = 0; i < 32; i++)
        out[i] = (float)((int)nibble(b + 2, i) - 8) * d;
}

static void decode_q4_1(const unsigned char *b, float *out)
{
    const float d = half_at(b), m = half_at(b + 2);
    for (unsigned i = 0; i < 32; i++)
        out[i] = (float)nibble(b + 4, i) * d + m;
}

static void decode_q5_0(const unsigned char *b, float *out)
{
    const float d = half_at(b);
    for (unsigned i = 0; i < 32; i++)
        out[i] = (float)((int)five(b + 2, b + 6, i) - 16) * d;
}

static void decode_q5_1(const unsigned char *b, float *out)
{
    const float d = half_at(b), m = half_at(b + 2);
    for (unsigned i = 0; i < 32; i++)
        out[i] = (float)five(b + 4, b + 8, i) * d + m;
}

/** Scale and minimum, of 6 bits each, of sub-block @p j of Q4_K and Q5_K. */
static void scale_min(const unsigned char *s, unsigned j, float *scale, float *min)
{
    unsigned sc, mn;
    if (j < 4) {
        sc = s[j] & 63u;
        mn = s[j + 4] & 63u;
    } else {
        sc = (s[j + 4] & 15u) | (s[j - 4] >> 6 & 3u) << 4;
        mn = (s[j + 4] >> 4 & 15u) | (s[j] >> 6 & 3u) << 4;
    }
    *scale = (float)sc;
    *min = (float)mn;
}

/** Q4_K, and Q5_K with its fifth bits at @p high. */
static void decode_k(const unsigned char *b, const unsigned char *high,
                     const unsigned char *q, float *out)
{
    const float d = half_at(b), dmin = half_at(b + 2);
    for (unsigned j = 0; j < 8; j++) {
        float scale, min;
        scale_min(b + 4, j, &scale, &min);
        const float by = d * scale, less = dmin * min;
        for (unsigned i = 0; i < 32; i++) {
            const unsigned char byte = q[32 * (j / 2) + i];
            unsigned v = j % 2 == 0 ? byte & 15u : (unsigned)byte >> 4;
            if (high != NULL)
                v |= (high[i] >> j & 1u) << 4;
            out[32 * j + i] = by * (float)v - less;
        }
    }
}

static void decode_q4_k(const unsigned char *b, float *out)
{
    decode_k(b, NULL, b + 16, out);
}

static void decode_q5_k(const unsigned char *b, float *out)
{
    decode_k(b, b + 16, b + 48, out);
}

static void decode_q6_k(const unsigned char *b, float *out)
{
    const unsigned char *low = b, *high = b + 128, *scale = b + 192;
    const float d = half_at(b + 208);
    for (unsigned i = 0; i < 256; i++) {
        const unsigned u = i / 128, r = i % 128, l = r % 32, k = r / 32;
        const unsigned char byte = low[64 * u + l + 32 * (k & 1)];
        const unsigned q4 = k < 2 ? byte & 15u : (unsigned)byte >> 4;
        const unsigned q2 = high[32 * u + l] >> 2 * k & 3u;
        const float by = d * (float)(int8_t)scale[8 * u + 2 * k + l / 16];
        out[i] = by * (float)((int)(q4 | q2 << 4) - 32);
    }
}

void ws_gguf_q8_0(const float *x, unsigned char *out)
{
    float most = 0.0f;
    for (int i = 0; i < 32; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    const float d = most / 127.0f, inverse = d != 0.0f ? 1.0f / d : 0.0f;
    ws_from_f32(WS_DT_F16, &d, out, 1, NULL);
    for (int i = 0; i < 32; i++)
        out[2 + i] = (unsigned char)(int8_t)roundf(x[i] * inverse);
}

#define BLOCKS(name, block, bytes, decode)                                             \
    {                                                                                  \
        name, block, bytes, WS_DT_F32, true, decode                                    \
    }
#define NOT_READ(name)                                                                 \
    {                                                                                  \
        name, 1, 0, WS_DT_F32, false, NULL                                             \
    }

static const ws_gguf_type types[] = {
    [0] = { "F32", 1, 4, WS_DT_F32, true, NULL },
    [1] = { "F16", 1, 2, WS_DT_F16, true, NULL },
    [2] = BLOCKS("Q4_0", 32, 18, decode_q4_0),
    [3] = BLOCKS("Q4_1", 32, 20, decode_q4_1),
    [6] = BLOCKS("Q5_0", 32, 22, decode_q5_0),
    [7] = BLOCKS("Q5_1", 32, 24, decode_q5_1),
    [8] = BLOCKS("Q8_0", 32, WS_Q8_0_BYTES, decode_q8_0),
    [9] = NOT_READ("Q8_1"),
    [10] = NOT_READ("Q2_K"),
    [11] = NOT_READ("Q3_K"),
    [12] = BLOCKS("Q4_K", 256, 144, decode_q4_k),
    [13] = BLOCKS("Q5_K", 256, 176, decode_q5_k),
    [14] = BLOCKS("Q6_K", 256, 210, decode_q6_k),
    [15] = NOT_READ("Q8_K"),
    [16] = NOT_READ("IQ2_XXS"),
    [17] = NOT_READ("IQ2_XS"),
    [18] = NOT_READ("IQ3_XXS"),
    [19] = NOT_READ("IQ1_S"),
    [20] = NOT_READ("IQ4_NL"),
    [21] = NOT_READ("IQ3_S"),
    [22] = NOT_READ("IQ2_S"),
    [23] = NOT_READ("IQ4_XS"),
    [24] = { "I8", 1, 1, WS_DT_I8, true, NULL },
    [25] = { "I16", 1, 2, WS_DT_I16, true, NULL },
    [26] = { "I32", 1, 4, WS_DT_I32, true, NULL },
    [27] = { "I64", 1, 8, WS_DT_I64, true, NULL },
    [28] = { "F64", 1, 8, WS_DT_F64, true, NULL },
    [29] = NOT_READ("IQ1_M"),
    [30] = { "BF16", 1, 2, WS_DT_BF16, true, NULL },
    [34] = NOT_READ("TQ1_0"),
    [35] = NOT_READ("TQ2_0"),
    [39] = NOT_READ("MXFP4"),
    [40] = NOT_READ("NVFP4"),
    [41] = NOT_READ("Q1_0"),
    [42] = NOT_READ("Q2_0"),
};

const ws_gguf_type *ws_gguf_type_at(uint64_t id)
{
    if (id >= sizeof types / sizeof *types || types[id].name == NULL)
        return NULL;
    return &types[id];
}
