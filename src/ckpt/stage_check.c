/*
 * stage_check.c - the final check: staged bytes against the digests of what was written
 */
#include <string.h>

#include "base/hash.h"
#include "ckpt/stage_manifest.h"
#include "wsurg/alloc.h"

/** Follows one file through its tensors. */
struct follow {
    const ws_stage_expect *expect;
    const char *target;
    size_t tensor;      // in work
    uint64_t slice;     // of it
    uint64_t left;      // bytes of that slice still to come
    ws_xxh_stream *xxh; // of that slice
    ws_xxh128 *slices;  // of the tensor in work
    size_t cap;
};

struct check {
    struct follow *files;
    size_t n;
};

static ws_status differs(const struct follow *f, const ws_tensor *t, ws_err *err)
{
    ws_fail(err, WS_E_IO, "staged bytes are not those that were written");
    ws_err_at(err, f->target, t->name, (int64_t)t->offset);
    ws_err_hint(err, "the disk or its file system may be at fault; nothing was shown");
    return WS_E_IO;
}

static uint64_t slice_count(const ws_tensor *t)
{
    return ws_slice_count(t->rank, t->shape);
}

/** Make ready for the tensor in work, and pass the empty ones. */
static ws_status begin_tensor(struct follow *f, ws_err *err)
{
    for (; f->tensor < f->expect->n; f->tensor++) {
        const ws_tensor *t = f->expect->tensors[f->tensor];
        const size_t n = (size_t)slice_count(t);
        uint64_t offset;
        if (n > 0) {
            if (n > f->cap) {
                ws_free(f->slices);
                f->slices = ws_calloc(n, sizeof *f->slices);
                f->cap = f->slices == NULL ? 0 : n;
                if (f->slices == NULL)
                    return ws_fail(err, WS_E_MEMORY, "no memory for digests");
            }
            f->slice = 0;
            ws_slice_bytes(t, 0, &offset, &f->left);
            ws_xxh_stream_reset(f->xxh);
            return WS_OK;
        }
        const ws_xxh128 d = ws_tensor_digest(t, NULL, 0);
        if (memcmp(&d, &f->expect->digests[f->tensor], sizeof d) != 0)
            return differs(f, t, err);
    }
    return WS_OK;
}

/** The slice in work is complete: go on to the next, or close the tensor. */
static ws_status end_slice(struct follow *f, ws_err *err)
{
    const ws_tensor *t = f->expect->tensors[f->tensor];
    const uint64_t n = slice_count(t);
    uint64_t offset;
    f->slices[f->slice++] = ws_xxh_stream_end(f->xxh);
    if (f->slice < n) {
        ws_slice_bytes(t, f->slice, &offset, &f->left);
        ws_xxh_stream_reset(f->xxh);
        return WS_OK;
    }
    const ws_xxh128 d = ws_tensor_digest(t, f->slices, (size_t)n);
    if (memcmp(&d, &f->expect->digests[f->tensor], sizeof d) != 0)
        return differs(f, t, err);
    f->tensor++;
    return begin_tensor(f, err);
}

static ws_status see(void *arg, int file, uint64_t offset, const void *data, size_t len,
                     ws_err *err)
{
    const struct check *c = arg;
    if ((size_t)file >= c->n)
        return WS_OK;
    struct follow *f = &c->files[file];
    const uint8_t *p = data;
    while (len > 0 && f->tensor < f->expect->n) {
        const ws_tensor *t = f->expect->tensors[f->tensor];
        uint64_t at, size, n;
        ws_slice_bytes(t, f->slice, &at, &size);
        at += t->offset + (size - f->left); // of the next byte wanted
        if (offset < at) {                  // header, before the first tensor
            n = at - offset < len ? at - offset : len;
        } else {
            n = f->left < len ? f->left : len;
            ws_xxh_stream_add(f->xxh, p, (size_t)n);
            f->left -= n;
        }
        p += n;
        offset += n;
        len -= (size_t)n;
        const ws_status st = f->left == 0 ? end_slice(f, err) : WS_OK;
        if (st != WS_OK)
            return st;
    }
    return WS_OK;
}

static ws_status check_new(struct check *c, const char *target,
                           const ws_stage_expect *expect, size_t n, ws_err *err)
{
    c->files = ws_calloc(n, sizeof *c->files);
    if (c->files == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the check");
    for (c->n = 0; c->n < n; c->n++) {
        struct follow *f = &c->files[c->n];
        f->expect = &expect[c->n];
        f->target = target;
        f->xxh = ws_xxh_stream_new();
        const ws_status st = f->xxh == NULL
                                 ? ws_fail(err, WS_E_MEMORY, "no memory for the check")
                                 : begin_tensor(f, err);
        if (st != WS_OK) {
            c->n++; // freed with the others
            return st;
        }
    }
    return WS_OK;
}

static void check_free(struct check *c)
{
    for (size_t i = 0; i < c->n; i++) {
        ws_xxh_stream_free(c->files[i].xxh);
        ws_free(c->files[i].slices);
    }
    ws_free(c->files);
}

ws_status ws_stage_check(ws_manifest **out, const ws_stage *s, ws_pool *pool,
                         const ws_ctx *ctx, const ws_stage_expect *expect,
                         size_t n_files, ws_err *err)
{
    struct check c = { 0 };
    ws_manifest *m = NULL;
    bool is_dir;
    ws_status st = check_new(&c, ws_stage_target(s, &is_dir), expect, n_files, err);
    if (st == WS_OK)
        st = ws_manifest_from_stage(&m, s, pool, ctx, see, &c, err);
    for (size_t i = 0; st == WS_OK && i < c.n; i++)
        if (c.files[i].tensor < expect[i].n) // the file ends before its tensors
            st = differs(&c.files[i], expect[i].tensors[c.files[i].tensor], err);
    check_free(&c);
    if (st == WS_OK)
        *out = m;
    else
        ws_manifest_free(m);
    return st;
}
