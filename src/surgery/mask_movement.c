/*
 * mask_movement.c - the entries that moved most in a fine-tune, all tensors together
 *
 *   mask_i = |model_i - base_i| is among the K largest
 *
 * LT-SFT's first phase and the base patch of grafting. Exactly K: where the authors
 * keep all that equal the K-th (LT-SFT) or none (grafting), the earlier ones come in.
 * @source Ansell et al. 2022, arXiv:2110.07560; Panigrahi et al. 2023, arXiv:2302.06600
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "surgery/mask_pair.h"
#include "surgery/mask_rank.h"
#include "surgery/taskvec_write.h"
#include "wsurg/pattern.h"

struct movement {
    ws_mask_pair pair;
    ws_tensor *tensors;      // (n) as written, by name; of the base
    const ws_tensor **base;  // (n)
    const ws_tensor **model; // (n)
    uint64_t *place;         // (n) entries before it
    size_t n;
    uint64_t entries;
    ws_rank_cut cut;
    ws_arena arena;
};

static ws_status piece(const struct movement *m, size_t i, uint64_t first, size_t n,
                       float *out, ws_err *err)
{
    double d[WS_MASK_PIECE];
    bool finite = true;
    const ws_status st =
        ws_mask_pair_delta(&m->pair, m->base[i], m->model[i], first, n, d, err);
    for (size_t k = 0; st == WS_OK && k < n; k++) {
        out[k] = (float)fabs(d[k]);
        finite = finite && isfinite(out[k]);
    }
    if (st != WS_OK || finite)
        return st;
    ws_fail(err, WS_E_NOT_FINITE, "the update is not finite");
    return ws_err_at(err, ws_ckpt_path(m->pair.model), m->base[i]->name, -1);
}

static ws_status make(void *self, size_t tensor, uint64_t first, size_t n, void *out,
                      ws_err *err)
{
    const struct movement *m = self;
    float x[WS_MASK_PIECE];
    const ws_status st = piece(m, tensor, first, n, x, err);
    for (size_t k = 0; st == WS_OK && k < n; k++)
        ((uint8_t *)out)[k] = ws_rank_in(&m->cut, x[k], m->place[tensor] + first + k);
    return st;
}

static int by_name(const void *a, const void *b)
{
    const ws_tensor *x = *(const ws_tensor *const *)a,
                    *y = *(const ws_tensor *const *)b;
    return strcmp(x->name, y->name);
}

/** The tensors that may be chosen from, by name. */
static ws_status candidates(struct movement *m, const char *freeze, ws_err *err)
{
    const size_t n = ws_ckpt_count(m->pair.base);
    ws_pattern_set *frozen = NULL;
    bool any = false, hit = false;
    ws_status st = WS_OK;
    m->base = ws_arena_calloc(&m->arena, n + 1, sizeof *m->base);
    m->model = ws_arena_calloc(&m->arena, n + 1, sizeof *m->model);
    m->tensors = ws_arena_calloc(&m->arena, n + 1, sizeof *m->tensors);
    m->place = ws_arena_calloc(&m->arena, n + 1, sizeof *m->place);
    if (m->base == NULL || m->model == NULL || m->tensors == NULL || m->place == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the list of tensors");
    if (freeze != NULL)
        st = ws_pattern_new(&frozen, freeze, err);
    for (size_t i = 0; st == WS_OK && i < n; i++) {
        const ws_tensor *t = ws_ckpt_tensor(m->pair.base, i);
        hit = false;
        if (frozen != NULL)
            st = ws_pattern_match(frozen, t->name, &hit, err);
        any = any || hit;
        if (st == WS_OK && !hit && ws_dtype_info(t->dtype)->arithmetic)
            m->base[m->n++] = t;
    }
    ws_pattern_free(frozen);
    if (st == WS_OK && freeze != NULL && !any)
        return ws_fail(err, WS_E_USAGE, "--freeze '%s' hits no tensor", freeze);
    qsort(m->base, m->n, sizeof *m->base, by_name);
    for (size_t i = 0; st == WS_OK && i < m->n; i++) {
        st = ws_mask_pair_find(&m->pair, m->base[i], &m->model[i], err);
        m->place[i] = m->entries;
        m->entries += m->base[i]->n_elements;
        m->tensors[i] = *m->base[i];
        m->tensors[i].dtype = WS_DT_BOOL;
    }
    return st;
}

static ws_status rank(struct movement *m, uint64_t count, ws_err *err)
{
    float x[WS_MASK_PIECE];
    ws_rank *r = NULL;
    ws_status st = ws_rank_new(&r, count, err);
    for (int pass = 0; st == WS_OK && pass < WS_RANK_PASSES; pass++) {
        ws_rank_begin(r, pass);
        for (size_t i = 0; i < m->n; i++) {
            const uint64_t all = m->base[i]->n_elements;
            for (uint64_t at = 0; st == WS_OK && at < all; at += WS_MASK_PIECE) {
                const size_t n =
                    all - at < WS_MASK_PIECE ? (size_t)(all - at) : WS_MASK_PIECE;
                st = piece(m, i, at, n, x, err);
                if (st == WS_OK)
                    ws_rank_add(r, x, n);
            }
        }
    }
    if (st == WS_OK)
        m->cut = ws_rank_cut_of(r);
    ws_rank_free(r);
    if (st == WS_OK && m->cut.kept == 0)
        st =
            ws_fail(err, WS_E_USAGE, "nothing moved: no entry differs from the base's");
    return st;
}

/** Leave out the tensors in which nothing was chosen. */
static ws_status drop_empty(struct movement *m, ws_err *err)
{
    uint8_t part[WS_MASK_PIECE];
    size_t kept = 0;
    ws_status st = WS_OK;
    for (size_t i = 0; i < m->n; i++) {
        const uint64_t all = m->base[i]->n_elements;
        bool any = false;
        for (uint64_t at = 0; st == WS_OK && !any && at < all; at += WS_MASK_PIECE) {
            const size_t n =
                all - at < WS_MASK_PIECE ? (size_t)(all - at) : WS_MASK_PIECE;
            st = make(m, i, at, n, part, err);
            any = st == WS_OK && memchr(part, 1, n) != NULL;
        }
        if (st != WS_OK)
            return st;
        if (!any)
            continue;
        m->base[kept] = m->base[i];
        m->model[kept] = m->model[i];
        m->place[kept] = m->place[i];
        m->tensors[kept++] = m->tensors[i];
    }
    m->n = kept;
    return st;
}

static ws_status write_mask(struct movement *m, const ws_mask_movement_req *req,
                            const ws_ctx *ctx, ws_mask_result *r, ws_err *err)
{
    const char *const paths[] = { req->base, req->model };
    ws_buf recipe = { 0 }, inputs = { 0 };
    ws_status st = ws_mask_input(&inputs, "base", m->pair.base, ctx, err);
    if (st == WS_OK)
        st = ws_mask_input(&inputs, "model", m->pair.model, ctx, err);
    ws_buf_putc(&inputs, ']');
    ws_buf_printf(&recipe,
                  "{\"schema\":\"wsurg-recipe/1\",\"command\":\"mask lt-sft\","
                  "\"count\":%llu",
                  (unsigned long long)m->cut.kept);
    if (req->freeze != NULL) {
        ws_buf_puts(&recipe, ",\"freeze\":");
        ws_buf_json_string(&recipe, req->freeze, strlen(req->freeze));
    }
    ws_buf_putc(&recipe, '}');
    if (st == WS_OK && (recipe.failed || inputs.failed))
        st = ws_fail(err, WS_E_MEMORY, "no memory for provenance");
    const ws_mask_spec spec = { .tensors = m->tensors,
                                .n = m->n,
                                .make = make,
                                .self = m,
                                .made_by = "mask lt-sft",
                                .recipe = recipe.p,
                                .inputs = inputs.p,
                                .paths = paths,
                                .n_paths = 2,
                                .held = m->arena.total };
    if (st == WS_OK)
        st = ws_mask_write(&spec, &req->write, ctx, &r->run, err);
    ws_buf_free(&recipe);
    ws_buf_free(&inputs);
    return st;
}

ws_status ws_mask_movement(ws_mask_result **out, const ws_mask_movement_req *req,
                           const ws_ctx *ctx, ws_err *err)
{
    struct movement m = { 0 };
    ws_mask_result *r = ws_calloc(1, sizeof *r);
    ws_status st = r == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for the result")
                             : ws_mask_check_out(&req->write, err);
    if (st == WS_OK)
        st = ws_mask_pair_open(&m.pair, req->base, req->model, ctx, err);
    if (st == WS_OK)
        st = candidates(&m, req->freeze, err);
    if (st == WS_OK) {
        const double wanted = req->share * (double)m.entries;
        const uint64_t count = req->count > 0 ? req->count
                               : wanted >= 1  ? (uint64_t)wanted
                                              : 1;
        st = rank(&m, count, err);
    }
    const uint64_t entries = m.entries;
    if (st == WS_OK)
        st = drop_empty(&m, err);
    if (st == WS_OK)
        st = write_mask(&m, req, ctx, r, err);
    if (st == WS_OK) {
        r->tensors = m.n;
        r->set = (double)m.cut.kept;
        r->share = r->set / (double)entries;
        for (size_t i = 0; i < m.n; i++)
            r->entries += m.base[i]->n_elements;
    }
    ws_mask_pair_close(&m.pair);
    ws_arena_free(&m.arena);
    if (st == WS_OK)
        *out = r;
    else
        ws_mask_result_free(r);
    return st;
}
