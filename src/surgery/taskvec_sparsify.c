/*
 * taskvec_sparsify.c - updates through a merge method
 *
 * The method merges one model, the updates, onto a base of zeros, so that what it makes
 * of them comes out as it is: out = 0 + sparsified(update - 0).
 */
#include "surgery/taskvec_sparsify.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ckpt/ckpt_internal.h"
#include "ckpt/stage.h"
#include "surgery/taskvec_write.h"
#include "wsurg/method.h"

ws_status ws_tv_check_method(const ws_taskvec_extract_req *req, ws_err *err)
{
    const ws_method *m = ws_method_find(req->method);
    if (m == NULL) {
        ws_fail(err, WS_E_USAGE, "unknown method '%s'", req->method);
        ws_err_hint(err, "'wsurg methods' lists them");
        return WS_E_USAGE;
    }
    if (m->base == WS_BASE_REQUIRED && m->models.min <= 1)
        return WS_OK;
    ws_fail(err, WS_E_USAGE, "method '%s' makes nothing of one model on a base",
            m->name);
    ws_err_hint(err, "breadcrumbs, ties, dare_linear and della_linear sparsify");
    return WS_E_USAGE;
}

/* ---- the two inputs ---- */

/** The model of the merge. */
struct updates {
    ws_tv_pair *pair;
    ws_tv_lender lender;
};

static ws_status updates_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                              size_t len, void *dst, ws_err *err)
{
    struct updates *u = c->self;
    ws_tv_pair *pair = u->pair;
    const size_t k = (size_t)t->offset;
    const ws_tv_maker maker = { pair, ws_tv_pair_make };
    ws_tv_made *m = ws_tv_borrow(&u->lender);
    if (m == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for an update");
    const ws_status st =
        ws_tv_read_dense(&maker, k, &pair->plans[k], offset, len, dst, m, err);
    ws_tv_give_back(&u->lender, m);
    return st;
}

static ws_status zeros_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                            size_t len, void *dst, ws_err *err)
{
    (void)c;
    (void)t;
    (void)offset;
    (void)err;
    memset(dst, 0, len);
    return WS_OK;
}

/** A checkpoint of the pair's updated tensors in float32 or float64. */
static ws_status input_make(ws_ckpt **out, struct updates *u, const ws_ckpt *like,
                            const ws_ckpt_ops *ops, ws_err *err)
{
    const ws_tv_pair *pair = u->pair;
    ws_ckpt *c = NULL;
    ws_status st = ws_ckpt_new(&c, ws_ckpt_path(like), "updates", ops, u, err);
    if (st == WS_OK)
        st = ws_ckpt_borrow_files(c, like, err);
    for (size_t k = 0; k < pair->n && st == WS_OK; k++) {
        const ws_tv_plan *p = &pair->plans[k];
        if (p->kind != WS_TV_KIND_UPDATE)
            continue;
        ws_tensor t = p->t;
        t.dtype = p->wide ? WS_DT_F64 : WS_DT_F32;
        t.file = WS_NO_FILE;
        t.offset = k;
        st = ws_tensor_measure(&t, err);
        if (st == WS_OK)
            st = ws_ckpt_add_tensor(c, &t, 0, err);
    }
    if (st == WS_OK)
        st = ws_ckpt_finish(c, err);
    if (st == WS_OK)
        *out = c;
    else
        ws_ckpt_free(c);
    return st;
}

/* ---- the merge ---- */

/** "NAME K=V K=V": everything that decides what comes out. */
static char *describe(const ws_plan *plan)
{
    ws_buf b = { 0 };
    ws_buf_puts(&b, plan->method->name);
    for (size_t i = 0; i < plan->n_values; i++) {
        const ws_value *v = &plan->values[i];
        ws_buf_printf(&b, " %s=", v->param->name);
        const char *word = v->param->choices;
        for (int k = 0; word != NULL && k < (int)v->v[0]; k++)
            word = strchr(word, '|') != NULL ? strchr(word, '|') + 1 : "";
        if (word != NULL)
            ws_buf_add(&b, word, strcspn(word, "|"));
        else
            ws_buf_printf(&b, "%.15g", v->v[0]);
    }
    if (plan->method->random)
        ws_buf_printf(&b, " seed=%llu", (unsigned long long)plan->req->seed);
    char *text = b.failed ? NULL : ws_strdup(b.p);
    ws_buf_free(&b);
    return text;
}

/** ".NAME" and @p tail beside the file NAME at @p path. */
static char *hidden_beside(const char *path, const char *tail)
{
    ws_buf b = { 0 };
    const char *slash = strrchr(path, '/');
    const size_t dir = slash != NULL ? (size_t)(slash - path) + 1 : 0;
    ws_buf_add(&b, path, dir);
    ws_buf_printf(&b, ".%s%s", path + dir, tail);
    char *name = b.failed ? NULL : ws_strdup(b.p);
    ws_buf_free(&b);
    return name;
}

/** Where the updates are staged for the output. */
static char *staged_name(const char *out)
{
    return hidden_beside(strcmp(out, "-") == 0 ? "output" : out,
                         ".wsurg-updates.safetensors");
}

void ws_tv_sparse_sweep(const char *out)
{
    char *name = staged_name(out);
    char *folder = name == NULL ? NULL : hidden_beside(name, ".wsurg");
    struct stat sb;
    if (folder != NULL && (lstat(name, &sb) == 0 || lstat(folder, &sb) == 0)) {
        const ws_stage_opts o = { .target = name,
                                  .force = true,
                                  .key = "00000000000000000000000000000000" };
        ws_stage *stage = NULL;
        if (ws_stage_open(&stage, &o, NULL, NULL) == WS_OK) // no live run has it
            unlink(name);
        ws_stage_close(stage, false);
    }
    ws_free(folder);
    ws_free(name);
}

/** Plan and run it; the inputs are freed. */
static ws_status run_merge(ws_tv_sparse *s, const ws_taskvec_extract_req *req,
                           ws_ckpt *const inputs[2], const ws_ctx *ctx, ws_err *err)
{
    ws_merge_req merge = WS_MERGE_REQ_INIT;
    merge.method = req->method;
    merge.sets = req->sets;
    merge.n_sets = req->n_sets;
    merge.seed = req->seed;
    merge.write.out = s->name;
    merge.write.force = true;
    merge.write.provenance = false;
    merge.write.manifest = "none";
    merge.write.allow_nonfinite = req->write.allow_nonfinite;
    const ws_plan_given given = { .inputs = inputs, .n = 2 };
    ws_ctx less;
    ws_plan *plan = NULL;
    ws_result *result = NULL;
    ws_diag errors = { 0 };
    ws_status st = ws_tv_ctx(&less, ctx, sizeof(ws_tv_made), s->pair->arena.total, err);
    if (st != WS_OK) {
        ws_plan_given_free(&given);
        return st;
    }
    st = ws_plan_build(&plan, &merge, &given, &less, &errors);
    if (st != WS_OK && err != NULL && ws_diag_worst(&errors) != NULL)
        *err = *ws_diag_worst(&errors);
    if (st == WS_OK)
        st = ws_plan_run(plan, &less, &result, err);
    if (st == WS_OK && (s->description = describe(plan)) == NULL)
        st = ws_fail(err, WS_E_MEMORY, "no memory for a task vector");
    ws_result_free(result);
    ws_plan_free(plan);
    ws_diag_free(&errors);
    return st;
}

static ws_status merge(ws_tv_sparse *s, const ws_taskvec_extract_req *req,
                       const ws_ctx *ctx, ws_err *err)
{
    static const ws_ckpt_ops zeros = { .read = zeros_read };
    static const ws_ckpt_ops updates = { .read = updates_read };
    struct updates u = { .pair = s->pair };
    ws_ckpt *inputs[2] = { NULL, NULL };
    ws_tv_lender_init(&u.lender);
    ws_status st = input_make(&inputs[0], &u, s->pair->base, &zeros, err);
    if (st == WS_OK)
        st = input_make(&inputs[1], &u, s->pair->model, &updates, err);
    if (st == WS_OK)
        st = run_merge(s, req, inputs, ctx, err);
    else
        ws_ckpt_free(inputs[0]);
    ws_tv_lender_free(&u.lender);
    return st;
}

ws_status ws_tv_sparsify(ws_tv_sparse *s, const ws_taskvec_extract_req *req,
                         ws_tv_pair *pair, const ws_ctx *ctx, ws_err *err)
{
    size_t n = 0;
    s->pair = pair;
    for (size_t k = 0; k < pair->n; k++)
        n += pair->plans[k].kind == WS_TV_KIND_UPDATE;
    if (n == 0) {
        s->description = ws_strdup(req->method);
        return s->description != NULL
                   ? WS_OK
                   : ws_fail(err, WS_E_MEMORY, "no memory for a task vector");
    }
    s->name = staged_name(req->write.out);
    ws_status st = s->name != NULL
                       ? merge(s, req, ctx, err)
                       : ws_fail(err, WS_E_MEMORY, "no memory for a task vector");
    if (st == WS_OK)
        st = ws_ckpt_open(&s->file, s->name, NULL, err);
    // without a name nothing is left behind, whatever ends this run
    if (st == WS_OK && s->file->fds[0] >= 0) {
        unlink(s->name);
        ws_free(s->name);
        s->name = NULL;
    }
    const ws_tv_maker maker = { s, ws_tv_sparse_make };
    return st == WS_OK ? ws_tv_count(pair->plans, pair->n, &maker, ctx, err) : st;
}

void ws_tv_sparse_free(ws_tv_sparse *s)
{
    ws_ckpt_free(s->file);
    if (s->name != NULL)
        unlink(s->name);
    ws_free(s->name);
    ws_free(s->description);
}

ws_status ws_tv_sparse_make(void *self, size_t tensor, uint64_t b, size_t from,
                            size_t to, ws_tv_made *m, ws_err *err)
{
    const ws_tv_sparse *s = self;
    const ws_tv_plan *p = &s->pair->plans[tensor];
    const size_t real = p->wide ? 8 : 4;
    uint64_t first;
    size_t n;
    ws_tv_block_at(&p->blocks, b, &first, &n);
    m->n_side = 0;
    return ws_ckpt_read(s->file, ws_ckpt_find(s->file, p->t.name),
                        (first + from) * real, (to - from) * real, m->update, err);
}
