/*
 * lora_verify.c - whether a model is the fold of adapters onto a base
 *
 * The fold is made again, rounded to the model's dtypes, and compared value by value.
 * An error counts in units of the last place: the number of values of the dtype that
 * lie between the two.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "surgery/lora_open.h"
#include "wsurg/lora.h"

enum { CHUNK = 16384, WORST = 10 };

/** Buffers of one comparison. */
struct work {
    double numbers[CHUNK];
    uint8_t fold[8 * CHUNK], want[8 * CHUNK], have[8 * CHUNK];
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for the comparison");
}

void ws_lora_verified_free(ws_lora_verified *v)
{
    if (v == NULL)
        return;
    ws_arena arena = v->arena;
    ws_free(v);
    ws_arena_free(&arena);
}

/** The value's place among all values of its width, in order; sign and magnitude. */
static int64_t place(const uint8_t *p, size_t size)
{
    uint64_t bits = 0;
    memcpy(&bits, p, size); // little-endian: wsurg runs nowhere else
    const uint64_t sign = 1ull << (8 * size - 1);
    const int64_t magnitude = (int64_t)(bits & (sign - 1));
    return bits & sign ? -magnitude : magnitude;
}

static double ulps_between(ws_dtype dt, const uint8_t *a, const uint8_t *b, size_t size)
{
    double x, y;
    ws_to_f64(dt, a, &x, 1);
    ws_to_f64(dt, b, &y, 1);
    if (!isfinite(x) || !isfinite(y))
        return INFINITY;
    return fabs((double)place(a, size) - (double)place(b, size));
}

/** Largest error of one tensor. */
static ws_status tensor_compare(const ws_ckpt *fold, const ws_tensor *f,
                                const ws_ckpt *model, const ws_tensor *m,
                                struct work *w, double *ulps, ws_err *err)
{
    const size_t size = ws_dtype_info(m->dtype)->bits / 8;
    const size_t fsize = ws_dtype_info(f->dtype)->bits / 8;
    const bool arithmetic =
        ws_dtype_info(m->dtype)->arithmetic && ws_dtype_info(f->dtype)->arithmetic;
    *ulps = 0;
    for (uint64_t e = 0; e < m->n_elements; e += CHUNK) {
        const size_t n =
            m->n_elements - e < CHUNK ? (size_t)(m->n_elements - e) : CHUNK;
        ws_status st = ws_ckpt_read(fold, f, e * fsize, n * fsize, w->fold, err);
        if (st == WS_OK)
            st = ws_ckpt_read(model, m, e * size, n * size, w->have, err);
        if (st != WS_OK)
            return st;
        const uint8_t *want = w->fold;
        if (arithmetic && f->dtype != m->dtype) {
            ws_store_tally tally;
            ws_to_f64(f->dtype, w->fold, w->numbers, n);
            ws_from_f64(m->dtype, w->numbers, w->want, n, &tally);
            want = w->want;
        }
        if (memcmp(want, w->have, n * size) == 0)
            continue;
        for (size_t i = 0; i < n; i++) {
            const uint8_t *x = want + i * size, *y = w->have + i * size;
            if (memcmp(x, y, size) == 0)
                continue;
            const double d = arithmetic ? ulps_between(m->dtype, x, y, size) : INFINITY;
            *ulps = d > *ulps ? d : *ulps;
        }
    }
    return WS_OK;
}

static bool same_shape(const ws_tensor *a, const ws_tensor *b)
{
    return a->rank == b->rank &&
           memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) == 0;
}

/** Whether both store the tensor alike enough to be compared. */
static bool comparable(const ws_tensor *f, const ws_tensor *m)
{
    const bool arithmetic =
        ws_dtype_info(m->dtype)->arithmetic && ws_dtype_info(f->dtype)->arithmetic;
    return same_shape(f, m) && (f->dtype == m->dtype || arithmetic) &&
           ws_dtype_info(m->dtype)->bits >= 8;
}

/** Names and shapes; the first that differs into v->problem. */
static ws_status names_compare(ws_lora_verified *v, const ws_ckpt *fold,
                               const ws_ckpt *model, ws_err *err)
{
    const char *name = NULL;
    for (size_t i = 0; i < ws_ckpt_count(fold) && name == NULL; i++) {
        const ws_tensor *f = ws_ckpt_tensor(fold, i), *m = ws_ckpt_find(model, f->name);
        if (m == NULL || !comparable(f, m))
            name = f->name;
    }
    for (size_t i = 0; i < ws_ckpt_count(model) && name == NULL; i++)
        if (ws_ckpt_find(fold, ws_ckpt_tensor(model, i)->name) == NULL)
            name = ws_ckpt_tensor(model, i)->name;
    v->same_names = name == NULL;
    if (name == NULL)
        return WS_OK;
    v->problem = ws_arena_strdup(&v->arena, name);
    return v->problem == NULL ? no_memory(err) : WS_OK;
}

/** Keep the largest errors, largest first. */
static ws_status worst_add(ws_lora_verified *v, const char *name, double ulps,
                           ws_err *err)
{
    size_t at = v->n_worst;
    while (at > 0 && v->worst[at - 1].ulps < ulps)
        at--;
    if (at == WORST)
        return WS_OK;
    const char *copy = ws_arena_strdup(&v->arena, name);
    if (copy == NULL)
        return no_memory(err);
    const size_t last = v->n_worst < WORST ? v->n_worst++ : WORST - 1;
    memmove(&v->worst[at + 1], &v->worst[at], (last - at) * sizeof *v->worst);
    v->worst[at] = (ws_lora_error){ copy, ulps };
    return WS_OK;
}

static ws_status compare_all(ws_lora_verified *v, const ws_ckpt *fold,
                             const ws_ckpt *model, ws_err *err)
{
    struct work *w = ws_alloc(sizeof *w);
    v->worst = ws_arena_calloc(&v->arena, WORST, sizeof *v->worst);
    ws_status st = w == NULL || v->worst == NULL ? no_memory(err)
                                                 : names_compare(v, fold, model, err);
    for (size_t i = 0; i < ws_ckpt_count(fold) && st == WS_OK; i++) {
        const ws_tensor *f = ws_ckpt_tensor(fold, i), *m = ws_ckpt_find(model, f->name);
        double ulps;
        if (m == NULL || !comparable(f, m))
            continue;
        st = tensor_compare(fold, f, model, m, w, &ulps, err);
        if (st != WS_OK)
            break;
        v->tensors++;
        v->exact += ulps == 0;
        v->ulps = ulps > v->ulps ? ulps : v->ulps;
        if (ulps > 0)
            st = worst_add(v, f->name, ulps, err);
    }
    ws_free(w);
    return st;
}

ws_status ws_lora_verify(ws_lora_verified **out, const char *base,
                         const char *const *adapters, size_t n, double scale,
                         bool residual, const char *merged, const ws_ctx *ctx,
                         ws_err *err)
{
    ws_lora_verified *v = ws_calloc(1, sizeof *v);
    ws_ckpt *fold = NULL, *model = NULL;
    ws_fold_opts o = WS_FOLD_OPTS_INIT;
    o.scale = scale;
    o.residual = residual;
    o.dtype = WS_FOLD_F64;
    if (v == NULL)
        return no_memory(err);
    ws_status st = ws_source_open(&model, merged, WS_FOLD_BASE, ctx, err);
    if (st == WS_OK)
        st = ws_lora_open(&fold, base, adapters, n, &o, ctx, err);
    if (st == WS_OK)
        st = compare_all(v, fold, model, err);
    ws_ckpt_free(fold);
    ws_ckpt_free(model);
    if (st == WS_OK)
        *out = v;
    else
        ws_lora_verified_free(v);
    return st;
}
