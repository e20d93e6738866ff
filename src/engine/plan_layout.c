/*
 * plan_layout.c - which file each output tensor goes to and where in it; headers with
 * provenance; the plan's key
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "ckpt/st_write.h"
#include "engine/plan_internal.h"
#include "hf/adapter_map.h"
#include "hf/coefficients.h"
#include "hf/shards.h"
#include "hf/vocab_source.h"
#include "wsurg/text.h"
#include "wsurg/wsurg.h"

void ws_placeholder(size_t k, char out[33])
{
    snprintf(out, 33, "wsurg-digest-%019u", (unsigned)k);
}

static bool ends_with(const char *s, const char *tail)
{
    const size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

/** Target path and whether it is a directory. */
static void set_target(ws_plan *plan)
{
    const char *out = plan->req->write.out;
    if (out == NULL) {
        plan->out_is_dir = ws_ckpt_is_dir(plan->inputs[0].ckpt);
        plan->out = plan->out_is_dir ? "merged" : "merged.safetensors";
        return;
    }
    plan->out = out;
    plan->out_is_dir = strcmp(out, "-") != 0 && !ends_with(out, ".safetensors") &&
                       !ends_with(out, ".st");
    static const char *const others[] = { ".gguf", ".npz", ".json", ".bin", ".pt" };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (ends_with(out, others[i])) {
            ws_err *e =
                ws_diag_report(plan->priv->errors, WS_E_UNSUPPORTED, NULL,
                               "merged weights cannot be written as '%s'", others[i]);
            ws_err_hint(e, "-o %.*s.safetensors",
                        (int)(strlen(out) - strlen(others[i])), out);
        }
}

/** File of the base that holds the tensor; the last one for tensors it lacks and for
 * those that are computed. */
static uint32_t base_file(const ws_plan *plan, const ws_plan_tensor *pt)
{
    const ws_tensor *t = ws_ckpt_find(plan->inputs[0].ckpt, pt->t.name);
    return t != NULL && t->file < plan->n_files ? t->file
                                                : (uint32_t)(plan->n_files - 1);
}

/** Give each tensor its file; names the files. */
static void assign_files(ws_plan *plan)
{
    const ws_ckpt *like = plan->inputs[0].ckpt;
    const ws_write_opts *w = &plan->req->write;
    const bool sharded_base = ws_ckpt_file_count(like) > 1;
    plan->n_files = 1;
    const bool given = ws_plan_take_files(plan);
    if (given) {
        // they say which tensor lies where
    } else if (plan->out_is_dir && w->shard_like_base && sharded_base) {
        plan->n_files = ws_ckpt_file_count(like);
        for (size_t i = 0; i < plan->n_tensors; i++)
            plan->tensors[i].t.file = base_file(plan, &plan->tensors[i]);
    } else if (plan->out_is_dir && !w->shard_like_base) {
        uint64_t *sizes = ws_plan_alloc(plan, plan->n_tensors + 1, sizeof *sizes);
        uint32_t *shard = ws_plan_alloc(plan, plan->n_tensors + 1, sizeof *shard);
        if (sizes == NULL || shard == NULL)
            return;
        for (size_t i = 0; i < plan->n_tensors; i++)
            sizes[i] = plan->tensors[i].t.n_bytes;
        plan->n_files = ws_shard_assign(sizes, plan->n_tensors, w->shard_size, shard);
        for (size_t i = 0; i < plan->n_tensors; i++)
            plan->tensors[i].t.file = shard[i];
    } else {
        for (size_t i = 0; i < plan->n_tensors; i++)
            plan->tensors[i].t.file = 0;
    }
    plan->files = ws_plan_alloc(plan, plan->n_files + 1, sizeof *plan->files);
    for (size_t f = 0; plan->files != NULL && f < plan->n_files; f++) {
        if (given)
            plan->files[f].name =
                ws_arena_strdup(&plan->priv->arena, plan->priv->given->files[f]);
        else if (plan->n_files > 1 && w->shard_like_base &&
                 ends_with(ws_ckpt_file_at(like, f)->name, ".safetensors"))
            plan->files[f].name = ws_ckpt_file_at(like, f)->name;
        else if (plan->n_files > 1)
            plan->files[f].name = ws_plan_format(
                plan, "model-%05zu-of-%05zu.safetensors", f + 1, plan->n_files);
        else
            plan->files[f].name = plan->out_is_dir ? "model.safetensors" : "";
    }
    if (plan->n_files > 1)
        plan->priv->index_name = "model.safetensors.index.json";
}

static int by_file_and_order(const void *a, const void *b)
{
    const ws_plan_tensor *x = a, *y = b;
    if (x->t.file != y->t.file)
        return x->t.file < y->t.file ? -1 : 1;
    const ws_tensor *tx = &x->t, *ty = &y->t;
    return ws_st_order(&tx, &ty);
}

/** Parameters as a JSON object, with numbers that read back as themselves. */
static void add_parameters(const ws_plan *plan, ws_buf *b)
{
    ws_buf_puts(b, "{");
    for (size_t i = 0; i < plan->n_values; i++) {
        const ws_value *v = &plan->values[i];
        ws_buf_printf(b, "%s\"%s\":", i == 0 ? "" : ",", v->param->name);
        if (v->param->per_model)
            ws_buf_putc(b, '[');
        for (size_t k = 0; k < v->n; k++)
            ws_buf_printf(b, "%s%.17g", k == 0 ? "" : ",", v->v[k]);
        if (v->param->per_model)
            ws_buf_putc(b, ']');
    }
    ws_buf_puts(b, "}");
}

static void add_label(ws_buf *b, const char *label)
{
    ws_buf_json_string(b, label, strlen(label));
}

/** Whether the method of some tensor is random. */
static bool draws(const ws_plan *plan)
{
    bool random = plan->method->random;
    for (size_t i = 0; i < plan->n_rules; i++)
        if (plan->rules[i].action == WS_RULE_MERGE)
            random |= plan->rules[i].method->random;
    return random;
}

/** Everything that decides the output's bytes beside the inputs, as canonical JSON. */
static const char *make_recipe(ws_plan *plan)
{
    static const char *const missing[] = { "error", "base", "skip" };
    const ws_merge_req *r = plan->req;
    ws_buf b = { 0 };
    ws_buf_printf(&b,
                  "{\"schema\":\"wsurg-recipe/1\",\"command\":\"merge\",\"method\":"
                  "\"%s\",\"base\":",
                  plan->method->name);
    if (plan->has_base)
        add_label(&b, plan->inputs[0].label);
    else
        ws_buf_puts(&b, "null");
    ws_buf_printf(&b, ",\"base_implied\":%s,\"models\":[",
                  plan->base_implied ? "true" : "false");
    for (size_t m = 0; m < plan->n_models; m++) {
        if (m > 0)
            ws_buf_putc(&b, ',');
        add_label(&b, plan->inputs[ws_plan_input_of(plan, m)].label);
    }
    ws_buf_puts(&b, "],\"parameters\":");
    if (plan->priv->recipe_plan != NULL)
        ws_plan_recipe_json(plan, &b);
    else
        add_parameters(plan, &b);
    if (plan->priv->vocab_json != NULL)
        ws_buf_printf(&b, ",\"vocabulary\":%s", plan->priv->vocab_json);
    if (draws(plan))
        ws_buf_printf(&b, ",\"seed\":%llu", (unsigned long long)r->seed);
    if (plan->priv->coefficients != NULL)
        ws_buf_printf(&b, ",\"coefficients\":\"xxh3-128:%s\"",
                      plan->priv->coefficients->digest);
    if (r->lines != NULL) {
        ws_buf_puts(&b, ",\"lines\":");
        add_label(&b, r->lines);
    }
    ws_buf_printf(&b, ",\"on_missing\":\"%s\",\"dtype\":\"%s\",\"overflow\":\"%s\"}",
                  missing[r->on_missing],
                  r->write.dtype_keep ? "keep" : ws_dtype_info(r->write.dtype)->name,
                  r->write.overflow == WS_OVERFLOW_ERROR ? "error" : "saturate");
    const char *text = b.failed ? NULL : ws_arena_strdup(&plan->priv->arena, b.p);
    ws_buf_free(&b);
    return text;
}

/** The list of inputs with a placeholder for each digest. */
static const char *make_inputs(ws_plan *plan)
{
    ws_buf b = { 0 };
    ws_buf_putc(&b, '[');
    for (size_t k = 0; k < plan->n_inputs; k++) {
        ws_buf_printf(&b, "%s{\"role\":\"%s\",\"label\":", k == 0 ? "" : ",",
                      k == 0 && plan->has_base ? "base" : "model");
        add_label(&b, plan->inputs[k].label);
        ws_buf_puts(&b, ",\"content\":\"xxh3-128:");
        char place[33];
        ws_placeholder(k, place);
        ws_buf_printf(&b, "%s\"}", place);
    }
    ws_buf_putc(&b, ']');
    const char *text = b.failed ? NULL : ws_arena_strdup(&plan->priv->arena, b.p);
    ws_buf_free(&b);
    return text;
}

/** Metadata of the model: kept foreign keys, then provenance. Returns their number. */
static size_t make_metadata(ws_plan *plan, ws_meta **out)
{
    const ws_ckpt *base = plan->inputs[0].ckpt;
    const ws_write_opts *w = &plan->req->write;
    const size_t foreign = w->keep_metadata ? ws_ckpt_meta_count(base) : 0;
    const ws_plan_given *given = plan->priv->given;
    const size_t extra = given != NULL ? given->n_meta : 0;
    ws_meta *meta = ws_plan_alloc(plan, foreign + extra + 6, sizeof *meta);
    if (meta == NULL)
        return 0;
    size_t n = 0;
    for (size_t i = 0; i < extra; i++)
        meta[n++] = given->meta[i];
    for (size_t i = 0; i < foreign; i++) {
        ws_meta m;
        ws_ckpt_meta_at(base, i, &m.key, &m.value);
        if (strncmp(m.key, "wsurg.", 6) != 0 && strcmp(m.key, "format") != 0)
            meta[n++] = m;
    }
    if (w->provenance) {
        meta[n++] = (ws_meta){ "wsurg.version", ws_version() };
        meta[n++] = (ws_meta){ "wsurg.recipe", plan->priv->recipe };
        meta[n++] = (ws_meta){ "wsurg.inputs", plan->priv->inputs };
        char place[33];
        ws_placeholder(plan->n_inputs, place);
        meta[n++] =
            (ws_meta){ "wsurg.content", ws_plan_format(plan, "xxh3-128:%s", place) };
    }
    *out = meta;
    return n;
}

/** Offset of @p text (32 characters) in the header; its length when it is not there. */
static uint64_t find_text(const ws_plan_file *pf, const char *text)
{
    uint64_t at = 0;
    while (at + 32 <= pf->header_len && memcmp(pf->header + at, text, 32) != 0)
        at++;
    return at + 32 <= pf->header_len ? at : pf->header_len;
}

/** Where in a header the placeholders stand. */
static void find_patches(ws_plan *plan, int file)
{
    const ws_plan_file *pf = &plan->files[file];
    struct ws_plan_priv *priv = plan->priv;
    priv->patches = ws_plan_alloc(plan, plan->n_inputs + 1, sizeof *priv->patches);
    if (priv->patches == NULL)
        return;
    for (size_t k = 0; k <= plan->n_inputs; k++) {
        char text[33];
        ws_placeholder(k, text);
        const uint64_t at = find_text(pf, text);
        if (at == pf->header_len)
            continue;
        priv->patches[priv->n_patches++] =
            (ws_patch){ file, at, k == plan->n_inputs ? -1 : (int)k };
    }
}

/** Header and size of every file. */
static void make_headers(ws_plan *plan)
{
    ws_tensor **list = ws_plan_alloc(plan, plan->n_tensors + 1, sizeof *list);
    ws_meta *model_meta = NULL;
    const size_t n_model_meta = make_metadata(plan, &model_meta);
    if (list == NULL || model_meta == NULL)
        return;
    const bool single = plan->n_files == 1;
    const ws_meta format = { "format", "pt" };
    model_meta[n_model_meta] = format;
    size_t first = 0;
    for (size_t f = 0; f < plan->n_files; f++) {
        ws_plan_file *pf = &plan->files[f];
        pf->first = first;
        for (; first < plan->n_tensors && plan->tensors[first].t.file == f; first++)
            list[pf->n++] = &plan->tensors[first].t;
        uint8_t *header = NULL;
        ws_err err = WS_ERR_INIT;
        if (ws_st_header(&header, &pf->header_len, list, pf->n,
                         single ? model_meta : &format, single ? n_model_meta + 1 : 1,
                         &err) != WS_OK) {
            ws_diag_add(plan->priv->errors, &err);
            return;
        }
        pf->header = header;
        pf->bytes = pf->header_len;
        for (size_t i = 0; i < pf->n; i++)
            pf->bytes += list[i]->n_bytes;
    }
    if (single && plan->req->write.provenance)
        find_patches(plan, 0);
}

/** Digest of all that decides the bytes: the journal of another key is never gone on
 * from. */
static void make_key(ws_plan *plan)
{
    ws_buf b = { 0 };
    ws_buf_printf(&b, "%s\n%s\n%d%d%d\n", ws_version(), plan->priv->recipe,
                  plan->req->write.provenance, plan->req->write.allow_nonfinite,
                  plan->out_is_dir);
    for (size_t k = 0; k < plan->n_inputs; k++) {
        const ws_ckpt *c = plan->inputs[k].ckpt;
        for (size_t f = 0; f < ws_ckpt_file_count(c); f++) {
            const ws_ckpt_file *cf = ws_ckpt_file_at(c, f);
            ws_buf_printf(&b, "%s %llu %llu %llu %lld.%09lld\n", cf->name,
                          (unsigned long long)cf->bytes, (unsigned long long)cf->dev,
                          (unsigned long long)cf->ino, (long long)cf->mtime_s,
                          (long long)cf->mtime_ns);
        }
        ws_source_identify(ws_vocab_under(c), &b);
    }
    ws_plan_recipe_identify(plan, &b);
    if (plan->priv->chat_template != NULL)
        ws_buf_puts(&b, plan->priv->chat_template);
    for (size_t f = 0; f < plan->n_files; f++) {
        ws_buf_puts(&b, plan->files[f].name);
        ws_buf_add(&b, plan->files[f].header, plan->files[f].header_len);
    }
    if (b.failed)
        ws_diag_report(plan->priv->errors, WS_E_MEMORY, NULL, "no memory for the plan");
    else
        ws_xxh128_hex(ws_xxh3(b.p, b.n), plan->priv->whole_key);
    ws_buf_free(&b);
    char part[80];
    const ws_write_opts *w = &plan->req->write;
    snprintf(part, sizeof part, "%s %u/%u", plan->priv->whole_key, w->part, w->parts);
    ws_xxh128_hex(ws_xxh3(part, strlen(part)), plan->key);
}

/** Which files this run writes: all, or those of its part (by bytes, whole files). */
static void check_part(ws_plan *plan)
{
    const ws_write_opts *w = &plan->req->write;
    if (w->parts == 0)
        return;
    ws_err *e = NULL;
    if (w->part < 1 || w->part > w->parts)
        e = ws_diag_report(plan->priv->errors, WS_E_USAGE, NULL,
                           "--part %u/%u is not between 1 and %u", w->part, w->parts,
                           w->parts);
    else if (plan->n_files < w->parts)
        e = ws_diag_report(plan->priv->errors, WS_E_USAGE, NULL,
                           "--part %u/%u: the output has only %zu file%s", w->part,
                           w->parts, plan->n_files, plan->n_files == 1 ? "" : "s");
    ws_err_hint(e, "parts are whole files: a smaller --shard-size makes more of them");
}

void ws_plan_layout(ws_plan *plan)
{
    set_target(plan);
    assign_files(plan);
    if (plan->files == NULL)
        return;
    qsort(plan->tensors, plan->n_tensors, sizeof *plan->tensors, by_file_and_order);
    const ws_plan_given *given = plan->priv->given;
    const bool own = given != NULL && given->recipe != NULL;
    plan->priv->recipe =
        own ? ws_arena_strdup(&plan->priv->arena, given->recipe) : make_recipe(plan);
    plan->priv->inputs = given != NULL && given->provenance != NULL
                             ? ws_arena_strdup(&plan->priv->arena, given->provenance)
                             : make_inputs(plan);
    if (plan->priv->recipe == NULL || plan->priv->inputs == NULL) {
        ws_diag_report(plan->priv->errors, WS_E_MEMORY, NULL, "no memory for the plan");
        return;
    }
    make_headers(plan);
    check_part(plan);
    if (plan->priv->errors->n == 0)
        make_key(plan);
}
