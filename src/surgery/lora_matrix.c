/*
 * lora_matrix.c - the matrix of an adapter's module, before and after
 */
#include "surgery/lora_matrix.h"

#include <math.h>
#include <stdio.h>

bool ws_lora_matrix_find(ws_lora_matrix *out, const ws_ckpt *source,
                         const ws_adapter_module *mod)
{
    char name[WS_MAX_NAME + 16];
    const ws_ckpt *under = ws_source_base(source);
    const ws_tensor *base = ws_module_tensor(under, mod->path, ".weight");
    bool known = true;
    if (mod->embedding || mod->a->rank != 2)
        return false;
    const int n = snprintf(name, sizeof name, "%s.weight", mod->path);
    if (base != NULL)
        snprintf(name, sizeof name, "%s", base->name);
    else if (n > 0 && (size_t)n < sizeof name)
        base = ws_tied_tensor(under, name); // the source shows it under its own name
    const ws_tensor *tuned = ws_ckpt_find(source, name);
    if (base == NULL || tuned == NULL || base->rank != 2)
        return false;
    const bool conv1d = ws_module_is_conv1d(under, mod->path, &known);
    *out = (ws_lora_matrix){ .source = source,
                             .under = under,
                             .tuned = tuned,
                             .base = base,
                             .m = mod->out,
                             .n = mod->in,
                             .flipped =
                                 known ? conv1d : (int64_t)base->shape[0] != mod->out };
    return true;
}

ws_status ws_lora_matrix_load(void *arg, bool tuned, double *to, ws_err *err)
{
    const ws_lora_matrix *x = arg;
    const ws_ckpt *c = tuned ? x->source : x->under;
    const ws_tensor *t = tuned ? x->tuned : x->base;
    const size_t rows = (size_t)t->shape[0], cols = (size_t)t->shape[1];
    const size_t size = ws_dtype_info(t->dtype)->bits / 8;
    void *raw = ws_calloc(cols, size);
    double *row = ws_calloc(cols, sizeof *row);
    ws_status st = raw == NULL || row == NULL
                       ? ws_fail(err, WS_E_MEMORY, "no memory for a row")
                       : WS_OK;
    for (size_t i = 0; i < rows && st == WS_OK; i++) {
        st = ws_ckpt_read(c, t, i * cols * size, cols * size, raw, err);
        if (st != WS_OK)
            break;
        ws_to_f64(t->dtype, raw, row, cols);
        for (size_t j = 0; j < cols && st == WS_OK; j++) {
            if (!isfinite(row[j])) {
                ws_fail(err, WS_E_NOT_FINITE, "the matrix holds NaN or infinity");
                ws_err_at(err, ws_ckpt_path(c), t->name, -1);
                st = WS_E_NOT_FINITE;
            }
            to[x->flipped ? j * rows + i : i * cols + j] = row[j];
        }
    }
    ws_free(raw);
    ws_free(row);
    return st;
}
