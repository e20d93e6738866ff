/*
 * realign_keep.c - checkpoints and the log of a realignment, those of a fine-tuning
 *
 * Draws and pairs of a step follow from its number, so that logits, their moments and
 * two sums are all that a checkpoint keeps.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/os.h"
#include "surgery/mask_file.h"
#include "surgery/realign_run.h"
#include "wsurg/source.h"

static ws_status exists(const ws_realign_req *r, ws_err *err)
{
    ws_fail(err, WS_E_EXISTS, "output is there already");
    ws_err_hint(err, "--force replaces it");
    return ws_err_at(err, r->write.out, NULL, -1);
}

ws_status ws_realign_target(const ws_realign_req *r, ws_err *err)
{
    struct stat sb;
    ws_write_opts mask = WS_WRITE_OPTS_INIT;
    if (!r->write.force && !r->write.resume && lstat(r->write.out, &sb) == 0)
        return exists(r, err);
    mask.out = r->save_mask;
    mask.force = r->write.force || r->write.resume;
    return r->save_mask == NULL ? WS_OK : ws_mask_check_out(&mask, err);
}

/** Resumed: whether what is there came of this very request. */
static ws_status compare(ws_realign_run *a, ws_err *err)
{
    const ws_write_opts *w = &a->req->write;
    struct stat sb;
    ws_ckpt *c = NULL;
    if (!w->resume || w->force || lstat(w->out, &sb) != 0)
        return WS_OK;
    if (ws_source_open(&c, w->out, WS_FOLD_BASE, NULL, NULL) == WS_OK) {
        const char *recipe = ws_ckpt_meta(c, "wsurg.recipe");
        const char *inputs = ws_ckpt_meta(c, "wsurg.inputs");
        a->unchanged = recipe != NULL && inputs != NULL &&
                       strcmp(recipe, a->recipe.p) == 0 &&
                       strcmp(inputs, a->run.inputs.p) == 0;
    }
    ws_ckpt_free(c);
    return a->unchanged ? WS_OK : exists(a->req, err);
}

ws_status ws_realign_keep_open(ws_realign_run *a, ws_err *err)
{
    ws_buf all = { 0 };
    ws_status st = compare(a, err);
    if (st != WS_OK || a->unchanged)
        return st;
    a->kept_req.write = a->req->write;
    a->kept_req.log = a->req->log;
    a->kept.ctx = a->ctx;
    a->kept.slots = &a->slot;
    a->kept.n_slots = 1;
    a->kept.folder = ws_tune_folder(a->req->write.out);
    ws_buf_printf(&all, "%s%s", a->recipe.p, a->run.inputs.p);
    if (a->kept.folder == NULL || all.failed)
        st = ws_fail(err, WS_E_MEMORY, "no memory for checkpoints");
    else
        ws_xxh128_hex(ws_xxh3(all.p, all.n), a->kept.key);
    ws_buf_free(&all);
    if (st == WS_OK)
        st = ws_tune_state_open(&a->kept, err);
    return st == WS_OK ? ws_tune_log_open(&a->kept, err) : st;
}

ws_status ws_realign_keep_step(ws_realign_run *a, const ws_realign_step *s, ws_err *err)
{
    const int64_t every = a->req->save_every;
    const double busy = ws_os_now() - a->began;
    const ws_tune_step line = { .step = s->step,
                                .steps = s->steps,
                                .loss = s->loss,
                                .lr = s->lr,
                                .norm = s->norm,
                                .tokens = a->run.batch.scored,
                                .rate = busy > 0.0 ? (double)a->tokens / busy : 0.0 };
    const ws_status st = ws_tune_log_step(&a->kept, &line, err);
    if (st != WS_OK || every <= 0 || s->step % every != 0 || s->step == s->steps)
        return st;
    return ws_tune_state_save(&a->kept, err);
}

ws_status ws_realign_keep_stop(ws_realign_run *a, ws_err *err)
{
    if (a->ctx->stop == NULL || atomic_load(a->ctx->stop) == 0)
        return WS_OK;
    const ws_status st = ws_tune_state_save(&a->kept, err);
    if (st != WS_OK)
        return st;
    return ws_fail(err, WS_E_INTERRUPTED, "stopped after step %lld of %lld",
                   (long long)a->kept.done, (long long)a->req->steps);
}

void ws_realign_keep_close(ws_realign_run *a, bool failed)
{
    if (a->kept.log >= 0)
        close(a->kept.log);
    ws_tune_state_close(&a->kept, failed && ws_tune_state_kept(&a->kept));
    ws_free(a->kept.folder);
}
