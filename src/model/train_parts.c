/*
 * train_parts.c - the tensors that a model uses, and master copies of them
 */
#include <string.h>

#include "model/train_step.h"
#include "wsurg/text.h"

#ifndef WS_MODEL_F64
size_t ws_model_part_count(const ws_model *m)
{
    return m->n_blocks;
}

const ws_model_part *ws_model_part_at(const ws_model *m, size_t i)
{
    return &m->parts[i];
}

int64_t ws_model_part_find(const ws_model *m, const char *name)
{
    for (size_t i = 0; i < m->n_blocks; i++)
        if (strcmp(m->parts[i].name, name) == 0)
            return (int64_t)i;
    return -1;
}
#endif

/** A view follows its part to another place and dtype. */
static void follow(ws_weight *w, const ws_model_part *p, size_t i)
{
    if (w->data == NULL || w->part != i)
        return;
    w->dtype = p->dtype;
    w->data = (const unsigned char *)p->data + (size_t)w->offset * sizeof(ws_real);
}

static void all_follow(ws_model *m, size_t i)
{
    ws_weight *outside[] = { &m->embed, &m->positions, &m->final_norm, &m->final_norm_b,
                             &m->head };
    const ws_model_part *p = &m->parts[i];

    for (size_t k = 0; k < sizeof outside / sizeof outside[0]; k++)
        follow(outside[k], p, i);
    for (int64_t l = 0; l < m->d.L; l++) {
        ws_weight *w = (ws_weight *)&m->layer[l]; // a layer is weights alone
        for (size_t k = 0; k < sizeof(ws_layer) / sizeof(ws_weight); k++)
            follow(&w[k], p, i);
    }
}

static ws_status limit_check(const ws_model *m, uint64_t more, ws_err *err)
{
    char need[24], have[24];

    if (more <= m->limit && m->info.bytes <= m->limit - more)
        return WS_OK;
    ws_show_bytes(m->info.bytes + more, need);
    ws_show_bytes(m->limit, have);
    ws_fail(err, WS_E_MEMORY, "weights in full precision take %s, the limit is %s",
            need, have);
    ws_err_hint(err, "--max-memory raises the limit");
    return ws_err_at(err, m->info.path, NULL, -1);
}

ws_status ws_model_master(ws_model *m, size_t i, ws_real **numbers, ws_err *err)
{
    ws_model_part *p = &m->parts[i];
    const size_t was = ws_dtype_info(p->dtype)->bits / 8u;

    if (p->dtype != WS_REAL_DT) {
        const uint64_t more = (uint64_t)p->n * (sizeof(ws_real) - was);
        ws_status st = limit_check(m, more, err);
        if (st)
            return st;
        ws_real *copy = ws_alloc((size_t)p->n * sizeof *copy);
        if (copy == NULL)
            return ws_fail(err, WS_E_MEMORY, "no memory for '%s'", p->name);
        ws_to_real(p->dtype, p->data, copy, (size_t)p->n);
        ws_free(m->blocks[i]);
        m->blocks[i] = copy;
        p->data = copy;
        p->dtype = WS_REAL_DT;
        m->info.bytes += more;
        all_follow(m, i);
    }
    *numbers = m->blocks[i];
    return WS_OK;
}
