/*
 * cmd_taskvec.c - task vectors: made, applied, combined, measured
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_args.h"
#include "report.h"
#include "wsurg/taskvec.h"
#include "wsurg/text.h"

enum { WORST = 10 };

struct extract_args {
    const char *base, *model, *method;
    ws_strs sets;
    int64_t seed;
    struct ws_write_args w;
    bool allow_nonfinite;
};

struct apply_args {
    const char *base;
    ws_strs vectors;
    double scale;
    bool force_base;
    struct ws_model_args model;
};

struct combine_args {
    ws_strs vectors;
    const char *weights;
    double *weight; // (vectors.n) made of the above, or NULL
    struct ws_write_args w;
};

struct stats_args {
    ws_strs vectors;
    bool spectrum;
};

/** Options of a task vector, which is always one file in its own dtypes. */
static ws_write_opts vector_opts(const struct ws_write_args *a)
{
    ws_write_opts w = WS_WRITE_OPTS_INIT;
    w.out = a->out ? a->out : "taskvec.safetensors";
    w.force = a->force;
    w.resume = a->resume;
    w.provenance = !a->no_provenance;
    w.manifest = a->manifest;
    return w;
}

/* ---- reports ---- */

static void counts_json(cJSON *to, const ws_taskvec_counts *n)
{
    cJSON *o = ws_j_obj(to, "tensors");
    ws_j_u64(o, "dense", n->dense);
    ws_j_u64(o, "bitmap", n->bitmap);
    ws_j_u64(o, "index", n->index);
    ws_j_u64(o, "same", n->same);
    ws_j_u64(o, "whole", n->whole);
    ws_j_u64(o, "removed", n->removed);
    ws_j_u64(to, "elements", n->elements);
    ws_j_num(to, "density",
             n->elements > 0 ? (double)n->nonzero / (double)n->elements : NAN);
    ws_j_u64(to, "exact_entries", n->exact);
}

static void outputs_json(cJSON *to, const char *out, const ws_result *r)
{
    ws_outputs_json(ws_j_arr(to, "outputs"), out, r->outputs, r->n_outputs);
    ws_j_str(to, "manifest", r->manifest);
}

/** "40 updated (30 bitmap, 10 dense), 7 same, 1 whole, 2 removed · 12.3 % nonzero" */
static void counts_row(ws_run *run, int width, const ws_taskvec_counts *n, bool exact)
{
    ws_buf b = { 0 };
    char share[24];
    ws_buf_printf(&b, "%zu updated", n->dense + n->bitmap + n->index);
    const struct {
        size_t n;
        const char *word;
    } parts[] = { { n->dense, "dense" },
                  { n->bitmap, "bitmap" },
                  { n->index, "index" } };
    const char *open = " (";
    for (size_t i = 0; i < 3; i++)
        if (parts[i].n > 0) {
            ws_buf_printf(&b, "%s%zu %s", open, parts[i].n, parts[i].word);
            open = ", ";
        }
    ws_buf_puts(&b, *open == ',' ? "), " : ", ");
    ws_buf_printf(&b, "%zu same", n->same);
    if (n->whole > 0)
        ws_buf_printf(&b, ", %zu whole", n->whole);
    if (n->removed > 0)
        ws_buf_printf(&b, ", %zu removed", n->removed);
    if (n->elements > 0) {
        ws_show_share((double)n->nonzero / (double)n->elements, 1, share);
        ws_buf_printf(&b, " · %s nonzero", share);
    }
    if (exact)
        ws_buf_printf(&b, " · %llu with bits of their own",
                      (unsigned long long)n->exact);
    ws_run_row(run, width, "tensors", "%s", b.p ? b.p : "");
    ws_buf_free(&b);
}

/** What every writing command ends with. */
static void finish(ws_run *run, const ws_taskvec_result *r)
{
    run->usage = r->run->usage;
    run->has_usage = true;
    run->unchanged = r->run->unchanged;
}

static bool said_unchanged(ws_run *run, const ws_taskvec_result *r, const char *out)
{
    ws_run_flush(run);
    if (r->run->unchanged)
        ws_run_talk(run, "%s is this result already: nothing was written", out);
    return r->run->unchanged;
}

/* ---- extract ---- */

static void extract_check(ws_run *run, void *args)
{
    const struct extract_args *a = args;
    if (!a->method && a->sets.n > 0) {
        ws_err *e = ws_run_error(
            run, WS_E_USAGE, "option '--set' needs --method: whose %s?", a->sets.v[0]);
        ws_err_hint(e, "--method breadcrumbs --set %s", a->sets.v[0]);
    }
    ws_stdout_check(run, &a->w);
}

static ws_status extract_run(ws_run *run, void *args)
{
    const struct extract_args *a = args;
    const ws_taskvec_extract_req req = { .base = a->base,
                                         .model = a->model,
                                         .method = a->method,
                                         .sets = a->sets.v,
                                         .n_sets = a->sets.n,
                                         .seed = (uint64_t)a->seed,
                                         .write = vector_opts(&a->w) };
    ws_taskvec_extract_req with = req;
    with.write.allow_nonfinite = a->allow_nonfinite;
    ws_taskvec_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    run->target = req.write.out;
    if (ws_taskvec_extract(&r, &with, &run->ctx, &err))
        return ws_run_fail(run, &err);
    finish(run, r);
    cJSON *to = ws_run_result(run);
    ws_j_str(to, "base", a->base);
    ws_j_str(to, "model", a->model);
    ws_j_str(to, "method", a->method);
    ws_j_bool(to, "exact", r->exact);
    counts_json(to, &r->counts);
    outputs_json(to, req.write.out, r->run);
    if (!said_unchanged(run, r, req.write.out)) {
        counts_row(run, 9, &r->counts, r->exact);
        ws_wrote_row(run, 9, req.write.out, r->run->outputs, r->run->n_outputs,
                     r->run->manifest);
    }
    ws_taskvec_result_free(r);
    return WS_OK;
}

static const ws_arg extract_params[] = {
    WS_ARG(struct extract_args, base, "BASE", "the model that was fine-tuned"),
    WS_ARG(struct extract_args, model, "MODEL", "the fine-tune"),
    WS_ARG_END,
};

static const ws_opt extract_opts[] = {
    { WS_OPT_ROW(struct extract_args, method, "method", 'm'), .value = "NAME",
      .words = "@methods", .def = NAN,
      .help =
          "sparsify by this merge method, of one model; default: keep all, exactly" },
    WS_TEXT(struct extract_args, sets, "set", 0, "K=V", "parameter of the method"),
    WS_OPT(struct extract_args, seed, "seed", 0, "N", 0.0, 0.0, 9007199254740991.0,
           "of the random methods"),
    WS_FLAG(struct extract_args, allow_nonfinite, "allow-nonfinite", 0,
            "accept NaN and infinity in what is sparsified"),
    WS_SET(struct extract_args, w, ws_opts_write),
    WS_OPT_END,
};

static const ws_example extract_examples[] = {
    { "wsurg taskvec extract base tuned -o task.st",
      "what tuned changed; applied again, it gives tuned bit for bit" },
    { "wsurg taskvec extract a.st b.st --method breadcrumbs --set density=0.1",
      "only the tenth of the entries that breadcrumbs keeps" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_taskvec_extract = {
    .name = "taskvec extract",
    .group = "Task vectors",
    .summary = "what a fine-tune changed, as a file",
    .args = extract_params,
    .opts = extract_opts,
    .examples = extract_examples,
    .notes =
        "The update of each tensor is stored in float32 (float64 for F64), dense "
        "or sparse, whichever is smaller, and bits of their own for the entries "
        "that base + update would not give. Tensors that the base lacks, or has in "
        "another shape, or whose dtype has no arithmetic, are stored whole. "
        "Sparsified vectors hold float32 updates and restore nothing exactly. The "
        "output is taskvec.safetensors unless -o says otherwise.",
    .args_size = sizeof(struct extract_args),
    .check = extract_check,
    .run = extract_run,
};

/* ---- apply ---- */

static void apply_check(ws_run *run, void *args)
{
    const struct apply_args *a = args;
    ws_stdout_check(run, &a->model.w);
}

static void apply_json(ws_run *run, const struct apply_args *a,
                       const ws_taskvec_result *r, const char *out)
{
    cJSON *to = ws_run_result(run), *o;
    ws_j_str(to, "base", a->base);
    o = ws_j_arr(to, "vectors");
    for (size_t i = 0; i < a->vectors.n; i++)
        ws_j_str(o, NULL, a->vectors.v[i]);
    ws_j_num(to, "scale", a->scale);
    ws_j_bool(to, "exact", r->exact);
    o = ws_j_obj(to, "tensors");
    ws_j_u64(o, "updated", r->updated);
    ws_j_u64(o, "kept", r->kept);
    ws_j_u64(o, "whole", r->whole);
    ws_j_u64(o, "removed", r->removed);
    outputs_json(to, out, r->run);
}

static ws_status apply_run(ws_run *run, void *args)
{
    const struct apply_args *a = args;
    ws_taskvec_apply_req req = { .base = a->base,
                                 .vectors = a->vectors.v,
                                 .n = a->vectors.n,
                                 .scale = a->scale,
                                 .force_base = a->force_base };
    ws_taskvec_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    ws_model_args_fill(&a->model, &req.write);
    if (!req.write.out)
        req.write.out = ws_default_out(&run->arena, "applied", a->base);
    run->target = req.write.out;
    if (ws_taskvec_apply(&r, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    finish(run, r);
    apply_json(run, a, r, req.write.out);
    if (!said_unchanged(run, r, req.write.out)) {
        ws_run_row(run, 9, "tensors",
                   "%zu updated, %zu the base's, %zu whole, %zu removed · %s",
                   r->updated, r->kept, r->whole, r->removed,
                   r->exact ? "bit for bit the model that was extracted"
                            : "rounded once from float32");
        ws_wrote_row(run, 9, req.write.out, r->run->outputs, r->run->n_outputs,
                     r->run->manifest);
    }
    ws_taskvec_result_free(r);
    return WS_OK;
}

static const ws_arg apply_params[] = {
    WS_ARG(struct apply_args, base, "BASE", "the model that the vectors belong to"),
    WS_ARG_LIST(struct apply_args, vectors, "TASKVEC", 1,
                "task vectors; their updates are added"),
    WS_ARG_END,
};

static const ws_opt apply_opts[] = {
    WS_OPT(struct apply_args, scale, "scale", 0, "S", 1.0, -1e6, 1e6,
           "factor of the sum of the updates; -1 takes a task away"),
    WS_FLAG(struct apply_args, force_base, "force-base", 0,
            "apply also to another base than the vectors were made from"),
    WS_SET(struct apply_args, model, ws_opts_model),
    WS_OPT_END,
};

static const ws_example apply_examples[] = {
    { "wsurg taskvec apply base t.st -o back/", "the fine-tune, bit for bit" },
    { "wsurg taskvec apply a.st u.st v.st --scale 0.5 -o half.st",
      "half of the sum of two updates" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_taskvec_apply = {
    .name = "taskvec apply",
    .group = "Task vectors",
    .summary = "add task vectors to their base",
    .args = apply_params,
    .opts = apply_opts,
    .examples = apply_examples,
    .notes =
        "One vector that was not sparsified, at scale 1, gives back its model bit "
        "for bit. A directory gets the model's own shards back, the files too bit "
        "for bit (not the index, which is written anew), whatever the base's are, "
        "unless --shard-size asks for others; a model of one file is one file, and "
        "the model's own with --no-provenance. Tensors that a vector holds whole "
        "replace the base's "
        "at any scale. A vector made from another base is refused (exit 2): its "
        "base's contents are recorded in it.",
    .args_size = sizeof(struct apply_args),
    .check = apply_check,
    .run = apply_run,
};

/* ---- combine ---- */

/** "W,W,...": one for each vector. */
static void combine_check(ws_run *run, void *args)
{
    struct combine_args *a = args;
    ws_stdout_check(run, &a->w);
    if (!a->weights || a->vectors.n == 0)
        return;
    a->weight = ws_arena_calloc(&run->arena, a->vectors.n, sizeof *a->weight);
    char *text = ws_arena_strdup(&run->arena, a->weights);
    size_t n = 0;
    bool numbers = a->weight && text;
    for (char *at = text; numbers && at; n++) {
        char *comma = strchr(at, ',');
        double v = 0.0;
        if (comma)
            *comma = '\0';
        numbers = ws_parse_real(at, &v);
        if (numbers && n < a->vectors.n)
            a->weight[n] = v;
        at = comma ? comma + 1 : NULL;
    }
    if (!numbers)
        ws_run_error(run, WS_E_USAGE, "option '--weights' is '%s', wanted numbers",
                     a->weights);
    else if (n != a->vectors.n)
        ws_run_error(run, WS_E_USAGE,
                     "option '--weights' gives %zu weights for %zu vectors", n,
                     a->vectors.n);
}

static ws_status combine_run(ws_run *run, void *args)
{
    const struct combine_args *a = args;
    const ws_taskvec_combine_req req = { .vectors = a->vectors.v,
                                         .n = a->vectors.n,
                                         .weights = a->weight,
                                         .write = vector_opts(&a->w) };
    ws_taskvec_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    run->target = req.write.out;
    if (ws_taskvec_combine(&r, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    finish(run, r);
    cJSON *to = ws_run_result(run), *list = ws_j_arr(to, "vectors");
    for (size_t i = 0; i < req.n; i++) {
        cJSON *o = ws_j_obj(list, NULL);
        ws_j_str(o, "path", req.vectors[i]);
        ws_j_num(o, "weight", req.weights ? req.weights[i] : 1.0);
    }
    counts_json(to, &r->counts);
    outputs_json(to, req.write.out, r->run);
    if (!said_unchanged(run, r, req.write.out)) {
        counts_row(run, 9, &r->counts, false);
        ws_wrote_row(run, 9, req.write.out, r->run->outputs, r->run->n_outputs,
                     r->run->manifest);
    }
    ws_taskvec_result_free(r);
    return WS_OK;
}

static const ws_arg combine_params[] = {
    WS_ARG_LIST(struct combine_args, vectors, "TASKVEC", 1, "task vectors of one base"),
    WS_ARG_END,
};

static const ws_opt combine_opts[] = {
    WS_TEXT(struct combine_args, weights, "weights", 0, "W,...",
            "one for each vector; default 1"),
    WS_SET(struct combine_args, w, ws_opts_write),
    WS_OPT_END,
};

static const ws_example combine_examples[] = {
    { "wsurg taskvec combine u.st v.st --weights 1,-0.5 -o w.st",
      "one task less half of another" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_taskvec_combine = {
    .name = "taskvec combine",
    .group = "Task vectors",
    .summary = "a weighted sum of task vectors, as one",
    .args = combine_params,
    .opts = combine_opts,
    .examples = combine_examples,
    .notes = "Sums are in float32, float64 where a vector's are; bits of their own get "
             "lost. Tensors that vectors hold whole must be equal. The output is "
             "taskvec.safetensors unless -o says otherwise.",
    .args_size = sizeof(struct combine_args),
    .check = combine_check,
    .run = combine_run,
};

/* ---- stats ---- */

static void tensor_json(cJSON *list, const ws_taskvec_tensor_stats *t, bool spectrum)
{
    cJSON *o = ws_j_obj(list, NULL), *values;
    ws_j_str(o, "tensor", t->name);
    ws_j_str(o, "stored", t->stored);
    ws_j_u64(o, "elements", t->elements);
    ws_j_u64(o, "nonzero", t->nonzero);
    ws_j_num(o, "norm", t->norm);
    ws_j_num(o, "max_abs", t->max_abs);
    ws_j_u64(o, "exact_entries", t->exact);
    if (!spectrum)
        return;
    if (t->rows == 0) {
        ws_j_null(o, "spectrum");
        return;
    }
    o = ws_j_obj(o, "spectrum");
    ws_j_u64(o, "rows", (uint64_t)t->rows);
    ws_j_u64(o, "columns", (uint64_t)t->cols);
    values = ws_j_arr(o, "values");
    for (size_t i = 0; i < t->n_values; i++)
        ws_j_num(values, NULL, t->values[i]);
    ws_j_num(o, "effective_rank", t->effective_rank);
    ws_j_u64(o, "rank_90", (uint64_t)t->rank_90);
}

/** The tensors shown: all under --tensors, else those of the largest norms. */
static size_t choose(const ws_taskvec_vector_stats *v, bool all, size_t *index)
{
    size_t n = 0;
    for (size_t i = 0; i < v->n_tensors; i++) {
        if (all) {
            index[n++] = i;
            continue;
        }
        if (!(v->tensors[i].norm > 0.0))
            continue;
        size_t at = n;
        while (at > 0 && v->tensors[i].norm > v->tensors[index[at - 1]].norm)
            at--;
        if (at == WORST)
            continue;
        n += n < WORST;
        for (size_t k = n - 1; k > at; k--)
            index[k] = index[k - 1];
        index[at] = i;
    }
    return n;
}

static void vector_json(ws_run *run, cJSON *list, const ws_taskvec_vector_stats *v,
                        const size_t *index, size_t n, bool spectrum)
{
    cJSON *o = ws_j_obj(list, NULL);
    ws_j_str(o, "label", v->label);
    ws_j_str(o, "path", v->path);
    ws_j_str(o, "base", v->base);
    ws_j_bool(o, "exact", v->exact);
    ws_j_str(o, "sparsified", v->sparsified);
    counts_json(o, &v->counts);
    ws_j_num(o, "norm", v->norm);
    cJSON *shown = ws_j_arr(o, run->g.tensors ? "list" : "largest");
    for (size_t i = 0; i < n; i++)
        tensor_json(shown, &v->tensors[index[i]], spectrum);
}

static void tensor_print(ws_run *run, const ws_taskvec_tensor_stats *t)
{
    char name[200], share[24];
    ws_show(t->name, name, sizeof name);
    ws_show_share(t->elements > 0 ? (double)t->nonzero / (double)t->elements : 0.0, 1,
                  share);
    ws_run_print(run, "  %-6s %7s  norm %-9.4g max %-9.3g %s\n", t->stored, share,
                 t->norm, t->max_abs, name);
    if (t->rows == 0)
        return;
    ws_run_print(run, "         (%lld,%lld)  effective rank %.1f, 90 %% in %lld:",
                 (long long)t->rows, (long long)t->cols, t->effective_rank,
                 (long long)t->rank_90);
    for (size_t i = 0; i < t->n_values; i++)
        ws_run_print(run, " %.3g", t->values[i]);
    ws_run_print(run, "\n");
}

static void vector_print(ws_run *run, const ws_taskvec_vector_stats *v,
                         const size_t *index, size_t n)
{
    char share[24];
    const ws_taskvec_counts *c = &v->counts;
    ws_show_share(c->elements > 0 ? (double)c->nonzero / (double)c->elements : 0.0, 1,
                  share);
    ws_run_print(run, "%s  norm %.6g · %s of %llu entries nonzero · %s\n", v->path,
                 v->norm, share, (unsigned long long)c->elements,
                 v->exact ? "exact" : "not exact");
    if (v->sparsified)
        ws_run_print(run, "  sparsified by %s\n", v->sparsified);
    ws_run_print(run,
                 "  %zu updated (%zu dense, %zu bitmap, %zu index), %zu same, %zu "
                 "whole, %zu removed, %llu entries with bits of their own\n",
                 c->dense + c->bitmap + c->index, c->dense, c->bitmap, c->index,
                 c->same, c->whole, c->removed, (unsigned long long)c->exact);
    for (size_t i = 0; i < n; i++)
        tensor_print(run, &v->tensors[index[i]]);
}

static void cosines_show(ws_run *run, const ws_taskvec_stats *s)
{
    cJSON *list = ws_j_arr(ws_run_result(run), "cosines");
    for (size_t a = 0; a < s->n; a++) {
        cJSON *line = ws_j_arr(list, NULL);
        for (size_t b = 0; b < s->n; b++)
            ws_j_num(line, NULL, s->cosines[a * s->n + b]);
    }
    for (size_t a = 0; a < s->n; a++)
        for (size_t b = a + 1; b < s->n; b++)
            ws_run_print(run, "cosine   %s, %s: %.6f\n", s->vectors[a].label,
                         s->vectors[b].label, s->cosines[a * s->n + b]);
}

static ws_status stats_run(ws_run *run, void *args)
{
    const struct stats_args *a = args;
    ws_taskvec_stats *s = NULL;
    ws_err err = WS_ERR_INIT;
    if (ws_taskvec_stats_new(&s, a->vectors.v, a->vectors.n, a->spectrum, &run->ctx,
                             &err))
        return ws_run_fail(run, &err);
    cJSON *list = ws_j_arr(ws_run_result(run), "vectors");
    for (size_t k = 0; k < s->n; k++) {
        const ws_taskvec_vector_stats *v = &s->vectors[k];
        size_t *index =
            ws_arena_calloc(&run->arena, v->n_tensors + WORST, sizeof *index);
        const size_t n = index ? choose(v, run->g.tensors, index) : 0;
        vector_json(run, list, v, index, n, a->spectrum);
        vector_print(run, v, index, n);
    }
    cosines_show(run, s);
    ws_taskvec_stats_free(s);
    return WS_OK;
}

static const ws_arg stats_params[] = {
    WS_ARG_LIST(struct stats_args, vectors, "TASKVEC", 1, "task vectors"),
    WS_ARG_END,
};

static const ws_opt stats_opts[] = {
    WS_FLAG(struct stats_args, spectrum, "spectrum", 0,
            "singular values and effective rank of every matrix"),
    WS_OPT_END,
};

static const ws_example stats_examples[] = {
    { "wsurg taskvec stats u.st v.st", "norms, density, and the cosine between them" },
    { "wsurg taskvec stats t.st --spectrum --tensors --json",
      "how many directions each update has" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_taskvec_stats = {
    .name = "taskvec stats",
    .group = "Task vectors",
    .summary = "norms, density and cosines of task vectors",
    .args = stats_params,
    .opts = stats_opts,
    .examples = stats_examples,
    .notes = "The ten tensors with the largest updates are shown; --tensors shows all. "
             "Cosines are between whole updates, over the tensors that both have. The "
             "effective rank is the exponential of the entropy of the singular values' "
             "shares: 1 for one direction, n for n equal ones. Whole matrices must fit "
             "--max-memory, here by default half of the memory there is.",
    .args_size = sizeof(struct stats_args),
    .run = stats_run,
};
