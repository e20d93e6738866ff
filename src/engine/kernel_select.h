/*
 * kernel_select.h - what the two halves of the selection share: kernel_select.c
 * (windows and cuts) and kernel_select_scan.c (counting and masking, for float and
 * double)
 */
#ifndef WS_ENGINE_KERNEL_SELECT_H
#define WS_ENGINE_KERNEL_SELECT_H

#include "engine/kernel_pattern.h"

enum {
    SELECT_BINS = 16384,
    SELECT_HALF = SELECT_BINS / 2 // bins of one cut's window
};

enum select_phase { SELECT_NEW, SELECT_LIST, SELECT_COARSE, SELECT_COUNT };

/** Equal magnitudes in one slice. */
struct select_tie {
    uint64_t before; // in earlier slices
    uint64_t here;
};

/** One cut. An element is before it when its pattern > limit; of those equal to limit
 * the first `ties` are too. */
struct select_cut {
    bool done;
    int shift;       // bin = (pattern - lo) >> shift
    uint64_t rank;   // elements before the cut
    uint64_t lo, hi; // window, both inclusive; lo is a multiple of 1 << shift
    uint64_t heavy;  // pattern in the window counted by comparing, or UINT64_MAX
    int64_t limit;
    uint64_t ties;
    size_t first_kept, n_kept; // bins whose counts per slice are kept
    int misses;                // windows that did not hold the cut
};

/** What a pass counts of one series: in a slice with 32-bit counters, joined with 64.
 * Counters hold twice the number of elements, plus 1 when the bin is not pure. */
struct select_part {
    uint64_t seen, above[2];
    uint32_t table[SELECT_BINS];
};

struct select_series {
    struct select_cut cut[2];
    uint64_t seen, above[2];
    uint64_t table[SELECT_BINS];
};

struct select_state {
    enum select_phase phase;
    bool sampled;
    int bits;
    size_t n_series;
    uint64_t n, n_slices;
    size_t n_kept; // bins per cut and slice that there is room for
};

/** What masking carries through a slice for one series. */
struct select_walk {
    uint64_t equal[2]; // elements met that equal the limit of a cut
};

struct select_series *ws_select_series(const struct select_state *st, size_t k);

/** Where a slice splits: patterns above @p limit are before the cut. True when of those
 * that equal it only the first @p left are. */
bool ws_select_limit(const struct select_state *st, size_t k, int which, uint64_t slice,
                     int64_t *limit, uint64_t *left);

/** The limits of both cuts in a slice: patterns up to the first and above the
 * second are in the band. False where a cut splits equal magnitudes of this very
 * slice. */
static inline bool ws_select_band(const struct select_state *st, size_t k,
                                  uint64_t slice, int64_t limit[2])
{
    uint64_t left;
    return !ws_select_limit(st, k, 0, slice, &limit[0], &left) &&
           !ws_select_limit(st, k, 1, slice, &limit[1], &left);
}

/** Counters of a cut's window; both cuts share the coarse one. */
static inline size_t select_table_of(enum select_phase phase, int which)
{
    return phase == SELECT_COARSE ? 0 : (size_t)which * SELECT_HALF;
}

/** Count a cut's window over floats on a processor that ws_select_has_v4(): how many of
 * the n elements were done, all but the last few. Adds to @p above. */
bool ws_select_has_v4(void);
size_t ws_select_count_v4(const struct select_cut *c, const float *x, size_t n,
                          uint32_t *table, uint64_t *above);

/** The magnitudes of x - base that are at least @p floor > 0, both as BF16, in any
 * order: how many. A processor that ws_select_has_v4(). @p out (n + 16). */
size_t ws_select_gather_v4(const uint16_t *x, const uint16_t *base, size_t n,
                           uint32_t floor, float *out);

/** As ws_select_count_v4() over all of x - base, both as BF16. The window must not hold
 * magnitude 0. */
void ws_select_count_bf16_v4(const struct select_cut *c, const uint16_t *x,
                             const uint16_t *base, size_t n, uint32_t *table,
                             uint64_t *above);

/** As ws_select_scan() over x - base, both as BF16: false where this pass or processor
 * has no shorter way. */
bool ws_select_scan_bf16(const void *state, size_t series, const uint16_t *x,
                         const uint16_t *base, size_t n, void *partial);

/** The pattern at @p rank < n by falling value; how many are larger goes to @p above.
 * Overwrites v. */
uint32_t ws_select_value_f32(uint32_t *v, size_t n, size_t rank, uint64_t *above);
uint64_t ws_select_value_f64(uint64_t *v, size_t n, size_t rank, uint64_t *above);
#define ws_select_value WS_TWIN(ws_select_value)

#endif
