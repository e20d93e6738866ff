/*
 * content.c - what depends on the contents of the inputs, not on their place or age:
 * the key for caches, and whether an output in place is the very one that a run would
 * make
 */
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "engine/finish.h"
#include "wsurg/text.h"
#include "wsurg/wsurg.h"

enum { PREFIX = sizeof "xxh3-128:" - 1 };

/** Digest of one input: recorded in its metadata, where that is trusted, or computed.
 */
static ws_status input_digest(const ws_ckpt *c, bool trust, const ws_ctx *ctx,
                              char out[33], ws_err *err)
{
    const char *recorded = trust ? ws_ckpt_meta(c, "wsurg.content") : NULL;
    if (recorded != NULL && strncmp(recorded, "xxh3-128:", PREFIX) == 0 &&
        strlen(recorded) == PREFIX + 32) {
        memcpy(out, recorded + PREFIX, 33);
        return WS_OK;
    }
    ws_xxh128 d;
    const ws_status st = ws_ckpt_digest(c, ctx, &d, err);
    if (st == WS_OK)
        ws_xxh128_hex(d, out);
    return st;
}

ws_status ws_plan_content_key(const ws_plan *plan, bool trust_manifests,
                              const ws_ctx *ctx, char out[48], ws_err *err)
{
    ws_buf b = { 0 };
    ws_buf_printf(&b, "%s\n%s\n%d%d%d\n", ws_version(), plan->priv->recipe,
                  plan->req->write.provenance, plan->req->write.allow_nonfinite,
                  plan->out_is_dir);
    for (size_t f = 0; f < plan->n_files; f++) {
        ws_buf_puts(&b, plan->files[f].name);
        ws_buf_add(&b, plan->files[f].header, plan->files[f].header_len);
    }
    ws_status st = WS_OK;
    for (size_t k = 0; st == WS_OK && k < plan->n_inputs; k++) {
        char hex[33] = "";
        st = input_digest(plan->inputs[k].ckpt, trust_manifests, ctx, hex, err);
        ws_buf_puts(&b, hex);
        if (st != WS_OK)
            ws_err_at(err, plan->inputs[k].path, NULL, -1);
    }
    if (st == WS_OK && b.failed)
        st = ws_fail(err, WS_E_MEMORY, "no memory for the key");
    if (st == WS_OK) {
        char hex[33];
        ws_xxh128_hex(ws_xxh3(b.p, b.n), hex);
        snprintf(out, 48, "xxh3-128:%s", hex);
    }
    ws_buf_free(&b);
    return st;
}

static bool meta_is(const ws_ckpt *c, const char *key, const char *want)
{
    const char *v = ws_ckpt_meta(c, key);
    return v != NULL && strcmp(v, want) == 0;
}

/** Whether @p c has the tensors of the plan, as the plan lays them out. */
static bool same_tensors(const ws_plan *plan, const ws_ckpt *c)
{
    if (ws_ckpt_count(c) != plan->n_tensors || ws_ckpt_file_count(c) != plan->n_files)
        return false;
    for (size_t i = 0; i < plan->n_tensors; i++) {
        const ws_tensor *want = &plan->tensors[i].t;
        const ws_tensor *t = ws_ckpt_find(c, want->name);
        if (t == NULL || t->dtype != want->dtype || t->n_bytes != want->n_bytes ||
            t->offset != want->offset)
            return false;
    }
    return true;
}

ws_status ws_plan_is_done(ws_plan *plan, const ws_ctx *ctx, bool *done, ws_err *err)
{
    ws_ckpt *c = NULL;
    *done = false;
    if (!plan->req->write.provenance || plan->req->write.parts > 0 ||
        ws_ckpt_open(&c, plan->out, NULL, NULL) != WS_OK)
        return WS_OK;
    bool same = same_tensors(plan, c) && meta_is(c, "wsurg.version", ws_version()) &&
                meta_is(c, "wsurg.recipe", plan->priv->recipe);
    char *inputs = ws_arena_strdup(&plan->priv->arena, plan->priv->inputs);
    ws_status st = inputs == NULL ? ws_fail(err, WS_E_MEMORY, "no memory") : WS_OK;
    for (size_t k = 0; same && st == WS_OK && k < plan->n_inputs; k++) {
        char hex[33], place[33];
        st = input_digest(plan->inputs[k].ckpt, false, ctx, hex, err);
        ws_placeholder(k, place);
        char *at = st == WS_OK ? strstr(inputs, place) : NULL;
        if (at != NULL)
            memcpy(at, hex, 32);
    }
    same = same && st == WS_OK && meta_is(c, "wsurg.inputs", inputs);
    ws_xxh128 digest;
    if (same && (st = ws_ckpt_digest(c, ctx, &digest, err)) == WS_OK) {
        char hex[33];
        ws_xxh128_hex(digest, hex);
        *done = meta_is(c, "wsurg.content", ws_plan_format(plan, "xxh3-128:%s", hex));
    }
    ws_ckpt_free(c);
    return st;
}
