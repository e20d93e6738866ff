/*
 * nuslerp.c - spherical interpolation by weights: of tensors, their rows or columns
 *
 *   v_k = in_k, or in_k - base;  t = w_2 / (w_1 + w_2);  c = cos(v_1, v_2)
 *   out = (sin((1-t) theta) v_1 + sin(t theta) v_2) / sin theta   (+ base)
 *   out = (1-t) v_1 + t v_2   (+ base)                  where sin theta < 1e-6
 *
 * Vectors are the whole tensor; without nuslerp_flatten, those along the last
 * dimension, and with nuslerp_row_wise those along the first. The words read inverted,
 * as in mergekit.
 */
#include "wsurg/method.h"

struct nuslerp_opts {
    const double *weight;
    bool nuslerp_flatten, nuslerp_row_wise;
};

/** Sines below are rounding: a cosine near 1 leaves about 1e-8 of an angle. */
static const double FLAT = 1e-6;

enum lay { WHOLE, ROWS, COLUMNS };

/** Products of two vectors. */
struct pair {
    double aa, bb, ab;
};

static enum lay lay_of(const ws_job *job)
{
    const struct nuslerp_opts *o = job->opts;
    if (o->nuslerp_flatten || job->rank < 2)
        return WHOLE; // the only dimension is the first and the last
    return o->nuslerp_row_wise ? COLUMNS : ROWS;
}

static bool nuslerp_keeps_equal(const ws_job *job)
{
    (void)job;
    return true;
}

static ws_unit nuslerp_unit(const ws_job *job)
{
    return lay_of(job) == WHOLE ? WS_UNIT_ELEMENT : WS_UNIT_ROW;
}

static size_t nuslerp_carry_size(const ws_job *job)
{
    return lay_of(job) == ROWS ? 3 * sizeof(ws_lanes) : 0;
}

static size_t nuslerp_state_size(const ws_job *job)
{
    return lay_of(job) == COLUMNS ? (size_t)job->row * sizeof(struct pair)
                                  : ws_gram_state_size(job);
}

static size_t nuslerp_partial_size(const ws_job *job)
{
    return lay_of(job) == COLUMNS ? (size_t)job->row * sizeof(struct pair)
                                  : ws_gram_partial_size(job);
}

static bool nuslerp_begin(const ws_job *job, int pass, void *state)
{
    (void)state;
    return pass == 0 && lay_of(job) != ROWS;
}

static const void *const *vectors(const ws_job *job, const ws_tile *tile)
{
    if (!job->has_base)
        return tile->in;
    for (size_t k = 0; k < 2; k++)
        ws_delta(tile->tmp[k], tile->in[k], tile->base, tile->n);
    return (const void *const *)tile->tmp;
}

WS_HOT static void add_columns(struct pair *sum, const ws_real *a, const ws_real *b,
                               size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const double x = (double)a[i], y = (double)b[i];
        sum[i].aa += x * x;
        sum[i].bb += y * y;
        sum[i].ab += x * y;
    }
}

static void nuslerp_scan(const ws_job *job, int pass, const void *state,
                         const ws_tile *tile, void *partial)
{
    const void *const *v = vectors(job, tile);
    (void)pass;
    (void)state;
    if (lay_of(job) == WHOLE) {
        ws_gram_add(partial, v, 2, tile->n);
        return;
    }
    for (size_t at = 0; at < tile->n; at += (size_t)job->row)
        add_columns(partial, (const ws_real *)v[0] + at, (const ws_real *)v[1] + at,
                    (size_t)job->row);
}

static void nuslerp_join(const ws_job *job, int pass, void *state, const void *partial,
                         uint64_t slice)
{
    struct pair *sum = state;
    const struct pair *part = partial;
    if (lay_of(job) == WHOLE) {
        ws_gram_join(job, pass, state, partial, slice);
        return;
    }
    for (size_t i = 0; i < job->row; i++) {
        sum[i].aa += part[i].aa;
        sum[i].bb += part[i].bb;
        sum[i].ab += part[i].ab;
    }
}

static struct pair pair_of(const double *products)
{
    return (struct pair){ products[ws_gram_at(0, 0)], products[ws_gram_at(1, 1)],
                          products[ws_gram_at(0, 1)] };
}

/** Coefficients of v_1 and v_2. A vector of zeros is perpendicular to every other. */
static void nuslerp_mix(const ws_job *job, struct pair p, double *ca, double *cb)
{
    const struct nuslerp_opts *o = job->opts;
    const double w = o->weight[0] + o->weight[1];
    const double t = fabs(w) < 1e-6 ? 0.5 : o->weight[1] / w;
    const double size = sqrt(p.aa) * sqrt(p.bb);
    const double c = size > 0.0 ? fmax(-1.0, fmin(1.0, p.ab / size)) : 0.0;
    const double theta = acos(c);
    *ca = 1.0 - t;
    *cb = t;
    if (sin(theta) >= FLAT) {
        *ca = sin((1.0 - t) * theta) / sin(theta);
        *cb = sin(t * theta) / sin(theta);
    }
}

/** Elements at .. at+n-1 of a tile. */
WS_HOT static void mix_run(const ws_job *job, const ws_tile *tile, const void *const *v,
                           size_t at, size_t n, struct pair p)
{
    const ws_real *a = (const ws_real *)v[0] + at, *b = (const ws_real *)v[1] + at;
    ws_real *out = (ws_real *)tile->out + at;
    double ca, cb;
    nuslerp_mix(job, p, &ca, &cb);
    const ws_real fa = (ws_real)ca, fb = (ws_real)cb;
    if (!job->has_base) {
        for (size_t i = 0; i < n; i++)
            out[i] = fa * a[i] + fb * b[i];
        return;
    }
    const ws_real *base = (const ws_real *)tile->base + at;
    for (size_t i = 0; i < n; i++) {
        const ws_real u = fa * a[i] + fb * b[i], moved = base[i] + u;
        out[i] = u == (ws_real)0 ? base[i] : moved; // keeps the base's -0
    }
}

static void mix_rows(const ws_job *job, const ws_tile *tile, const void *const *v)
{
    const size_t n = (size_t)job->shape[job->rank - 1];
    ws_lanes *lanes = tile->carry;
    for (size_t at = 0; at < tile->n; at += n) {
        const void *row[2] = { (const ws_real *)v[0] + at, (const ws_real *)v[1] + at };
        double products[3];
        memset(lanes, 0, 3 * sizeof *lanes);
        ws_gram_add(lanes, row, 2, n);
        for (size_t p = 0; p < 3; p++)
            products[p] = ws_lanes_sum(&lanes[p]);
        mix_run(job, tile, v, at, n, pair_of(products));
    }
}

/** Whole rows of a tile, whose entries in one column share their coefficients. */
static void mix_columns(const ws_job *job, const ws_tile *tile, const void *const *v,
                        const struct pair *columns)
{
    const ws_real *a = v[0], *b = v[1], *base = job->has_base ? tile->base : NULL;
    const size_t row = (size_t)job->row;
    ws_real *out = tile->out;
    for (size_t c = 0; c < row; c++) {
        double ca, cb;
        nuslerp_mix(job, columns[c], &ca, &cb);
        const ws_real fa = (ws_real)ca, fb = (ws_real)cb;
        for (size_t at = c; at < tile->n; at += row) {
            const ws_real u = fa * a[at] + fb * b[at];
            const ws_real moved = base == NULL ? u : base[at] + u;
            out[at] = base != NULL && u == (ws_real)0 ? base[at] : moved;
        }
    }
}

static void nuslerp_apply(const ws_job *job, const void *state, const ws_tile *tile)
{
    const void *const *v = vectors(job, tile);
    const enum lay lay = lay_of(job);
    if (lay == WHOLE)
        mix_run(job, tile, v, 0, tile->n, pair_of(state));
    else if (lay == ROWS)
        mix_rows(job, tile, v);
    else
        mix_columns(job, tile, v, state);
}

static const ws_param nuslerp_params[] = {
    WS_PARAM(struct nuslerp_opts, weight, 1.0, WS_REQUIRED, -1e6, 1e6,
             "share of the model"),
    WS_BOOL(struct nuslerp_opts, nuslerp_flatten, true, true,
            "the whole tensor is one vector"),
    WS_BOOL(struct nuslerp_opts, nuslerp_row_wise, false, false,
            "without flatten: vectors along the first dimension, not the last"),
    WS_PARAM_END,
};

static const ws_passes nuslerp_passes = {
    .state_size = nuslerp_state_size,
    .partial_size = nuslerp_partial_size,
    .begin = nuslerp_begin,
    .scan = nuslerp_scan,
    .join = nuslerp_join,
};

WS_METHOD(nuslerp) = {
    .name = "nuslerp",
    .summary =
        "from one model to another along the sphere, by weights, a base optional",
    .formula = "v_k = in_k, with --base in_k - base; t = w_2 / (w_1 + w_2)\n"
               "theta = angle between v_1 and v_2\n"
               "out = (sin((1-t) theta) v_1 + sin(t theta) v_2) / sin theta\n"
               "with --base + base",
    .source = "Shoemake 1985, doi:10.1145/325334.325242; mergekit",
    .notes =
        "Vectors are whole tensors; with nuslerp_flatten=false those along the last "
        "dimension, and with nuslerp_row_wise=true along the first: the word reads "
        "inverted, as in mergekit. Norms and angles are computed in double; where "
        "the vectors are parallel or opposite the plain average is taken (in "
        "mergekit opposite ones give noise). Small vectors count as they are: "
        "mergekit's floor of 1e-7 below a norm makes them perpendicular.",
    .models = { 2, 2 },
    .base = WS_BASE_OPTIONAL,
    .params = nuslerp_params,
    .opts_size = sizeof(struct nuslerp_opts),
    .n_tmp = -1,
    .keeps_equal = nuslerp_keeps_equal,
    .unit = nuslerp_unit,
    .carry_size = nuslerp_carry_size,
    .passes = &nuslerp_passes,
    .apply = nuslerp_apply,
};
