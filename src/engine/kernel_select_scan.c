/*
 * kernel_select_scan.c - the selection's work on elements: counting a pass's windows,
 * and setting to zero what lies outside the band
 *
 * Compiled twice, for float and for double, as the methods are. How cuts are found is
 * told in kernel_select.c.
 */
#include "engine/kernel_select.h"

ws_pattern ws_select_value(ws_pattern *v, size_t n, size_t rank, uint64_t *above)
{
    ws_pattern all = 0, value = 0;
    for (size_t i = 0; i < n; i++)
        all |= v[i];
    *above = 0;
    for (int shift = 8 * (int)sizeof(ws_pattern) - 8; shift >= 0; shift -= 8) {
        uint32_t count[256] = { 0 };
        size_t b = 255, n_same = 0;
        if (all >> shift == 0)
            continue;
        for (size_t i = 0; i < n; i++)
            count[(v[i] >> shift) & 255]++;
        for (; count[b] <= rank; b--) {
            rank -= count[b];
            *above += count[b];
        }
        for (size_t i = 0; i < n; i++) {
            v[n_same] = v[i];
            n_same += ((v[i] >> shift) & 255) == b;
        }
        n = n_same;
        value |= (ws_pattern)b << shift;
    }
    return value;
}

static inline void count_one(const struct select_cut *c, ws_pattern p, uint32_t *table)
{
    const ws_pattern d = p - (ws_pattern)c->lo;
    const bool impure = (d & (((ws_pattern)1 << c->shift) - 1)) != 0;
    uint32_t *at = &table[d >> c->shift];
    *at = (*at + 2) | impure;
}

/** 64 flags of 0 or 1 as the bits of a word, the first lowest. */
static inline uint64_t flags_to_bits(const uint8_t *flag)
{
    uint64_t bits = 0;
    for (int g = 0; g < 64; g += 8) {
        uint64_t eight; // little-endian: flag g is its lowest byte
        memcpy(&eight, flag + g, sizeof eight);
        bits |= (eight * 0x0102040810204080u) >> 56 << g; // byte i to bit 56 + i
    }
    return bits;
}

/** Count one window over a run: few elements lie inside, and those are taken one by one
 * after a look at many. */
WS_HOT static void count_window(const struct select_cut *c, const ws_real *x, size_t n,
                                uint32_t *table, uint64_t *above)
{
    enum { CHUNK = 256 };
    const ws_pattern lo = (ws_pattern)c->lo, span = (ws_pattern)(c->hi - c->lo),
                     heavy = (ws_pattern)c->heavy;
    const ws_signed hi = (ws_signed)c->hi;
    uint64_t n_above = 0, n_heavy = 0;
    size_t i = 0;

    for (; i + CHUNK <= n; i += CHUNK) {
        uint8_t flag[CHUNK];
        ws_pattern larger = 0, equal = 0;
        for (size_t j = 0; j < CHUNK; j++) {
            const ws_pattern p = ws_pattern_of(x[i + j]), is_heavy = p == heavy;
            larger += (ws_signed)p > hi;
            equal += is_heavy;
            flag[j] = (uint8_t)(((ws_pattern)(p - lo) <= span) ^ is_heavy);
        }
        n_above += larger;
        n_heavy += equal;
        for (size_t g = 0; g < CHUNK; g += 64) {
            uint64_t set = flags_to_bits(flag + g);
            for (; set != 0; set &= set - 1) {
                const size_t at = i + g + (size_t)__builtin_ctzll(set);
                count_one(c, ws_pattern_of(x[at]), table);
            }
        }
    }
    for (; i < n; i++) {
        const ws_pattern p = ws_pattern_of(x[i]);
        n_above += (ws_signed)p > hi;
        n_heavy += p == heavy;
        if ((ws_pattern)(p - lo) <= span && p != heavy)
            count_one(c, p, table);
    }
    *above += n_above;
    if (n_heavy > 0)
        table[(heavy - lo) >> c->shift] += (uint32_t)n_heavy * 2;
}

/** The same by the fastest way that this processor has. */
static void count_cut(const struct select_cut *c, const ws_real *x, size_t n,
                      uint32_t *table, uint64_t *above)
{
    size_t done = 0;
// under sanitizers the portable loop is what tests see
#if !defined(WS_METHOD_F64) && !defined(WS_NO_CLONES)
    if (ws_select_has_v4())
        done = ws_select_count_v4(c, x, n, table, above);
#endif
    count_window(c, x + done, n - done, table, above);
}

static void scan_run(const struct select_state *st, size_t k, const ws_real *x,
                     size_t n, struct select_part *part)
{
    const struct select_cut *cuts = ws_select_series(st, k)->cut;
    part->seen += n;
    if (st->phase == SELECT_COARSE) {
        const struct select_cut all = cuts[cuts[0].done ? 1 : 0];
        for (size_t i = 0; i < n; i++)
            count_one(&all, ws_pattern_of(x[i]), part->table);
        return;
    }
    for (int i = 0; i < 2; i++)
        if (!cuts[i].done)
            count_cut(&cuts[i], x, n, part->table + select_table_of(st->phase, i),
                      &part->above[i]);
}

#ifndef WS_METHOD_F64
bool ws_select_scan_bf16(const void *state, size_t series, const uint16_t *x,
                         const uint16_t *base, size_t n, void *partial)
{
    enum { STEP = 2048, LANES = 16 };
    const struct select_state *st = state;
    const struct select_cut *cuts = ws_select_series(st, series)->cut;
    struct select_part *part = (struct select_part *)partial + series;
    uint64_t floor = UINT64_MAX;
    for (int c = 0; c < 2; c++)
        if (!cuts[c].done && cuts[c].lo < floor)
            floor = cuts[c].lo;
#ifdef WS_NO_CLONES
    floor = 0; // as in count_cut()
#endif
    if (st->phase != SELECT_COUNT || floor == 0 || !ws_select_has_v4())
        return false;
    if (floor == UINT64_MAX)
        return true; // both are known
    part->seen += n;
    if (cuts[0].done || cuts[1].done) {
        const int c = cuts[0].done ? 1 : 0;
        ws_select_count_bf16_v4(&cuts[c], x, base, n,
                                part->table + select_table_of(st->phase, c),
                                &part->above[c]);
        return true;
    }
    // most elements lie below both windows: those are dropped at the first look
    float gathered[LANES + STEP + LANES];
    for (size_t i = 0, len, m = 0, whole; i < n; i += len) {
        len = n - i < STEP ? n - i : STEP;
        m += ws_select_gather_v4(x + i, base + i, len, (uint32_t)floor, gathered + m);
        whole = i + len < n ? m / LANES * LANES : m; // the rest waits for the next step
        for (int c = 0; c < 2; c++)
            count_cut(&cuts[c], gathered, whole,
                      part->table + select_table_of(st->phase, c), &part->above[c]);
        m -= whole;
        memcpy(gathered, gathered + whole, m * sizeof *gathered);
    }
    return true;
}
#endif

void ws_select_scan(const void *state, size_t series, uint64_t first, const ws_real *x,
                    size_t n, void *partial)
{
    const struct select_state *st = state;
    const struct select_cut *cuts = ws_select_series(st, series)->cut;
    const ws_sample sample = ws_select_sample(state);

    if (cuts[0].done && cuts[1].done)
        return;
    if (st->phase == SELECT_LIST) {
        uint64_t *list = (uint64_t *)partial + series * st->n + first;
        for (size_t i = 0; i < n; i++)
            list[i] = ws_pattern_of(x[i]);
        return;
    }
    struct select_part *part = (struct select_part *)partial + series;
    if (sample.period == 0) {
        scan_run(st, series, x, n, part);
        return;
    }
    for (size_t i = 0, run; i < n; i += run) {
        const size_t at = (size_t)((first + i) % sample.period);
        const bool take = at < sample.span;
        run = (size_t)(take ? sample.span : sample.period) - at;
        run = run < n - i ? run : n - i;
        if (take)
            scan_run(st, series, x + i, run, part);
    }
}

/** Zero what is not in ]below, limit]; @p large and @p small count it. */
WS_HOT static void mask_band(ws_real *x, size_t n, ws_signed limit, ws_signed below,
                             uint64_t *large, uint64_t *small)
{
    enum { CHUNK = 1024 };
    for (size_t i = 0; i < n; i += CHUNK) {
        const size_t len = n - i < CHUNK ? n - i : CHUNK;
        ws_real *v = x + i;
        ws_signed n_large = 0, n_small = 0;
        for (size_t j = 0; j < len; j++) {
            const ws_signed p = (ws_signed)ws_pattern_of(v[j]);
            const ws_signed over = p > limit, under = p <= below;
            n_large += over;
            n_small += under;
            v[j] = (over | under) ? (ws_real)0 : v[j];
        }
        *large += (uint64_t)n_large;
        *small += (uint64_t)n_small;
    }
}

WS_HOT static size_t count_equal(const ws_real *x, size_t n, ws_signed pattern)
{
    ws_pattern equal = 0;
    for (size_t i = 0; i < n; i++)
        equal += (ws_signed)ws_pattern_of(x[i]) == pattern;
    return (size_t)equal;
}

/** Entry by entry: of those that equal a cut's limit the first `left` are before it. */
static void mask_each(ws_real *x, size_t n, const int64_t limit[2],
                      const uint64_t left[2], uint64_t equal[2], uint64_t *large,
                      uint64_t *small)
{
    for (size_t i = 0; i < n; i++) {
        const int64_t p = (int64_t)ws_pattern_of(x[i]);
        bool before[2];
        for (int c = 0; c < 2; c++)
            before[c] = p > limit[c] || (p == limit[c] && equal[c]++ < left[c]);
        *large += before[0];
        *small += !before[1];
        if (before[0] || !before[1])
            x[i] = (ws_real)0;
    }
}

/** Where equal magnitudes straddle a cut in this very slice or row: only the chunk that
 * holds the last one before the cut must be walked. */
static void mask_ties(ws_real *x, size_t n, const int64_t limit[2],
                      const uint64_t left[2], uint64_t equal[2], uint64_t *large,
                      uint64_t *small)
{
    enum { CHUNK = 256 };
    for (size_t i = 0, len; i < n; i += len) {
        int64_t whole[2] = { limit[0], limit[1] };
        size_t here[2] = { 0, 0 };
        bool split = false;
        len = n - i < CHUNK ? n - i : CHUNK;
        for (int c = 0; c < 2; c++) {
            if (equal[c] >= left[c])
                continue; // no more of them are before the cut
            here[c] = count_equal(x + i, len, (ws_signed)limit[c]);
            if (equal[c] + here[c] <= left[c])
                whole[c]--; // all of these are
            else
                split = true;
        }
        if (split) {
            mask_each(x + i, len, limit, left, equal, large, small);
            continue;
        }
        mask_band(x + i, len, (ws_signed)whole[0], (ws_signed)whole[1], large, small);
        equal[0] += here[0];
        equal[1] += here[1];
    }
}

void ws_select_mask(const void *state, size_t series, ws_real *x, size_t n,
                    uint64_t slice, void *carry, ws_tally *tally)
{
    const struct select_state *st = state;
    struct select_walk *walk = (struct select_walk *)carry + series;
    uint64_t large = 0, small = 0, left[2];
    int64_t limit[2];
    const bool split0 = ws_select_limit(st, series, 0, slice, &limit[0], &left[0]);
    const bool split1 = ws_select_limit(st, series, 1, slice, &limit[1], &left[1]);

    if (split0 || split1)
        mask_ties(x, n, limit, left, walk->equal, &large, &small);
    else
        mask_band(x, n, (ws_signed)limit[0], (ws_signed)limit[1], &large, &small);
    tally->dropped_large += large;
    tally->dropped_small += small;
    tally->kept += n - large - small;
}

void ws_select_row(ws_real *x, size_t n, ws_band band, void *scratch, ws_tally *tally)
{
    const uint64_t top = band.top < n ? band.top : n;
    const uint64_t ranks[2] = { top, band.keep < n - top ? top + band.keep : n };
    ws_pattern *v = scratch;
    int64_t limit[2];
    uint64_t left[2] = { 0, 0 }, equal[2] = { 0, 0 }, large = 0, small = 0, above;

    for (int c = 0; c < 2; c++) {
        limit[c] = -1; // everything is before the cut
        if (ranks[c] == n)
            continue;
        for (size_t i = 0; i < n; i++)
            v[i] = ws_pattern_of(x[i]);
        limit[c] = (int64_t)ws_select_value(v, n, (size_t)ranks[c], &above);
        left[c] = ranks[c] - above;
    }
    if (left[0] == 0 && left[1] == 0)
        mask_band(x, n, (ws_signed)limit[0], (ws_signed)limit[1], &large, &small);
    else
        mask_ties(x, n, limit, left, equal, &large, &small);
    tally->dropped_large += large;
    tally->dropped_small += small;
    tally->kept += n - large - small;
}
