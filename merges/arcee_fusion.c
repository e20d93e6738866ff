/*
 * arcee_fusion.c - entries of another model that are important to how a row is
 * distributed
 *
 *   p, q  = softmax of in_0 and of base along the last dimension, + 1e-8
 *   s     = |in_0 - base| sum p ln(p/q)                    the sum is the row's
 *   limit = Q(1/2) + 3/2 (Q(3/4) - Q(1/4)),  Q(x) = s in rising order at floor(x (n-1))
 *   out   = in_0 where s >= limit, else base
 *
 * Passes: the divergence of each row; a histogram of the upper 16 bits of all scores;
 * then of each 16 bits below, within the bins that hold the quartiles.
 */
#include "wsurg/method.h"

enum { QUARTILES = 3, DIGIT = 16, BINS = 1 << DIGIT, CELLS = QUARTILES * BINS };
enum { DIGITS = 8 * (int)sizeof(ws_real) / DIGIT };

#ifdef WS_METHOD_F64
typedef uint64_t bits_t;
#else
typedef uint32_t bits_t;
#endif

struct fusion_state {
    int digits;               // of the quartiles that are known
    uint64_t rank[QUARTILES]; // among the scores that share those digits
    bits_t prefix[QUARTILES]; // the known digits
    double row[];             // divergence of each row
};

/** A row of the last dimension; a vector or a number is one. */
static size_t run_of(const ws_job *job)
{
    return job->rank == 0 ? 1 : (size_t)job->shape[job->rank - 1];
}

static size_t runs_of(const ws_job *job, uint64_t n)
{
    const size_t run = run_of(job);
    return run > 0 ? (size_t)(n / run) : 0;
}

static bool arcee_fusion_keeps_equal(const ws_job *job)
{
    (void)job;
    return true;
}

static ws_unit arcee_fusion_unit(const ws_job *job)
{
    return job->rank > 1 ? WS_UNIT_ROW : WS_UNIT_TENSOR;
}

static size_t arcee_fusion_state_size(const ws_job *job)
{
    return sizeof(struct fusion_state) + runs_of(job, job->n) * sizeof(double) +
           CELLS * sizeof(uint64_t);
}

static uint64_t *histogram_of(const ws_job *job, struct fusion_state *st)
{
    return (uint64_t *)(void *)(st->row + runs_of(job, job->n));
}

static size_t arcee_fusion_partial_size(const ws_job *job)
{
    const size_t rows = runs_of(job, job->slice_len) * sizeof(double);
    const size_t counts = CELLS * sizeof(uint32_t);
    return rows > counts ? rows : counts;
}

/** The bin that holds the entry of @p rank, and its rank in there. */
static bits_t find_bin(const uint64_t *histogram, uint64_t *rank)
{
    bits_t bin = 0;
    while (bin + 1 < BINS && *rank >= histogram[bin])
        *rank -= histogram[bin++];
    return bin;
}

static bool arcee_fusion_begin(const ws_job *job, int pass, void *state)
{
    struct fusion_state *st = state;
    uint64_t *histogram = histogram_of(job, st);
    if (pass == 0)
        return true;
    for (int q = 0; q < QUARTILES; q++) {
        if (pass == 1) {
            st->rank[q] =
                (uint64_t)(0.25 * (q + 1) * (double)(job->n > 0 ? job->n - 1 : 0));
            continue;
        }
        // of the first digit there is one histogram, of the others one per quartile
        const uint64_t *h = histogram + (st->digits == 0 ? 0 : (size_t)q * BINS);
        st->prefix[q] = (bits_t)(st->prefix[q] << DIGIT) | find_bin(h, &st->rank[q]);
    }
    st->digits += pass > 1;
    memset(histogram, 0, CELLS * sizeof *histogram);
    return st->digits < DIGITS;
}

/** Largest value and the sum of exp(x - largest). */
static double partition(const ws_real *x, size_t n, double *largest)
{
    double top = (double)x[0], sum = 0.0;
    for (size_t i = 1; i < n; i++)
        top = fmax(top, (double)x[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp((double)x[i] - top);
    *largest = top;
    return sum;
}

static double divergence(const ws_real *a, const ws_real *b, size_t n)
{
    double top_a, top_b, sum = 0.0;
    const double za = partition(a, n, &top_a), zb = partition(b, n, &top_b);
    for (size_t i = 0; i < n; i++) {
        const double p = exp((double)a[i] - top_a) / za + 1e-8;
        const double q = exp((double)b[i] - top_b) / zb + 1e-8;
        sum += p * log(p / q);
    }
    return fmax(sum, 0.0); // rounding only: a divergence is not negative
}

/** Score of an entry as a bit pattern, which orders numbers >= 0; NaN comes last. */
static bits_t score(ws_real in, ws_real base, double row, ws_real *value)
{
    const ws_real far = in - base;
    const ws_real s = (ws_real)((double)(far < (ws_real)0 ? -far : far) * row);
    bits_t bits;
    memcpy(&bits, &s, sizeof bits);
    *value = s;
    return bits & (bits_t)((bits_t)-1 >> 1);
}

static void count_scores(const struct fusion_state *st, const ws_real *in,
                         const ws_real *base, double row, size_t n, uint32_t *counts)
{
    const int shift = DIGIT * (DIGITS - 1 - st->digits);
    ws_real unused;
    for (size_t i = 0; i < n; i++) {
        const bits_t bits = score(in[i], base[i], row, &unused) >> shift;
        const bits_t digit = bits & (BINS - 1);
        if (st->digits == 0) {
            counts[digit]++;
            continue;
        }
        for (size_t q = 0; q < QUARTILES; q++)
            counts[q * BINS + digit] += bits >> DIGIT == st->prefix[q];
    }
}

static void arcee_fusion_scan(const ws_job *job, int pass, const void *state,
                              const ws_tile *tile, void *partial)
{
    const struct fusion_state *st = state;
    const size_t run = run_of(job);
    const uint64_t begins = tile->slice * job->slice_len;
    const ws_real *in = tile->in[0], *base = tile->base;
    for (size_t at = 0; at < tile->n; at += run) {
        const uint64_t row = (tile->first + at) / run;
        if (pass == 0)
            ((double *)partial)[row - begins / run] =
                divergence(in + at, base + at, run);
        else
            count_scores(st, in + at, base + at, st->row[row], run, partial);
    }
}

static void arcee_fusion_join(const ws_job *job, int pass, void *state,
                              const void *partial, uint64_t slice)
{
    struct fusion_state *st = state;
    const uint64_t first = slice * job->slice_len;
    const uint64_t n =
        job->n - first < job->slice_len ? job->n - first : job->slice_len;
    if (pass == 0) {
        memcpy(st->row + runs_of(job, first), partial,
               runs_of(job, n) * sizeof(double));
        return;
    }
    uint64_t *histogram = histogram_of(job, st);
    const uint32_t *counts = partial;
    for (size_t i = 0; i < (st->digits == 0 ? 1 : QUARTILES) * (size_t)BINS; i++)
        histogram[i] += counts[i];
}

static double limit_of(const struct fusion_state *st)
{
    double q[QUARTILES];
    for (int i = 0; i < QUARTILES; i++) {
        ws_real value;
        memcpy(&value, &st->prefix[i], sizeof value);
        q[i] = (double)value;
    }
    return q[1] + 1.5 * (q[2] - q[0]);
}

static void arcee_fusion_apply(const ws_job *job, const void *state,
                               const ws_tile *tile)
{
    const struct fusion_state *st = state;
    const double limit = limit_of(st);
    const size_t run = run_of(job);
    const ws_real *in = tile->in[0], *base = tile->base, scale = (ws_real)job->scale;
    ws_real *out = tile->out;
    for (size_t i = 0; i < tile->n; i++) {
        ws_real s;
        score(in[i], base[i], st->row[(tile->first + i) / run], &s);
        const ws_real u = (double)s >= limit ? scale * (in[i] - base[i]) : (ws_real)0;
        const ws_real moved = base[i] + u;
        out[i] = u == (ws_real)0 ? base[i] : moved; // keeps the base's -0
    }
}

static const ws_param arcee_fusion_params[] = {
    WS_PARAM_END,
};

static const ws_passes arcee_fusion_passes = {
    .state_size = arcee_fusion_state_size,
    .partial_size = arcee_fusion_partial_size,
    .begin = arcee_fusion_begin,
    .scan = arcee_fusion_scan,
    .join = arcee_fusion_join,
};

WS_METHOD(arcee_fusion) = {
    .name = "arcee_fusion",
    .summary = "the entries of another model that matter most to its rows",
    .formula = "p, q = softmax of in and base along the last dimension, + 1e-8\n"
               "s = |in - base| sum p ln(p/q), the sum over the row\n"
               "out = in where s >= Q(1/2) + 3/2 (Q(3/4) - Q(1/4)), else base\n"
               "Q(x) is the score at place floor(x (n-1)) in rising order",
    .source = "no paper; mergekit",
    .notes =
        "Quartiles are exact and the output has the base's dtype: mergekit draws a "
        "million scores at random from larger tensors, and writes float32. A row to "
        "which a constant was added diverges by nothing, so that its change is "
        "left out, as in mergekit.",
    .models = { 1, 1 },
    .base = WS_BASE_REQUIRED,
    .scaled = true,
    .params = arcee_fusion_params,
    .keeps_equal = arcee_fusion_keeps_equal,
    .unit = arcee_fusion_unit,
    .passes = &arcee_fusion_passes,
    .apply = arcee_fusion_apply,
};
