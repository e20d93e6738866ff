/*
 * dtype.h - element types of tensors and their traits
 */
#ifndef WSURG_DTYPE_H
#define WSURG_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wsurg/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/** In the order in which safetensors writes them (descending rank of its enumeration,
 * formats.md 1.7). */
typedef enum ws_dtype {
    WS_DT_U64,
    WS_DT_I64,
    WS_DT_F64,
    WS_DT_C64,
    WS_DT_F32,
    WS_DT_U32,
    WS_DT_I32,
    WS_DT_BF16,
    WS_DT_F16,
    WS_DT_U16,
    WS_DT_I16,
    WS_DT_F8_E5M2FNUZ,
    WS_DT_F8_E4M3FNUZ,
    WS_DT_F8_E8M0,
    WS_DT_F8_E4M3,
    WS_DT_F8_E5M2,
    WS_DT_I8,
    WS_DT_U8,
    WS_DT_F6_E3M2,
    WS_DT_F6_E2M3,
    WS_DT_F4,
    WS_DT_BOOL,
    WS_DT_COUNT
} ws_dtype;

typedef struct ws_dtype_traits {
    const char *name; /**< safetensors spelling */
    const char
        *torch_name; /**< "bfloat16", ...: config.json's spelling; NULL if none */
    uint8_t bits;    /**< of one element */
    bool arithmetic; /**< F64, F32, F16, BF16, F8_E4M3, F8_E5M2 */
} ws_dtype_traits;

/** Traits of @p dt; never NULL for a valid value. */
WS_API const ws_dtype_traits *ws_dtype_info(ws_dtype dt);

/** Parse the safetensors spelling of @p len bytes, case-sensitive. False when unknown.
 */
WS_API bool ws_dtype_parse(const char *name, size_t len, ws_dtype *out);

/** Parse a user's spelling: f32, bf16, float16, F8_E4M3, ...; any case. False when
 * unknown. */
WS_API bool ws_dtype_parse_user(const char *name, ws_dtype *out);

/**
 * Expand @p n elements at @p src (any alignment, little-endian) to float. Exact for
 * every arithmetic dtype but F64, which is rounded to nearest even. @pre dt is
 * arithmetic.
 */
WS_API void ws_to_f32(ws_dtype dt, const void *src, float *dst, size_t n);

/** As ws_to_f32() to double; exact. */
WS_API void ws_to_f64(ws_dtype dt, const void *src, double *dst, size_t n);

/** What one call of storing met: counted, never silent. Written anew by each call. */
typedef struct ws_store_tally {
    uint64_t
        overflowed; /**< finite values beyond the largest finite value of the dtype */
    uint64_t not_finite; /**< NaN and infinity among the sources */
    size_t first_bad; /**< index in this call's array of the first of either; SIZE_MAX
                         if none */
} ws_store_tally;

/**
 * Round @p n floats to @p dt, to nearest with ties to even, into @p dst (any
 * alignment). A finite value that rounds past the largest finite one is counted and
 * stored as that largest (saturated). NaN becomes a quiet NaN of that dtype, always the
 * same positive one; infinity stays infinity, or becomes NaN where the dtype has none.
 * @p tally may be NULL. @pre dt is arithmetic; @p src and @p dst do not overlap.
 */
WS_API void ws_from_f32(ws_dtype dt, const float *src, void *dst, size_t n,
                        ws_store_tally *tally);

/** As ws_from_f32() from double: one rounding. */
WS_API void ws_from_f64(ws_dtype dt, const double *src, void *dst, size_t n,
                        ws_store_tally *tally);

#ifdef __cplusplus
}
#endif

#endif
