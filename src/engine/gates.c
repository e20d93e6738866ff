/*
 * gates.c - what must hold of a model before it may pass
 */
#include "wsurg/gates.h"

#include <math.h>
#include <string.h>

#include "wsurg/alloc.h"
#include "wsurg/pattern.h"

static ws_gate *gate_new(ws_gates *g, const char *name, double limit)
{
    ws_gate *gate = &g->gates[g->n++];
    *gate = (ws_gate){ .name = name, .passed = true, .limit = limit };
    return gate;
}

/** Put an offender in its place among the worst; @p sign is 1 where large figures are
 * bad, -1 where small ones are. */
static void offend(ws_gate *g, const char *tensor, double value, double sign)
{
    size_t i = g->n_worst;
    if (i < WS_GATE_WORST)
        g->n_worst++;
    while (i > 0 && sign * value > sign * g->worst[i - 1].value) {
        if (i < WS_GATE_WORST)
            g->worst[i] = g->worst[i - 1];
        i--;
    }
    if (i < WS_GATE_WORST) {
        g->worst[i].tensor = tensor;
        g->worst[i].value = value;
    }
}

/** One more tensor that fails a counting gate. */
static void count(ws_gate *g, const char *tensor, double value)
{
    g->passed = false;
    g->value += 1.0;
    offend(g, tensor, value, 1.0);
}

static void gate_finite(ws_gates *g, const ws_stats *s)
{
    ws_gate *gate = gate_new(g, "finite", 0.0);
    for (size_t i = 0; i < s->n; i++) {
        const uint64_t bad = s->tensors[i].nans + s->tensors[i].infinities;
        if (bad > 0)
            count(gate, s->tensors[i].t->name, (double)bad);
    }
    gate->value = (double)(s->nans + s->infinities);
}

static void gate_same(ws_gates *g, const ws_diff *d)
{
    ws_gate *gate = gate_new(g, "same", 0.0);
    for (size_t i = 0; i < d->n; i++)
        if (d->tensors[i].state >= WS_DIFF_DTYPE)
            count(gate, d->tensors[i].name, 1.0);
}

/** Tensors that @p p hits (or, inverted, does not) must be byte-equal. */
static void gate_frozen(ws_gates *g, const char *name, const ws_diff *d,
                        const ws_pattern_set *p, bool inverted)
{
    ws_gate *gate = gate_new(g, name, 0.0);
    for (size_t i = 0; i < d->n; i++) {
        const ws_tensor_diff *t = &d->tensors[i];
        if (t->state == WS_DIFF_EQUAL || ws_pattern_match(p, t->name) == inverted)
            continue;
        count(gate, t->name, (double)t->changed);
    }
}

static void gate_delta(ws_gates *g, const ws_diff *d, double limit)
{
    ws_gate *gate = gate_new(g, "max-rel-delta", limit);
    for (size_t i = 0; i < d->n; i++) {
        const double v = d->tensors[i].relative_norm;
        if (isnan(v))
            continue;
        gate->value = v > gate->value ? v : gate->value;
        if (v > limit)
            offend(gate, d->tensors[i].name, v, 1.0);
    }
    gate->passed = gate->value <= limit;
}

static void gate_cosine(ws_gates *g, const ws_diff *d, double limit)
{
    ws_gate *gate = gate_new(g, "min-cosine", limit);
    gate->value = 1.0;
    for (size_t i = 0; i < d->n; i++) {
        const double v = d->tensors[i].cosine;
        if (isnan(v))
            continue;
        gate->value = v < gate->value ? v : gate->value;
        if (v < limit)
            offend(gate, d->tensors[i].name, v, -1.0);
    }
    gate->passed = gate->value >= limit;
}

/** Compile a pattern; it must hit a tensor of either model. */
static ws_status compile(ws_pattern_set **p, const char *option, const char *text,
                         const ws_diff *d, ws_err *err)
{
    ws_status st = ws_pattern_new(p, text, err);
    for (size_t i = 0; st == WS_OK && i < d->n; i++)
        if (ws_pattern_match(*p, d->tensors[i].name))
            return WS_OK;
    if (st == WS_OK) {
        st = ws_fail(err, WS_E_USAGE, "%s '%s' hits no tensor", option, text);
        ws_err_hint(err, "'wsurg inspect MODEL --tensors' lists the names");
    }
    return st;
}

/** The gates that compare. */
static ws_status compare_gates(ws_gates *g, const ws_ckpt *c, const ws_ckpt *against,
                               const ws_gates_opts *o, const ws_ctx *ctx, ws_err *err)
{
    ws_diff *d = NULL;
    ws_pattern_set *frozen = NULL, *only = NULL;
    // figures are relative to what is compared with
    ws_status st = ws_diff_new(&d, against, c, NULL, ctx, err);
    if (st == WS_OK && o->frozen != NULL)
        st = compile(&frozen, "--frozen", o->frozen, d, err);
    if (st == WS_OK && o->only != NULL)
        st = compile(&only, "--only", o->only, d, err);
    if (st == WS_OK) {
        if (o->same)
            gate_same(g, d);
        if (frozen != NULL)
            gate_frozen(g, "frozen", d, frozen, false);
        if (only != NULL)
            gate_frozen(g, "only", d, only, true);
        if (!isnan(o->max_rel_delta))
            gate_delta(g, d, o->max_rel_delta);
        if (!isnan(o->min_cosine))
            gate_cosine(g, d, o->min_cosine);
    }
    ws_pattern_free(frozen);
    ws_pattern_free(only);
    ws_diff_free(d);
    return st;
}

ws_status ws_gates_run(ws_gates *out, const ws_ckpt *c, const ws_ckpt *against,
                       const ws_gates_opts *o, const ws_ctx *ctx, ws_err *err)
{
    const bool compares = o->same || o->frozen != NULL || o->only != NULL ||
                          !isnan(o->max_rel_delta) || !isnan(o->min_cosine);
    *out = (ws_gates){ .passed = true };
    if (compares && against == NULL) {
        ws_fail(err, WS_E_USAGE,
                "a gate compares, and nothing to compare with is named");
        ws_err_hint(err, "--against MODEL");
        return WS_E_USAGE;
    }
    ws_status st = WS_OK;
    if (o->finite) {
        ws_stats *s = NULL;
        st = ws_stats_new(&s, c, ctx, err);
        if (st == WS_OK)
            gate_finite(out, s);
        ws_stats_free(s);
    }
    if (st == WS_OK && compares)
        st = compare_gates(out, c, against, o, ctx, err);
    for (size_t i = 0; i < out->n; i++)
        out->passed = out->passed && out->gates[i].passed;
    return st;
}
