/*
 * fuzz_peft.c - adapters: a configuration up to the first NUL, then the weights' file
 *
 * What is accepted has consistent modules, is found by its path, and goes on a base of
 * zeros or is refused there with a report.
 */
#include <math.h>
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "fuzz.h"
#include "hf/peft.h"
#include "wsurg/source.h"

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

static void zeros_add(ws_ckpt *c, const char *path, const char *suffix, int64_t rows,
                      int64_t cols)
{
    char name[WS_MAX_NAME + 16];
    const uint64_t shape[] = { (uint64_t)rows, (uint64_t)cols };
    snprintf(name, sizeof name, "%s%s", path, suffix);
    ws_tensor t = { .name = name,
                    .dtype = WS_DT_BF16,
                    .rank = cols > 0 ? 2 : 1,
                    .shape = shape,
                    .file = WS_NO_FILE,
                    .offset = c->n };
    if (ws_tensor_measure(&t, NULL) == WS_OK)
        ws_ckpt_add_tensor(c, &t, 0, NULL); // a name may come twice
}

/** A base of zeros that suits the linear modules. */
static ws_ckpt *zeros_make(const ws_adapter *a)
{
    static const ws_ckpt_ops ops = { .read = zeros_read };
    ws_ckpt *c = NULL;
    MUST(ws_ckpt_new(&c, "zeros", "zeros", &ops, NULL, NULL) == WS_OK);
    for (size_t i = 0; i < a->n_modules; i++) {
        const ws_adapter_module *m = &a->modules[i];
        if (m->embedding)
            zeros_add(c, m->path, ".weight", m->in, m->out);
        else
            zeros_add(c, m->path, ".weight", m->out, m->in);
        zeros_add(c, m->path, ".bias", m->out, 0);
    }
    MUST(ws_ckpt_finish(c, NULL) == WS_OK);
    return c;
}

static void check_adapter(const ws_adapter *a)
{
    for (size_t i = 0; i < a->n_modules; i++) {
        const ws_adapter_module *m = &a->modules[i];
        MUST(ws_adapter_find(a, m->path) == m);
        MUST(m->r >= 1 && m->in >= 1 && m->out >= 1);
        MUST((uint64_t)(m->r * m->in) == m->a->n_elements);
        MUST((uint64_t)(m->r * m->out) == m->b->n_elements);
        MUST(isfinite(m->scale));
    }
    for (size_t i = 0; i < a->n_rows; i++)
        MUST(a->rows[i].n == a->rows[i].t->shape[0]);
}

/** Read the ends of every tensor of the adapted base. */
static void check_source(ws_adapter *a)
{
    ws_ckpt *base = zeros_make(a), *c = NULL;
    ws_fold_opts o = WS_FOLD_OPTS_INIT;
    ws_err err = WS_ERR_INIT;
    o.residual = true;
    if (ws_adapter_source(&c, base, &a, 1, &o, NULL, &err) != WS_OK) {
        MUST(err.msg[0] != '\0');
        ws_adapter_free(a);
        ws_ckpt_free(base);
        return;
    }
    for (size_t i = 0; i < ws_ckpt_count(c); i++) {
        const ws_tensor *t = ws_ckpt_tensor(c, i);
        uint8_t first[64], again[64];
        const size_t n = t->n_bytes < sizeof first ? (size_t)t->n_bytes : sizeof first;
        const ws_status st = ws_ckpt_read(c, t, t->n_bytes - n, n, first, NULL);
        MUST(st == WS_OK || st == WS_E_NOT_FINITE);
        MUST(ws_ckpt_read(c, t, t->n_bytes - n, n, again, NULL) == st);
        MUST(st != WS_OK || memcmp(first, again, n) == 0);
    }
    ws_ckpt_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const long live = ws_alloc_live();
    const uint8_t *nul = memchr(data, 0, size);
    const size_t len = nul == NULL ? size : (size_t)(nul - data);
    const uint8_t *file = nul == NULL ? data + size : nul + 1;
    ws_ckpt *c = NULL;
    ws_adapter *a = NULL;
    ws_err err = WS_ERR_INIT;
    if (ws_st_open_memory(&c, file, size - (size_t)(file - data), NULL, NULL) != WS_OK)
        return 0;
    if (ws_adapter_from(&a, "fuzz", (const char *)data, len, c, NULL, &err) == WS_OK) {
        check_adapter(a);
        check_source(a);
    } else {
        MUST(err.msg[0] != '\0');
        ws_ckpt_free(c);
    }
    MUST(ws_alloc_live() == live);
    return 0;
}
