/*
 * model.c - loading: config.json decides which tensors, of which shapes; their bytes
 * are read as they are
 */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/os.h"
#include "model/train_step.h"
#include "wsurg/source.h"
#include "wsurg/text.h"

enum { CONFIG_CAP = 16 << 20 };

/** Names of a family's tensors; %d in those of a layer is its number. */
struct names {
    const char *prefix; // may be absent from the file
    const char *embed, *positions, *final_norm, *head;
    const char *attn_norm, *q, *k, *v, *o, *q_norm, *k_norm;
    const char *mlp_norm, *gate, *up, *down;
};

static const struct names llama_names = {
    .prefix = "model.",
    .embed = "embed_tokens",
    .final_norm = "norm",
    .head = "lm_head",
    .attn_norm = "layers.%d.input_layernorm",
    .q = "layers.%d.self_attn.q_proj",
    .k = "layers.%d.self_attn.k_proj",
    .v = "layers.%d.self_attn.v_proj",
    .o = "layers.%d.self_attn.o_proj",
    .q_norm = "layers.%d.self_attn.q_norm",
    .k_norm = "layers.%d.self_attn.k_norm",
    .mlp_norm = "layers.%d.post_attention_layernorm",
    .gate = "layers.%d.mlp.gate_proj",
    .up = "layers.%d.mlp.up_proj",
    .down = "layers.%d.mlp.down_proj",
};

static const struct names gpt2_names = {
    .prefix = "transformer.",
    .embed = "wte",
    .positions = "wpe",
    .final_norm = "ln_f",
    .head = "lm_head",
    .attn_norm = "h.%d.ln_1",
    .q = "h.%d.attn.c_attn",
    .k = "h.%d.attn.c_attn",
    .v = "h.%d.attn.c_attn",
    .o = "h.%d.attn.c_proj",
    .mlp_norm = "h.%d.ln_2",
    .up = "h.%d.mlp.c_fc",
    .down = "h.%d.mlp.c_proj",
};

/** Walks the weights twice: to find and price them, then to read them. */
struct loader {
    ws_model *m;
    const struct names *names;
    const char *prefix;
    const ws_tensor **tensor; // of each block
    size_t cap;
    bool reading;
    uint64_t bytes, parameters;
    ws_model_tensor_fn *visit; // in place of finding and reading; with its argument
    void *visit_arg;
    ws_err *err;
};

/** A view wanted: outputs from .. from+rows of the whole tensor's. A vector has the
 * numbers from .. from+cols. */
struct want {
    const char *stem, *end; // "layers.%d.self_attn.q_proj", ".weight"
    int64_t layer;
    int64_t rows, cols; // of the view: (out, in); a vector has rows 1
    int64_t from, of;   // first output, and outputs of the whole
    bool vector, transposed;
    ws_part_kind kind;
};

static const char *name_make(struct loader *l, const struct want *w)
{
    char text[256], number[24];
    const char *mark = strstr(w->stem, "%d");
    const bool bare = strcmp(w->stem, "lm_head") == 0;

    snprintf(number, sizeof number, "%lld", (long long)w->layer);
    snprintf(text, sizeof text, "%s%.*s%s%s%s", bare ? "" : l->prefix,
             mark ? (int)(mark - w->stem) : (int)strlen(w->stem), w->stem,
             mark ? number : "", mark ? mark + 2 : "", w->end);
    return ws_arena_strdup(&l->m->arena, text);
}

static ws_status shape_check(struct loader *l, const struct want *w, const ws_tensor *t)
{
    uint64_t want[2] = { (uint64_t)w->of, (uint64_t)w->cols };
    char found[64] = "", text[24];
    const int rank = w->vector ? 1 : 2;

    if (w->transposed) {
        want[0] = (uint64_t)w->cols;
        want[1] = (uint64_t)w->of;
    }
    if (t->rank == rank && t->shape[0] == want[0] &&
        (rank == 1 || t->shape[1] == want[1]))
        return WS_OK;
    for (int i = 0, n = 0; i < t->rank && i < 3; i++)
        n += snprintf(found + n, sizeof found - (size_t)n, i ? ",%llu" : "%llu",
                      (unsigned long long)t->shape[i]);
    if (rank == 2)
        snprintf(text, sizeof text, ",%llu", (unsigned long long)want[1]);
    else
        text[0] = '\0';
    ws_fail(l->err, WS_E_SHAPE, "tensor '%s' has shape [%s%s], config wants [%llu%s]",
            t->name, found, t->rank > 3 ? ",..." : "", (unsigned long long)want[0],
            text);
    return ws_err_at(l->err, ws_ckpt_path(l->m->ckpt), t->name, -1);
}

/** What a part is, once its place is known. */
static void part_fill(struct loader *l, const struct want *w, const ws_tensor *t)
{
    ws_model_part *p = &l->m->parts[l->m->n_blocks];
    *p = (ws_model_part){ .name = t->name,
                          .kind = w->kind,
                          .layer = strstr(w->stem, "%d") ? w->layer : -1,
                          .dtype = t->dtype,
                          .stored = t->dtype,
                          .rows = w->vector ? 1 : (int64_t)t->shape[0],
                          .cols = (int64_t)t->shape[w->vector ? 0 : 1],
                          .n = (int64_t)t->n_elements,
                          .transposed = w->transposed };
}

/** The bytes of @p t: already read as one of the last few, or read now. */
static ws_status block_read(struct loader *l, const struct want *w, const ws_tensor *t,
                            void **data, size_t *part)
{
    ws_model *m = l->m;
    for (size_t back = 1; back <= 8 && back <= m->n_blocks; back++)
        if (l->tensor[m->n_blocks - back] == t) {
            *part = m->n_blocks - back;
            *data = m->blocks[*part];
            return WS_OK;
        }
    *part = m->n_blocks;
    if (m->n_blocks == l->cap)
        return ws_fail(l->err, WS_E_INTERNAL, "more tensors than expected");
    l->tensor[m->n_blocks] = t;
    part_fill(l, w, t);
    if (!l->reading) {
        m->n_blocks++;
        l->bytes += t->n_bytes;
        l->parameters += t->n_elements;
        *data = NULL;
        return WS_OK;
    }
    void *p = ws_alloc(t->n_bytes ? t->n_bytes : 1);
    if (p == NULL)
        return ws_fail(l->err, WS_E_MEMORY, "no memory for tensor '%s'", t->name);
    m->parts[m->n_blocks].data = p;
    m->blocks[m->n_blocks++] = *data = p;
    return ws_ckpt_read(m->ckpt, t, 0, t->n_bytes, p, l->err);
}

/** Tell the visitor of a tensor as it is stored. */
static ws_status want_visit(struct loader *l, const char *name, const struct want *w)
{
    const uint64_t of = (uint64_t)w->of, cols = (uint64_t)w->cols;
    const uint64_t shape[2] = { w->vector || !w->transposed ? of : cols,
                                w->transposed ? of : cols };
    return l->visit(l->visit_arg, name, w->kind, w->vector ? 1 : 2, shape, l->err);
}

/** Find, check and, when it is time, read one weight. */
static ws_status want(struct loader *l, ws_weight *to, struct want w)
{
    const char *name = name_make(l, &w);
    void *data = NULL;
    size_t part = 0;

    if (name == NULL)
        return ws_fail(l->err, WS_E_MEMORY, "no memory for names of tensors");
    if (w.of == 0)
        w.of = w.vector ? w.cols : w.rows;
    if (l->visit != NULL)
        return want_visit(l, name, &w);
    const ws_tensor *t = ws_ckpt_find(l->m->ckpt, name);
    if (t == NULL) {
        ws_fail(l->err, WS_E_MISSING, "tensor '%s' is missing", name);
        return ws_err_at(l->err, ws_ckpt_path(l->m->ckpt), name, -1);
    }
    if (!ws_dtype_info(t->dtype)->arithmetic) {
        ws_fail(l->err, WS_E_DTYPE, "tensor '%s' has dtype %s, which no layer takes",
                name, ws_dtype_info(t->dtype)->name);
        return ws_err_at(l->err, ws_ckpt_path(l->m->ckpt), name, -1);
    }
    ws_status st = shape_check(l, &w, t);
    if (st == WS_OK)
        st = block_read(l, &w, t, &data, &part);
    if (st)
        return st;
    const int64_t skip = w.vector || w.transposed ? w.from : w.from * w.cols;
    const size_t size = ws_dtype_info(t->dtype)->bits / 8u;
    *to = (ws_weight){ .name = t->name,
                       .dtype = t->dtype,
                       .rows = w.rows,
                       .cols = w.cols,
                       .ld = w.transposed ? w.of : w.cols,
                       .transposed = w.transposed,
                       .part = part,
                       .offset = skip,
                       .from = w.from };
    if (data != NULL)
        to->data = (const unsigned char *)data + (size_t)skip * size;
    return WS_OK;
}

static ws_status want_vector(struct loader *l, ws_weight *to, const char *stem,
                             const char *end, int64_t layer, int64_t n,
                             ws_part_kind kind)
{
    return want(l, to,
                (struct want){ .stem = stem,
                               .end = end,
                               .layer = layer,
                               .rows = 1,
                               .cols = n,
                               .vector = true,
                               .kind = kind });
}

static ws_status want_norm(struct loader *l, ws_weight *w, ws_weight *b,
                           const char *stem, int64_t layer)
{
    const ws_model_desc *d = &l->m->d;
    ws_status st = want_vector(l, w, stem, ".weight", layer, d->C, WS_PART_NORM);
    if (st == WS_OK && d->norm == WS_NORM_LAYER)
        st = want_vector(l, b, stem, ".bias", layer, d->C, WS_PART_NORM_BIAS);
    return st;
}

/** A linear and its bias: outputs from .. from+out of @p of (0: of itself alone). */
static ws_status want_linear(struct loader *l, ws_weight *w, ws_weight *b,
                             const char *stem, int64_t layer, int64_t out, int64_t in,
                             int64_t from, int64_t of, bool bias)
{
    struct want x = { .stem = stem,
                      .end = ".weight",
                      .layer = layer,
                      .rows = out,
                      .cols = in,
                      .from = from,
                      .of = of,
                      .transposed = l->m->d.conv1d,
                      .kind = WS_PART_LINEAR };
    ws_status st = want(l, w, x);
    if (st || !bias)
        return st;
    x.end = ".bias";
    x.rows = 1;
    x.cols = out;
    x.vector = true;
    x.kind = WS_PART_BIAS;
    x.transposed = false;
    x.of = of ? of : out;
    return want(l, b, x);
}

static ws_status want_layer(struct loader *l, ws_layer *y, int64_t i)
{
    const ws_model_desc *d = &l->m->d;
    const struct names *n = l->names;
    const int64_t q = d->H * d->D, k = d->K * d->D;
    const bool fused = d->fusion == WS_FUSION_QKV;
    const int64_t of = fused ? q + 2 * k : 0;
    ws_status st = WS_OK;

#define TRY(expr)                                                                      \
    do {                                                                               \
        if ((st = (expr)) != WS_OK)                                                    \
            return st;                                                                 \
    } while (0)
    TRY(want_norm(l, &y->attn_norm, &y->attn_norm_b, n->attn_norm, i));
    TRY(want_linear(l, &y->q, &y->q_b, n->q, i, q, d->C, 0, of, d->qkv_bias));
    TRY(want_linear(l, &y->k, &y->k_b, n->k, i, k, d->C, fused ? q : 0, of,
                    d->qkv_bias));
    TRY(want_linear(l, &y->v, &y->v_b, n->v, i, k, d->C, fused ? q + k : 0, of,
                    d->qkv_bias));
    TRY(want_linear(l, &y->o, &y->o_b, n->o, i, d->C, q, 0, 0, d->o_bias));
    if (d->qk_norm) {
        TRY(want_vector(l, &y->q_norm, n->q_norm, ".weight", i, d->D, WS_PART_NORM));
        TRY(want_vector(l, &y->k_norm, n->k_norm, ".weight", i, d->D, WS_PART_NORM));
    }
    TRY(want_norm(l, &y->mlp_norm, &y->mlp_norm_b, n->mlp_norm, i));
    if (d->gated)
        TRY(want_linear(l, &y->gate, &y->gate_b, n->gate, i, d->F, d->C, 0, 0,
                        d->mlp_bias));
    TRY(want_linear(l, &y->up, &y->up_b, n->up, i, d->F, d->C, 0, 0, d->mlp_bias));
    return want_linear(l, &y->down, &y->down_b, n->down, i, d->C, d->F, 0, 0,
                       d->mlp_bias);
#undef TRY
}

static ws_status want_all(struct loader *l)
{
    ws_model *m = l->m;
    const ws_model_desc *d = &m->d;
    struct want table = { .stem = l->names->embed,
                          .end = ".weight",
                          .rows = d->V,
                          .cols = d->C,
                          .kind = WS_PART_EMBED };

    ws_status st = want(l, &m->embed, table);
    m->head = m->embed;
    if (st == WS_OK && !d->tied) {
        table.stem = l->names->head;
        table.kind = WS_PART_HEAD;
        st = want(l, &m->head, table);
    }
    if (st == WS_OK && d->learned) {
        table.stem = l->names->positions;
        table.kind = WS_PART_POSITIONS;
        table.rows = d->max_positions;
        st = want(l, &m->positions, table);
    }
    if (st == WS_OK)
        st = want_norm(l, &m->final_norm, &m->final_norm_b, l->names->final_norm, 0);
    for (int64_t i = 0; st == WS_OK && i < d->L; i++)
        st = want_layer(l, &m->layer[i], i);
    return st;
}

ws_status ws_model_tensors(const ws_model_desc *d, ws_model_tensor_fn *visit, void *arg,
                           ws_err *err)
{
    ws_model m = { .d = *d };
    struct loader l = { .m = &m, .err = err, .visit = visit, .visit_arg = arg };

    l.names = d->conv1d ? &gpt2_names : &llama_names;
    l.prefix = l.names->prefix;
    m.layer = ws_arena_calloc(&m.arena, (size_t)d->L, sizeof *m.layer);
    const ws_status st =
        m.layer == NULL
            ? ws_fail(err, WS_E_MEMORY, "no memory for the tables of a model")
            : want_all(&l);
    ws_arena_free(&m.arena);
    return st;
}

/** Whether a tensor of that name is a constant that files carry along, or the copy of a
 * tied head. */
static bool expected_beside(const ws_model *m, const char *name)
{
    static const char *const ends[] = { ".attn.bias", ".attn.masked_bias",
                                        ".rotary_emb.inv_freq" };
    const size_t len = strlen(name);

    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        const size_t end = strlen(ends[i]);
        if (len >= end && strcmp(name + len - end, ends[i]) == 0)
            return true;
    }
    return m->d.tied && strcmp(name, "lm_head.weight") == 0;
}

/** Tensors that the described model has no use for may mean another model. */
static void unused_warn(const struct loader *l, ws_diag *warnings)
{
    const ws_model *m = l->m;
    const char *first = NULL;
    size_t n = 0;

    for (size_t i = 0; i < l->cap; i++) {
        const ws_tensor *t = ws_ckpt_tensor(m->ckpt, i);
        size_t k = 0;
        while (k < m->n_blocks && l->tensor[k] != t)
            k++;
        if (k < m->n_blocks || expected_beside(m, t->name))
            continue;
        first = n++ == 0 ? t->name : first;
    }
    if (n == 0)
        return;
    ws_err *w =
        ws_diag_report(warnings, WS_OK, "unused-tensors",
                       "%zu tensors have no place in the model that config.json "
                       "describes, such as '%s'",
                       n, first);
    if (w != NULL)
        ws_err_at(w, ws_ckpt_path(m->ckpt), NULL, -1);
}

/** Both walks. */
static ws_status weights_load(ws_model *m, ws_diag *warnings, ws_err *err)
{
    struct loader l = { .m = m, .err = err, .cap = ws_ckpt_count(m->ckpt) };
    char name[64], need[24], have[24];

    l.names = m->d.conv1d ? &gpt2_names : &llama_names;
    snprintf(name, sizeof name, "%s%s.weight", l.names->prefix, l.names->embed);
    l.prefix = ws_ckpt_find(m->ckpt, name) ? l.names->prefix : "";
    snprintf(name, sizeof name, "%s.weight", l.names->embed);
    if (ws_ckpt_find(m->ckpt, name) == NULL)
        l.prefix = l.names->prefix;
    l.tensor = ws_arena_calloc(&m->arena, l.cap + 1, sizeof *l.tensor);
    m->blocks = ws_arena_calloc(&m->arena, l.cap + 1, sizeof *m->blocks);
    m->layer = ws_arena_calloc(&m->arena, (size_t)m->d.L, sizeof *m->layer);
    m->parts = ws_arena_calloc(&m->arena, l.cap + 1, sizeof *m->parts);
    if (l.tensor == NULL || m->blocks == NULL || m->layer == NULL || m->parts == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the tables of a model");
    ws_status st = want_all(&l);
    if (st)
        return st;
    if (l.bytes > m->limit) {
        ws_show_bytes(l.bytes, need);
        ws_show_bytes(m->limit, have);
        ws_fail(err, WS_E_MEMORY, "the weights take %s, the limit is %s", need, have);
        ws_err_hint(err, "--max-memory raises the limit");
        return ws_err_at(err, ws_ckpt_path(m->ckpt), NULL, -1);
    }
    m->info.bytes = l.bytes;
    m->info.parameters = l.parameters;
    m->n_blocks = 0;
    l.reading = true;
    st = want_all(&l);
    if (st == WS_OK && warnings != NULL)
        unused_warn(&l, warnings);
    return st;
}

/** Folder part of @p path, "." when it has none. */
static const char *folder_of(ws_arena *arena, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *s = ws_arena_strdup(arena, path);

    if (s == NULL || slash == NULL)
        return s == NULL ? NULL : ".";
    s[slash == path ? 1 : slash - path] = '\0';
    return s;
}

static ws_status config_load(ws_model *m, const char *companions, ws_diag *unknown,
                             ws_err *err)
{
    size_t len;
    const char *text = ws_ckpt_config(m->ckpt, &len);
    const char *path = ws_ckpt_home(m->ckpt);
    char name[4096];

    m->info.folder = ws_ckpt_is_dir(m->ckpt) ? path
                     : companions            ? companions
                                             : folder_of(&m->arena, path);
    if (m->info.folder == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a path");
    snprintf(name, sizeof name, "%s/config.json", m->info.folder);
    if (text != NULL)
        return ws_model_desc_parse(&m->d, text, len, name, unknown, &m->arena, err);
    char *own = NULL;
    if (ws_file_read(&own, &len, name, CONFIG_CAP, NULL) != WS_OK) {
        ws_fail(err, WS_E_MISSING, "no config.json says what model this is");
        ws_err_hint(err, "--companions-from names a folder with one");
        return ws_err_at(err, path, NULL, -1);
    }
    ws_status st = ws_model_desc_parse(&m->d, own, len, name, unknown, &m->arena, err);
    ws_free(own);
    return st;
}

static void info_fill(ws_model *m)
{
    const ws_model_desc *d = &m->d;
    ws_model_info *i = &m->info;

    i->path = ws_ckpt_path(m->ckpt);
    i->label = ws_ckpt_label(m->ckpt);
    i->family = d->family;
    i->hidden = d->C;
    i->layers = d->L;
    i->heads = d->H;
    i->kv_heads = d->K;
    i->vocab = d->V;
    i->max_positions = d->max_positions;
    i->bos = d->bos;
    i->eos = d->eos;
    i->n_eos = d->n_eos;
}

ws_status ws_model_open(ws_model **out, const char *path, const char *companions,
                        const ws_ctx *ctx, ws_err *err)
{
    ws_ckpt *c = NULL;
    ws_status st = ws_source_open(&c, path, WS_FOLD_BASE, ctx, err);
    return st == WS_OK ? ws_model_take(out, c, companions, ctx, err) : st;
}

ws_status ws_model_take(ws_model **out, ws_ckpt *c, const char *companions,
                        const ws_ctx *ctx, ws_err *err)
{
    ws_model *m = ws_calloc(1, sizeof *m);
    if (m == NULL) {
        ws_ckpt_free(c);
        return ws_fail(err, WS_E_MEMORY, "no memory for a model");
    }
    m->ckpt = c;
    m->limit =
        ctx != NULL && ctx->max_memory > 0 ? ctx->max_memory : ws_os_memory_total() / 2;
    ws_status st = WS_OK;
    if (ws_ckpt_kind_of(c) != WS_KIND_MODEL) {
        st = ws_source_refuse_kind(ws_ckpt_kind_of(c), err);
        ws_err_at(err, ws_ckpt_path(c), NULL, -1);
    }
    if (st == WS_OK)
        st = config_load(m, companions,
                         ctx != NULL && ctx->lenient ? ctx->warnings : NULL, err);
    if (st == WS_OK)
        st = weights_load(m, ctx != NULL ? ctx->warnings : NULL, err);
    if (st) {
        ws_model_free(m);
        return st;
    }
    info_fill(m);
    *out = m;
    return WS_OK;
}

void ws_model_free(ws_model *m)
{
    if (m == NULL)
        return;
    for (size_t i = 0; m->blocks != NULL && i < m->n_blocks; i++)
        ws_free(m->blocks[i]);
    ws_ckpt_free(m->ckpt);
    ws_arena_free(&m->arena);
    ws_free(m);
}

const ws_model_info *ws_model_info_of(const ws_model *m)
{
    return &m->info;
}

ws_status ws_model_logits(const ws_model *m, const int32_t *tokens, int64_t n,
                          float *logits, const ws_ctx *ctx, ws_err *err)
{
    const int64_t V = m->d.V;
    const ws_fwd_opts o = { .rows = n, .positions = n, .logits = 64 };
    const ws_span span = { .n = n };
    const float *rows;
    float *z;
    ws_fwd *e = NULL;

    if (n < 1)
        return ws_fail(err, WS_E_USAGE, "no tokens are given");
    ws_status st = ws_fwd_new(&e, m, &o, ctx, err);
    if (st == WS_OK)
        st = ws_fwd_run(e, tokens, &span, 1, NULL, &rows, err);
    for (int64_t i = 0; st == WS_OK && i < n; i += o.logits) {
        const int64_t k = n - i < o.logits ? n - i : o.logits;
        st = ws_fwd_logits(e, rows + i * m->d.C, k, &z, err);
        if (st == WS_OK)
            memcpy(logits + i * V, z, (size_t)(k * V) * sizeof *z);
    }
    ws_fwd_free(e);
    return st;
}
