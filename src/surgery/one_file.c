/*
 * one_file.c - a model converted into one file: stage, chunks, journal, and the end
 */
#include "surgery/one_file.h"

#include <signal.h>
#include <string.h>

#include "base/hash.h"
#include "base/os.h"
#include "ckpt/stage_manifest.h"
#include "surgery/taskvec_write.h"

enum { RECORD_CHUNK = 1 };

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory to convert a model");
}

ws_status ws_one_file_begin(ws_one_file *f, const ws_convert_req *req,
                            const ws_ctx *ctx, ws_err *err)
{
    f->req = req;
    f->ctx = ctx;
    f->err = (ws_err)WS_ERR_INIT;
    pthread_mutex_init(&f->lock, NULL);
    return ws_tv_open_model(&f->model, req->model, ctx, err);
}

static ws_status make_key(const ws_one_file *f, const void *head, size_t n,
                          char key[33], ws_err *err)
{
    ws_xxh_stream *x = ws_xxh_stream_new();
    if (x == NULL)
        return no_memory(err);
    for (size_t k = 0; k < ws_ckpt_file_count(f->model); k++) {
        const ws_ckpt_file *in = ws_ckpt_file_at(f->model, k);
        const uint64_t facts[] = { in->bytes, in->dev, in->ino, (uint64_t)in->mtime_s,
                                   (uint64_t)in->mtime_ns };
        ws_xxh_stream_add(x, facts, sizeof facts);
    }
    const uint64_t choices[] = { f->req->as, f->req->write.overflow,
                                 f->req->write.allow_nonfinite, f->bytes };
    ws_xxh_stream_add(x, choices, sizeof choices);
    ws_xxh_stream_add(x, head, n);
    ws_xxh128_hex(ws_xxh_stream_end(x), key);
    ws_xxh_stream_free(x);
    return WS_OK;
}

static ws_status take_record(void *arg, uint32_t type, uint64_t a, uint64_t b,
                             const void *payload, size_t n, ws_err *err)
{
    ws_one_file *f = arg;
    (void)payload;
    if (type != RECORD_CHUNK || a >= f->n_chunks || n != 0)
        return ws_fail(err, WS_E_HEADER, "the journal is another run's");
    f->done[a] = true;
    f->notes[a] = b;
    return WS_OK;
}

ws_status ws_one_file_stage(ws_one_file *f, const void *head, size_t n, ws_err *err)
{
    const ws_write_opts *w = &f->req->write;
    const char *home = ws_ckpt_home(f->model);
    char key[33];
    ws_status st = make_key(f, head, n, key, err);
    const ws_stage_opts o = { .target = w->out,
                              .force = w->force,
                              .resume = w->resume,
                              .key = key,
                              .inputs = &home,
                              .n_inputs = 1,
                              .manifest = w->manifest };
    f->notes = ws_calloc(f->n_chunks + 1, sizeof *f->notes);
    f->done = ws_calloc(f->n_chunks + 1, sizeof *f->done);
    if (st == WS_OK && (f->notes == NULL || f->done == NULL))
        st = no_memory(err);
    if (st == WS_OK)
        st =
            ws_stage_open(&f->stage, &o, f->ctx == NULL ? NULL : f->ctx->warnings, err);
    if (st != WS_OK || ws_stage_finished(f->stage))
        return st;
    st = ws_stage_file(f->stage, "", f->bytes, &f->id, err);
    if (st == WS_OK && ws_stage_resumed(f->stage))
        st = ws_stage_replay(f->stage, take_record, f, err);
    return st;
}

static bool stopped(const ws_ctx *ctx)
{
    return ctx != NULL && ctx->stop != NULL && atomic_load(ctx->stop) != 0;
}

static void do_chunk(void *arg, size_t i, int thread)
{
    ws_one_file *f = arg;
    ws_err err = WS_ERR_INIT;
    if (atomic_load(&f->failed) || f->done[i])
        return;
    ws_status st =
        stopped(f->ctx)
            ? ws_fail(&err, WS_E_INTERRUPTED, "interrupted")
            : f->write(f, i, f->buffers + (size_t)thread * 3 * (size_t)f->widest,
                       &f->notes[i], &err);
    if (st == WS_OK)
        st = ws_stage_record(f->stage, RECORD_CHUNK, i, f->notes[i], NULL, 0, &err);
    if (st == WS_OK)
        return;
    pthread_mutex_lock(&f->lock);
    if (f->status == WS_OK) {
        f->status = st;
        f->err = err;
    }
    atomic_store(&f->failed, true);
    pthread_mutex_unlock(&f->lock);
}

ws_status ws_one_file_chunks(ws_one_file *f, ws_err *err)
{
    ws_ctx less;
    ws_status st = ws_tv_ctx(&less, f->ctx, 3 * (size_t)f->widest, 0, err);
    if (st == WS_OK)
        st = ws_pool_new(&f->pool, less.threads, err);
    if (st != WS_OK)
        return st;
    f->buffers = ws_calloc((size_t)ws_pool_size(f->pool), 3 * (size_t)f->widest + 1);
    if (f->buffers == NULL)
        return no_memory(err);
    ws_pool_for(f->pool, f->n_chunks, do_chunk, f);
    if (f->status != WS_OK && err != NULL)
        *err = f->err;
    return f->status;
}

ws_status ws_one_file_tally(ws_one_file *f, const ws_tensor *t, const char *type,
                            const ws_store_tally *tally, bool strict, ws_err *err)
{
    const ws_write_opts *w = &f->req->write;
    if (tally->not_finite > 0 && (strict || !w->allow_nonfinite))
        ws_fail(err, WS_E_NOT_FINITE, "tensor holds NaN or infinity");
    else if (tally->overflowed > 0 && w->overflow == WS_OVERFLOW_ERROR)
        ws_fail(err, WS_E_NOT_FINITE, "a value overflows %s", type);
    else
        return atomic_fetch_add(&f->saturated, tally->overflowed), WS_OK;
    return ws_err_at(err, f->req->model, t->name, -1), WS_E_NOT_FINITE;
}

/** What was staged opens, and has as many tensors as it should have. */
static ws_status check_staged(const ws_one_file *f, size_t n, ws_err *err)
{
    ws_ckpt *c = NULL;
    ws_status st = ws_ckpt_open(&c, ws_stage_path(f->stage), NULL, err);
    if (st == WS_OK && ws_ckpt_count(c) != n)
        st = ws_fail(err, WS_E_IO, "the staged output is not what was written");
    ws_ckpt_free(c);
    return st;
}

ws_status ws_one_file_show(ws_one_file *f, size_t n, ws_convert_result *r, ws_err *err)
{
    const char *asked = f->req->write.manifest;
    const bool none = asked != NULL && strcmp(asked, "none") == 0;
    ws_manifest *m = NULL;
    ws_status st = ws_stage_sync(f->stage, err);
    if (st == WS_OK)
        st = check_staged(f, n, err);
    if (st == WS_OK)
        st = ws_manifest_from_stage(&m, f->stage, f->pool, f->ctx, NULL, NULL, err);
    if (st == WS_OK && !none) {
        r->strings = asked != NULL ? ws_strdup(asked)
                                   : ws_stage_manifest_path(f->req->write.out, false);
        r->manifest = r->strings;
        st = r->strings == NULL ? no_memory(err) : WS_OK;
    }
    if (st == WS_OK)
        st = ws_ckpt_recheck(f->model, err);
    if (st == WS_OK && m->n_files == 1) {
        r->output.path = f->req->write.out;
        r->output.bytes = m->files[0].bytes;
        memcpy(r->output.sha256, m->files[0].sha256, sizeof r->output.sha256);
        memcpy(r->output.xxh3, m->files[0].xxh3, sizeof r->output.xxh3);
    }
    if (st == WS_OK)
        st = ws_stage_commit(f->stage, m, r->manifest, err);
    ws_manifest_free(m);
    return st;
}

void ws_one_file_end(ws_one_file *f, ws_status st, double start, ws_convert_result *r)
{
    // a run asked to end leaves its staged work to --resume; Ctrl-C cleans up
    const int stop =
        f->ctx != NULL && f->ctx->stop != NULL ? atomic_load(f->ctx->stop) : 0;
    if (f->stage != NULL)
        ws_stage_close(f->stage, st == WS_E_INTERRUPTED && stop != SIGINT);
    r->saturated = atomic_load(&f->saturated);
    r->usage.seconds = ws_os_now() - start;
    r->usage.threads = f->pool == NULL ? 1 : ws_pool_size(f->pool);
    r->usage.peak_resident = r->usage.peak_memory = ws_os_memory_peak();
    r->usage.written_bytes = f->bytes;
    ws_pool_free(f->pool);
    ws_free(f->buffers);
    ws_free(f->notes);
    ws_free(f->done);
    ws_ckpt_free(f->model);
    pthread_mutex_destroy(&f->lock);
}
