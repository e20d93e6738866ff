/*
 * kernel_select.c - exact selection of a band of ranks by magnitude, streaming
 *
 * A band has two cuts: its top and its bottom. A cut at rank R splits the elements,
 * ordered by falling magnitude, into the R before it and the rest. Each is found by
 * passes over the tensor, which keep one window of bit patterns per cut:
 *
 *   coarse   all patterns, 16384 bins, a sample only where the tensor is large
 *   count    all elements: how many lie above the window, a histogram inside it;
 *            repeated on a smaller window until the cut is exact
 *
 * A bin is pure when all its elements have the bin's own first pattern (bit 0 of the
 * counter is then clear): deltas of 16-bit floats have so few significant bits that
 * nearly all bins are pure, and one count is enough. A cut between two bins needs no
 * pattern at all. A cut inside a pure bin splits equal magnitudes: the bin's count in
 * each slice says in which slice. Those counts are kept, while joining, for as many
 * bins around the expected cut as there is room for; otherwise one more count brings
 * them.
 *
 * Tensors of at most LIST elements keep all patterns in the table instead.
 */
#include <stddef.h>

#include "engine/kernel_select.h"

enum {
    LIST = SELECT_HALF, // a list and its scratch copy fill a table
    SAMPLE_PERIOD = 65536,
    SAMPLE_SPAN = 2048, // a page of 16-bit floats: a shorter run costs as much to read
    KEPT = SELECT_HALF / 2, // bins whose counts per slice are kept, at most
    KEPT_BYTES = 4 << 20    // room for them, of all slices and series together
};

// Below this many elements (4096 in the sample) a sample brackets too loosely.
static const uint64_t SAMPLE_FROM = 1u << 17;

// Half width of a bracket in standard errors of an independent sample. The sample comes
// in runs whose entries resemble each other, so theory's 4 would miss too often.
static const double BRACKET = 8.0;

static const uint64_t NO_PATTERN = UINT64_MAX;

/* ---- layout ---------------------------------------------------------------------- */

/** Whether all patterns fit into the table. */
static bool is_list(uint64_t n, uint64_t n_slices)
{
    return n <= LIST && n_slices == 1;
}

/** Bytes of a series up to the part of its table that is used. */
static size_t series_size(uint64_t n, uint64_t n_slices)
{
    const size_t words = is_list(n, n_slices) ? 2 * (size_t)n : (size_t)SELECT_BINS;
    return offsetof(struct select_series, table) + words * sizeof(uint64_t);
}

static size_t part_size(uint64_t n, uint64_t n_slices)
{
    if (is_list(n, n_slices))
        return (size_t)n * sizeof(uint64_t);
    return sizeof(struct select_part);
}

/** Bins per cut and slice whose counts can be kept; to count one pattern needs one. */
static size_t room_for_kept(uint64_t n, uint64_t n_slices, size_t n_series)
{
    if (is_list(n, n_slices))
        return 0;
    const uint64_t room = KEPT_BYTES / sizeof(uint32_t) / 2 / n_slices / n_series;
    const uint64_t most = n_slices == 1 ? SELECT_BINS : KEPT;
    return (size_t)(room == 0 ? 1 : room < most ? room : most);
}

size_t ws_select_state_size(const ws_job *job, size_t n_series)
{
    const size_t kept = room_for_kept(job->n, job->n_slices, n_series);
    const size_t slice = sizeof(struct select_tie) + kept * sizeof(uint32_t);
    return sizeof(struct select_state) +
           n_series *
               (series_size(job->n, job->n_slices) + 2 * (size_t)job->n_slices * slice);
}

size_t ws_select_partial_size(const ws_job *job, size_t n_series)
{
    return n_series * part_size(job->n, job->n_slices);
}

struct select_series *ws_select_series(const struct select_state *st, size_t k)
{
    char *first = (char *)(uintptr_t)(st + 1);
    return (void *)(first + k * series_size(st->n, st->n_slices));
}

static struct select_tie *ties_of(const struct select_state *st, size_t k, int which)
{
    struct select_tie *all = (void *)ws_select_series(st, st->n_series);
    return all + (2 * k + (size_t)which) * st->n_slices;
}

/** (n_kept) counts of one cut in one slice. */
static uint32_t *kept_of(const struct select_state *st, size_t k, int which,
                         uint64_t slice)
{
    uint32_t *all = (void *)ties_of(st, st->n_series, 0);
    return all + ((2 * k + (size_t)which) * st->n_slices + slice) * st->n_kept;
}

/** Whether the pass under way looks at a sample only. */
static bool is_sampling(const struct select_state *st)
{
    return st->sampled && st->phase != SELECT_COUNT;
}

static size_t bins_of(const struct select_cut *c)
{
    return (size_t)((c->hi - c->lo) >> c->shift) + 1;
}

/* ---- windows --------------------------------------------------------------------- */

static uint64_t largest_pattern(const struct select_state *st)
{
    return st->bits == 64 ? INT64_MAX : INT32_MAX;
}

/** Keep counts per slice of the bins around bin @p at, as many as fit. */
static void keep_around(const struct select_state *st, struct select_cut *c, size_t at)
{
    const size_t n_bins = bins_of(c);
    c->n_kept = n_bins < st->n_kept ? n_bins : st->n_kept;
    c->first_kept = at < c->n_kept / 2 ? 0 : at - c->n_kept / 2;
    if (c->first_kept > n_bins - c->n_kept)
        c->first_kept = n_bins - c->n_kept;
}

/** The smallest window of at most SELECT_HALF bins that holds lo .. hi. */
static void window_set(const struct select_state *st, struct select_cut *c, uint64_t lo,
                       uint64_t hi)
{
    int shift = 0;
    while ((hi >> shift) - (lo >> shift) >= SELECT_HALF)
        shift++;
    c->shift = shift;
    c->lo = lo >> shift << shift;
    c->hi = (((hi >> shift) + 1) << shift) - 1;
    c->heavy = NO_PATTERN;
    keep_around(st, c, 0);
}

static void window_all(const struct select_state *st, struct select_cut *c)
{
    c->lo = 0;
    c->hi = largest_pattern(st);
    c->shift = st->bits - 1 - 14;
    c->heavy = NO_PATTERN;
    keep_around(st, c, 0);
}

/** Bin of the element of @p rank, counted from the window's top; the elements in bins
 * above it go to @p before. The bin count when there are fewer elements. */
static size_t find_bin(const uint64_t *table, size_t n_bins, double rank,
                       uint64_t *before)
{
    uint64_t sum = 0;
    for (size_t b = n_bins; b-- > 0;) {
        const uint64_t here = table[b] >> 1;
        if (here > 0 && (double)(sum + here) > rank) {
            *before = sum;
            return b;
        }
        sum += here;
    }
    *before = sum;
    return n_bins;
}

/** Lowest and highest pattern of a bin. */
static uint64_t bin_lo(const struct select_cut *c, size_t bin)
{
    return c->lo + ((uint64_t)bin << c->shift);
}

static uint64_t bin_hi(const struct select_cut *c, size_t bin)
{
    return bin_lo(c, bin) + (((uint64_t)1 << c->shift) - 1);
}

/** Populated bin nearest to the top or to the bottom; any bin when all are empty. */
static size_t outer_bin(const uint64_t *table, size_t n_bins, bool top)
{
    size_t b = top ? n_bins - 1 : 0;
    for (size_t i = 0; i + 1 < n_bins && table[b] == 0; i++)
        b = top ? b - 1 : b + 1;
    return b;
}

/** The share of all elements that a cut's rank is. */
static double share_of(const struct select_state *st, const struct select_cut *c)
{
    return st->n == 0 ? 0.0 : (double)c->rank / (double)st->n;
}

/** The bracket of a cut, from the sample: ranks within BRACKET standard errors. */
static void sample_bracket(const struct select_state *st, const struct select_series *s,
                           const struct select_cut *c, uint64_t *lo, uint64_t *hi)
{
    const double m = (double)s->seen, q = share_of(st, c);
    const double error = BRACKET * sqrt(m * q * (1.0 - q)) + 4.0;
    const double first = m * q - error, last = m * q + error;
    const size_t n_bins = bins_of(c);
    uint64_t before;

    // Past the sample's own ends only a cut that few sampled elements lie beyond.
    *hi = c->hi;
    if (first >= 0.0)
        *hi = bin_hi(c, find_bin(s->table, n_bins, first, &before) % n_bins);
    else if (m * q >= 16.0)
        *hi = bin_hi(c, outer_bin(s->table, n_bins, true));
    *lo = c->lo;
    const size_t b = find_bin(s->table, n_bins, last, &before);
    if (b < n_bins)
        *lo = bin_lo(c, b);
    else if (m * (1.0 - q) >= 16.0)
        *lo = bin_lo(c, outer_bin(s->table, n_bins, false));
    if (*lo > *hi)
        *lo = *hi;
}

/** The window for the first count, from the sample. */
static void digest_sample(const struct select_state *st, const struct select_series *s,
                          struct select_cut *c)
{
    const struct select_cut all = *c;
    const size_t n_bins = bins_of(&all);
    uint64_t lo, hi, before, inside = 0, most = 0, heavy = NO_PATTERN;

    sample_bracket(st, s, &all, &lo, &hi);
    window_set(st, c, lo, hi);
    for (size_t b = (size_t)(lo >> all.shift); b <= (size_t)(hi >> all.shift); b++) {
        inside += s->table[b] >> 1;
        if (s->table[b] > most && (s->table[b] & 1) == 0) {
            most = s->table[b];
            heavy = bin_lo(&all, b);
        }
    }
    // Comparing every element costs less than taking an eighth of them one by one.
    if (most >> 1 > inside / 8)
        c->heavy = heavy;

    const double rank = (double)s->seen * share_of(st, c);
    const uint64_t p = bin_lo(&all, find_bin(s->table, n_bins, rank, &before) % n_bins);
    keep_around(st, c, p < c->lo ? 0 : (size_t)((p - c->lo) >> c->shift));
}

/** Counts per slice of the bin at the cut, if they were kept. */
static bool take_ties(const struct select_state *st, size_t k, int which, size_t bin)
{
    const struct select_cut *c = &ws_select_series(st, k)->cut[which];
    struct select_tie *ties = ties_of(st, k, which);
    uint64_t before = 0;
    if (bin < c->first_kept || bin - c->first_kept >= c->n_kept)
        return false;
    for (uint64_t i = 0; i < st->n_slices; i++) {
        const uint32_t here = kept_of(st, k, which, i)[bin - c->first_kept];
        ties[i] = (struct select_tie){ before, here };
        before += here;
    }
    return true;
}

/** The window did not hold the cut: its neighbour, eight times as wide, or, the second
 * time, all on that side. */
static void window_move(const struct select_state *st, struct select_cut *c, bool up)
{
    const uint64_t largest = largest_pattern(st), width = c->hi - c->lo + 1;
    const uint64_t reach = c->misses++ > 0 || width > largest / 8 ? largest : 8 * width;
    if (up)
        window_set(st, c, c->hi + 1, reach > largest - c->hi ? largest : c->hi + reach);
    else
        window_set(st, c, reach > c->lo ? 0 : c->lo - reach, c->lo - 1);
}

/** After a pass over all elements: the cut, or a smaller window that holds it. */
static void digest_count(const struct select_state *st, size_t k, int which,
                         const uint64_t *table, uint64_t above)
{
    struct select_cut *c = &ws_select_series(st, k)->cut[which];
    uint64_t before;

    if (c->rank < above) {
        window_move(st, c, true);
        return;
    }
    const uint64_t rank = c->rank - above; // within the window
    const size_t n_bins = bins_of(c);
    const size_t b = find_bin(table, n_bins, (double)rank, &before);
    if (b == n_bins && c->lo > 0) {
        window_move(st, c, false);
        return;
    }
    c->done = true;
    if (b == n_bins) { // only where the input changed between two passes
        c->limit = -1;
        return;
    }
    if (rank == before) { // between two bins: any pattern up to this bin stays
        c->limit = (int64_t)bin_hi(c, b);
        return;
    }
    const uint64_t lo = bin_lo(c, b), hi = bin_hi(c, b);
    c->limit = (int64_t)lo;
    c->ties = rank - before;
    if (c->shift == 0 || (table[b] & 1) == 0) {
        if (!take_ties(st, k, which, b)) {
            c->done = false;
            window_set(st, c, lo, lo);
        }
        return;
    }
    c->done = false;
    c->ties = 0;
    window_set(st, c, lo, hi);
}

/* ---- passes ---------------------------------------------------------------------- */

void ws_select_init(void *state, const ws_job *job, size_t n_series,
                    const ws_band *bands, int bits)
{
    struct select_state *st = state;
    *st = (struct select_state){
        .bits = bits, .n_series = n_series, .n = job->n, .n_slices = job->n_slices
    };
    st->n_kept = room_for_kept(st->n, st->n_slices, n_series);
    for (size_t k = 0; k < n_series; k++) {
        const uint64_t top = bands[k].top < st->n ? bands[k].top : st->n;
        const uint64_t keep = bands[k].keep < st->n - top ? bands[k].keep : st->n - top;
        const uint64_t ranks[2] = { top, top + keep };
        for (int i = 0; i < 2; i++) {
            struct select_cut *c = &ws_select_series(st, k)->cut[i];
            *c = (struct select_cut){ .rank = ranks[i] };
            c->done = c->rank == 0 || c->rank == st->n;
            c->limit = c->rank == 0 ? (int64_t)largest_pattern(st) : -1;
        }
    }
}

/** All patterns are in the table: the cut by itself. */
static void digest_list(const struct select_state *st, size_t k, int which)
{
    struct select_series *s = ws_select_series(st, k);
    struct select_cut *c = &s->cut[which];
    uint64_t *copy = s->table + st->n, above;
    memcpy(copy, s->table, (size_t)st->n * sizeof *copy);
    c->limit =
        (int64_t)ws_select_value_f64(copy, (size_t)st->n, (size_t)c->rank, &above);
    c->ties = c->rank - above;
    uint64_t equal = 0;
    for (uint64_t i = 0; i < st->n; i++)
        equal += s->table[i] == (uint64_t)c->limit;
    ties_of(st, k, which)[0] = (struct select_tie){ 0, equal };
    c->done = true;
}

static void digest(const struct select_state *st, size_t k, int which)
{
    struct select_series *s = ws_select_series(st, k);
    struct select_cut *c = &s->cut[which];
    const uint64_t *table = s->table + select_table_of(st->phase, which);

    if (st->phase == SELECT_LIST)
        digest_list(st, k, which);
    else if (is_sampling(st))
        digest_sample(st, s, c);
    else
        digest_count(st, k, which, table, s->above[which]);
}

static enum select_phase phase_after(const struct select_state *st)
{
    if (st->phase == SELECT_NEW)
        return is_list(st->n, st->n_slices) ? SELECT_LIST : SELECT_COARSE;
    return SELECT_COUNT;
}

bool ws_select_begin(void *state)
{
    struct select_state *st = state;
    bool open = false;

    if (st->phase == SELECT_NEW)
        st->sampled = st->n >= SAMPLE_FROM;
    for (size_t k = 0; k < st->n_series; k++) {
        struct select_series *s = ws_select_series(st, k);
        for (int i = 0; i < 2; i++) {
            if (!s->cut[i].done && st->phase == SELECT_NEW)
                window_all(st, &s->cut[i]);
            else if (!s->cut[i].done)
                digest(st, k, i);
            open = open || !s->cut[i].done;
        }
        if (st->phase >= SELECT_COARSE && !(s->cut[0].done && s->cut[1].done)) {
            s->seen = s->above[0] = s->above[1] = 0;
            memset(s->table, 0, sizeof s->table);
        }
    }
    st->phase = phase_after(st);
    return open;
}

ws_sample ws_select_sample(const void *state)
{
    if (is_sampling(state))
        return (ws_sample){ SAMPLE_PERIOD, SAMPLE_SPAN };
    return (ws_sample){ 0, 0 };
}

static void join_cut(const struct select_state *st, size_t k, int which,
                     const struct select_part *part, uint64_t slice)
{
    struct select_series *s = ws_select_series(st, k);
    const struct select_cut *c = &s->cut[which];
    const size_t at = select_table_of(st->phase, which), n_bins = bins_of(c);
    s->above[which] += part->above[which];
    if (st->phase != SELECT_COARSE || which == 0 || s->cut[0].done)
        for (size_t b = at; b < at + n_bins; b++) {
            const uint64_t sum = (s->table[b] & ~1ull) + (part->table[b] & ~1u);
            s->table[b] = sum | ((s->table[b] | part->table[b]) & 1);
        }
    uint32_t *kept = kept_of(st, k, which, slice);
    const size_t n_kept = is_sampling(st) ? 0 : c->n_kept;
    for (size_t j = 0; j < n_kept; j++)
        kept[j] = part->table[at + c->first_kept + j] >> 1;
}

void ws_select_join(void *state, const void *partial, uint64_t slice)
{
    struct select_state *st = state;
    for (size_t k = 0; k < st->n_series; k++) {
        struct select_series *s = ws_select_series(st, k);
        if (st->phase == SELECT_LIST) {
            memcpy(s->table, (const char *)partial + k * part_size(st->n, st->n_slices),
                   part_size(st->n, st->n_slices));
            continue;
        }
        const struct select_part *part = (const struct select_part *)partial + k;
        s->seen += part->seen;
        for (int i = 0; i < 2; i++)
            if (!s->cut[i].done)
                join_cut(st, k, i, part, slice);
    }
}

/* ---- masking --------------------------------------------------------------------- */

size_t ws_select_carry_size(size_t n_series)
{
    return n_series * sizeof(struct select_walk);
}

bool ws_select_limit(const struct select_state *st, size_t k, int which, uint64_t slice,
                     int64_t *limit, uint64_t *left)
{
    const struct select_cut *c = &ws_select_series(st, k)->cut[which];
    *limit = c->limit;
    *left = 0;
    if (c->ties == 0)
        return false;
    const struct select_tie t = ties_of(st, k, which)[slice];
    if (t.before >= c->ties)
        return false;
    if (t.before + t.here <= c->ties) {
        *limit = c->limit - 1;
        return false;
    }
    *left = c->ties - t.before;
    return true;
}
