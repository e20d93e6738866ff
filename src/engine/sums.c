/*
 * sums.c - what a run sums up beside its output: norms and products of updates,
 * rounding, changed elements; and the search for what is not finite
 */
#include "engine/sums.h"

#include <string.h>

enum { STEP = 512, BLOCK = 256 };

#define REAL     float
#define BITS     uint32_t
#define EXPONENT 0x7f800000u
#define NAME(x)  x##_f32
#include "engine/sums_twin.h"
#undef REAL
#undef BITS
#undef EXPONENT
#undef NAME

#define REAL     double
#define BITS     uint64_t
#define EXPONENT 0x7ff0000000000000u
#define NAME(x)  x##_f64
#include "engine/sums_twin.h"

WS_HOT bool ws_all_finite_bf16(const uint16_t *x, size_t n)
{
    const uint16_t exponent = 0x7f80;
    uint16_t worst = 0;
    for (size_t i = 0; i < n; i++) {
        const uint16_t b = x[i] & exponent;
        worst = b > worst ? b : worst;
    }
    return worst != exponent;
}

void ws_keep_equal(bool wide, const ws_tile *tile, size_t n_models)
{
    if (wide)
        keep_equal_f64(tile, n_models);
    else
        keep_equal_f32(tile, n_models);
}

uint64_t ws_count_changed(bool wide, const ws_tile *tile, size_t n_models)
{
    return wide ? count_changed_f64(tile, n_models) : count_changed_f32(tile, n_models);
}

void ws_sums_update(bool wide, const ws_tile *tile, const void *back, const ws_job *job,
                    const uint32_t *model_of, size_t n_models, ws_lanes *lanes,
                    double *changed)
{
    if (wide)
        sums_update_f64(tile, back, job, model_of, n_models, lanes, changed);
    else
        sums_update_f32(tile, back, job, model_of, n_models, lanes, changed);
}

void ws_sums_l1(bool wide, const ws_tile *tile, size_t n_models, ws_lanes *lanes)
{
    if (wide)
        sums_l1_f64(tile, n_models, lanes);
    else
        sums_l1_f32(tile, n_models, lanes);
}
