/*
 * kernel_update_apply.c - the task-vector kernels' work on elements: pruning, sums,
 * combining
 *
 * Compiled twice, for float and for double, as the methods are. The formula stands in
 * kernel_update.c.
 */
#include "engine/kernel_select.h"
#include "engine/kernel_update.h"
#include "wsurg/dtype.h"

enum { STEP = 1024 };

/** Elements of a step: as many whole rows as fit into STEP, at least one. */
static size_t step_of(const ws_job *job, const ws_update *u, size_t n)
{
    if (!ws_update_by_row(job, u))
        return STEP;
    const size_t row = job->rank > 1 ? (size_t)job->row : n;
    return row >= STEP ? row : STEP / row * row;
}

static void tally_random(ws_tally *tally, size_t kept, size_t n)
{
    tally->kept += kept;
    tally->dropped_random += n - kept;
}

/** An entry on its way to its rank. */
struct entry {
    ws_pattern key; // rises as the magnitude falls
    uint32_t index;
};

/** What pruning carries through a slice. */
struct pruner {
    const ws_job *job;
    const ws_update *u;
    const void *state;
    uint64_t slice;
    struct squares *kept_sq;         // (n_models); NULL where nobody asks
    void *select;                    // the selection's carry
    bool whole_band;                 // no model has a cut between equal magnitudes here
    int64_t limit[WS_MODELS_MAX][2]; // of each band, where whole_band
    struct entry *half[2];           // scratch of ranked rows: (n) each
    uint32_t *rank;                  // of the entries of a step's row
};

size_t ws_update_carry_size(const ws_job *job)
{
    const ws_update u = job->method->update(job);
    const size_t lanes = job->n_models * sizeof(struct squares);
    if (ws_update_selects(job, &u))
        return lanes + ws_select_carry_size(job->n_models);
    if (!ws_update_by_row(job, &u))
        return lanes;
    if (u.prune == WS_PRUNE_BAND)
        return lanes + (size_t)job->shape[job->rank - 1] * sizeof(ws_pattern);
    const size_t row = job->rank > 1 ? (size_t)job->row : (size_t)job->n;
    const size_t sort = 2 * ws_update_ranked(job).n * sizeof(struct entry);
    return lanes + sort + row * sizeof(uint32_t);
}

static struct pruner pruner_of(const ws_job *job, const ws_update *u, const void *state,
                               const ws_tile *tile)
{
    const size_t n = ws_update_ranked(job).n;
    struct squares *lanes = tile->carry;
    struct pruner pr = { .job = job, .u = u, .state = state, .slice = tile->slice };
    pr.kept_sq = tile->tally != NULL ? lanes : NULL;
    pr.select = lanes + job->n_models;
    pr.half[0] = pr.select;
    pr.half[1] = pr.half[0] + n;
    pr.rank = (uint32_t *)(void *)(pr.half[1] + n);
    pr.whole_band = ws_update_selects(job, u) && ws_update_prunes(job, u);
    for (size_t k = 0; k < job->n_models && pr.whole_band; k++)
        pr.whole_band = ws_select_band(ws_update_selection(job, state), k, tile->slice,
                                       pr.limit[k]);
    return pr;
}

/* Sorting goes in STREAMS parts side by side, each with counters of its own: of one
 * counter every step would wait for the step before, as most keys share their first
 * bits. */
enum { STREAMS = 4, DIGIT = 9 };

/** One digit of a stable radix sort, @p bits from @p shift. */
static void sort_digit(const struct entry *from, struct entry *to, size_t n, int shift,
                       int bits)
{
    uint32_t at[STREAMS][1 << DIGIT] = { { 0 } }, sum = 0;
    const ws_pattern mask = ((ws_pattern)1 << bits) - 1;
    const size_t part = n / STREAMS;
    for (size_t i = 0; i < part; i++)
        for (size_t s = 0; s < STREAMS; s++)
            at[s][(from[s * part + i].key >> shift) & mask]++;
    for (size_t i = STREAMS * part; i < n; i++)
        at[STREAMS - 1][(from[i].key >> shift) & mask]++;
    for (size_t b = 0; b < (size_t)1 << bits; b++)
        for (size_t s = 0; s < STREAMS; s++) {
            const uint32_t here = at[s][b];
            at[s][b] = sum;
            sum += here;
        }
    for (size_t i = 0; i < part; i++)
        for (size_t s = 0; s < STREAMS; s++) {
            const struct entry e = from[s * part + i];
            to[at[s][(e.key >> shift) & mask]++] = e;
        }
    for (size_t i = STREAMS * part; i < n; i++)
        to[at[STREAMS - 1][(from[i].key >> shift) & mask]++] = from[i];
}

/** Order half[0] by rising key, stable. Returns the half that holds the result. Digits
 * cover only the bits in which keys differ, which in updates of 16-bit floats are few.
 */
static const struct entry *sort_entries(struct entry *const half[2], size_t n)
{
    ws_pattern differ = 0;
    int from = 0, low = 0, high = 8 * (int)sizeof differ;
    for (size_t i = 0; i < n; i++)
        differ |= half[0][i].key ^ half[0][0].key;
    while (low < high && ((differ >> low) & 1) == 0)
        low++;
    while (high > low && ((differ >> (high - 1)) & 1) == 0)
        high--;
    const int n_digits = (high - low + DIGIT - 1) / DIGIT;
    const int bits = n_digits == 0 ? 0 : (high - low + n_digits - 1) / n_digits;
    for (int d = 0; d < n_digits; d++, from = !from)
        sort_digit(half[from], half[!from], n, low + d * bits, bits);
    return half[from];
}

/** rank[i] of every entry of one step: 0 is the smallest magnitude of its vector; of
 * equal ones the last. */
static void rank_vectors(const struct pruner *pr, const ws_real *x)
{
    const struct update_ranked v = ws_update_ranked(pr->job);
    for (size_t offset = 0; offset < v.stride; offset++) {
        for (size_t i = 0; i < v.n; i++) {
            const ws_pattern p = ws_pattern_of(x[offset + i * v.stride]);
            pr->half[0][i] = (struct entry){ ~p, (uint32_t)i };
        }
        const struct entry *order = sort_entries(pr->half, v.n);
        for (size_t i = 0; i < v.n; i++)
            pr->rank[offset + order[i].index * v.stride] = (uint32_t)(v.n - 1 - i);
    }
}

WS_HOT static size_t keep_random(ws_real *x, const uint32_t *word, size_t n,
                                 uint64_t threshold)
{
    uint32_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        const bool keep = word[i] < threshold;
        kept += keep;
        x[i] = keep ? x[i] : (ws_real)0;
    }
    return kept;
}

/** word < ws_random_threshold(p), without leaving floating point. */
WS_HOT static size_t keep_ranked(ws_real *x, const uint32_t *word, const uint32_t *rank,
                                 size_t n, struct update_ramp ramp)
{
    uint32_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        const double p = ramp.low + ramp.step * (double)rank[i];
        const bool keep = (double)word[i] + 1.0 <= p * 4294967296.0;
        kept += keep;
        x[i] = keep ? x[i] : (ws_real)0;
    }
    return kept;
}

/** One step of model k: drop by random words. @p rank NULL: all with the density. */
static void prune_random(const struct pruner *pr, size_t k, uint64_t first, ws_real *x,
                         size_t n, const uint32_t *rank, ws_tally *tally)
{
    const struct update_ramp ramp =
        rank != NULL ? ws_update_ramp(pr->u, k, ws_update_ranked(pr->job).n)
                     : (struct update_ramp){ pr->u->density[k], 0.0 };
    const uint64_t threshold = ws_random_threshold(pr->u->density[k]);
    const bool all = rank == NULL && threshold > UINT32_MAX;
    size_t kept = all ? n : 0;
    for (size_t i = 0, len; i < n && !all; i += len) {
        uint32_t word[STEP];
        len = n - i < STEP ? n - i : STEP;
        ws_random_fill(&pr->job->rng[k], first + i, word, len);
        kept += rank != NULL ? keep_ranked(x + i, word, rank + i, len, ramp)
                             : keep_random(x + i, word, len, threshold);
    }
    tally_random(tally, kept, n);
}

static double squares_sum(const struct squares *s)
{
    double sum = 0.0;
    for (size_t e = 0; e < 16; e++)
        sum += s->lane[e] + (double)s->block[e];
    return sum;
}

static void add_kept(const struct pruner *pr, size_t k, const ws_real *x, size_t n)
{
    if (pr->kept_sq != NULL)
        ws_squares_add(&pr->kept_sq[k], x, n);
}

/** A row whose entries are kept by their rank. */
static void prune_ranked(const struct pruner *pr, size_t k, uint64_t first, ws_real *x,
                         size_t n, ws_tally *tally)
{
    const double d = pr->u->density[k];
    if (d <= 0.0 || d >= 1.0) {
        prune_random(pr, k, first, x, n, NULL, tally);
        add_kept(pr, k, x, n);
        return;
    }
    rank_vectors(pr, x);
    prune_random(pr, k, first, x, n, pr->rank, tally);
    add_kept(pr, k, x, n);
    if (pr->u->rescale != WS_RESCALE_INVERSE)
        return;
    const struct update_ramp ramp =
        ws_update_ramp(pr->u, k, ws_update_ranked(pr->job).n);
    for (size_t i = 0; i < n; i++)
        x[i] /= (ws_real)(ramp.low + ramp.step * (double)pr->rank[i]);
}

/** Set to zero what model k's update loses in one step, elements first .. of the
 * tensor. */
static void prune(const struct pruner *pr, size_t k, uint64_t first, ws_real *x,
                  size_t n, ws_tally *tally)
{
    const ws_job *job = pr->job;
    if (!ws_update_prunes(job, pr->u))
        return;
    if (pr->u->prune == WS_PRUNE_RANKED) {
        const size_t row = job->rank > 1 ? (size_t)job->row : n;
        for (size_t i = 0; i < n; i += row)
            prune_ranked(pr, k, first + i, x + i, row, tally);
        return;
    }
    if (pr->u->prune == WS_PRUNE_RANDOM) {
        prune_random(pr, k, first, x, n, NULL, tally);
    } else if (ws_update_selects(job, pr->u)) {
        ws_select_mask(ws_update_selection(job, pr->state), k, x, n, pr->slice,
                       pr->select, tally);
    } else {
        const size_t row = (size_t)job->shape[job->rank - 1];
        const ws_band band = ws_update_band(pr->u, k, row);
        for (size_t i = 0; i < n; i += row)
            ws_select_row(x + i, row, band, pr->select, tally);
    }
    add_kept(pr, k, x, n);
}

/** x = in_k - base, elements i .. i+n-1 of the tile. */
static void delta_of(const ws_tile *tile, size_t k, size_t i, ws_real *x, size_t n)
{
    if (!tile->packed) {
        ws_delta(x, (const ws_real *)tile->in[k] + i, (const ws_real *)tile->base + i,
                 n);
        return;
    }
    const uint16_t *in = tile->in[k], *base = tile->base;
    for (size_t j = 0, len; j < n; j += len) {
        ws_real wide[2][STEP];
        len = n - j < STEP ? n - j : STEP;
        WS_TWIN(ws_to)(WS_DT_BF16, in + i + j, wide[0], len);
        WS_TWIN(ws_to)(WS_DT_BF16, base + i + j, wide[1], len);
        ws_delta(x + j, wide[0], wide[1], len);
    }
}

/** The shorter way of the selection's pass, where there is one. */
static bool scan_packed(const ws_tile *tile, size_t k, const void *selection,
                        void *partial)
{
#ifdef WS_METHOD_F64
    (void)tile, (void)k, (void)selection, (void)partial;
    return false;
#else
    return tile->packed &&
           ws_select_scan_bf16(selection, k, tile->in[k], tile->base, tile->n, partial);
#endif
}

/** The selection's pass, or the sums of |delta| before and after pruning. */
static void update_scan(const ws_job *job, int pass, const void *state,
                        const ws_tile *tile, void *partial)
{
    const ws_update u = job->method->update(job);
    const struct update_state *st = state;
    const struct pruner pr = pruner_of(job, &u, state, tile);
    const size_t step = st->selecting ? STEP : step_of(job, &u, tile->n);
    ws_tally unused = { 0 };
    (void)pass;
    for (size_t k = 0; k < job->n_models; k++) {
        ws_real *x = tile->tmp[k];
        struct update_lanes *sums = (struct update_lanes *)partial + k;
        if (st->selecting &&
            scan_packed(tile, k, ws_update_selection(job, st), partial))
            continue;
        for (size_t i = 0, n; i < tile->n; i += n) {
            n = tile->n - i < step ? tile->n - i : step;
            delta_of(tile, k, i, x, n);
            if (st->selecting) {
                ws_select_scan(ws_update_selection(job, st), k, tile->first + i, x, n,
                               partial);
                continue;
            }
            ws_lanes_add_abs(&sums->before, x, n);
            prune(&pr, k, tile->first + i, x, n, &unused);
            ws_lanes_add_abs(&sums->after, x, n);
        }
    }
}

static struct mix mix_of(const ws_job *job, const ws_update *u, const void *state)
{
    struct mix m = { .n_models = job->n_models,
                     .consensus = u->consensus,
                     .groups = job->groups,
                     .normalize = u->consensus && u->normalize };
    double gain = u->lambda * job->scale, total = 0.0;
    for (size_t k = 0; k < job->n_models; k++) {
        m.coefficient[k] = (ws_real)(u->weight[k] * ws_update_factor(job, u, state, k));
        m.weight[k] = (ws_real)u->weight[k];
        total += u->weight[k];
    }
    if (u->normalize && !u->consensus && fabs(total) >= 1e-8)
        gain /= total;
    m.gain = (ws_real)gain;
    return m;
}

void ws_update_apply(const ws_job *job, const void *state, const ws_tile *tile)
{
    const ws_update u = job->method->update(job);
    const struct pruner pr = pruner_of(job, &u, state, tile);
    const struct mix m = mix_of(job, &u, state);
    const size_t step = step_of(job, &u, tile->n);
    const ws_real *base = tile->base;
    ws_real *out = tile->out;
    for (size_t i = 0, n; i < tile->n; i += n) {
        n = tile->n - i < step ? tile->n - i : step;
        for (size_t k = 0; k < job->n_models; k++) {
            ws_real *x = tile->tmp[k];
            const ws_real *in = (const ws_real *)tile->in[k] + i;
            size_t done = 0;
            if (pr.whole_band && pr.kept_sq != NULL)
                done = ws_band_delta(x, in, base + i, n, pr.limit[k], &pr.kept_sq[k],
                                     &tile->tally[k]);
            ws_delta(x + done, in + done, base + i + done, n - done);
            prune(&pr, k, tile->first + i + done, x + done, n - done, &tile->tally[k]);
        }
        ws_mix(&m, tile->first + i, tile->tmp, base + i, n, out + i);
    }
    for (size_t k = 0; k < job->n_models && pr.kept_sq != NULL; k++)
        tile->tally[k].kept_sq = squares_sum(&pr.kept_sq[k]);
}

static bool update_begin(const ws_job *job, int pass, void *state)
{
    return ws_update_begin(job, pass, state, 8 * (int)sizeof(ws_real));
}

const ws_passes ws_update_passes = {
    .state_size = ws_update_state_size,
    .partial_size = ws_update_partial_size,
    .begin = update_begin,
    .scan = update_scan,
    .join = ws_update_join,
    .sample = ws_update_sample,
    .packed = true,
};
