/*
 * ref.h - what the slow references share: data, ranks by counting, plain Philox, the
 * runner
 *
 * A reference computes one method from its formula in plain loops over doubles. It
 * shares no code with the kernels. Updates are rounded as the arithmetic under test
 * does it, or ranks could differ.
 */
#ifndef WS_TEST_REF_H
#define WS_TEST_REF_H

#include "method/drive.h"

#include <xxhash.h>

enum { REF_MODELS = 4, REF_MAX = 2048 };

/** Inputs as doubles; every value is a float. */
struct ref_data {
    size_t n;
    double base[REF_MAX], in[REF_MODELS][REF_MAX];
};

typedef void (*ref_fn)(const struct drive *d, const struct ref_data *data, double *out);

/* ---- data ------------------------------------------------------------------------ */

/** The 3x4 tensors of the specification's golden vectors. */
static inline struct ref_data ref_golden(void)
{
    static const float base[12] = { .10f, -.20f, .30f, -.40f, .50f, -.60f,
                                    .70f, -.80f, .90f, -1.0f, 1.1f, -1.2f };
    static const float delta[3][12] = {
        { .05f, -.11f, .02f, .23f, -.31f, .07f, .13f, -.01f, .17f, -.19f, .29f, .03f },
        { -.04f, -.06f, .09f, .12f, .15f, .21f, -.18f, .27f, -.33f, .08f, .36f, -.10f },
        { .39f, .14f, -.16f, -.22f, .01f, -.25f, .28f, .05f, .20f, -.30f, -.02f, .35f },
    };
    struct ref_data data = { .n = 12 };
    for (size_t i = 0; i < 12; i++) {
        data.base[i] = (double)base[i];
        for (size_t k = 0; k < 3; k++) {
            const float sum = base[i] + delta[k][i];
            data.in[k][i] = (double)sum;
        }
    }
    return data;
}

static inline double ref_uniform(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return (double)(*s >> 11) / 9007199254740992.0;
}

/** Fine-tunes of a base: most entries move a little, some not at all, a few a lot; many
 * magnitudes are equal. */
static inline struct ref_data ref_random_data(size_t n, uint64_t seed)
{
    struct ref_data data = { .n = n };
    assert_true(n <= REF_MAX);
    for (size_t i = 0; i < n; i++) {
        const double b = ref_uniform(&seed) - 0.5;
        data.base[i] = (double)(float)b;
        for (size_t k = 0; k < REF_MODELS; k++) {
            const double kind = ref_uniform(&seed), z = 2.0 * ref_uniform(&seed) - 1.0;
            double delta = 0.01 * z;
            if (kind < 0.2)
                delta = 0.0;
            else if (kind < 0.4)
                delta = z < 0.0 ? -0.0078125 : 0.0078125;
            else if (kind < 0.45)
                delta = 0.5 * z;
            data.in[k][i] = (double)(float)(data.base[i] + delta);
        }
    }
    return data;
}

/* ---- pieces of formulas ---------------------------------------------------------- */

static inline double ref_get(const struct drive *d, const char *param, size_t k)
{
    const int p = drive_param(d, param);
    assert_true(p >= 0);
    return d->values[p][k];
}

static inline double ref_delta(const struct drive *d, const struct ref_data *data,
                               size_t k, size_t i)
{
    const double exact = data->in[k][i] - data->base[i];
    return d->f64 ? exact : (double)(float)exact;
}

/** Rank of entry i among n at a stride, the largest magnitude first, of equal ones the
 * first. */
static inline size_t ref_rank(const double *x, size_t n, size_t stride, size_t i)
{
    size_t rank = 0;
    for (size_t j = 0; j < n; j++) {
        const double a = fabs(x[j * stride]), b = fabs(x[i * stride]);
        rank += a > b || (a == b && j < i);
    }
    return rank;
}

/** 32 random bits of one element: Philox4x32-10 as its authors write it. */
static inline uint32_t ref_word(const struct drive *d, size_t model, uint64_t element)
{
    unsigned char text[256];
    size_t len = 0;
    const char *names[2] = { d->method->name, d->name };
    const uint64_t numbers[2] = { d->seed, model };
    for (int i = 0; i < 2; i++) {
        const uint64_t size = strlen(names[i]);
        memcpy(text + len, &numbers[i], 8);
        memcpy(text + len + 8, &size, 8);
        memcpy(text + len + 16, names[i], size);
        len += 16 + size;
    }
    const XXH128_hash_t h = XXH3_128bits(text, len);
    uint32_t key[2] = { (uint32_t)h.low64, (uint32_t)(h.low64 >> 32) };
    uint32_t c[4] = { (uint32_t)(element / 4), (uint32_t)(element / 4 >> 32),
                      (uint32_t)h.high64, (uint32_t)(h.high64 >> 32) };
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53 * c[0];
        const uint64_t p1 = (uint64_t)0xCD9E8D57 * c[2];
        const uint32_t next[4] = { (uint32_t)(p1 >> 32) ^ c[1] ^ key[0], (uint32_t)p1,
                                   (uint32_t)(p0 >> 32) ^ c[3] ^ key[1], (uint32_t)p0 };
        memcpy(c, next, sizeof c);
        key[0] += 0x9E3779B9;
        key[1] += 0xBB67AE85;
    }
    return c[element % 4];
}

static inline bool ref_kept(const struct drive *d, size_t model, uint64_t element,
                            double p)
{
    return (double)ref_word(d, model, element) < floor(p * 4294967296.0);
}

/** Rescale what is left in @p x of the update @p before, as the method's `rescale`
 * says; @p share is what inverse_density divides by. */
static inline void ref_rescale(const struct drive *d, const double *before, double *x,
                               size_t n, double share)
{
    double sum = 0.0, left = 0.0, factor = 1.0;
    for (size_t i = 0; i < n; i++) {
        sum += fabs(before[i]);
        left += fabs(x[i]);
    }
    if (ref_get(d, "rescale", 0) == 0.0 && left > 0.0)
        factor = sum / left;
    if (ref_get(d, "rescale", 0) == 1.0 && share > 0.0)
        factor = 1.0 / share;
    for (size_t i = 0; i < n; i++)
        x[i] *= factor;
}

/** out = base + scale lambda sum_k weight_k x_k, averaged with normalize. */
static inline void ref_add(const struct drive *d, const struct ref_data *data,
                           double x[][REF_MAX], double *out)
{
    double total = 0.0;
    for (size_t k = 0; k < d->n_models; k++)
        total += ref_get(d, "weight", k);
    if (ref_get(d, "normalize", 0) == 0.0 || fabs(total) < 1e-8)
        total = 1.0;
    for (size_t i = 0; i < data->n; i++) {
        double sum = 0.0;
        for (size_t k = 0; k < d->n_models; k++)
            sum += ref_get(d, "weight", k) * x[k][i];
        out[i] = data->base[i] + d->scale * ref_get(d, "lambda", 0) * sum / total;
    }
}

/** The same over the entries whose sign is that of the sum; averages are theirs. */
static inline void ref_vote(const struct drive *d, const struct ref_data *data,
                            double x[][REF_MAX], double *out)
{
    for (size_t i = 0; i < data->n; i++) {
        double sum = 0.0, mixed = 0.0, weights = 0.0;
        for (size_t k = 0; k < d->n_models; k++)
            sum += ref_get(d, "weight", k) * x[k][i];
        for (size_t k = 0; k < d->n_models; k++) {
            const double y = ref_get(d, "weight", k) * x[k][i];
            if (y != 0.0 && (y > 0.0) == (sum >= 0.0)) {
                mixed += y;
                weights += ref_get(d, "weight", k);
            }
        }
        if (ref_get(d, "normalize", 0) == 0.0 || weights == 0.0)
            weights = 1.0;
        out[i] = data->base[i] + d->scale * ref_get(d, "lambda", 0) * mixed / weights;
    }
}

/* ---- running --------------------------------------------------------------------- */

/** Run the method on the data in its arithmetic. */
static inline ws_status ref_run(struct drive *d, const struct ref_data *data,
                                bool with_base, double *out)
{
    const size_t size = d->f64 ? 8 : 4;
    unsigned char *room = drive_calloc((REF_MODELS + 2) * REF_MAX, 8);
    const size_t step = REF_MAX * 8;
    assert_int_equal(d->n, data->n);
    for (size_t a = 0; a <= REF_MODELS; a++) {
        const double *from = a == 0 ? data->base : data->in[a - 1];
        for (size_t i = 0; i < data->n; i++) {
            const float f = (float)from[i];
            if (d->f64)
                memcpy(room + a * step + i * 8, &from[i], 8);
            else
                memcpy(room + a * step + i * 4, &f, 4);
        }
        if (a > 0)
            d->in[a - 1] = room + a * step;
    }
    d->base = with_base ? room : NULL;
    const ws_status st = drive_run(d, room + (REF_MODELS + 1) * step);
    for (size_t i = 0; i < data->n; i++) {
        const unsigned char *at = room + (REF_MODELS + 1) * step + i * size;
        float f = 0.0f;
        memcpy(&f, at, 4);
        out[i] = (double)f;
        if (d->f64)
            memcpy(&out[i], at, 8);
    }
    free(room);
    return st;
}

static inline void ref_assert(const struct drive *d, const double *out,
                              const double *want, size_t n, double tolerance)
{
    for (size_t i = 0; i < n; i++) {
        const double limit = tolerance * fmax(1.0, fabs(want[i]));
        if (!(fabs(out[i] - want[i]) <= limit))
            fail_msg("%s %s n %zu: element %zu is %.9g, want %.9g", d->method->name,
                     d->f64 ? "f64" : "f32", n, i, out[i], want[i]);
    }
}

/** The method against its reference on random data of many shapes, in both kinds of
 * arithmetic. @p set gives each of @p n_variants its parameters. */
static inline void ref_compare(const char *method, size_t n_models, bool with_base,
                               void (*set)(struct drive *d, int variant),
                               int n_variants, ref_fn reference)
{
    static const uint64_t shapes[][4] = {
        { 1 },     { 2 },      { 17 },      { 1500 },    { 3, 4 },    { 1, 50 },
        { 60, 1 }, { 30, 33 }, { 2, 1024 }, { 5, 6, 7 }, { 3, 1, 9 }, { 2, 5, 3, 4 },
    };
    static double out[REF_MAX], want[REF_MAX];
    for (size_t s = 0; s <= sizeof shapes / sizeof shapes[0]; s++)
        for (int v = 0; v < 2 * n_variants; v++) {
            const uint64_t *shape = s == 0 ? NULL : shapes[s - 1];
            int rank = 0;
            while (shape != NULL && rank < 4 && shape[rank] > 0)
                rank++;
            struct drive d = drive_new(method, v % 2 == 1, rank, shape, n_models);
            const struct ref_data data = ref_random_data((size_t)d.n, 31 * s + v);
            d.tile = 96;
            d.seed = (uint64_t)v;
            set(&d, v / 2);
            assert_ok(ref_run(&d, &data, with_base, out), d.err);
            reference(&d, &data, want);
            ref_assert(&d, out, want, data.n, d.f64 ? 1e-12 : 1e-6);
        }
}

/** A golden vector of the specification, printed there with six decimals. */
static inline void ref_assert_golden(struct drive *d, bool with_base,
                                     const double *want)
{
    const struct ref_data data = ref_golden();
    double out[12];
    assert_ok(ref_run(d, &data, with_base, out), d->err);
    ref_assert(d, out, want, 12, 1.5e-6);
}

static inline struct drive ref_golden_drive(const char *method, size_t n_models)
{
    const uint64_t shape[2] = { 3, 4 };
    return drive_new(method, false, 2, shape, n_models);
}

static inline void ref_set_each(struct drive *d, const char *param,
                                const double *values)
{
    for (size_t k = 0; k < d->n_models; k++)
        drive_set_model(d, param, k, values[k]);
}

/** One row of numbers by hand: base zero, so inputs are updates. */
static inline void ref_assert_hand(struct drive *d, const double *const *in,
                                   const double *want)
{
    struct ref_data data = { .n = (size_t)d->n };
    double out[REF_MAX];
    for (size_t k = 0; k < d->n_models; k++)
        memcpy(data.in[k], in[k], data.n * sizeof(double));
    assert_ok(ref_run(d, &data, d->method->base == WS_BASE_REQUIRED, out), d->err);
    ref_assert(d, out, want, data.n, 1e-6);
}

#endif
