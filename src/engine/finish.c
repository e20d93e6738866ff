/*
 * finish.c - from streamed to shown
 *
 *     slices -> digests -> headers patched -> index, companions -> final check ->
 * manifest
 *            -> rename
 */
#include "engine/finish.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/stage_manifest.h"
#include "engine/card.h"
#include "engine/parts.h"
#include "hf/companions.h"
#include "hf/quantized.h"
#include "hf/shards.h"
#include "hf/taskvec_source.h"
#include "hf/vocab_source.h"
#include "wsurg/text.h"
#include "wsurg/wsurg.h"

/* ---- digests ---- */

/** Digest of a tensor that no output tensor was made of. */
static ws_status digest_unused(const ws_ckpt *c, const ws_tensor *t, ws_xxh128 *out,
                               ws_err *err)
{
    const uint64_t n = ws_slice_count(t->rank, t->shape);
    ws_xxh128 *slices = ws_calloc(n, sizeof *slices);
    unsigned char *buf = NULL;
    size_t cap = 0;
    ws_status st =
        slices == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for digests") : WS_OK;
    for (uint64_t i = 0; st == WS_OK && i < n; i++) {
        uint64_t offset, len;
        ws_slice_bytes(t, i, &offset, &len);
        if (len > cap) {
            ws_free(buf);
            buf = ws_alloc((size_t)len);
            cap = (size_t)len;
        }
        st = buf == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for a slice")
                         : ws_ckpt_read(c, t, offset, (size_t)len, buf, err);
        if (st == WS_OK)
            slices[i] = ws_xxh3(buf, (size_t)len);
    }
    if (st == WS_OK)
        *out = ws_tensor_digest(t, slices, (size_t)n);
    ws_free(buf);
    ws_free(slices);
    return st;
}

/** Names and digests of one model's tensors as they gather. */
struct list {
    const char **names;
    ws_xxh128 *digests;
    size_t *idx, n;
};

static bool list_new(struct list *l, size_t n)
{
    *l = (struct list){ ws_calloc(n + 1, sizeof *l->names),
                        ws_calloc(n + 1, sizeof *l->digests),
                        ws_calloc(n + 1, sizeof *l->idx), 0 };
    return l->names != NULL && l->digests != NULL && l->idx != NULL;
}

static void list_free(struct list *l)
{
    ws_free(l->names);
    ws_free(l->digests);
    ws_free(l->idx);
}

static void list_add(struct list *l, const char *name, ws_xxh128 digest)
{
    l->names[l->n] = name;
    l->digests[l->n++] = digest;
}

static ws_status input_digest(const ws_finish *f, size_t k, char out[33], ws_err *err)
{
    const ws_plan *plan = f->plan;
    const ws_ckpt *c = plan->inputs[k].ckpt;
    struct list l;
    ws_status st = WS_OK;
    if (!list_new(&l, ws_ckpt_count(c) + plan->n_tensors))
        st = ws_fail(err, WS_E_MEMORY, "no memory for digests");
    for (size_t i = 0; st == WS_OK && i < plan->n_tensors; i++) {
        const char *name = plan->tensors[i].t.name;
        const ws_tensor *read = ws_plan_source(plan, &plan->tensors[i], k);
        const ws_tensor *unused = ws_ckpt_find(c, name); // another's was copied
        // what was read of aligned rows was made of these
        const ws_tensor *own = unused == NULL ? NULL : ws_vocab_original(c, unused);
        ws_xxh128 d = f->results[i].in[k];
        if (own != NULL) {
            st = digest_unused(ws_vocab_under(c), own, &d, err);
        } else if (read == NULL) {
            if (unused == NULL)
                continue;
            st = digest_unused(c, unused, &d, err);
        }
        if (st == WS_OK)
            list_add(&l, name, d);
    }
    for (size_t i = 0; st == WS_OK && i < plan->n_dropped; i++) {
        const ws_tensor *t = ws_ckpt_find(c, plan->dropped[i]);
        ws_xxh128 d;
        if (t == NULL)
            continue;
        st = digest_unused(c, t, &d, err);
        if (st == WS_OK)
            list_add(&l, t->name, d);
    }
    if (st == WS_OK)
        ws_xxh128_hex(ws_model_digest(l.names, l.digests, l.n, l.idx), out);
    list_free(&l);
    return st;
}

/** Task vectors were put on the base before it was read: it must be theirs. */
static ws_status check_bases(const ws_finish *f, const ws_digests *d, ws_err *err)
{
    const ws_plan *plan = f->plan;
    char base[48];
    snprintf(base, sizeof base, "xxh3-128:%s", d->inputs[0]);
    for (size_t k = 1; k < plan->n_inputs; k++) {
        const ws_ckpt *c = ws_vocab_under(plan->inputs[k].ckpt);
        const char *other =
            ws_taskvec_is_source(c) ? ws_taskvec_other_base(c, base) : NULL;
        if (other == NULL)
            continue;
        ws_fail(err, WS_E_ANCESTRY,
                "the task vector was made from another base than '%s': contents %s, "
                "not %s",
                plan->inputs[0].path, other, base);
        ws_err_at(err, plan->inputs[k].path, NULL, -1);
        ws_err_hint(err, "wsurg taskvec apply --force-base makes a model of it");
        return WS_E_ANCESTRY;
    }
    return WS_OK;
}

/** Digests of the output and of all inputs. Inputs only when they were hashed. */
static ws_status make_digests(const ws_finish *f, ws_digests *d, ws_err *err)
{
    const ws_plan *plan = f->plan;
    struct list l;
    ws_status st = WS_OK;
    *d = (ws_digests){ .inputs = ws_plan_alloc(f->plan, plan->n_inputs + 1, 33) };
    if (d->inputs == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for digests");
    if (!list_new(&l, plan->n_tensors)) {
        list_free(&l);
        return ws_fail(err, WS_E_MEMORY, "no memory for digests");
    }
    for (size_t i = 0; i < plan->n_tensors; i++)
        list_add(&l, plan->tensors[i].t.name, f->results[i].out);
    ws_xxh128_hex(ws_model_digest(l.names, l.digests, l.n, l.idx), d->content);
    list_free(&l);
    for (size_t k = 0; plan->priv->hash_inputs && st == WS_OK && k < plan->n_inputs;
         k++)
        st = input_digest(f, k, d->inputs[k], err);
    return st == WS_OK ? check_bases(f, d, err) : st;
}

/** Put the digests in the place of their placeholders. */
static void fill_in(const ws_plan *plan, const ws_digests *d, char *text, size_t len)
{
    for (size_t i = 0; i + 32 <= len; i++) {
        if (memcmp(text + i, "wsurg-digest-", 13) != 0)
            continue;
        const size_t k = (size_t)strtoul(text + i + 13, NULL, 10);
        if (k <= plan->n_inputs)
            memcpy(text + i, k == plan->n_inputs ? d->content : d->inputs[k], 32);
        i += 31;
    }
}

/* ---- headers and companions ---- */

static ws_status write_headers(const ws_finish *f, const ws_digests *d, ws_err *err)
{
    const ws_plan *plan = f->plan;
    ws_status st = WS_OK;
    for (size_t i = 0; st == WS_OK && i < plan->n_files; i++) {
        const ws_plan_file *pf = &plan->files[i];
        if (f->ids[i] < 0)
            continue;
        char *header = ws_alloc((size_t)pf->header_len);
        if (header == NULL)
            return ws_fail(err, WS_E_MEMORY, "no memory for a header");
        memcpy(header, pf->header, (size_t)pf->header_len);
        for (size_t p = 0; d != NULL && p < plan->priv->n_patches; p++)
            if (plan->priv->patches[p].file == (int)i)
                fill_in(plan, d, header + plan->priv->patches[p].offset, 32);
        st =
            ws_stage_write(f->stage, f->ids[i], header, (size_t)pf->header_len, 0, err);
        ws_free(header);
    }
    return st;
}

/** Metadata of the index: provenance with its digests filled in. */
static ws_status index_metadata(const ws_finish *f, const ws_digests *d, ws_meta *meta,
                                size_t *n, ws_err *err)
{
    struct ws_plan_priv *priv = f->plan->priv;
    *n = 0;
    if (d == NULL)
        return WS_OK;
    char *inputs = ws_arena_strdup(&priv->arena, priv->inputs);
    const char *content = ws_plan_format(f->plan, "xxh3-128:%s", d->content);
    if (inputs == NULL || content == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the index");
    fill_in(f->plan, d, inputs, strlen(inputs));
    meta[(*n)++] = (ws_meta){ "wsurg.content", content };
    meta[(*n)++] = (ws_meta){ "wsurg.inputs", inputs };
    meta[(*n)++] = (ws_meta){ "wsurg.recipe", priv->recipe };
    meta[(*n)++] = (ws_meta){ "wsurg.version", ws_version() };
    return WS_OK;
}

static ws_status put_index(const ws_finish *f, const ws_digests *d, ws_err *err)
{
    const ws_plan *plan = f->plan;
    const char **names = ws_plan_alloc(f->plan, plan->n_tensors + 1, sizeof *names);
    const char **files = ws_plan_alloc(f->plan, plan->n_tensors + 1, sizeof *files);
    ws_meta meta[4];
    size_t n_meta = 0;
    if (names == NULL || files == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the index");
    uint64_t total = 0;
    for (size_t i = 0; i < plan->n_tensors; i++) {
        const ws_tensor *t = &plan->tensors[i].t;
        names[i] = t->name;
        files[i] = plan->files[t->file].name;
        total += t->n_bytes;
    }
    ws_status st = index_metadata(f, d, meta, &n_meta, err);
    if (st != WS_OK)
        return st;
    ws_buf b = { 0 };
    st = ws_index_write(&b, names, files, plan->n_tensors, total, meta, n_meta, err);
    if (st == WS_OK)
        st = ws_stage_put(f->stage, plan->priv->index_name, b.p, b.n, err);
    ws_buf_free(&b);
    return st;
}

static ws_status put_card(const ws_finish *f, ws_err *err)
{
    const ws_write_opts *w = &f->plan->req->write;
    ws_buf b = { 0 };
    if (!w->card || !w->provenance)
        return WS_OK;
    ws_status st = ws_card_write(f->plan, &b, err);
    if (st == WS_OK)
        st = ws_stage_put(f->stage, "README.md", b.p, b.n, err);
    ws_buf_free(&b);
    return st;
}

static ws_status put_companions(const ws_finish *f, const ws_digests *d, ws_err *err)
{
    const ws_plan *plan = f->plan;
    if (plan->priv->index_name != NULL) {
        const ws_status st = put_index(f, d, err);
        if (st != WS_OK)
            return st;
    }
    ws_status st = put_card(f, err);
    if (st != WS_OK)
        return st;
    const char *from = plan->req->write.companions_from;
    if (from == NULL && ws_ckpt_is_dir(plan->inputs[0].ckpt))
        from = ws_ckpt_home(plan->inputs[0].ckpt);
    if (from == NULL)
        return WS_OK;
    const bool keep = plan->req->write.dtype_keep;
    const bool numbers = ws_quant_is_numbers(plan->inputs[0].ckpt);
    const char *tokenizer_from = plan->priv->tokenizer_from;
    if (plan->vocab != NULL && plan->vocab->tokenizer_from != NULL &&
        strcmp(plan->vocab->tokenizer_from, from) != 0)
        tokenizer_from = plan->vocab->tokenizer_from;
    const ws_companion_file *files = NULL;
    size_t n_files = 0;
    st = ws_plan_vocab_files(f->plan, from, &files, &n_files, err);
    const ws_companion_opts o = {
        .dtype_set = !keep || numbers,
        .dtype = keep ? WS_DT_F32 : plan->req->write.dtype,
        .dequantised = numbers,
        .untie = plan->priv->tie_cleared,
        .vocab_size = plan->priv->vocab_size,
        .tokenizer_from = tokenizer_from,
        .layer_from = plan->priv->layer_from,
        .n_layer_from = plan->priv->n_layer_from,
        .layers = plan->priv->donor_layers,
        .files = files,
        .n_files = n_files,
    };
    if (st == WS_OK)
        st = ws_companions_carry(f->stage, from, &o,
                                 f->ctx == NULL ? NULL : f->ctx->warnings, err);
    ws_plan_vocab_files_free(files, n_files);
    return st;
}

/* ---- final check ---- */

static ws_status wrong(const ws_finish *f, const char *what, const char *name,
                       ws_err *err)
{
    ws_fail(err, WS_E_IO, "the staged output is not what was written: %s", what);
    ws_err_at(err, f->target, name, -1);
    ws_err_hint(err, "the disk or its file system may be at fault; nothing was shown");
    return WS_E_IO;
}

/** The header of one staged file, read back, must be the plan's. */
static ws_status check_file(const ws_finish *f, size_t file, ws_result *r, ws_err *err)
{
    const ws_plan_file *pf = &f->plan->files[file];
    ws_buf path = { 0 };
    ws_buf_puts(&path, ws_stage_path(f->stage));
    if (f->plan->out_is_dir)
        ws_buf_printf(&path, "/%s", pf->name);
    ws_ckpt *c = NULL;
    ws_status st = path.failed ? ws_fail(err, WS_E_MEMORY, "no memory for the check")
                               : ws_ckpt_open(&c, path.p, NULL, err);
    ws_buf_free(&path);
    if (st != WS_OK)
        return st;
    if (ws_ckpt_count(c) != pf->n)
        st = wrong(f, "tensors are missing", NULL, err);
    for (size_t i = pf->first; st == WS_OK && i < pf->first + pf->n; i++) {
        const ws_tensor *want = &f->plan->tensors[i].t;
        const ws_tensor *t = ws_ckpt_find(c, want->name);
        if (t == NULL || t->dtype != want->dtype || t->offset != want->offset ||
            t->n_bytes != want->n_bytes)
            st = wrong(f, "a tensor's header differs", want->name, err);
    }
    ws_result_note_memory(r, pf->header_len); // freed when it was opened
    ws_ckpt_free(c);
    return st;
}

/** Fill the list of outputs; digests from the manifest where there is one. */
static ws_status list_outputs(const ws_finish *f, const ws_manifest *m, ws_result *r,
                              ws_err *err)
{
    const ws_plan *plan = f->plan;
    r->outputs = ws_result_alloc(r, plan->n_files + 1, sizeof *r->outputs);
    if (r->outputs == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the result");
    for (size_t i = 0; i < plan->n_files; i++) {
        if (f->ids != NULL && f->ids[i] < 0)
            continue;
        ws_out_file *o = &r->outputs[r->n_outputs++];
        ws_buf path = { 0 };
        const bool slash = f->target[strlen(f->target) - 1] == '/';
        ws_buf_printf(&path, "%s%s%s", f->target, plan->out_is_dir && !slash ? "/" : "",
                      plan->files[i].name);
        o->path = path.failed ? f->target : ws_result_strdup(r, path.p);
        ws_buf_free(&path);
        o->bytes = plan->files[i].bytes;
        for (size_t k = 0; m != NULL && k < m->n_files; k++) {
            const bool same =
                !plan->out_is_dir || strcmp(m->files[k].path, plan->files[i].name) == 0;
            if (!same)
                continue;
            memcpy(o->sha256, m->files[k].sha256, sizeof o->sha256);
            memcpy(o->xxh3, m->files[k].xxh3, sizeof o->xxh3);
        }
    }
    return WS_OK;
}

ws_status ws_finish_manifest_path(const ws_plan *plan, const char *target, char **path,
                                  ws_err *err)
{
    const char *asked = plan->req->write.manifest;
    const bool to_stdout = strcmp(plan->out, "-") == 0;
    *path = NULL;
    if (asked != NULL && strcmp(asked, "none") == 0)
        return WS_OK;
    if (plan->req->write.parts > 0 || (to_stdout && asked == NULL))
        return WS_OK;
    *path = asked != NULL ? ws_strdup(asked)
                          : ws_stage_manifest_path(target, plan->out_is_dir);
    return *path != NULL ? WS_OK
                         : ws_fail(err, WS_E_MEMORY, "no memory for the manifest");
}

/** Read everything back once: tensors against the digests taken while writing, files
 * for the manifest. */
static ws_status read_back(const ws_finish *f, ws_manifest **m, ws_err *err)
{
    const ws_plan *plan = f->plan;
    const ws_tensor **tensors =
        ws_plan_alloc(f->plan, plan->n_tensors + 1, sizeof *tensors);
    ws_xxh128 *digests = ws_plan_alloc(f->plan, plan->n_tensors + 1, sizeof *digests);
    ws_stage_expect *expect = ws_plan_alloc(f->plan, plan->n_files + 1, sizeof *expect);
    if (tensors == NULL || digests == NULL || expect == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the check");
    for (size_t i = 0; i < plan->n_tensors; i++) {
        tensors[i] = &plan->tensors[i].t;
        digests[i] = f->results[i].out;
    }
    for (size_t i = 0; i < plan->n_files; i++) {
        const ws_plan_file *pf = &plan->files[i];
        expect[i] =
            (ws_stage_expect){ tensors + pf->first, digests + pf->first, pf->n };
    }
    return ws_stage_check(m, f->stage, f->pool, f->ctx, expect, plan->n_files, err);
}

/** Manifest of the staged output; a file is listed under its coming name. */
static ws_status make_manifest(const ws_finish *f, const char *content, ws_manifest **m,
                               ws_err *err)
{
    const ws_status st = read_back(f, m, err);
    if (st != WS_OK)
        return st;
    snprintf((*m)->content, sizeof(*m)->content, "xxh3-128:%s", content);
    return WS_OK;
}

static ws_status show(const ws_finish *f, const char *content, ws_result *r,
                      ws_err *err)
{
    ws_status st = ws_stage_sync(f->stage, err);
    for (size_t i = 0; st == WS_OK && i < f->plan->n_files; i++)
        if (f->ids == NULL || f->ids[i] >= 0)
            st = check_file(f, i, r, err);
    char *path = NULL;
    ws_manifest *m = NULL;
    if (st == WS_OK)
        st = ws_finish_manifest_path(f->plan, f->target, &path, err);
    if (st == WS_OK && path != NULL)
        st = make_manifest(f, content, &m, err);
    if (st == WS_OK)
        st = list_outputs(f, m, r, err);
    if (st == WS_OK && strcmp(f->plan->out, "-") == 0)
        st = ws_stage_emit(f->stage, STDOUT_FILENO, f->ctx, err);
    else if (st == WS_OK)
        st = ws_stage_commit(f->stage, m, path, err);
    if (st == WS_OK && path != NULL)
        r->manifest = ws_result_strdup(r, path);
    ws_manifest_free(m);
    ws_free(path);
    return st;
}

ws_status ws_finish_run(const ws_finish *f, ws_result *r, ws_err *err)
{
    const ws_write_opts *w = &f->plan->req->write;
    ws_digests d;
    if (w->parts > 0) {
        ws_status st = write_headers(f, NULL, err);
        if (st == WS_OK)
            st = ws_part_put(f, err);
        return st == WS_OK ? show(f, NULL, r, err) : st;
    }
    ws_status st = make_digests(f, &d, err);
    const ws_digests *known = w->provenance ? &d : NULL;
    if (st == WS_OK)
        st = write_headers(f, known, err);
    if (st == WS_OK && f->plan->out_is_dir)
        st = put_companions(f, known, err);
    return st == WS_OK ? show(f, d.content, r, err) : st;
}

ws_status ws_finish_joined(const ws_finish *f, ws_result *r, ws_err *err)
{
    ws_digests d;
    ws_status st = make_digests(f, &d, err);
    if (st == WS_OK)
        st = put_companions(f, f->plan->req->write.provenance ? &d : NULL, err);
    return st == WS_OK ? show(f, d.content, r, err) : st;
}
