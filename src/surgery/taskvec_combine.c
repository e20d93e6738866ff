/*
 * taskvec_combine.c - a weighted sum of task vectors, as one
 *
 *     update = sum_k weight_k update_k, in float32 (float64 where one of them is)
 */
#include "wsurg/taskvec.h"

#include <string.h>

#include "hf/taskvec_source.h"
#include "surgery/taskvec_set.h"
#include "surgery/taskvec_sparsify.h"
#include "surgery/taskvec_write.h"

struct combine {
    const ws_tv_set *set;
    double weights[WS_TV_SET_MOST];
    ws_tv_plan *plans;          // (n): those of the first vector, then the others'
    const ws_tv_tensor **terms; // (n, set->n)
    size_t n;
    const char **removed;
    size_t n_removed;
    ws_arena arena;
};

static const ws_tv_tensor **terms_of(const struct combine *c, size_t tensor)
{
    return c->terms + tensor * c->set->n;
}

static ws_status make(void *self, size_t tensor, uint64_t b, size_t from, size_t to,
                      ws_tv_made *m, ws_err *err)
{
    const struct combine *c = self;
    const ws_taskvec_sum sum = { (const ws_taskvec *const *)c->set->vectors,
                                 terms_of(c, tensor), c->weights, c->set->n,
                                 c->plans[tensor].wide };
    m->n_side = 0;
    return ws_taskvec_add(&sum, b, from, to, m->update, m->scratch[0], &m->buf, err);
}

static bool same_tensor(const ws_tensor *a, const ws_tensor *b)
{
    return a->dtype == b->dtype && a->rank == b->rank &&
           memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) == 0;
}

static ws_status differ(const ws_taskvec *tv, const char *name, const char *how,
                        ws_err *err)
{
    ws_fail(err, WS_E_SHAPE, "the vectors do not agree: %s", how);
    ws_err_at(err, ws_ckpt_path(tv->file), name, -1);
    return WS_E_SHAPE;
}

/** Whole tensors must be equal: they are compared byte by byte. */
static ws_status same_whole(const struct combine *c, const ws_tv_plan *p, size_t k,
                            const ws_tensor *t, ws_err *err)
{
    enum { CHUNK = 16 << 10 };
    unsigned char x[CHUNK], y[CHUNK];
    const ws_taskvec *tv = c->set->vectors[k];
    for (uint64_t at = 0; at < t->n_bytes; at += CHUNK) {
        const size_t n = t->n_bytes - at < CHUNK ? (size_t)(t->n_bytes - at) : CHUNK;
        ws_status st = ws_ckpt_read(p->whole_of, p->whole, at, n, x, err);
        if (st == WS_OK)
            st = ws_ckpt_read(tv->file, t, at, n, y, err);
        if (st != WS_OK)
            return st;
        if (memcmp(x, y, n) != 0)
            return differ(tv, p->t.name, "two hold different tensors whole", err);
    }
    return WS_OK;
}

/** Add what vector @p k does to the tensor of plan @p i. */
static ws_status join(struct combine *c, size_t i, size_t k, const ws_tv_tensor *t,
                      ws_err *err)
{
    ws_tv_plan *p = &c->plans[i];
    const ws_taskvec *tv = c->set->vectors[k];
    if (!same_tensor(&p->t, &t->t))
        return differ(tv, t->t.name, "dtypes or shapes differ", err);
    if (t->kind == WS_TV_KIND_SAME)
        return WS_OK;
    if (p->kind != WS_TV_KIND_SAME && p->kind != t->kind)
        return differ(tv, t->t.name, "one updates what another replaces", err);
    if (t->kind == WS_TV_KIND_WHOLE) {
        if (p->whole != NULL)
            return same_whole(c, p, k, t->stored[WS_TV_WHOLE], err);
        p->whole = t->stored[WS_TV_WHOLE];
        p->whole_of = tv->file;
    } else {
        terms_of(c, i)[k] = t;
        p->wide |= t->wide;
        p->converted = true; // the base's dtype is not known here
    }
    p->kind = t->kind;
    return WS_OK;
}

/** The plan for @p name, SIZE_MAX when there is none yet. */
static size_t plan_of(const struct combine *c, const char *name)
{
    const ws_taskvec *first = c->set->vectors[0];
    const ws_tv_tensor *t = ws_taskvec_find(first, name);
    if (t != NULL)
        return (size_t)(t - first->tensors);
    for (size_t i = first->n; i < c->n; i++)
        if (strcmp(c->plans[i].t.name, name) == 0)
            return i;
    return SIZE_MAX;
}

static ws_status match(struct combine *c, ws_err *err)
{
    size_t most = 0, most_removed = 0;
    for (size_t k = 0; k < c->set->n; k++) {
        most += c->set->vectors[k]->n;
        most_removed += c->set->vectors[k]->n_removed;
    }
    c->plans = ws_arena_calloc(&c->arena, most + 1, sizeof *c->plans);
    c->terms = ws_arena_calloc(&c->arena, most * c->set->n + 1, sizeof(void *));
    c->removed = ws_arena_calloc(&c->arena, most_removed + 1, sizeof *c->removed);
    if (c->plans == NULL || c->terms == NULL || c->removed == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a task vector");
    ws_status st = WS_OK;
    for (size_t k = 0; k < c->set->n; k++) {
        const ws_taskvec *tv = c->set->vectors[k];
        for (size_t j = 0; j < tv->n && st == WS_OK; j++) {
            size_t i = k == 0 ? SIZE_MAX : plan_of(c, tv->tensors[j].t.name);
            if (i == SIZE_MAX) {
                i = c->n++;
                c->plans[i] = (ws_tv_plan){ .t = tv->tensors[j].t };
            }
            st = join(c, i, k, &tv->tensors[j], err);
        }
    }
    for (size_t i = 0; i < c->n && st == WS_OK; i++)
        if (c->plans[i].kind == WS_TV_KIND_UPDATE)
            st = ws_tv_plan_update(&c->plans[i], &c->arena, err);
    return st;
}

/** Names that a vector takes away; no other may touch them. */
static ws_status match_removed(struct combine *c, ws_err *err)
{
    for (size_t k = 0; k < c->set->n; k++) {
        const ws_taskvec *tv = c->set->vectors[k];
        for (size_t j = 0; j < tv->n_removed; j++) {
            const char *name = tv->removed[j];
            bool seen = false;
            for (size_t i = 0; i < c->n_removed; i++)
                seen |= strcmp(c->removed[i], name) == 0;
            if (!seen)
                c->removed[c->n_removed++] = name;
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < c->n; i++) {
        bool gone = false;
        for (size_t j = 0; j < c->n_removed; j++)
            gone |= strcmp(c->removed[j], c->plans[i].t.name) == 0;
        if (gone && c->plans[i].kind != WS_TV_KIND_SAME)
            return differ(c->set->vectors[0], c->plans[i].t.name,
                          "one removes what another changes", err);
        if (gone)
            continue;
        memmove(terms_of(c, kept), terms_of(c, i), c->set->n * sizeof(void *));
        c->plans[kept++] = c->plans[i];
    }
    c->n = kept;
    return WS_OK;
}

static void recipe_make(ws_buf *b, const struct combine *c)
{
    ws_buf_puts(b, "{\"schema\":\"wsurg-recipe/1\",\"command\":\"taskvec combine\","
                   "\"vectors\":[");
    for (size_t k = 0; k < c->set->n; k++) {
        const char *label = ws_ckpt_label(c->set->vectors[k]->file);
        ws_buf_puts(b, k == 0 ? "{\"label\":" : ",{\"label\":");
        ws_buf_json_string(b, label, strlen(label));
        ws_buf_printf(b, ",\"content\":\"%s\",\"weight\":%.17g}", c->set->digests[k],
                      c->weights[k]);
    }
    ws_buf_puts(b, "]}");
}

static ws_status write_vector(struct combine *c, const ws_taskvec_combine_req *req,
                              const ws_ctx *ctx, ws_taskvec_result *r, ws_err *err)
{
    const ws_taskvec *first = c->set->vectors[0];
    const ws_ckpt *sources[WS_TV_SET_MOST];
    for (size_t k = 0; k < c->set->n; k++)
        sources[k] = c->set->vectors[k]->file;
    const ws_tv_facts facts = { .base = first->base,
                                .meta = first->meta,
                                .n_meta = first->n_meta,
                                .has_meta = first->has_meta,
                                .removed = c->removed,
                                .n_removed = c->n_removed,
                                .sources = sources,
                                .n_sources = c->set->n };
    const ws_tv_maker maker = { c, make };
    ws_buf text = { 0 }, recipe = { 0 }, inputs = { 0 };
    ws_ckpt *encoded = NULL;
    ws_status st = ws_tv_count(c->plans, c->n, &maker, ctx, err);
    if (st == WS_OK)
        st = ws_tv_encode(&encoded, req->vectors[0], c->plans, c->n, &maker, &facts,
                          &text, &r->counts, err);
    recipe_make(&recipe, c);
    for (size_t k = 0; k < c->set->n; k++)
        ws_tv_input_add(&inputs, "taskvec", ws_ckpt_label(sources[k]),
                        c->set->digests[k]);
    ws_buf_putc(&inputs, ']');
    if (st == WS_OK && (recipe.failed || inputs.failed)) {
        st = ws_fail(err, WS_E_MEMORY, "no memory for provenance");
        ws_ckpt_free(encoded);
    }
    if (st == WS_OK) {
        const ws_meta meta[] = { { "wsurg.kind", "taskvec" },
                                 { "wsurg.taskvec", text.p } };
        const ws_plan_given given = { .inputs = &encoded,
                                      .n = 1,
                                      .recipe = recipe.p,
                                      .provenance = inputs.p,
                                      .paths = req->vectors,
                                      .n_paths = req->n,
                                      .meta = meta,
                                      .n_meta = 2 };
        ws_write_opts w = req->write;
        w.dtype_keep = true;
        w.keep_metadata = false;
        st = ws_tv_copy(&w, &given, sizeof(ws_tv_made), c->arena.total, ctx, &r->run,
                        err);
    }
    ws_buf_free(&text);
    ws_buf_free(&recipe);
    ws_buf_free(&inputs);
    return st;
}

ws_status ws_taskvec_combine(ws_taskvec_result **out, const ws_taskvec_combine_req *req,
                             const ws_ctx *ctx, ws_err *err)
{
    ws_tv_set set = { 0 };
    struct combine c = { .set = &set };
    ws_taskvec_result *r = ws_calloc(1, sizeof *r);
    ws_status st = r == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for the result")
                             : ws_tv_check_out(&req->write, err);
    if (st == WS_OK)
        st = ws_tv_set_open(&set, req->vectors, req->n, ctx, err);
    if (st == WS_OK)
        st = ws_tv_set_one_base(&set, err);
    for (size_t k = 0; st == WS_OK && k < set.n; k++)
        c.weights[k] = req->weights == NULL ? 1.0 : req->weights[k];
    if (st == WS_OK)
        st = ws_tv_set_digest(&set, ctx, err);
    if (st == WS_OK)
        st = match(&c, err);
    if (st == WS_OK)
        st = match_removed(&c, err);
    if (st == WS_OK)
        st = write_vector(&c, req, ctx, r, err);
    ws_arena_free(&c.arena);
    ws_tv_set_free(&set);
    if (st == WS_OK)
        *out = r;
    else
        ws_taskvec_result_free(r);
    return st;
}
