/*
 * sums_twin.h - the loops of sums.c; included once for float, once for double, with
 * REAL, BITS (unsigned integer of the same width), EXPONENT (its mask) and NAME(x)
 * defined
 */

WS_HOT static bool NAME(all_finite)(const REAL *x, size_t n)
{
    BITS worst = 0;
    for (size_t i = 0; i < n; i++) {
        BITS b;
        memcpy(&b, &x[i], sizeof b);
        b &= EXPONENT;
        worst = b > worst ? b : worst;
    }
    return worst != EXPONENT;
}

size_t NAME(ws_first_nonfinite)(const REAL *x, size_t n)
{
    if (NAME(all_finite)(x, n))
        return n;
    size_t i = 0;
    while (i < n && isfinite(x[i]))
        i++;
    return i;
}

/** diff[i] |= bits of a[i] ^ b[i]. */
WS_HOT static void NAME(differ)(BITS *diff, const REAL *a, const REAL *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        BITS x, y;
        memcpy(&x, &a[i], sizeof x);
        memcpy(&y, &b[i], sizeof y);
        diff[i] |= x ^ y;
    }
}

/** Differences of all sources of elements i .. i+n-1; the first source in *first. */
static void NAME(differences)(const ws_tile *t, size_t n_models, size_t i, size_t n,
                              BITS *diff, const REAL **first)
{
    const REAL *a = t->base != NULL ? t->base : t->in[0];
    memset(diff, 0, n * sizeof *diff);
    for (size_t k = t->base != NULL ? 0 : 1; k < n_models; k++)
        NAME(differ)(diff, a + i, (const REAL *)t->in[k] + i, n);
    *first = a + i;
}

WS_HOT static void NAME(select_equal)(REAL *out, const REAL *a, const BITS *diff,
                                      size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = diff[i] == 0 ? a[i] : out[i];
}

WS_HOT static uint64_t NAME(count_nonzero)(const BITS *diff, size_t n)
{
    BITS count = 0;
    for (size_t i = 0; i < n; i++)
        count += diff[i] != 0;
    return count;
}

static void NAME(keep_equal)(const ws_tile *t, size_t n_models)
{
    BITS diff[STEP];
    for (size_t i = 0; i < t->n; i += STEP) {
        const size_t n = t->n - i < STEP ? t->n - i : STEP;
        const REAL *a;
        NAME(differences)(t, n_models, i, n, diff, &a);
        NAME(select_equal)((REAL *)t->out + i, a, diff, n);
    }
}

static uint64_t NAME(count_changed)(const ws_tile *t, size_t n_models)
{
    BITS diff[STEP];
    uint64_t count = 0;
    for (size_t i = 0; i < t->n; i += STEP) {
        const size_t n = t->n - i < STEP ? t->n - i : STEP;
        const REAL *a;
        NAME(differences)(t, n_models, i, n, diff, &a);
        count += NAME(count_nonzero)(diff, n);
    }
    return count;
}

/** Arrays of one run of elements, for the sums. */
struct NAME(run) {
    const REAL *base, *out, *back; // back: out as stored and read again; or NULL
    const REAL *in[WS_GRAM_MODELS];
};

/* 16 lanes; in registers, which arrays of arrays do not reach. */
typedef REAL NAME(lanes16) __attribute__((vector_size(16 * sizeof(REAL))));
typedef BITS NAME(bits16) __attribute__((vector_size(16 * sizeof(REAL))));

static inline __attribute__((always_inline)) void NAME(load16)(NAME(lanes16) * v,
                                                               const REAL *p)
{
    memcpy(v, p, sizeof *v);
}

/**
 * The sums of one block of BLOCK elements with k models, in registers and in REAL: they
 * are for the report alone, and a block's sum of squares loses nothing that shows
 * there. acc[0] base^2, [1] (out-base)^2, [2] (back-out)^2, then products of updates a
 * >= b. Returns the number of elements whose sources do not all have the same bits.
 */
static inline __attribute__((always_inline)) uint64_t
NAME(fused_block)(const struct NAME(run) * r, size_t at, const int k, const bool lost,
                  NAME(lanes16) * acc)
{
    NAME(bits16) changed = { 0 };
    for (size_t i = at; i < at + BLOCK; i += 16) {
        NAME(lanes16) b, o;
        NAME(load16)(&b, r->base + i);
        NAME(load16)(&o, r->out + i);
        const NAME(lanes16) u = o - b;
        NAME(bits16) diff = { 0 };
        NAME(lanes16) d[4];
        acc[0] += b * b;
        acc[1] += u * u;
        for (int m = 0; m < k; m++) {
            NAME(lanes16) x;
            NAME(load16)(&x, r->in[m] + i);
            diff |= (NAME(bits16))x ^ (NAME(bits16))b;
            d[m] = x - b;
        }
        changed -= (NAME(bits16))(diff != 0);
        if (lost) {
            NAME(lanes16) l;
            NAME(load16)(&l, r->back + i);
            l -= o;
            acc[2] += l * l;
        }
        for (int m = 0; m < k; m++)
            for (int p = 0; p <= m; p++)
                acc[3 + m * (m + 1) / 2 + p] += d[m] * d[p];
    }
    uint64_t count = 0;
    for (int e = 0; e < 16; e++)
        count += changed[e];
    return count;
}

/** All whole blocks of n elements; lanes in double from block to block. */
static inline __attribute__((always_inline)) uint64_t
NAME(fused)(const struct NAME(run) * r, size_t n, const int k, const bool lost,
            double acc[][16])
{
    uint64_t changed = 0;
    for (size_t i = 0; i < n; i += BLOCK) {
        NAME(lanes16) block[3 + 10] = { { 0 } };
        changed += NAME(fused_block)(r, i, k, lost, block);
        for (int s = 0; s < 3 + k * (k + 1) / 2; s++)
            for (int e = 0; e < 16; e++)
                acc[s][e] += (double)block[s][e];
    }
    return changed;
}

#define WS_FUSED(k)                                                                    \
    WS_HOT static uint64_t NAME(fused_##k)(const struct NAME(run) * r, size_t n,       \
                                           double acc[][16])                           \
    {                                                                                  \
        return NAME(fused)(r, n, k, false, acc);                                       \
    }                                                                                  \
    WS_HOT static uint64_t NAME(fused_lost_##k)(const struct NAME(run) * r, size_t n,  \
                                                double acc[][16])                      \
    {                                                                                  \
        return NAME(fused)(r, n, k, true, acc);                                        \
    }
WS_FUSED(1)
WS_FUSED(2)
WS_FUSED(3)
WS_FUSED(4)
#undef WS_FUSED

/** Whole blocks through the fused loops; returns how many elements were done. Blocks
 * are those of the slice, however tiles cut it: a tile begins at one, or all go the
 * other way. */
static size_t NAME(sums_fast)(const ws_tile *t, const void *back, const ws_job *job,
                              const uint32_t *model_of, size_t n_models,
                              ws_lanes *lanes, double *changed)
{
    typedef uint64_t fn(const struct NAME(run) *, size_t, double[][16]);
    static fn *const table[2][4] = {
        { NAME(fused_1), NAME(fused_2), NAME(fused_3), NAME(fused_4) },
        { NAME(fused_lost_1), NAME(fused_lost_2), NAME(fused_lost_3),
          NAME(fused_lost_4) },
    };
    const size_t k = job->n_models, n = t->n / BLOCK * BLOCK;
    const ws_method *m = job->method;
    const bool rows = m->unit != NULL && m->unit(job) != WS_UNIT_ELEMENT;
    if (k == 0 || k > 4 || n_models > WS_GRAM_MODELS || (rows && job->row % BLOCK != 0))
        return 0;
    struct NAME(run) r = { t->base, t->out, back, { NULL } };
    ws_lanes *sum[3 + 10] = { &lanes[WS_SUM_BASE_SQ], &lanes[WS_SUM_UPDATE_SQ],
                              &lanes[WS_SUM_LOST_SQ] };
    size_t n_sums = 3;
    for (size_t a = 0; a < k; a++) {
        r.in[a] = t->in[a];
        for (size_t b = 0; b <= a; b++)
            sum[n_sums++] = &lanes[ws_sums_pair(n_models, model_of[a], model_of[b])];
    }
    double acc[3 + 10][16];
    for (size_t i = 0; i < n_sums; i++)
        memcpy(acc[i], sum[i]->lane, sizeof acc[i]);
    *changed += (double)table[back != NULL][k - 1](&r, n, acc);
    for (size_t i = 0; i < n_sums; i++) {
        memcpy(sum[i]->lane, acc[i], sizeof acc[i]);
        sum[i]->count += n;
    }
    return n;
}

/** Products of the updates of elements i .. i+n-1. */
static void NAME(add_gram)(const ws_tile *t, const ws_job *job,
                           const uint32_t *model_of, size_t n_models, size_t i,
                           size_t n, ws_lanes *lanes)
{
    REAL delta[WS_GRAM_MODELS][STEP];
    const REAL *base = (const REAL *)t->base + i;
    const bool full = n_models <= WS_GRAM_MODELS;
    for (size_t k = 0; k < job->n_models; k++) {
        REAL *d = delta[full ? k : 0];
        NAME(ws_delta)(d, (const REAL *)t->in[k] + i, base, n);
        for (size_t p = full ? 0 : k; p <= k; p++)
            NAME(ws_lanes_add_dot)
        (&lanes[ws_sums_pair(n_models, model_of[k], model_of[p])], d,
         delta[full ? p : 0], n);
    }
}

/** The same sums for what the fused loops do not take: many models, odd lengths. */
static void NAME(sums_slow)(const ws_tile *t, const void *back, const ws_job *job,
                            const uint32_t *model_of, size_t n_models, size_t first,
                            ws_lanes *lanes, double *changed)
{
    REAL d[STEP];
    BITS diff[STEP];
    for (size_t i = first; i < t->n; i += STEP) {
        const size_t n = t->n - i < STEP ? t->n - i : STEP;
        const REAL *base = (const REAL *)t->base + i, *out = (const REAL *)t->out + i;
        const REAL *a;
        NAME(differences)(t, job->n_models, i, n, diff, &a);
        *changed += (double)NAME(count_nonzero)(diff, n);
        NAME(ws_lanes_add_dot)(&lanes[WS_SUM_BASE_SQ], base, base, n);
        NAME(ws_delta)(d, out, base, n);
        NAME(ws_lanes_add_dot)(&lanes[WS_SUM_UPDATE_SQ], d, d, n);
        if (back != NULL) {
            NAME(ws_delta)(d, (const REAL *)back + i, out, n);
            NAME(ws_lanes_add_dot)(&lanes[WS_SUM_LOST_SQ], d, d, n);
        } else {
            lanes[WS_SUM_LOST_SQ].count += n;
        }
        NAME(add_gram)(t, job, model_of, n_models, i, n, lanes);
    }
}

static void NAME(sums_update)(const ws_tile *t, const void *back, const ws_job *job,
                              const uint32_t *model_of, size_t n_models,
                              ws_lanes *lanes, double *changed)
{
    const size_t done =
        NAME(sums_fast)(t, back, job, model_of, n_models, lanes, changed);
    NAME(sums_slow)(t, back, job, model_of, n_models, done, lanes, changed);
}

static void NAME(sums_l1)(const ws_tile *t, size_t n_models, ws_lanes *lanes)
{
    REAL d[STEP];
    for (size_t i = 0; i < t->n; i += STEP) {
        const size_t n = t->n - i < STEP ? t->n - i : STEP;
        const REAL *base = (const REAL *)t->base + i;
        NAME(ws_delta)(d, (const REAL *)t->out + i, base, n);
        NAME(ws_lanes_add_abs)(&lanes[WS_SUM_UPDATE_L1], d, n);
        memset(d, 0, n * sizeof *d);
        for (size_t k = 0; k < n_models; k++)
            for (size_t e = 0; e < n; e++)
                d[e] += ((const REAL *)t->in[k])[i + e] - base[e];
        NAME(ws_lanes_add_abs)(&lanes[WS_SUM_TOTAL_L1], d, n);
    }
}
