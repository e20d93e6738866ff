/*
 * quantized.c - models whose weights are packed or scaled: known, and F8 dequantised
 *
 *     w = F32(f8) * scale       one scale for the tensor, a row, or a block of both
 *
 * `NAME_scale_inv` and `NAME_scale` beside a weight NAME are both factors, whatever
 * their names say; `*input_scale` belongs to activations and goes with them.
 */
#include "hf/quantized.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "ckpt/ckpt_internal.h"
#include "hf/config_edit.h"
#include "wsurg/text.h"

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for a quantised model");
}

static bool ends_in(const char *s, const char *tail)
{
    const size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

static bool is_f8(const ws_tensor *t)
{
    return t->dtype == WS_DT_F8_E4M3 || t->dtype == WS_DT_F8_E5M2;
}

/* ---- what it is ---- */

/** Names of tensors that only one kind has. */
static const struct {
    const char *tail;
    ws_quant_kind kind;
} tails[] = {
    { ".g_idx", WS_QUANT_GPTQ },
    { ".weight.absmax", WS_QUANT_BITSANDBYTES },
    { ".weight.quant_state.bitsandbytes__nf4", WS_QUANT_BITSANDBYTES },
    { ".weight.quant_state.bitsandbytes__fp4", WS_QUANT_BITSANDBYTES },
    { ".SCB", WS_QUANT_BITSANDBYTES },
    { "_proj_blocks", WS_QUANT_MXFP4 },
};

/** Words of `quant_method`. */
static const struct {
    const char *word;
    ws_quant_kind kind;
} words[] = {
    { "gptq", WS_QUANT_GPTQ },
    { "awq", WS_QUANT_AWQ },
    { "bitsandbytes", WS_QUANT_BITSANDBYTES },
    { "bitsandbytes_4bit", WS_QUANT_BITSANDBYTES },
    { "bitsandbytes_8bit", WS_QUANT_BITSANDBYTES },
    { "mxfp4", WS_QUANT_MXFP4 },
};

/** By names alone: packed weights without an index of groups are AWQ's. */
static void detect_tensors(const ws_ckpt *c, ws_quant *q)
{
    const ws_tensor *packed = NULL, *f8 = NULL, *scale = NULL;
    for (size_t i = 0; i < ws_ckpt_count(c) && q->kind == WS_QUANT_NONE; i++) {
        const ws_tensor *t = ws_ckpt_tensor(c, i);
        for (size_t k = 0; k < sizeof tails / sizeof *tails; k++)
            if (ends_in(t->name, tails[k].tail)) {
                q->kind = tails[k].kind;
                q->witness = t->name;
            }
        if (t->dtype == WS_DT_I32 && ends_in(t->name, ".qweight"))
            packed = t;
        if (is_f8(t))
            f8 = t;
        if (ends_in(t->name, "_scale") || ends_in(t->name, "_scale_inv"))
            scale = t;
    }
    if (q->kind == WS_QUANT_NONE && packed != NULL) {
        q->kind = WS_QUANT_AWQ;
        q->witness = packed->name;
    } else if (q->kind == WS_QUANT_NONE && f8 != NULL && scale != NULL) {
        q->kind = WS_QUANT_FP8;
        q->witness = scale->name;
    }
}

/** The configuration's word goes first; where it knows only F8, tensors decide. */
static void detect_config(const ws_ckpt *c, const cJSON *tree, ws_quant *q)
{
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(tree, "quantization_config");
    if (!cJSON_IsObject(o))
        return;
    const char *said =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "quant_method"));
    ws_show(said == NULL ? "" : said, q->method, sizeof q->method);
    for (size_t i = 0; said != NULL && i < sizeof words / sizeof *words; i++)
        if (strcmp(said, words[i].word) == 0) {
            *q = (ws_quant){ .kind = words[i].kind };
            return;
        }
    q->kind = WS_QUANT_OTHER;
    q->witness = NULL;
    for (size_t i = 0; i < ws_ckpt_count(c) && q->witness == NULL; i++)
        if (is_f8(ws_ckpt_tensor(c, i))) {
            q->kind = WS_QUANT_FP8;
            q->witness = ws_ckpt_tensor(c, i)->name;
        }
}

ws_status ws_quant_detect(const ws_ckpt *c, ws_quant *out, ws_err *err)
{
    size_t len = 0;
    const char *text = ws_ckpt_config(c, &len);
    cJSON *tree = NULL;
    *out = (ws_quant){ 0 };
    detect_tensors(c, out);
    if (text == NULL)
        return WS_OK;
    const ws_status st = ws_json_parse(&tree, text, len, err);
    if (st == WS_E_MEMORY)
        return st;
    if (st == WS_OK)
        detect_config(c, tree, out);
    cJSON_Delete(tree); // a configuration that cannot be read says nothing
    return WS_OK;
}

static const char *const shown_names[] = {
    [WS_QUANT_FP8] = "FP8",     [WS_QUANT_GPTQ] = "GPTQ",
    [WS_QUANT_AWQ] = "AWQ",     [WS_QUANT_BITSANDBYTES] = "bitsandbytes",
    [WS_QUANT_MXFP4] = "MXFP4",
};

ws_status ws_quant_refuse(const ws_ckpt *c, ws_err *err)
{
    ws_quant q;
    const ws_status st = ws_quant_detect(c, &q, err);
    if (st != WS_OK || q.kind == WS_QUANT_NONE)
        return st;
    if (q.kind == WS_QUANT_OTHER)
        ws_fail(err, WS_E_UNSUPPORTED,
                "weights are quantised ('%s' in config.json): no arithmetic on them",
                q.method);
    else if (q.kind == WS_QUANT_FP8)
        ws_fail(err, WS_E_UNSUPPORTED,
                "FP8 weights are scaled by %s: no arithmetic on them as they are",
                q.witness != NULL && !q.method[0] ? "tensors beside them"
                                                  : "quantization_config");
    else
        ws_fail(err, WS_E_UNSUPPORTED,
                "weights are packed by %s: no arithmetic on them", shown_names[q.kind]);
    if (q.kind == WS_QUANT_FP8)
        ws_err_hint(err, "merge and convert take --dequantise");
    else
        ws_err_hint(err, "take the model that was not quantised");
    return ws_err_at(err, ws_ckpt_path(c), q.witness, -1), WS_E_UNSUPPORTED;
}

/* ---- F8 as numbers ---- */

/** A weight and its scales. */
struct scaled {
    const ws_tensor *t;
    float *scale;        // (across rows of blocks, times .columns)
    uint64_t row, width; // elements of a row; of a block
    uint64_t height, columns;
};

struct numbers {
    ws_ckpt *inner;
    struct scaled *items;
    size_t n;
    uint64_t block[2]; // of config.json; 0: not said
};

static void numbers_close(void *self)
{
    struct numbers *s = self;
    for (size_t i = 0; i < s->n; i++)
        ws_free(s->items[i].scale);
    ws_free(s->items);
    ws_ckpt_free(s->inner);
    ws_free(s);
}

static ws_status numbers_recheck(const ws_ckpt *c, ws_err *err)
{
    return ws_ckpt_recheck(((const struct numbers *)c->self)->inner, err);
}

enum { RUN = 4096 };

/** n elements from the first on, as F32. */
static ws_status read_run(const struct numbers *s, const struct scaled *x,
                          uint64_t first, size_t n, float *out, ws_err *err)
{
    unsigned char raw[RUN];
    const ws_status st = ws_ckpt_read(s->inner, x->t, first, n, raw, err);
    if (st != WS_OK)
        return st;
    ws_to_f32(x->t->dtype, raw, out, n);
    for (size_t i = 0; i < n; i++) {
        const uint64_t row = (first + i) / x->row, column = (first + i) % x->row;
        out[i] *= x->scale[row / x->height * x->columns + column / x->width];
    }
    return WS_OK;
}

static ws_status numbers_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                              size_t len, void *dst, ws_err *err)
{
    const struct numbers *s = c->self;
    float values[RUN];
    unsigned char *to = dst;
    if (t->file != WS_NO_FILE)
        return ws_ckpt_read(s->inner, ws_ckpt_find(s->inner, t->name), offset, len, dst,
                            err);
    while (len > 0) { // the ends may lie within an element
        const uint64_t first = offset / sizeof *values;
        const size_t skip = (size_t)(offset % sizeof *values);
        const uint64_t left = t->n_elements - first;
        const size_t most = (skip + len + sizeof *values - 1) / sizeof *values;
        size_t n = most < RUN ? most : RUN;
        n = n < left ? n : (size_t)left;
        const ws_status st = read_run(s, &s->items[t->offset], first, n, values, err);
        if (st != WS_OK)
            return st;
        const size_t have = n * sizeof *values - skip, some = have < len ? have : len;
        memcpy(to, (const char *)values + skip, some);
        to += some;
        offset += some;
        len -= some;
    }
    return WS_OK;
}

static const ws_ckpt_ops numbers_ops = { .read = numbers_read,
                                         .close = numbers_close,
                                         .recheck = numbers_recheck };

bool ws_quant_is_numbers(const ws_ckpt *c)
{
    return c->ops == &numbers_ops;
}

/* ---- scales ---- */

/** The factor beside the F8 weight @p t, or NULL. */
static const ws_tensor *scale_of(const ws_ckpt *c, const ws_tensor *t)
{
    static const char *const ends[] = { "_scale_inv", "_scale" };
    char name[WS_MAX_NAME + 16];
    const ws_tensor *s = NULL;
    for (size_t i = 0; s == NULL && i < 2; i++) {
        snprintf(name, sizeof name, "%s%s", t->name, ends[i]);
        s = ws_ckpt_find(c, name);
    }
    return s;
}

static uint64_t ceil_div(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b;
}

/** Blocks of @p n that number @p count: of the configured size, of 128, or equal ones;
 * 0 when it is none. */
static uint64_t block_size(uint64_t n, uint64_t count, uint64_t configured)
{
    if (configured > 0)
        return ceil_div(n, configured) == count ? configured : 0;
    if (count == 1 || count == n)
        return n / count;
    if (ceil_div(n, 128) == count)
        return 128;
    return count > 0 && n % count == 0 ? n / count : 0;
}

/** What the shapes of weight and scale say. */
static bool shape_fit(const struct numbers *s, struct scaled *x, const ws_tensor *scale)
{
    const ws_tensor *t = x->t;
    const uint64_t rows = t->rank > 0 ? t->shape[0] : 1;
    x->row = rows > 0 ? t->n_elements / rows : 1;
    x->row = x->row > 0 ? x->row : 1;
    x->width = x->row;
    x->height = rows > 0 ? rows : 1;
    x->columns = 1;
    if (scale->n_elements == 1)
        return true;
    const bool per_row =
        scale->n_elements == rows &&
        (scale->rank == 1 || (scale->rank == 2 && scale->shape[1] == 1));
    if (per_row) {
        x->height = 1;
        return t->rank >= 1;
    }
    if (t->rank != 2 || scale->rank != 2)
        return false;
    x->columns = scale->shape[1];
    x->height = block_size(t->shape[0], scale->shape[0], s->block[0]);
    x->width = block_size(t->shape[1], scale->shape[1], s->block[1]);
    return x->height > 0 && x->width > 0;
}

static ws_status scale_read(struct numbers *s, struct scaled *x, const ws_tensor *scale,
                            ws_err *err)
{
    const bool known = scale->dtype == WS_DT_F32 || scale->dtype == WS_DT_F16 ||
                       scale->dtype == WS_DT_BF16;
    if (!known || !shape_fit(s, x, scale)) {
        ws_fail(err, WS_E_UNSUPPORTED,
                "scales of %s and this shape are not known for '%.100s'",
                ws_dtype_info(scale->dtype)->name, x->t->name);
        return ws_err_at(err, ws_ckpt_path(s->inner), scale->name, -1),
               WS_E_UNSUPPORTED;
    }
    void *raw = ws_alloc((size_t)scale->n_bytes + 1);
    x->scale = ws_alloc((size_t)scale->n_elements * sizeof(float) + 1);
    ws_status st =
        raw == NULL || x->scale == NULL
            ? no_memory(err)
            : ws_ckpt_read(s->inner, scale, 0, (size_t)scale->n_bytes, raw, err);
    if (st == WS_OK)
        ws_to_f32(scale->dtype, raw, x->scale, (size_t)scale->n_elements);
    ws_free(raw);
    return st;
}

/** Whether @p t is a scale that goes with its weights. */
static bool goes(const ws_ckpt *c, const ws_tensor *t)
{
    static const char *const ends[] = { "_scale_inv", "_scale" };
    char name[WS_MAX_NAME + 1];
    if (ends_in(t->name, ".input_scale"))
        return true;
    for (size_t i = 0; i < 2; i++) {
        if (!ends_in(t->name, ends[i]))
            continue;
        snprintf(name, sizeof name, "%.*s", (int)(strlen(t->name) - strlen(ends[i])),
                 t->name);
        const ws_tensor *weight = ws_ckpt_find(c, name);
        return weight != NULL && is_f8(weight);
    }
    return false;
}

/* ---- the checkpoint ---- */

static ws_status tensors_add(struct numbers *s, ws_ckpt *c, ws_err *err)
{
    ws_status st = WS_OK;
    for (size_t i = 0; st == WS_OK && i < ws_ckpt_count(s->inner); i++) {
        ws_tensor t = *ws_ckpt_tensor(s->inner, i);
        const ws_tensor *scale = is_f8(&t) ? scale_of(s->inner, &t) : NULL;
        if (goes(s->inner, &t))
            continue;
        if (scale != NULL) {
            s->items[s->n] = (struct scaled){ .t = ws_ckpt_tensor(s->inner, i) };
            st = scale_read(s, &s->items[s->n], scale, err);
            t.dtype = WS_DT_F32;
            t.file = WS_NO_FILE;
            t.offset = s->n++;
            if (st == WS_OK)
                st = ws_tensor_measure(&t, err);
        }
        if (st == WS_OK)
            st = ws_ckpt_add_tensor(c, &t, 0, err);
    }
    return st;
}

/** config.json without its quantisation, of F32; blocks of `weight_block_size`. */
static ws_status config_take(struct numbers *s, ws_ckpt *c, ws_err *err)
{
    size_t len = 0;
    const char *text = ws_ckpt_config(s->inner, &len);
    cJSON *tree = NULL;
    ws_buf b = { 0 };
    if (text == NULL || ws_json_parse(&tree, text, len, NULL) != WS_OK)
        return WS_OK;
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(tree, "quantization_config");
    const cJSON *sizes = cJSON_GetObjectItemCaseSensitive(o, "weight_block_size");
    for (int i = 0; i < 2 && cJSON_GetArraySize(sizes) == 2; i++)
        ws_json_u64(cJSON_GetArrayItem(sizes, i), &s->block[i]);
    cJSON_Delete(tree);
    ws_config_remove(&b, text, len, "quantization_config");
    if (b.failed) {
        ws_buf_free(&b);
        return no_memory(err);
    }
    c->config = b.p;
    c->config_len = b.n;
    return WS_OK;
}

static ws_status numbers_fill(struct numbers *s, ws_ckpt *c, ws_err *err)
{
    const ws_ckpt *in = s->inner;
    char *label = ws_strdup(in->label), *home = ws_strdup(ws_ckpt_home(in));
    s->items = ws_calloc(ws_ckpt_count(in) + 1, sizeof *s->items);
    if (label == NULL || home == NULL || s->items == NULL) {
        ws_free(label);
        ws_free(home);
        return no_memory(err);
    }
    ws_free(c->label);
    c->label = label;
    c->home = home;
    c->is_dir = in->is_dir;
    ws_status st = ws_ckpt_borrow_files(c, in, err);
    if (st == WS_OK)
        st = config_take(s, c, err);
    if (st == WS_OK)
        st = tensors_add(s, c, err);
    for (size_t i = 0; st == WS_OK && i < in->n_meta; i++)
        if (strncmp(in->meta[i].key, "wsurg.", 6) != 0)
            st = ws_ckpt_add_meta(c, in->meta[i].key, in->meta[i].value, err);
    return st == WS_OK ? ws_ckpt_finish(c, err) : st;
}

ws_status ws_quant_numbers(ws_ckpt **out, ws_ckpt *c, ws_err *err)
{
    ws_quant q;
    ws_ckpt *made = NULL;
    ws_status st = ws_quant_detect(c, &q, err);
    if (st != WS_OK)
        return st;
    if (q.kind == WS_QUANT_NONE) {
        *out = c;
        return WS_OK;
    }
    if (q.kind != WS_QUANT_FP8)
        return ws_quant_refuse(c, err);
    struct numbers *s = ws_calloc(1, sizeof *s);
    if (s == NULL)
        return no_memory(err);
    st = ws_ckpt_new(&made, ws_ckpt_path(c), "fp8", &numbers_ops, s, err);
    if (st != WS_OK) {
        ws_free(s);
        return st;
    }
    s->inner = c;
    st = numbers_fill(s, made, err);
    if (st != WS_OK) {
        s->inner = NULL; // it stays the caller's
        ws_ckpt_free(made);
        return st;
    }
    *out = made;
    return WS_OK;
}
