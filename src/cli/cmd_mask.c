/*
 * cmd_mask.c - masks: applied, combined, inverted, measured, and chosen by movement
 */
#include <math.h>
#include <string.h>

#include "model_args.h"
#include "report.h"
#include "wsurg/mask.h"
#include "wsurg/text.h"

struct apply_args {
    const char *base, *model, *mask;
    ws_word scale;
    struct ws_model_args out;
};

struct combine_args {
    ws_strs masks;
    ws_word op;
    struct ws_write_args w;
};

struct invert_args {
    const char *mask, *against;
    struct ws_write_args w;
};

struct movement_args {
    const char *base, *model, *freeze;
    int64_t count;
    double share;
    struct ws_write_args w;
};

struct stats_args {
    ws_strs masks;
};

/* ---- reports ---- */

static void mask_json(ws_run *run, const char *out, const ws_mask_result *r)
{
    cJSON *to = ws_run_result(run);
    ws_j_u64(to, "tensors", r->tensors);
    ws_j_u64(to, "entries", r->entries);
    ws_j_num(to, "set", r->set);
    ws_j_num(to, "share", r->entries > 0 ? r->set / (double)r->entries : (double)NAN);
    ws_outputs_json(ws_j_arr(to, "outputs"), out, r->run->outputs, r->run->n_outputs);
    ws_j_str(to, "manifest", r->run->manifest);
}

/** What every writing command ends with; frees the result. */
static ws_status finish(ws_run *run, const char *out, const char *word,
                        ws_mask_result *r)
{
    char share[24];
    run->usage = r->run->usage;
    run->has_usage = true;
    run->unchanged = r->run->unchanged;
    mask_json(run, out, r);
    ws_run_flush(run);
    if (r->run->unchanged) {
        ws_run_talk(run, "%s is this result already: nothing was written", out);
    } else {
        ws_show_share(r->entries > 0 ? r->set / (double)r->entries : 0.0, 1, share);
        ws_run_row(run, 9, word, "%.10g of %llu entries (%s) in %zu tensors", r->set,
                   (unsigned long long)r->entries, share, r->tensors);
        ws_wrote_row(run, 9, out, r->run->outputs, r->run->n_outputs, r->run->manifest);
    }
    ws_mask_result_free(r);
    return WS_OK;
}

/** Options of a mask, which is always one file. */
static ws_write_opts mask_opts(ws_run *run, const struct ws_write_args *a)
{
    ws_write_opts w = WS_WRITE_OPTS_INIT;
    ws_write_args_fill(a, &w);
    run->target = w.out;
    return w;
}

static void out_check(ws_run *run, const struct ws_write_args *w)
{
    if (w->out == NULL) {
        ws_err *e = ws_run_error(run, WS_E_USAGE, "option '--out' is missing");
        ws_err_hint(e, "-o mask.safetensors");
    }
}

/* ---- apply ---- */

static void apply_check(ws_run *run, void *args)
{
    const struct apply_args *a = args;
    if (a->out.w.out == NULL)
        out_check(run, &a->out.w);
    else
        ws_stdout_check(run, &a->out.w);
}

static ws_status apply_run(ws_run *run, void *args)
{
    static const ws_mask_scale scale[] = { WS_MASK_SCALE_AUTO, WS_MASK_SCALE_NONE,
                                           WS_MASK_SCALE_TENSOR, WS_MASK_SCALE_MODEL };
    const struct apply_args *a = args;
    ws_mask_apply_req req = WS_MASK_APPLY_REQ_INIT;
    ws_mask_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    req.base = a->base;
    req.model = a->model;
    req.mask = a->mask;
    req.scale = scale[a->scale.index];
    ws_model_args_fill(&a->out, &req.write);
    run->target = req.write.out;
    if (ws_mask_apply(&r, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    return finish(run, req.write.out, "taken", r);
}

static const ws_arg apply_params[] = {
    WS_ARG(struct apply_args, base, "BASE", "the model that was fine-tuned"),
    WS_ARG(struct apply_args, model, "MODEL", "the fine-tune"),
    WS_ARG(struct apply_args, mask, "MASK", "what to take of it"),
    WS_ARG_END,
};

static const ws_opt apply_opts[] = {
    WS_WORD(struct apply_args, scale, "scale", "auto|none|tensor|model", 0,
            "divide the mask by its mean, of each tensor or of all; auto: as it says"),
    WS_SET(struct apply_args, out, ws_opts_model),
    WS_OPT_END,
};

static const ws_example apply_examples[] = {
    { "wsurg mask apply base tuned m.st -o some/",
      "the base with the entries of tuned that the mask has" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_mask_apply = {
    .name = "mask apply",
    .group = "Masks",
    .summary = "what a mask takes of a fine-tune, onto its base",
    .args = apply_params,
    .opts = apply_opts,
    .examples = apply_examples,
    .notes = "Entries that are out keep the base's bits, entries that are in have the "
             "model's; factors between are computed and rounded once. A tensor without "
             "a mask is the base's.",
    .args_size = sizeof(struct apply_args),
    .check = apply_check,
    .run = apply_run,
};

/* ---- combine ---- */

static void combine_check(ws_run *run, void *args)
{
    const struct combine_args *a = args;
    out_check(run, &a->w);
}

static ws_status combine_run(ws_run *run, void *args)
{
    const struct combine_args *a = args;
    const ws_mask_combine_req req = { .masks = a->masks.v,
                                      .n = a->masks.n,
                                      .op = (ws_mask_op)a->op.index,
                                      .write = mask_opts(run, &a->w) };
    ws_mask_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    if (ws_mask_combine(&r, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    return finish(run, req.write.out, "in", r);
}

static const ws_arg combine_params[] = {
    WS_ARG_LIST(struct combine_args, masks, "MASK", 1, "masks of one kind of model"),
    WS_ARG_END,
};

static const ws_opt combine_opts[] = {
    WS_WORD(struct combine_args, op, "op", "and|or|xor|minus|majority", 0,
            "minus: in the first and in no other"),
    WS_SET(struct combine_args, w, ws_opts_write),
    WS_OPT_END,
};

static const ws_example combine_examples[] = {
    { "wsurg mask combine m.st n.st --op minus -o only.st",
      "what the first has and the second has not" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_mask_combine = {
    .name = "mask combine",
    .group = "Masks",
    .summary = "masks of masks: and, or, xor, minus, majority",
    .args = combine_params,
    .opts = combine_opts,
    .examples = combine_examples,
    .notes = "A tensor that a mask lacks is out there. Factors know `and` (the least) "
             "and `or` (the largest).",
    .args_size = sizeof(struct combine_args),
    .check = combine_check,
    .run = combine_run,
};

/* ---- invert ---- */

static void invert_check(ws_run *run, void *args)
{
    const struct invert_args *a = args;
    out_check(run, &a->w);
}

static ws_status invert_run(ws_run *run, void *args)
{
    const struct invert_args *a = args;
    const ws_mask_invert_req req = { .mask = a->mask,
                                     .against = a->against,
                                     .write = mask_opts(run, &a->w) };
    ws_mask_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    if (ws_mask_invert(&r, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    return finish(run, req.write.out, "in", r);
}

static const ws_arg invert_params[] = {
    WS_ARG(struct invert_args, mask, "MASK", "a mask"),
    WS_ARG_END,
};

static const ws_opt invert_opts[] = {
    WS_TEXT(struct invert_args, against, "against", 0, "MODEL",
            "tensors of this model without a mask come in"),
    WS_SET(struct invert_args, w, ws_opts_write),
    WS_OPT_END,
};

static const ws_example invert_examples[] = {
    { "wsurg mask invert m.st --against base -o rest.st",
      "everything that the mask leaves out" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_mask_invert = {
    .name = "mask invert",
    .group = "Masks",
    .summary = "the complement of a mask",
    .args = invert_params,
    .opts = invert_opts,
    .examples = invert_examples,
    .notes = "1 - mask. Without --against, tensors that the mask lacks stay out.",
    .args_size = sizeof(struct invert_args),
    .check = invert_check,
    .run = invert_run,
};

/* ---- lt-sft ---- */

static void movement_check(ws_run *run, void *args)
{
    const struct movement_args *a = args;
    out_check(run, &a->w);
    if (a->count > 0 && !isnan(a->share))
        ws_run_error(run, WS_E_USAGE,
                     "--count and --share are two ways to say one thing");
}

static ws_status movement_run(ws_run *run, void *args)
{
    const struct movement_args *a = args;
    ws_mask_movement_req req = WS_MASK_MOVEMENT_REQ_INIT;
    ws_mask_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    req.base = a->base;
    req.model = a->model;
    req.count = (uint64_t)a->count;
    req.share = isnan(a->share) ? 0.01 : a->share;
    req.freeze = a->freeze;
    req.write = mask_opts(run, &a->w);
    if (ws_mask_movement(&r, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    return finish(run, req.write.out, "in", r);
}

static const ws_arg movement_params[] = {
    WS_ARG(struct movement_args, base, "BASE", "the model that was fine-tuned"),
    WS_ARG(struct movement_args, model, "TUNED", "the fine-tune, of all parameters"),
    WS_ARG_END,
};

static const ws_opt movement_opts[] = {
    WS_OPT(struct movement_args, count, "count", 0, "K", 0, 0, 0x1p53,
           "entries in the mask; 0: by --share"),
    WS_OPT(struct movement_args, share, "share", 0, "P", NAN, 0, 1,
           "share of all entries that may be chosen (0.01)"),
    WS_TEXT(struct movement_args, freeze, "freeze", 0, "PATTERN",
            "tensors that may not be chosen"),
    WS_SET(struct movement_args, w, ws_opts_write),
    WS_OPT_END,
};

static const ws_example movement_examples[] = {
    { "wsurg mask lt-sft base tuned --share 0.05 -o top.st",
      "the twentieth of all entries that moved most" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_mask_lt_sft = {
    .name = "mask lt-sft",
    .group = "Masks",
    .summary = "the entries that moved most, to train them alone (LT-SFT)",
    .args = movement_params,
    .opts = movement_opts,
    .examples = movement_examples,
    .notes =
        "All tensors are ranked together; exactly K entries, the earlier one where "
        "two moved as much. `tune BASE --full --mask` trains these alone from the "
        "base on, `taskvec extract` makes a sparse vector of the result, and "
        "`taskvec combine` composes such vectors.",
    .args_size = sizeof(struct movement_args),
    .check = movement_check,
    .run = movement_run,
};

/* ---- stats ---- */

static const char *scale_text(ws_mask_scale s)
{
    return s == WS_MASK_SCALE_TENSOR  ? "tensor"
           : s == WS_MASK_SCALE_MODEL ? "model"
                                      : "none";
}

static double share_of(double set, uint64_t entries)
{
    return entries > 0 ? set / (double)entries : (double)NAN;
}

static void file_json(ws_run *run, cJSON *list, const ws_mask_file_stats *f)
{
    cJSON *o = ws_j_obj(list, NULL), *part;
    ws_j_str(o, "label", f->label);
    ws_j_str(o, "path", f->path);
    ws_j_str(o, "made_by", f->made_by);
    ws_j_str(o, "scale", scale_text(f->scale));
    ws_j_u64(o, "tensors", f->n_tensors);
    ws_j_u64(o, "entries", f->entries);
    ws_j_num(o, "set", f->set);
    ws_j_num(o, "share", share_of(f->set, f->entries));
    part = ws_j_arr(o, "layers");
    for (size_t i = 0; i < f->n_layers; i++) {
        cJSON *l = ws_j_obj(part, NULL);
        if (f->layers[i].layer < 0)
            ws_j_null(l, "layer");
        else
            ws_j_u64(l, "layer", (uint64_t)f->layers[i].layer);
        ws_j_u64(l, "entries", f->layers[i].entries);
        ws_j_num(l, "set", f->layers[i].set);
        ws_j_num(l, "share", share_of(f->layers[i].set, f->layers[i].entries));
    }
    if (!run->g.tensors)
        return;
    part = ws_j_arr(o, "list");
    for (size_t i = 0; i < f->n_tensors; i++) {
        cJSON *t = ws_j_obj(part, NULL);
        ws_j_str(t, "tensor", f->tensors[i].name);
        ws_j_str(t, "dtype", f->tensors[i].dtype);
        ws_j_u64(t, "entries", f->tensors[i].entries);
        ws_j_num(t, "set", f->tensors[i].set);
        ws_j_num(t, "share", share_of(f->tensors[i].set, f->tensors[i].entries));
    }
}

static void file_print(ws_run *run, const ws_mask_file_stats *f)
{
    char share[24], name[200];
    ws_show_share(share_of(f->set, f->entries), 1, share);
    ws_run_print(run, "%s  %.10g of %llu entries (%s) in %zu tensors%s%s\n", f->path,
                 f->set, (unsigned long long)f->entries, share, f->n_tensors,
                 f->made_by ? " · by " : "", f->made_by ? f->made_by : "");
    for (size_t i = 0; i < f->n_layers; i++) {
        const ws_mask_layer_stats *l = &f->layers[i];
        ws_show_share(share_of(l->set, l->entries), 1, share);
        if (l->layer < 0)
            ws_run_print(run, "  outside    %8s  %.10g of %llu\n", share, l->set,
                         (unsigned long long)l->entries);
        else
            ws_run_print(run, "  layer %-4d %8s  %.10g of %llu\n", l->layer, share,
                         l->set, (unsigned long long)l->entries);
    }
    for (size_t i = 0; run->g.tensors && i < f->n_tensors; i++) {
        const ws_mask_tensor_stats *t = &f->tensors[i];
        ws_show(t->name, name, sizeof name);
        ws_show_share(share_of(t->set, t->entries), 1, share);
        ws_run_print(run, "  %-4s %8s  %s\n", t->dtype, share, name);
    }
}

/** Both, Jaccard's index, and the share of each in the other, for every two masks. */
static void overlaps_show(ws_run *run, const ws_mask_stats *s)
{
    cJSON *list = ws_j_arr(ws_run_result(run), "overlaps");
    char part[3][24];
    for (size_t a = 0; a < s->n; a++)
        for (size_t b = a + 1; b < s->n; b++) {
            const double both = s->both[a * s->n + b], x = s->masks[a].set,
                         y = s->masks[b].set;
            const double shares[3] = { both / (x + y - both), both / x, both / y };
            cJSON *o = ws_j_obj(list, NULL);
            ws_j_str(o, "a", s->masks[a].label);
            ws_j_str(o, "b", s->masks[b].label);
            ws_j_num(o, "both", both);
            ws_j_num(o, "jaccard", shares[0]);
            ws_j_num(o, "of_a", shares[1]);
            ws_j_num(o, "of_b", shares[2]);
            for (int i = 0; i < 3; i++)
                ws_show_share(shares[i], 1, part[i]);
            ws_run_print(run,
                         "overlap  %s, %s: %.10g in both, %s of either, %s of the "
                         "first, %s of the second\n",
                         s->masks[a].label, s->masks[b].label, both, part[0], part[1],
                         part[2]);
        }
}

static ws_status stats_run(ws_run *run, void *args)
{
    const struct stats_args *a = args;
    ws_mask_stats *s = NULL;
    ws_err err = WS_ERR_INIT;
    if (ws_mask_stats_new(&s, a->masks.v, a->masks.n, &run->ctx, &err))
        return ws_run_fail(run, &err);
    ws_run_flush(run);
    cJSON *list = ws_j_arr(ws_run_result(run), "masks");
    for (size_t k = 0; k < s->n; k++) {
        file_json(run, list, &s->masks[k]);
        file_print(run, &s->masks[k]);
    }
    overlaps_show(run, s);
    ws_mask_stats_free(s);
    return WS_OK;
}

static const ws_arg stats_params[] = {
    WS_ARG_LIST(struct stats_args, masks, "MASK", 1, "masks"),
    WS_ARG_END,
};

static const ws_example stats_examples[] = {
    { "wsurg mask stats m.st n.st", "how much of each layer, and what both have" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_mask_stats = {
    .name = "mask stats",
    .group = "Masks",
    .summary = "share of each layer, and overlap of masks",
    .args = stats_params,
    .examples = stats_examples,
    .notes = "--tensors lists every tensor. Of factors the lesser one counts as being "
             "in both.",
    .args_size = sizeof(struct stats_args),
    .run = stats_run,
};
