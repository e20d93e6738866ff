/*
 * data_read.c - plain text files, and JSONL line by line
 */
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "train/data_internal.h"

enum { PART_BYTES = 1 << 18, MOST_LINE = 64 << 20, MOST_TEXT = (1 << 30) - 1 };

/* ---- plain text ---- */

static ws_status text_encode(ws_data *d, ws_source *s, const char *text, size_t len,
                             ws_err *err)
{
    ws_encoder *e = NULL;
    ws_ids ids = { 0 };
    ws_record *r = NULL;

    ws_status st = ws_record_new(&r, d, s, err); // for the bos
    if (st == WS_OK)
        st = ws_record_bos(r, &ids, err);
    if (st == WS_OK)
        st = ws_encoder_new(&e, d->t, err);
    if (st == WS_OK)
        st = ws_encode(e, text, len, false, &ids, err);
    if (st == WS_OK && d->o.limit > 0 && ids.n > (size_t)d->o.limit)
        ids.n = (size_t)d->o.limit;
    if (st == WS_OK)
        st = ws_source_add(d, s, &ids, NULL, err);
    ws_ids_free(&ids);
    ws_encoder_free(e);
    ws_record_free(r);
    return st;
}

ws_status ws_source_text(ws_data *d, ws_source *s, ws_err *err)
{
    char *text = NULL;
    size_t len;
    ws_status st = ws_file_read(&text, &len, s->path, MOST_TEXT, err);

    s->running = true;
    s->kind = WS_DATA_TEXT;
    if (st == WS_OK)
        st = text_encode(d, s, text, len, err);
    ws_free(text);
    return st;
}

/* ---- lines ---- */

/** Lines of a file, read in parts. */
struct lines {
    int fd;
    const char *path;
    uint64_t bytes, read; // of the file; read so far
    char *p;              // (cap) held: from..to
    size_t cap, from, to;
    uint64_t offset; // in the file, of the line at hand
    uint64_t number; // of the line at hand, from 1
};

static ws_status lines_fill(struct lines *l, ws_err *err)
{
    if (l->from > 0) {
        memmove(l->p, l->p + l->from, l->to - l->from);
        l->to -= l->from;
        l->from = 0;
    }
    if (l->to + PART_BYTES > l->cap) {
        const size_t cap = l->cap + l->cap / 2 + 2 * PART_BYTES;
        char *p = ws_realloc(l->p, cap);
        if (!p)
            return ws_fail(err, WS_E_MEMORY, "no memory for a line");
        l->p = p;
        l->cap = cap;
    }
    const uint64_t left = l->bytes - l->read;
    const size_t n = left < PART_BYTES ? (size_t)left : PART_BYTES;
    const ws_status st = ws_os_pread(l->fd, l->path, l->p + l->to, n, l->read, err);
    if (st == WS_OK) {
        l->read += n;
        l->to += n;
    }
    return st;
}

/** The next line without its end; *text NULL past the last. */
static ws_status lines_next(struct lines *l, const char **text, size_t *len,
                            ws_err *err)
{
    size_t looked = 0;

    *text = NULL;
    for (;;) {
        const char *at = l->p ? l->p + l->from + looked : NULL;
        const char *end = at ? memchr(at, '\n', l->to - l->from - looked) : NULL;
        if (end || (l->read == l->bytes && l->to > l->from)) {
            *text = l->p + l->from;
            *len = end ? (size_t)(end - *text) : l->to - l->from;
            l->offset = l->read - (l->to - l->from);
            l->number++;
            l->from += *len + (end != NULL);
            return WS_OK;
        }
        if (l->read == l->bytes)
            return WS_OK;
        looked = l->to - l->from;
        if (looked > MOST_LINE)
            return ws_fail(err, WS_E_UNSUPPORTED, "line %llu is longer than %d bytes",
                           (unsigned long long)l->number + 1, (int)MOST_LINE);
        const ws_status st = lines_fill(l, err);
        if (st)
            return st;
    }
}

static bool blank(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r", s[i]))
            return false;
    return true;
}

/** Say at which line and byte. */
static ws_status line_failed(const struct lines *l, const ws_err *inner, ws_err *err)
{
    const int64_t at = inner->offset > 0 ? inner->offset : 0;

    if (inner->path[0]) { // about another file
        if (err)
            *err = *inner;
        return inner->code;
    }
    ws_fail(err, inner->code, "line %llu: %s", (unsigned long long)l->number,
            inner->msg);
    if (inner->hint[0])
        ws_err_hint(err, "%s", inner->hint);
    ws_err_at(err, l->path, NULL, (int64_t)l->offset + at);
    return inner->code;
}

static ws_status line_take(const struct lines *l, ws_line_fn *take, void *arg,
                           const char *text, size_t len, bool first, ws_err *err)
{
    ws_err inner = WS_ERR_INIT;
    cJSON *json = NULL;
    ws_status st = ws_json_parse(&json, text, len, &inner);

    if (st == WS_OK)
        st = take(arg, json, first, &inner);
    cJSON_Delete(json);
    return st ? line_failed(l, &inner, err) : WS_OK;
}

static ws_status lines_read(struct lines *l, int64_t limit, const ws_ctx *ctx,
                            ws_line_fn *take, void *arg, ws_err *err)
{
    const char *text;
    size_t len;
    int64_t n = 0;

    for (;;) {
        ws_status st = lines_next(l, &text, &len, err);
        if (st || !text)
            return st;
        if (blank(text, len))
            continue;
        if (n == 0 && text[0] == '[') {
            ws_fail(err, WS_E_UNSUPPORTED,
                    "the file is one JSON array, wanted one object a line");
            ws_err_hint(err, "jq -c '.[]' FILE > FILE.jsonl");
            return WS_E_UNSUPPORTED;
        }
        if (ctx && ctx->stop && atomic_load(ctx->stop) != 0)
            return ws_fail(err, WS_E_INTERRUPTED, "stopped on request");
        st = line_take(l, take, arg, text, len, n == 0, err);
        if (st)
            return st;
        if (++n == limit)
            return WS_OK;
    }
}

ws_status ws_lines_read(const char *path, int64_t limit, const ws_ctx *ctx,
                        ws_line_fn *take, void *arg, ws_err *err)
{
    struct lines l = { .fd = -1, .path = path };
    ws_status st = ws_os_open_read(&l.fd, path, &l.bytes, err);

    if (st == WS_OK)
        st = lines_read(&l, limit, ctx, take, arg, err);
    ws_free(l.p);
    if (l.fd >= 0)
        close(l.fd);
    return st;
}

static ws_status record_take(void *arg, const cJSON *line, bool first, ws_err *err)
{
    return ws_record_add(arg, line, first, err);
}

ws_status ws_source_jsonl(ws_data *d, ws_source *s, ws_err *err)
{
    ws_record *r = NULL;
    ws_status st = ws_record_new(&r, d, s, err);

    if (st == WS_OK)
        st = ws_lines_read(s->path, d->o.limit, d->ctx, record_take, r, err);
    ws_record_free(r);
    return st;
}
