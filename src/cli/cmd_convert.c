/*
 * cmd_convert.c - a model in another format, dtype or sharding
 */
#include <string.h>

#include "merge_args.h"
#include "report.h"
#include "wsurg/convert.h"

enum format { BY_ENDING, SAFETENSORS, GGUF, NPZ };

struct convert_args {
    struct merge_args merge; // first: freed as such
    const char *model;
    ws_word dtype; // as enum ws_convert_as
    ws_word to;    // as enum format
    enum format format;
    bool no_tokenizer;
};

static bool ends_with(const char *s, const char *tail)
{
    const size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

static enum format format_of(const char *out)
{
    return ends_with(out, ".gguf") ? GGUF : ends_with(out, ".npz") ? NPZ : SAFETENSORS;
}

/** Through the engine: the plan of a model that is passed through. */
static void plan_safetensors(ws_run *run, struct convert_args *a)
{
    static const ws_dtype dtypes[] = {
        [WS_AS_F32] = WS_DT_F32, [WS_AS_F16] = WS_DT_F16, [WS_AS_BF16] = WS_DT_BF16
    };
    struct merge_args *m = &a->merge;
    if (a->dtype.index == WS_AS_Q8_0) {
        ws_err *e = ws_run_error(run, WS_E_USAGE,
                                 "option '--dtype' is q8_0, which only GGUF has");
        ws_err_hint(e, "-o OUT.gguf");
        return;
    }
    m->model.dtype.keep = a->dtype.index == WS_AS_KEEP;
    if (!m->model.dtype.keep)
        m->model.dtype.dtype = dtypes[a->dtype.index];
    m->models.v = ws_arena_calloc(&run->arena, 1, sizeof *m->models.v);
    if (!m->models.v)
        return;
    m->models.v[0] = a->model;
    m->models.n = 1;
    m->method = "passthrough";
    ws_merge_plan(run, m);
}

static void convert_check(ws_run *run, void *args)
{
    struct convert_args *a = args;
    const char *out = a->merge.model.w.out;
    a->merge.req = (ws_merge_req)WS_MERGE_REQ_INIT;
    if (!a->model)
        return; // the parser has said so
    if (!out) {
        ws_err *e = ws_run_error(run, WS_E_USAGE, "no output is named");
        ws_err_hint(e, "-o OUT.safetensors, -o OUT.gguf, -o OUT.npz or, for a "
                       "directory, -o OUT/");
        return;
    }
    a->format = format_of(out);
    if (a->to.index != BY_ENDING && (enum format)a->to.index != a->format) {
        static const char *const endings[] = { "", ".safetensors or /", ".gguf",
                                               ".npz" };
        ws_err *e = ws_run_error(run, WS_E_USAGE,
                                 "output '%s' is not named as option '--to' says", out);
        ws_err_hint(e, "its name ends in %s", endings[a->to.index]);
    } else if (a->format == SAFETENSORS) {
        plan_safetensors(run, a);
    } else if (a->format == NPZ &&
               (a->dtype.index == WS_AS_BF16 || a->dtype.index == WS_AS_Q8_0)) {
        ws_err *e = ws_run_error(run, WS_E_USAGE,
                                 "option '--dtype' names a type that NumPy has not");
        ws_err_hint(e, "--dtype f32 or f16");
    } else if (a->format == GGUF && !a->no_tokenizer) {
        ws_err *e = ws_run_error(run, WS_E_UNSUPPORTED,
                                 "the tokenizer is not written into GGUF files by this "
                                 "version");
        ws_err_hint(e, "--no-tokenizer writes tensors and the model's metadata alone");
    }
}

/** GGUF or npz: one file, made here. */
static ws_status file_run(ws_run *run, struct convert_args *a)
{
    const bool gguf = a->format == GGUF;
    ws_convert_req req = { .model = a->model, .as = (ws_convert_as)a->dtype.index };
    ws_convert_result *r = NULL;
    ws_err err = WS_ERR_INIT;
    a->merge.model.dtype.keep = true;
    run->ctx.dequantise = a->merge.dequantise;
    ws_model_args_fill(&a->merge.model, &req.write);
    run->target = req.write.out;
    if ((gguf ? ws_gguf_write : ws_npz_write)(&r, &req, &run->ctx, &err))
        return ws_run_fail(run, &err);
    run->usage = r->usage;
    run->has_usage = true;
    cJSON *to = ws_run_result(run);
    ws_j_str(to, "model", a->model);
    ws_j_str(to, "format", gguf ? "gguf" : "npz");
    ws_j_str(to, "architecture", r->architecture);
    ws_j_u64(to, "tensors", r->tensors);
    ws_j_u64(to, "skipped", r->skipped);
    ws_j_u64(to, "saturated", r->saturated);
    ws_outputs_json(ws_j_arr(to, "outputs"), req.write.out, &r->output, 1);
    ws_j_str(to, "manifest", r->manifest);
    ws_run_flush(run);
    if (gguf)
        ws_run_row(run, 9, "tensors", "%zu, architecture %s · no tokenizer", r->tensors,
                   r->architecture);
    else
        ws_run_row(run, 9, "tensors", "%zu arrays", r->tensors);
    ws_wrote_row(run, 9, req.write.out, &r->output, 1, r->manifest);
    ws_convert_result_free(r);
    return WS_OK;
}

static ws_status convert_run(ws_run *run, void *args)
{
    struct convert_args *a = args;
    return a->format == SAFETENSORS ? ws_cmd_merge.run(run, &a->merge)
                                    : file_run(run, a);
}

static const ws_arg convert_params[] = {
    WS_ARG(struct convert_args, model, "MODEL", "a model of any format that is read"),
    WS_ARG_END,
};

static const ws_opt convert_opts[] = {
    WS_SET(struct convert_args, merge.model.w, ws_opts_write),
    WS_WORD(struct convert_args, dtype, "dtype", "keep|f32|f16|bf16|q8_0", 0,
            "element type; q8_0 only for GGUF"),
    WS_WORD(struct convert_args, to, "to", "ending|safetensors|gguf|npz", 0,
            "format of OUT; its ending must say the same"),
    WS_FLAG(struct convert_args, no_tokenizer, "no-tokenizer", 0,
            "GGUF without a tokenizer"),
    WS_WORD(struct convert_args, merge.model.overflow, "overflow", "error|saturate", 0,
            "a value too large for the dtype"),
    WS_FLAG(struct convert_args, merge.dequantise, "dequantise", 0,
            "FP8 weights with scales become numbers: F32, or --dtype"),
    WS_SIZE_OR(struct convert_args, merge.model.shard_size, "shard-size",
               "SIZE|like-base", "like-base",
               "largest file of a directory (like-base)"),
    WS_TEXT(struct convert_args, merge.model.companions_from, "companions-from", 0,
            "DIR", "source of config and tokenizer; default: the model"),
    WS_FLAG(struct convert_args, merge.model.allow_nonfinite, "allow-nonfinite", 0,
            "accept NaN and infinity"),
    WS_FLAG(struct convert_args, merge.model.keep_metadata, "keep-metadata", 0,
            "copy the model's own metadata"),
    WS_OPT_END,
};

static const ws_example convert_examples[] = {
    { "wsurg convert base --dtype f16 -o half/", "the same model in F16" },
    { "wsurg convert lm --dtype q8_0 --no-tokenizer -o lm.gguf && "
      "wsurg convert lm.gguf -o back.safetensors",
      "as GGUF, and back in Hugging Face's names" },
    { "wsurg convert base --dtype f32 -o base.npz", "arrays for NumPy" },
    WS_EXAMPLE_END,
};

const ws_cmd ws_cmd_convert = {
    .name = "convert",
    .group = "Checkpoints",
    .summary = "a model in another format, dtype or sharding",
    .args = convert_params,
    .opts = convert_opts,
    .examples = convert_examples,
    .args_size = sizeof(struct convert_args),
    .check = convert_check,
    .run = convert_run,
    .done = ws_merge_done,
};
