/*
 * kernel_pattern.h - magnitudes as integers: the bits of a number without its sign,
 * which rise with it
 */
#ifndef WS_ENGINE_KERNEL_PATTERN_H
#define WS_ENGINE_KERNEL_PATTERN_H

#include "wsurg/method.h"

#ifdef WS_METHOD_F64
typedef uint64_t ws_pattern;
typedef int64_t ws_signed;
#else
typedef uint32_t ws_pattern;
typedef int32_t ws_signed; // compares faster, and patterns fit
#endif

/** NaN is above infinity. */
static inline ws_pattern ws_pattern_of(ws_real x)
{
    ws_pattern p;
    memcpy(&p, &x, sizeof p);
    return p << 1 >> 1;
}

#endif
