/*
 * tune_parts.c - which tensors are trained, and the memory that this takes
 *
 *   numbers  gradients | moments | factors and their gains
 *
 * A slot of the optimiser is a tensor of the model, or a factor A or B.
 */
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "hf/freeze_plan.h"
#include "train/tune.h"
#include "wsurg/pattern.h"
#include "wsurg/text.h"

/** Bytes of packed panels that the BLAS keeps for each thread, as measured. */
enum { PRODUCT_BUFFER = 1 << 20 };

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for gradients and moments");
}

/* ---- masks ---- */

/** The mask of part @p p among those of the file; NULL: there is none. */
static ws_status mask_check(const ws_tune *t, const ws_ckpt *c, const ws_model_part *p,
                            const ws_tensor **out, ws_err *err)
{
    const ws_tensor *m = ws_ckpt_find(c, p->name);

    *out = m;
    if (m == NULL)
        return WS_OK;
    if (m->dtype != WS_DT_BOOL && m->dtype != WS_DT_U8 && m->dtype != WS_DT_F32) {
        ws_fail(err, WS_E_DTYPE, "a mask of dtype %s, wanted BOOL or F32",
                ws_dtype_info(m->dtype)->name);
        return ws_err_at(err, t->req->mask, p->name, -1);
    }
    if (m->n_elements != (uint64_t)p->n && m->n_elements != 1 &&
        (p->rows < 2 || m->n_elements != (uint64_t)p->rows)) {
        ws_fail(err, WS_E_SHAPE, "a mask of %llu entries, the tensor has %lld",
                (unsigned long long)m->n_elements, (long long)p->n);
        return ws_err_at(err, t->req->mask, p->name, -1);
    }
    return WS_OK;
}

/** Factors of slot @p s at @p to, from 0 to 1. */
static ws_status soft_read(ws_tune *t, const ws_ckpt *c, const ws_tensor *m,
                           ws_slot_f32 *s, float *to, ws_err *err)
{
    const size_t n = (size_t)m->n_elements;
    const ws_status st = ws_ckpt_read(c, m, 0, m->n_bytes, to, err);

    for (size_t i = 0; st == WS_OK && i < n; i++)
        if (!(to[i] >= 0.0f && to[i] <= 1.0f)) {
            ws_fail(err, WS_E_USAGE, "factor %zu of the mask is %g, wanted 0 to 1", i,
                    (double)to[i]);
            return ws_err_at(err, t->req->mask, s->name, -1);
        }
    s->soft = to;
    s->span = s->n / n;
    return st;
}

/** Bytes of slot @p s at @p to; one for a row, or for all, is said for each entry. */
static ws_status hard_read(const ws_ckpt *c, const ws_tensor *m, ws_slot_f32 *s,
                           uint8_t *to, ws_err *err)
{
    const size_t n = (size_t)m->n_elements, span = s->n / n;
    const ws_status st = ws_ckpt_read(c, m, 0, n, to, err);

    for (size_t i = s->n; st == WS_OK && span > 1 && i-- > 0;)
        to[i] = to[i / span];
    s->mask = to;
    return st;
}

/** Read the masks of the slots, which bear the names of parts. */
static ws_status masks_read(ws_tune *t, const ws_ckpt *c, ws_err *err)
{
    uint64_t total = 0;
    ws_status st = WS_OK;

    for (size_t k = 0; k < t->n_slots; k++) {
        const ws_tensor *m = ws_ckpt_find(c, t->slots[k].name);
        total += m->dtype == WS_DT_F32 ? m->n_bytes : (t->slots[k].n + 3) / 4 * 4;
    }
    uint8_t *at = t->masks = ws_alloc((size_t)total);
    if (at == NULL)
        return no_memory(err);
    t->mask_bytes = total;
    for (size_t k = 0; st == WS_OK && k < t->n_slots; k++) {
        const ws_tensor *m = ws_ckpt_find(c, t->slots[k].name);
        ws_slot_f32 *s = &t->slots[k];
        void *to = at;
        if (m->dtype == WS_DT_F32)
            st = soft_read(t, c, m, s, to, err);
        else
            st = hard_read(c, m, s, at, err);
        at += m->dtype == WS_DT_F32 ? m->n_bytes : (s->n + 3) / 4 * 4;
    }
    return st;
}

/* ---- the choice ---- */

struct choice {
    ws_pattern_set *freeze, *target;
    ws_freeze_plan plan;
    ws_ckpt *mask;
    bool froze, hit; // the patterns hit something
};

static ws_status part_wanted(const ws_tune *t, struct choice *c, const ws_model_part *p,
                             bool *yes, ws_err *err)
{
    const ws_tune_req *r = t->req;
    const ws_tensor *mask = NULL;
    bool hit = false;
    ws_status st = WS_OK;

    *yes = false;
    if (c->freeze != NULL)
        st = ws_pattern_match(c->freeze, p->name, &hit, err);
    c->froze |= hit;
    if (st == WS_OK && !hit && c->target != NULL) {
        st = ws_pattern_match(c->target, p->name, &hit, err);
        c->hit |= hit;
        hit = !hit;
    }
    hit = hit || ws_freeze_plan_has(&c->plan, p->name);
    if (st || hit || (r->last >= 0 && (p->layer < r->first || p->layer > r->last)))
        return st;
    if (c->mask != NULL)
        st = mask_check(t, c->mask, p, &mask, err);
    *yes = c->mask == NULL || mask != NULL;
    return st;
}

static ws_status choose_full(ws_tune *t, struct choice *c, ws_err *err)
{
    const size_t n = ws_model_part_count(t->model);
    const double decay = t->req->optim.weight_decay;

    for (size_t i = 0; i < n; i++) {
        const ws_model_part *p = ws_model_part_at(t->model, i);
        bool yes;
        const ws_status st = part_wanted(t, c, p, &yes, err);
        if (st)
            return st;
        // p of the slot comes with the master copy
        const bool matrix = p->kind != WS_PART_BIAS && p->kind != WS_PART_NORM &&
                            p->kind != WS_PART_NORM_BIAS;
        if (yes)
            t->slots[t->n_slots++] = (ws_slot_f32){ .name = p->name,
                                                    .n = (size_t)p->n,
                                                    .decay = matrix ? decay : 0.0 };
    }
    if (c->freeze != NULL && !c->froze)
        return ws_fail(err, WS_E_USAGE, "--freeze '%s' hits no tensor", t->req->freeze);
    if (c->target != NULL && !c->hit)
        return ws_fail(err, WS_E_USAGE, "--target '%s' hits no tensor", t->req->target);
    if (t->n_slots == 0)
        return ws_fail(err, WS_E_USAGE, "nothing is left to train");
    return WS_OK;
}

static ws_status choose_factors(ws_tune *t, ws_err *err)
{
    ws_status st = ws_tune_factors_choose(t, err);

    for (size_t k = 0; st == WS_OK && k < t->n_factors; k++) {
        const ws_tune_factors *f = &t->factors[k];
        const int64_t n[2] = { f->rank * f->in, f->out * f->rank };
        for (int side = 0; side < 2; side++) {
            const size_t len = strlen(f->path) + 16;
            char *name = ws_arena_alloc(&t->arena, len);
            if (name == NULL)
                return no_memory(err);
            snprintf(name, len, "%s.lora_%c", f->path, side ? 'B' : 'A');
            t->slots[t->n_slots++] = (ws_slot_f32){
                .name = name, .n = (size_t)n[side], .decay = t->req->optim.weight_decay
            };
        }
    }
    return st;
}

/** The plan, whose names must all be the model's. */
static ws_status plan_read(const ws_tune *t, ws_freeze_plan *plan, ws_err *err)
{
    ws_status st = ws_freeze_plan_read(plan, t->req->freeze_plan, err);

    for (size_t i = 0; st == WS_OK && i < plan->n; i++)
        if (ws_model_part_find(t->model, plan->frozen[i]) < 0) {
            ws_fail(err, WS_E_MISSING, "the plan freezes what the model has not");
            st = ws_err_at(err, t->req->freeze_plan, plan->frozen[i], -1);
        }
    return st;
}

static ws_status choose(ws_tune *t, ws_err *err)
{
    const ws_tune_req *r = t->req;
    const size_t n = ws_model_part_count(t->model);
    const size_t modules = t->adapter != NULL ? t->adapter->n_modules : n;
    struct choice c = { 0 };
    ws_status st = WS_OK;

    t->want = ws_arena_calloc(&t->arena, n + 1, sizeof *t->want);
    t->slots = ws_arena_calloc(&t->arena, n + 2 * modules + 1, sizeof *t->slots);
    if (t->want == NULL || t->slots == NULL)
        return no_memory(err);
    if (r->kind == WS_TUNE_LORA || r->kind == WS_TUNE_ADAPTER)
        return choose_factors(t, err);
    if (r->freeze != NULL)
        st = ws_pattern_new(&c.freeze, r->freeze, err);
    if (st == WS_OK && r->target != NULL)
        st = ws_pattern_new(&c.target, r->target, err);
    if (st == WS_OK && r->freeze_plan != NULL)
        st = plan_read(t, &c.plan, err);
    if (st == WS_OK && r->mask != NULL)
        st = ws_ckpt_open(&c.mask, r->mask, t->ctx->warnings, err);
    if (st == WS_OK)
        st = choose_full(t, &c, err);
    if (st == WS_OK && c.mask != NULL)
        st = masks_read(t, c.mask, err);
    ws_pattern_free(c.freeze);
    ws_pattern_free(c.target);
    ws_freeze_plan_free(&c.plan);
    ws_ckpt_free(c.mask);
    return st;
}

/* ---- memory ---- */

/** Numbers of moments for one that is trained. */
static uint64_t moments(const ws_tune *t)
{
    return t->req->optim.kind == WS_OPTIM_ADAMW ? 2 : t->req->optim.momentum > 0.0;
}

/** What gradients, moments, factors and master copies will take; the model's weights
 * before and after are the model's. */
static uint64_t beside_bytes(ws_tune *t, uint64_t *masters)
{
    uint64_t own = 0;

    *masters = 0;
    for (size_t k = 0; k < t->n_slots; k++)
        t->n_trained += t->slots[k].n;
    for (size_t k = 0; k < t->n_factors; k++)
        own +=
            (uint64_t)(t->factors[k].rank * (t->factors[k].in + t->factors[k].out + 1));
    for (size_t k = 0; t->n_factors == 0 && k < t->n_slots; k++) {
        const int64_t i = ws_model_part_find(t->model, t->slots[k].name);
        const ws_dtype dt = ws_model_part_at(t->model, (size_t)i)->dtype;
        if (dt != WS_DT_F32)
            *masters += t->slots[k].n * sizeof(float) -
                        t->slots[k].n * (ws_dtype_info(dt)->bits / 8u);
    }
    t->n_numbers = t->n_trained * (1 + moments(t)) + own;
    t->plan.gradients = t->n_trained * sizeof(float);
    t->plan.states = t->n_trained * moments(t) * sizeof(float);
    t->plan.trained = own * sizeof(float) + *masters;
    return t->n_numbers * sizeof(float) + t->mask_bytes;
}

/** Refuse before anything large is taken. */
static ws_status limit_check(const ws_tune *t, uint64_t more, ws_err *err)
{
    const uint64_t weights = ws_model_info_of(t->model)->bytes;
    char need[24], have[24];

    if (weights + more <= t->plan.limit)
        return WS_OK;
    ws_show_bytes(weights + more, need);
    ws_show_bytes(t->plan.limit, have);
    ws_fail(err, WS_E_MEMORY,
            "weights, gradients and optimiser take %s, the limit is %s", need, have);
    ws_err_hint(err, "--lora trains little and keeps the weights as they are; "
                     "--max-memory raises the limit");
    return ws_err_at(err, t->req->model, NULL, -1);
}

/** Slots get their places: gradients first, all together, then moments. */
static void lay(ws_tune *t)
{
    float *g = t->numbers, *m = g + t->n_trained, *v = m + t->n_trained;
    float *own = g + t->n_trained * (1 + moments(t));

    t->grads = g;
    for (size_t k = 0; k < t->n_slots; k++) {
        ws_slot_f32 *s = &t->slots[k];
        s->g = g;
        s->m = moments(t) >= 1 ? m : NULL;
        s->v = moments(t) == 2 ? v : NULL;
        g += s->n;
        m += s->n;
        v += s->n;
    }
    for (size_t k = 0; k < t->n_factors; k++) {
        ws_tune_factors *f = &t->factors[k];
        ws_slot_f32 *a = &t->slots[2 * k], *b = a + 1;
        a->p = f->A = own;
        b->p = f->B = f->A + a->n;
        f->gain = f->B + b->n;
        own = f->gain + f->rank;
        f->over = (ws_overlay){ .rank = f->rank,
                                .A = f->A,
                                .B = f->B,
                                .gain = f->gain,
                                .dA = a->g,
                                .dB = b->g };
        t->want[f->part].over = &f->over;
    }
}

/** Master copies of the tensors that are trained themselves. */
static ws_status masters_make(ws_tune *t, ws_err *err)
{
    for (size_t k = 0; t->n_factors == 0 && k < t->n_slots; k++) {
        ws_slot_f32 *s = &t->slots[k];
        const size_t i = (size_t)ws_model_part_find(t->model, s->name);
        const ws_status st = ws_model_master(t->model, i, &s->p, err);
        if (st)
            return st;
        t->want[i].grad = s->g;
    }
    return WS_OK;
}

/** What the process holds beside weights and data; asked before anything else is
 * taken. Memory that a caller freed and the heap kept counts too: it is resident. */
static uint64_t program_bytes(const ws_tune *t)
{
    const uint64_t known = ws_model_info_of(t->model)->bytes + t->plan.data;
    const uint64_t now = ws_os_memory_resident();
    const uint64_t products = (uint64_t)ws_ctx_threads(t->ctx) * PRODUCT_BUFFER;

    return (now > known ? now - known : 0) + products;
}

static ws_status step_make(ws_tune *t, uint64_t beside, ws_err *err)
{
    const ws_data_info *d = ws_data_info_of(t->data);
    const int64_t longest =
        t->val != NULL && ws_data_info_of(t->val)->longest > d->longest
            ? ws_data_info_of(t->val)->longest
            : d->longest;
    const ws_step_opts o = { .rows = t->req->batch * longest * (t->pairs ? 2 : 1),
                             .positions = longest,
                             .beside = beside + t->plan.data + t->plan.program };
    ws_status st = ws_step_new(&t->step, t->model, t->want, &o, NULL, &t->roomy, err);
    if (st)
        return st;
    const ws_step_memory *m = ws_step_memory_of(t->step);
    t->plan.weights = m->weights;
    t->plan.activations = m->total - m->logits;
    t->plan.logits = m->logits;
    t->plan.total = m->weights + m->total + o.beside;
    t->plan.batch_tokens = o.rows;
    t->plan.gflop_per_token = m->flops / (double)o.rows * 1e-9;
    t->plan.layers_all = m->layers_all;
    t->plan.layers_small = m->layers_small;
    t->plan.layers_input = m->layers_input;
    t->plan.layers_frozen = m->layers_frozen;
    t->pool = ws_step_pool(t->step);
    t->logp = ws_calloc((size_t)o.rows, sizeof *t->logp);
    t->up = ws_calloc((size_t)o.rows, sizeof *t->up);
    t->micro = ws_calloc((size_t)t->req->accumulate, sizeof *t->micro);
    if (t->logp == NULL || t->up == NULL || t->micro == NULL)
        return no_memory(err);
    return ws_optim_new(&t->optim, &t->req->optim, t->slots, t->n_slots, t->pool, err);
}

ws_status ws_tune_parts(ws_tune *t, ws_err *err)
{
    uint64_t masters = 0;
    t->plan.program = program_bytes(t);
    ws_status st = choose(t, err);

    if (st)
        return st;
    const uint64_t beside = beside_bytes(t, &masters);
    t->plan.parameters = (int64_t)ws_model_info_of(t->model)->parameters;
    t->plan.trained_parameters = (int64_t)t->n_trained;
    st = limit_check(t, beside + masters + t->plan.data, err);
    if (st)
        return st;
    t->numbers = ws_calloc(t->n_numbers, sizeof *t->numbers);
    if (t->numbers == NULL)
        return no_memory(err);
    lay(t);
    st = masters_make(t, err);
    if (st == WS_OK)
        st = ws_tune_factors_fill(t, err);
    return st == WS_OK ? step_make(t, beside, err) : st;
}
