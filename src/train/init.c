/*
 * init.c - a model of random numbers, as transformers would start it
 *
 *   matrices  normal(0, s), s = initializer_range; gpt2's c_proj: s / sqrt(2 L)
 *   norms     1; biases 0
 *
 * The model is a checkpoint whose numbers are computed when they are read: element i of
 * a tensor is sqrt(-2 ln u) cos(2 pi w), u and w from the words 2 i and 2 i + 1 of the
 * stream of (seed, "init", name).
 */
#include "train/init.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "ckpt/ckpt_internal.h"
#include "model/train_step.h"
#include "wsurg/random.h"

enum { CONFIG_CAP = 16 << 20 };

/** What a tensor starts from. */
struct start {
    ws_rng_key key;
    double deviation;
    float constant; // when the deviation is 0
};

struct source {
    struct start *start; // (n): a tensor's offset is its index
    size_t n, cap;
    uint64_t seed;
    double range, into_residual; // deviations
    ws_ckpt *ckpt;
    ws_dtype dtype;
    ws_arena arena;
};

static float number(const struct start *s, uint64_t i)
{
    uint32_t w[2];

    if (s->deviation <= 0.0)
        return s->constant;
    ws_random_fill(&s->key, 2 * i, w, 2);
    const double u = ((double)w[0] + 0.5) * 0x1p-32;
    const double turn = (double)w[1] * 0x1p-32 * 6.283185307179586477;
    return (float)(s->deviation * sqrt(-2.0 * log(u)) * cos(turn));
}

static ws_status source_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                             size_t len, void *dst, ws_err *err)
{
    const struct source *s = c->self;
    const struct start *st = &s->start[t->offset];
    (void)err;

    for (size_t done = 0; done < len;) {
        const float x = number(st, (offset + done) / sizeof(float));
        const size_t skip = (size_t)((offset + done) % sizeof x);
        const size_t n = sizeof x - skip < len - done ? sizeof x - skip : len - done;
        memcpy((char *)dst + done, (const char *)&x + skip, n);
        done += n;
    }
    return WS_OK;
}

static void source_close(void *self)
{
    struct source *s = self;
    ws_arena_free(&s->arena);
    ws_free(s->start);
    ws_free(s);
}

static const ws_ckpt_ops source_ops = { .read = source_read, .close = source_close };

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static ws_status tensor_add(void *arg, const char *name, ws_part_kind kind, int rank,
                            const uint64_t shape[2], ws_err *err)
{
    struct source *s = arg;
    uint64_t key[2];
    ws_tensor t = { .name = name,
                    .dtype = WS_DT_F32,
                    .rank = rank,
                    .shape = shape,
                    .file = WS_NO_FILE,
                    .offset = s->n };

    if (ws_ckpt_lookup(s->ckpt, name) != SIZE_MAX) // another view of a fused tensor
        return WS_OK;
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 64;
        struct start *more = ws_realloc(s->start, s->cap * sizeof *more);
        if (more == NULL)
            return ws_fail(err, WS_E_MEMORY, "no memory for a new model");
        s->start = more;
    }
    ws_rng_key_make(s->seed, "init", 0, name, key);
    const bool norm = kind == WS_PART_NORM;
    const bool vector = norm || kind == WS_PART_NORM_BIAS || kind == WS_PART_BIAS;
    s->start[s->n++] = (struct start){
        .key = { key[0], key[1] },
        .deviation = vector                             ? 0.0
                     : ends_with(name, "c_proj.weight") ? s->into_residual
                                                        : s->range,
        .constant = norm ? 1.0f : 0.0f,
    };
    const ws_status st = ws_tensor_measure(&t, err);
    return st == WS_OK ? ws_ckpt_add_tensor(s->ckpt, &t, 0, err) : st;
}

/* ---- config.json ---- */

/** Folder of @p config, which is that folder or a config.json; for ws_free. */
static ws_status folder_of(char **out, const char *config, ws_err *err)
{
    static const char name[] = "config.json";
    const char *slash = strrchr(config, '/');
    const char *last = slash != NULL ? slash + 1 : config;

    if (ends_with(config, ".json") && strcmp(last, name) != 0) {
        ws_fail(err, WS_E_UNSUPPORTED, "the configuration must be called %s", name);
        ws_err_hint(err, "the tokenizer and %s are copied from its folder", name);
        return ws_err_at(err, config, NULL, -1);
    }
    *out = strcmp(last, name) != 0 ? ws_strdup(config)
           : slash == NULL         ? ws_strdup(".")
                                   : ws_strndup(config, (size_t)(slash - config) + 1);
    return *out != NULL ? WS_OK : ws_fail(err, WS_E_MEMORY, "no memory for a path");
}

/** initializer_range and the dtype that the configuration asks for. */
static ws_status values_read(struct source *s, const ws_model_desc *d, const char *text,
                             size_t len, ws_err *err)
{
    cJSON *o = NULL;
    ws_status st = ws_json_parse(&o, text, len, err);

    if (st)
        return st;
    const cJSON *range = cJSON_GetObjectItemCaseSensitive(o, "initializer_range");
    s->range = cJSON_IsNumber(range) ? range->valuedouble : 0.02;
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(o, "dtype");
    if (!cJSON_IsString(dtype))
        dtype = cJSON_GetObjectItemCaseSensitive(o, "torch_dtype");
    const char *word = cJSON_IsString(dtype) ? dtype->valuestring : "float32";
    s->dtype = strcmp(word, "bfloat16") == 0  ? WS_DT_BF16
               : strcmp(word, "float16") == 0 ? WS_DT_F16
                                              : WS_DT_F32;
    if (!(s->range > 0.0 && s->range < 1e3))
        st = ws_fail(err, WS_E_HEADER, "initializer_range is %g", s->range);
    s->into_residual = s->range / sqrt(2.0 * (double)d->L);
    cJSON_Delete(o);
    return st;
}

/** The checkpoint of folder @p path, whose config is @p text. */
static ws_status ckpt_make(ws_ckpt **out, const char *path, char *text, size_t len,
                           uint64_t seed, bool lenient, ws_dtype *dtype, ws_err *err)
{
    ws_diag unknown = { 0 }; // told where the model is made of the same text
    struct source *s = ws_calloc(1, sizeof *s);
    ws_model_desc d;
    ws_ckpt *c = NULL;

    if (s == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a new model");
    s->seed = seed;
    ws_status st = ws_model_desc_parse(&d, text, len, path, lenient ? &unknown : NULL,
                                       &s->arena, err);
    ws_diag_free(&unknown);
    if (st == WS_OK)
        st = values_read(s, &d, text, len, err);
    if (st == WS_OK)
        st = ws_ckpt_new(&c, path, "new", &source_ops, s, err);
    if (st) {
        source_close(s);
        return ws_err_at(err, path, NULL, -1);
    }
    s->ckpt = c;
    *dtype = s->dtype;
    c->is_dir = true;
    c->config = ws_strndup(text, len);
    c->config_len = len;
    if (c->config == NULL)
        st = ws_fail(err, WS_E_MEMORY, "no memory for a new model");
    if (st == WS_OK)
        st = ws_model_tensors(&d, tensor_add, s, err);
    if (st == WS_OK)
        st = ws_ckpt_finish(c, err);
    if (st)
        ws_ckpt_free(c);
    else
        *out = c;
    return st;
}

ws_status ws_init_model(ws_model **out, const char *config, uint64_t seed,
                        ws_dtype *dtype, const ws_ctx *ctx, ws_err *err)
{
    char *folder = NULL, *text = NULL, path[4096];
    size_t len;
    ws_ckpt *c = NULL;
    ws_status st = folder_of(&folder, config, err);

    if (st)
        return st;
    snprintf(path, sizeof path, "%s/config.json", folder);
    st = ws_file_read(&text, &len, path, CONFIG_CAP, err);
    if (st == WS_OK)
        st = ckpt_make(&c, folder, text, len, seed, ctx != NULL && ctx->lenient, dtype,
                       err);
    if (st == WS_OK)
        st = ws_model_take(out, c, NULL, ctx, err);
    ws_free(text);
    ws_free(folder);
    return st;
}
