/*
 * mask_pair.c - base and model side by side
 */
#include "surgery/mask_pair.h"

#include <string.h>

#include "surgery/taskvec_write.h"
#include "wsurg/digest.h"

ws_status ws_mask_pair_open(ws_mask_pair *p, const char *base, const char *model,
                            const ws_ctx *ctx, ws_err *err)
{
    const ws_status st = ws_tv_open_model(&p->base, base, ctx, err);
    return st != WS_OK ? st : ws_tv_open_model(&p->model, model, ctx, err);
}

void ws_mask_pair_close(ws_mask_pair *p)
{
    ws_ckpt_free(p->base);
    ws_ckpt_free(p->model);
    *p = (ws_mask_pair){ 0 };
}

ws_status ws_mask_pair_find(const ws_mask_pair *p, const ws_tensor *t,
                            const ws_tensor **out, ws_err *err)
{
    const ws_tensor *in = ws_ckpt_find(p->model, t->name);
    const char *path = ws_ckpt_path(p->model);
    if (in == NULL) {
        ws_fail(err, WS_E_MISSING, "tensor of the base is not there");
    } else if (in->n_elements != t->n_elements) {
        ws_fail(err, WS_E_SHAPE, "tensor has %llu numbers, the base's %llu",
                (unsigned long long)in->n_elements, (unsigned long long)t->n_elements);
    } else if (!ws_dtype_info(in->dtype)->arithmetic ||
               !ws_dtype_info(t->dtype)->arithmetic) {
        if (!ws_dtype_info(t->dtype)->arithmetic)
            path = ws_ckpt_path(p->base);
        ws_fail(
            err, WS_E_DTYPE, "no arithmetic for dtype %s",
            ws_dtype_info(path == ws_ckpt_path(p->base) ? t->dtype : in->dtype)->name);
    } else {
        *out = in;
        return WS_OK;
    }
    return ws_err_at(err, path, t->name, -1);
}

ws_status ws_mask_numbers(const ws_ckpt *c, const ws_tensor *t, uint64_t first,
                          size_t n, double *out, ws_err *err)
{
    unsigned char raw[WS_MASK_PIECE * sizeof(double)];
    const size_t size = ws_dtype_info(t->dtype)->bits / 8;
    const ws_status st = ws_ckpt_read(c, t, first * size, n * size, raw, err);
    if (st == WS_OK)
        ws_to_f64(t->dtype, raw, out, n);
    return st;
}

ws_status ws_mask_pair_delta(const ws_mask_pair *p, const ws_tensor *t,
                             const ws_tensor *in, uint64_t first, size_t n, double *out,
                             ws_err *err)
{
    double base[WS_MASK_PIECE];
    ws_status st = ws_mask_numbers(p->model, in, first, n, out, err);
    if (st == WS_OK)
        st = ws_mask_numbers(p->base, t, first, n, base, err);
    for (size_t i = 0; st == WS_OK && i < n; i++)
        out[i] -= base[i];
    return st;
}

ws_status ws_mask_input(ws_buf *b, const char *role, const ws_ckpt *c,
                        const ws_ctx *ctx, ws_err *err)
{
    char digest[48];
    const ws_status st = ws_ckpt_digest_text(c, ctx, digest, err);
    if (st == WS_OK)
        ws_tv_input_add(b, role, ws_ckpt_label(c), digest);
    return st;
}

ws_status ws_mask_made(ws_ckpt **out, const ws_ckpt *base, const ws_ckpt_ops *ops,
                       void *self, ws_mask_dtype *dtype, ws_err *err)
{
    ws_ckpt *c = NULL;
    ws_status st = ws_ckpt_new(&c, ws_ckpt_path(base), "masked", ops, self, err);
    if (st == WS_OK)
        st = ws_ckpt_borrow_files(c, base, err);
    for (size_t i = 0; st == WS_OK && i < ws_ckpt_count(base); i++) {
        ws_tensor t = *ws_ckpt_tensor(base, i);
        t.dtype = dtype(self, i, &t);
        t.offset = i;
        st = ws_tensor_measure(&t, err);
        if (st == WS_OK)
            st = ws_ckpt_add_tensor(c, &t, 0, err);
    }
    for (size_t i = 0; st == WS_OK && i < ws_ckpt_meta_count(base); i++) {
        const char *key, *value;
        ws_ckpt_meta_at(base, i, &key, &value);
        if (strncmp(key, "wsurg.", 6) != 0)
            st = ws_ckpt_add_meta(c, key, value, err);
    }
    if (st == WS_OK) {
        c->is_dir = ws_ckpt_is_dir(base);
        st = ws_ckpt_finish(c, err);
    }
    if (st == WS_OK)
        *out = c;
    else
        ws_ckpt_free(c);
    return st;
}
