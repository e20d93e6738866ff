/*
 * gates.c - what must hold of a model before it may pass
 *
 * A gate that compares cannot pass a tensor that it cannot judge: one that only one
 * model has, of another shape, changed to or from NaN, or of integers that changed,
 * counts as infinitely far away (and, for the cosine, as orthogonal).
 */
#include "wsurg/gates.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/gates_internal.h"
#include "wsurg/pattern.h"

ws_gate *ws_gate_new(ws_gates *g, const char *name, double limit)
{
    ws_gate *gate = &g->gates[g->n++];
    *gate = (ws_gate){ .name = name, .passed = true, .limit = limit };
    return gate;
}

/** Put an offender in its place among the worst; @p sign is 1 where large figures are
 * bad, -1 where small ones are. */
static void offend(ws_gate *g, const char *tensor, double value, double sign,
                   const char *note)
{
    size_t i = g->n_worst;
    g->passed = false;
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
        snprintf(g->worst[i].note, sizeof g->worst[i].note, "%s",
                 note == NULL ? "" : note);
    }
}

void ws_gate_count(ws_gate *g, const char *tensor, double value, const char *note)
{
    g->value += 1.0;
    offend(g, tensor, value, 1.0, note);
}

/** One more tensor that fails a counting gate. */
static void count(ws_gate *g, const char *tensor, double value)
{
    ws_gate_count(g, tensor, value, NULL);
}

static void gate_finite(ws_gates *g, const ws_stats *s)
{
    ws_gate *gate = ws_gate_new(g, "finite", 0.0);
    for (size_t i = 0; i < s->n; i++) {
        const ws_tensor_stats *t = &s->tensors[i];
        const uint64_t bad = t->nans + t->infinities + t->not_bool;
        if (bad > 0)
            count(gate, t->t->name, (double)bad);
    }
    gate->value = (double)(s->nans + s->infinities + s->not_bool);
}

/** Numbers from here on round to infinity in F16, whose largest is 65504. */
#define F16_OVERFLOW 65520.0
#define F16_MOST     65504.0

/** What is stored as integers stays so, and NaN and infinity are the same in F16. */
static void gate_fits_f16(ws_gates *g, const ws_stats *s)
{
    ws_gate *gate = ws_gate_new(g, "fits-f16", F16_MOST);
    for (size_t i = 0; i < s->n; i++) {
        const ws_tensor_stats *t = &s->tensors[i];
        const double v = fmax(fabs(t->min), fabs(t->max));
        if (!ws_dtype_info(t->t->dtype)->arithmetic || isnan(v))
            continue;
        gate->value = v > gate->value ? v : gate->value;
        if (v >= F16_OVERFLOW)
            offend(gate, t->t->name, v, 1.0, NULL);
    }
}

static void gate_same(ws_gates *g, const ws_diff *d)
{
    ws_gate *gate = ws_gate_new(g, "same", 0.0);
    for (size_t i = 0; i < d->n; i++)
        if (d->tensors[i].state >= WS_DIFF_DTYPE)
            count(gate, d->tensors[i].name, 1.0);
}

/** Whether a tensor differs in a way that its figures do not show. */
static bool beyond_judging(const ws_tensor_diff *t)
{
    return t->state >= WS_DIFF_SHAPE || t->broken > 0 ||
           (isnan(t->max_abs) && t->state != WS_DIFF_EQUAL);
}

static void gate_delta(ws_gates *g, const ws_diff *d, double limit)
{
    ws_gate *gate = ws_gate_new(g, "max-rel-delta", limit);
    for (size_t i = 0; i < d->n; i++) {
        const ws_tensor_diff *t = &d->tensors[i];
        const double v = beyond_judging(t) ? HUGE_VAL : t->relative_norm;
        if (isnan(v)) // equal, of no numbers
            continue;
        gate->value = v > gate->value ? v : gate->value;
        if (v > limit)
            offend(gate, t->name, v, 1.0, NULL);
    }
}

static void gate_cosine(ws_gates *g, const ws_diff *d, double limit)
{
    ws_gate *gate = ws_gate_new(g, "min-cosine", limit);
    gate->value = 1.0;
    for (size_t i = 0; i < d->n; i++) {
        const ws_tensor_diff *t = &d->tensors[i];
        double v = t->cosine;
        if (beyond_judging(t) || (isnan(v) && t->state != WS_DIFF_EQUAL))
            v = 0.0;
        if (isnan(v))
            continue;
        gate->value = v < gate->value ? v : gate->value;
        if (v < limit)
            offend(gate, t->name, v, -1.0, NULL);
    }
}

/* ---- lineage ---- */

static bool is_matrix(const ws_tensor *t)
{
    return t != NULL && t->rank >= 2 && ws_dtype_info(t->dtype)->arithmetic;
}

static bool matrix_wanted(void *arg, const char *name)
{
    return is_matrix(ws_ckpt_find(arg, name));
}

static void lineage_judge(ws_gate *gate, const ws_diff *d)
{
    double dot = 0.0, a_sq = 0.0, b_sq = 0.0;
    uint64_t both = 0, in_a = 0, in_b = 0;
    for (size_t i = 0; i < d->n; i++) {
        const ws_tensor_diff *t = &d->tensors[i];
        in_a += is_matrix(t->a) ? t->a->n_elements : 0;
        in_b += is_matrix(t->b) ? t->b->n_elements : 0;
        if (!is_matrix(t->a) || !is_matrix(t->b) || t->state >= WS_DIFF_SHAPE)
            continue;
        both += t->a->n_elements;
        dot += t->dot;
        a_sq += t->a_sq;
        b_sq += t->b_sq;
    }
    const uint64_t larger = in_a > in_b ? in_a : in_b;
    if (larger > 0 && a_sq > 0.0 && b_sq > 0.0)
        gate->value = dot / sqrt(a_sq) / sqrt(b_sq) * ((double)both / (double)larger);
    gate->passed = gate->value >= gate->limit;
}

/** The matrices least like the base's, where the gate fails. */
static void lineage_blame(ws_gate *gate, const ws_diff *d)
{
    if (gate->passed)
        return;
    for (size_t i = 0; i < d->n; i++) {
        const ws_tensor_diff *t = &d->tensors[i];
        const bool one = !is_matrix(t->a) || !is_matrix(t->b);
        if (!is_matrix(t->a) && !is_matrix(t->b))
            continue;
        const double v =
            one || t->state >= WS_DIFF_SHAPE || isnan(t->cosine) ? 0.0 : t->cosine;
        if (v < gate->limit)
            offend(gate, t->name, v, -1.0,
                   one                         ? "in one model only"
                   : t->state >= WS_DIFF_SHAPE ? "of another shape"
                                               : NULL);
    }
}

static ws_status gate_lineage(ws_gates *g, const ws_ckpt *c, const ws_ckpt *base,
                              const ws_ctx *ctx, ws_err *err)
{
    ws_diff *d = NULL;
    const ws_diff_opts o = { .wanted = matrix_wanted, .arg = (void *)(uintptr_t)base };
    const ws_status st = ws_diff_new(&d, base, c, &o, ctx, err);
    if (st == WS_OK) {
        ws_gate *gate = ws_gate_new(g, "lineage", WS_LINEAGE_LIMIT);
        lineage_judge(gate, d);
        lineage_blame(gate, d);
    }
    ws_diff_free(d);
    return st;
}

/* ---- patterns ---- */

/** Which tensors must be byte-equal. */
struct bound {
    ws_pattern_set *frozen, *only; // NULL: no such gate
};

/** Whether a gate binds @p name: frozen does what it hits, only what it does not. A
 * pattern without an answer has been refused before. */
static bool binds(const ws_pattern_set *p, bool inverted, const char *name)
{
    bool hit = false;
    return p != NULL && ws_pattern_match(p, name, &hit, NULL) == WS_OK &&
           hit != inverted;
}

static bool wanted(void *arg, const char *name)
{
    const struct bound *b = arg;
    return binds(b->frozen, false, name) || binds(b->only, true, name);
}

static void gate_bytes(ws_gates *g, const char *name, const ws_diff *d,
                       const ws_pattern_set *p, bool inverted)
{
    ws_gate *gate = ws_gate_new(g, name, 0.0);
    for (size_t i = 0; i < d->n; i++) {
        const ws_tensor_diff *t = &d->tensors[i];
        if (t->state != WS_DIFF_EQUAL && binds(p, inverted, t->name))
            count(gate, t->name, (double)t->changed);
    }
}

/** Try a pattern on all names of @p c; *hit when it is found in one. */
static ws_status try_names(const ws_pattern_set *p, const ws_ckpt *c, bool *hit,
                           ws_err *err)
{
    for (size_t i = 0; i < ws_ckpt_count(c); i++) {
        bool found = false;
        const ws_status st =
            ws_pattern_match(p, ws_ckpt_tensor(c, i)->name, &found, err);
        if (st != WS_OK)
            return st;
        *hit |= found;
    }
    return WS_OK;
}

/** Compile a pattern; it must hit a tensor of either model. */
static ws_status compile(ws_pattern_set **p, const char *option, const char *text,
                         const ws_ckpt *a, const ws_ckpt *b, ws_err *err)
{
    bool hit = false;
    if (text == NULL)
        return WS_OK;
    ws_status st = ws_pattern_new(p, text, err);
    if (st == WS_OK)
        st = try_names(*p, a, &hit, err);
    if (st == WS_OK)
        st = try_names(*p, b, &hit, err);
    if (st == WS_OK && !hit) {
        st = ws_fail(err, WS_E_USAGE, "%s '%s' hits no tensor", option, text);
        ws_err_hint(err, "'wsurg inspect MODEL --tensors' lists the names");
    }
    return st;
}

/* ---- all ---- */

/** The gates that compare; only what they need is read. */
static ws_status compare_gates(ws_gates *g, const ws_ckpt *c, const ws_ckpt *against,
                               const ws_gates_opts *o, const ws_ctx *ctx, ws_err *err)
{
    const bool figures = !isnan(o->max_rel_delta) || !isnan(o->min_cosine);
    struct bound bound = { NULL, NULL };
    const ws_diff_opts diff = { .wanted = figures ? NULL : wanted, .arg = &bound };
    ws_diff *d = NULL;
    ws_status st = compile(&bound.frozen, "--frozen", o->frozen, against, c, err);
    if (st == WS_OK)
        st = compile(&bound.only, "--only", o->only, against, c, err);
    if (st == WS_OK) // figures are relative to what is compared with
        st = ws_diff_new(&d, against, c, &diff, ctx, err);
    if (st == WS_OK) {
        if (o->same)
            gate_same(g, d);
        if (bound.frozen != NULL)
            gate_bytes(g, "frozen", d, bound.frozen, false);
        if (bound.only != NULL)
            gate_bytes(g, "only", d, bound.only, true);
        if (!isnan(o->max_rel_delta))
            gate_delta(g, d, o->max_rel_delta);
        if (!isnan(o->min_cosine))
            gate_cosine(g, d, o->min_cosine);
    }
    ws_pattern_free(bound.frozen);
    ws_pattern_free(bound.only);
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
    if (o->finite || o->fits_f16) {
        ws_stats *s = NULL;
        st = ws_stats_new(&s, c, ctx, err);
        if (st == WS_OK && o->finite)
            gate_finite(out, s);
        if (st == WS_OK && o->fits_f16)
            gate_fits_f16(out, s);
        ws_stats_free(s);
    }
    if (st == WS_OK && o->config)
        st = ws_gate_config(out, c, err);
    if (st == WS_OK && compares)
        st = compare_gates(out, c, against, o, ctx, err);
    if (st == WS_OK && o->lineage != NULL)
        st = gate_lineage(out, c, o->lineage, ctx, err);
    for (size_t i = 0; i < out->n; i++)
        out->passed = out->passed && out->gates[i].passed;
    return st;
}
