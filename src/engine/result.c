/*
 * result.c - the figures of a run: norms, kept shares, cosines, what rounding lost
 */
#include <math.h>
#include <stdlib.h>

#include "base/os.h"
#include "engine/exec.h"
#include "engine/finish.h"

struct ws_result_priv {
    ws_arena arena;
};

ws_result *ws_result_new(void)
{
    ws_result *r = ws_calloc(1, sizeof *r);
    struct ws_result_priv *priv = ws_calloc(1, sizeof *priv);
    if (r == NULL || priv == NULL) {
        ws_free(r);
        ws_free(priv);
        return NULL;
    }
    r->priv = priv;
    r->rounding_lost = r->lines_alpha = r->lines_beta = NAN;
    return r;
}

void *ws_result_alloc(ws_result *r, size_t n, size_t size)
{
    return ws_arena_calloc(&r->priv->arena, n, size);
}

const char *ws_result_strdup(ws_result *r, const char *s)
{
    return ws_arena_strdup(&r->priv->arena, s);
}

void ws_result_free(ws_result *r)
{
    if (r == NULL)
        return;
    ws_arena_free(&r->priv->arena);
    ws_free(r->priv);
    ws_free(r);
}

static double ratio(double a, double b)
{
    return b > 0.0 ? a / b : NAN;
}

/** Product of updates a and b, from the sums of the run. */
static double product(const double *sums, size_t n, size_t a, size_t b)
{
    return a >= b ? sums[ws_sums_pair(n, a, b)] : sums[ws_sums_pair(n, b, a)];
}

static void model_stats(ws_result *r, const ws_plan *plan, const double *sums)
{
    const size_t n = plan->n_models;
    for (size_t m = 0; m < n; m++) {
        const double *t = sums + WS_SUM_FIXED + WS_SUMS_PER_MODEL * m;
        const double all = t[0] + t[1] + t[2] + t[3];
        const double update = plan->has_base ? product(sums, n, m, m) : NAN;
        r->models[m] = (ws_model_stats){
            .relative_norm = sqrt(ratio(update, sums[WS_SUM_BASE_SQ])),
            .kept = ratio(t[0], all),
            .norm_kept = all > 0.0 ? sqrt(ratio(t[4], update)) : NAN,
            .dropped_small = ratio(t[1], all),
            .dropped_large = ratio(t[2], all),
            .dropped_random = ratio(t[3], all),
        };
    }
}

/** Mean cosine between updates if model @p j (n: the base itself) were the base. */
static double mean_cosine(const double *sums, size_t n, size_t j)
{
    double sum = 0.0;
    size_t pairs = 0;
    // updates are d_i - d_j, with d = 0 for the base, which takes model j's place
    for (size_t a = 0; a <= n; a++)
        for (size_t b = 0; b < a; b++) {
            if (a == j || b == j)
                continue;
            double p[4] = { 0.0 }; // a.b, a.j, b.j, j.j
            const bool ab = a < n && b < n, ja = j < n && a < n, jb = j < n && b < n;
            p[0] = ab ? product(sums, n, a, b) : 0.0;
            p[1] = ja ? product(sums, n, a, j) : 0.0;
            p[2] = jb ? product(sums, n, b, j) : 0.0;
            p[3] = j < n ? product(sums, n, j, j) : 0.0;
            const double aa = a < n ? product(sums, n, a, a) : 0.0;
            const double bb = b < n ? product(sums, n, b, b) : 0.0;
            const double na = aa - 2.0 * p[1] + p[3], nb = bb - 2.0 * p[2] + p[3];
            sum += ratio(p[0] - p[1] - p[2] + p[3], sqrt(na * nb));
            pairs++;
        }
    return pairs > 0 ? sum / (double)pairs : NAN;
}

static void cosines(ws_result *r, const ws_plan *plan, const double *sums)
{
    const size_t n = plan->n_models;
    if (!plan->has_base || n > WS_GRAM_MODELS)
        return;
    r->cosines = ws_result_alloc(r, n * n, sizeof *r->cosines);
    r->base_cosines = ws_result_alloc(r, n + 1, sizeof *r->base_cosines);
    for (size_t a = 0; r->cosines != NULL && a < n; a++)
        for (size_t b = 0; b < n; b++)
            r->cosines[a * n + b] =
                ratio(product(sums, n, a, b),
                      sqrt(product(sums, n, a, a) * product(sums, n, b, b)));
    for (size_t j = 0; r->base_cosines != NULL && j <= n; j++)
        r->base_cosines[j] = mean_cosine(sums, n, j);
}

void ws_result_note_memory(ws_result *r, uint64_t more)
{
    const uint64_t now = ws_os_memory_now() + more;
    if (now > r->usage.peak_memory)
        r->usage.peak_memory = now;
}

void ws_result_stats(ws_result *r, const ws_plan *plan, const ws_exec *exec,
                     size_t first, size_t n)
{
    const size_t n_sums = ws_sums_count(plan->n_models);
    double *sums = ws_result_alloc(r, n_sums, sizeof *sums);
    r->models = ws_result_alloc(r, plan->n_models + 1, sizeof *r->models);
    if (sums == NULL || r->models == NULL)
        return;
    for (size_t i = first; i < first + n; i++) {
        const ws_plan_tensor *pt = &plan->tensors[i];
        const double *t = ws_exec_result(exec, i)->sums;
        for (size_t k = 0; k < n_sums; k++)
            sums[k] += t[k];
        const ws_method *m = pt->job.method;
        const bool equal = pt->action == WS_ACT_MERGE && m->keeps_equal != NULL &&
                           m->keeps_equal(&pt->job) && t[WS_SUM_CHANGED] == 0.0;
        if (pt->action == WS_ACT_COPY || equal)
            r->copied++;
        else
            r->merged++;
        r->lines_outside += plan->has_lines && pt->layer < 0;
    }
    r->dropped = plan->n_dropped;
    r->overflowed = (uint64_t)sums[WS_SUM_SATURATED];
    r->rounding_lost = sqrt(ratio(sums[WS_SUM_LOST_SQ], sums[WS_SUM_UPDATE_SQ]));
    r->lines_alpha = plan->lines_alpha;
    r->lines_beta = plan->lines_beta;
    model_stats(r, plan, sums);
    cosines(r, plan, sums);
}

void ws_result_warn(const ws_result *r, const ws_plan *plan, ws_diag *warnings)
{
    if (r->overflowed > 0)
        ws_diag_report(warnings, WS_OK, "saturated",
                       "%llu values overflowed their dtype and were saturated",
                       (unsigned long long)r->overflowed);
    if (r->base_cosines == NULL || plan->n_models < 2)
        return;
    // updates from their true common base point in about unrelated directions; from
    // elsewhere they share the way to it
    enum { TENTHS = 3 };
    const double own = r->base_cosines[plan->n_models];
    size_t best = plan->n_models;
    for (size_t j = 0; j < plan->n_models; j++)
        if (r->base_cosines[j] < r->base_cosines[best] - 0.1 * TENTHS)
            best = j;
    if (best == plan->n_models)
        return;
    ws_err *e = ws_diag_report(
        warnings, WS_OK, "closer-base",
        "'%s' fits better as the base than '%s': mean cosine between updates %.2f "
        "instead of %.2f",
        plan->inputs[best + 1].label, plan->inputs[0].label, r->base_cosines[best],
        own);
    ws_err_hint(e, "--base %s", plan->inputs[best + 1].path);
}
