/*
 * peft.c - an adapter directory, read: configuration and tensors brought together
 *
 *     base_model.model. MODULE .lora_A.weight   factors of a module
 *     base_model.model. MODULE .weight          replaces the base's tensor
 *
 * Names are taken apart, gathered by module, and checked against each other and against
 * the configuration. A tensor that no rule takes is an error: an update left out would
 * be a silent one.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "hf/hub.h"
#include "hf/peft.h"
#include "hf/peft_config.h"
#include "wsurg/text.h"

enum { MAX_CONFIG = 16 << 20, PARTS = 4 };

/** What a tensor is of its module. */
enum role {
    ROLE_A,
    ROLE_B,
    ROLE_BIAS_B,
    ROLE_EA,
    ROLE_EB,
    ROLE_MAGNITUDE,
    ROLE_ROWS,
    ROLE_WHOLE_WEIGHT,
    ROLE_WHOLE_BIAS,
    N_ROLES
};

/** A tensor's name taken apart. */
struct entry {
    const char *module; // arena's
    enum role role;
    bool base_layer; // a saved base under factors
    const ws_tensor *t;
};

struct reader {
    ws_adapter *a;
    ws_peft_config config;
    struct entry *entries; // (n)
    size_t n;
    const char *adapter_name; // kept in names by other tools; NULL: none seen
    ws_diag *warnings;
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for an adapter");
}

/* ---- names ---- */

/** One known prefix, once. */
static const char *strip_prefix(const char *name)
{
    static const char *const prefixes[] = { "base_model.model.", "base_model." };
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
            return name + strlen(prefixes[i]);
    return name;
}

/** Whether @p tail is @p last, or NAME.@p last with the file's one adapter name (last
 * "" : nothing, or NAME). */
static bool tail_is(struct reader *r, const char *tail, const char *last)
{
    const size_t n = strlen(tail), k = strlen(last);
    if (strcmp(tail, last) == 0)
        return true;
    if (n <= k || strcmp(tail + n - k, last) != 0 || (k > 0 && tail[n - k - 1] != '.'))
        return false;
    const size_t len = k > 0 ? n - k - 1 : n; // of the name before it
    if (len == 0 || memchr(tail, '.', len) != NULL)
        return false;
    if (r->adapter_name == NULL) {
        char *name = ws_arena_alloc(&r->a->arena, len + 1);
        if (name == NULL)
            return false;
        memcpy(name, tail, len);
        r->adapter_name = name;
    }
    return strlen(r->adapter_name) == len && memcmp(r->adapter_name, tail, len) == 0;
}

/** The last ".marker." (or ".marker" at the end) in @p name; its tail in *tail. */
static const char *find_marker(const char *name, const char *marker, const char **tail)
{
    const size_t k = strlen(marker);
    const char *at = NULL;
    for (const char *p = strchr(name, '.'); p != NULL; p = strchr(p + 1, '.')) {
        if (strncmp(p + 1, marker, k) != 0 || (p[k + 1] != '.' && p[k + 1] != '\0'))
            continue;
        at = p;
        *tail = p[k + 1] == '.' ? p + k + 2 : "";
    }
    return at;
}

/** What stands behind a module's name. */
static const struct form {
    const char *marker, *last;
    enum role role;
} forms[] = {
    { "lora_A", "weight", ROLE_A },
    { "lora_B", "weight", ROLE_B },
    { "lora_B", "bias", ROLE_BIAS_B },
    { "lora_embedding_A", "", ROLE_EA },
    { "lora_embedding_B", "", ROLE_EB },
    { "lora_magnitude_vector", "weight", ROLE_MAGNITUDE },
    { "lora_magnitude_vector", "", ROLE_MAGNITUDE },
    { "token_adapter.trainable_tokens_delta", "", ROLE_ROWS },
    { "token_adapter.base_layer", "weight", ROLE_WHOLE_WEIGHT },
    { "base_layer", "weight", ROLE_WHOLE_WEIGHT },
    { "base_layer", "bias", ROLE_WHOLE_BIAS },
    { "modules_to_save", "weight", ROLE_WHOLE_WEIGHT },
    { "modules_to_save", "bias", ROLE_WHOLE_BIAS },
};

/** Take a name apart; the module's length, or 0 when no form fits. */
static size_t name_parse(struct reader *r, const char *name, struct entry *e)
{
    const char *tail = NULL;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        const char *at = find_marker(name, forms[i].marker, &tail);
        if (at == NULL || !tail_is(r, tail, forms[i].last))
            continue;
        e->role = forms[i].role;
        e->base_layer = strstr(forms[i].marker, "base_layer") != NULL;
        return (size_t)(at - name);
    }
    const size_t n = strlen(name);
    if (n > 7 && strcmp(name + n - 7, ".weight") == 0) {
        e->role = ROLE_WHOLE_WEIGHT;
        return n - 7;
    }
    if (n > 5 && strcmp(name + n - 5, ".bias") == 0) {
        e->role = ROLE_WHOLE_BIAS;
        return n - 5;
    }
    return 0;
}

static bool has_marker(const char *name)
{
    return strstr(name, "lora_") != NULL || strstr(name, "base_layer") != NULL ||
           strstr(name, "token_adapter") != NULL ||
           strstr(name, "modules_to_save") != NULL;
}

/** @p t, at fault. */
static ws_status refuse(const struct reader *r, const ws_tensor *t, ws_status code,
                        const char *what, ws_err *err)
{
    ws_fail(err, code, "%s", what);
    return ws_err_at(err, ws_ckpt_path(r->a->file), t->name, -1), code;
}

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    const int by = strcmp(x->module, y->module);
    return by != 0 ? by : (int)x->role - (int)y->role;
}

static ws_status entries_make(struct reader *r, ws_err *err)
{
    const size_t n = ws_ckpt_count(r->a->file);
    r->entries = ws_calloc(n + 1, sizeof *r->entries);
    if (r->entries == NULL)
        return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const ws_tensor *t = ws_ckpt_tensor(r->a->file, i);
        const char *name = strip_prefix(t->name);
        struct entry *e = &r->entries[r->n];
        const size_t len = name_parse(r, name, e);
        char *module = ws_arena_alloc(&r->a->arena, len + 1);
        if (module == NULL)
            return no_memory(err);
        memcpy(module, name, len);
        if (len == 0 || has_marker(module))
            return refuse(r, t, WS_E_UNSUPPORTED,
                          "no rule says what the adapter's tensor is for", err);
        if (!ws_dtype_info(t->dtype)->arithmetic)
            return refuse(r, t, WS_E_DTYPE, "a tensor without arithmetic", err);
        e->module = module;
        e->t = t;
        r->n++;
    }
    if (r->n > 1)
        qsort(r->entries, r->n, sizeof *r->entries, compare_entries);
    return WS_OK;
}

/* ---- modules ---- */

/** The tensors of one module, by role. */
struct group {
    const char *path;
    const ws_tensor *t[N_ROLES];
    bool base_layer;
};

/** Take the entries of the module that begins at *i. */
static ws_status group_take(const struct reader *r, size_t *i, struct group *g,
                            ws_err *err)
{
    *g = (struct group){ .path = r->entries[*i].module };
    for (; *i < r->n && strcmp(r->entries[*i].module, g->path) == 0; (*i)++) {
        const struct entry *e = &r->entries[*i];
        if (g->t[e->role] != NULL)
            return refuse(r, e->t, WS_E_HEADER,
                          "tensor stands twice under different spellings", err);
        g->t[e->role] = e->t;
        g->base_layer |= e->base_layer;
    }
    return WS_OK;
}

/** Product of dimensions from @p from on. They come from a header that was measured. */
static int64_t dims_from(const ws_tensor *t, int from)
{
    uint64_t n = 1;
    for (int i = from; i < t->rank; i++)
        n *= t->shape[i];
    return (int64_t)n;
}

static ws_status shape_check(const struct reader *r, const struct group *g,
                             ws_adapter_module *m, ws_err *err)
{
    char text[256];
    const ws_tensor *a = m->a, *b = m->b;
    if (a->rank < 2 || b->rank < 2 || (a->rank > 2 && m->embedding) ||
        a->rank != b->rank || dims_from(b, 2) != 1)
        return refuse(r, b, WS_E_SHAPE, "factors are no pair of matrices", err);
    if (a->n_elements == 0 || b->n_elements == 0)
        return refuse(r, b, WS_E_SHAPE, "a factor is empty", err);
    m->in = dims_from(a, 1);
    m->out = (int64_t)b->shape[0];
    if ((int64_t)a->shape[0] != m->r || (int64_t)b->shape[1] != m->r) {
        snprintf(text, sizeof text,
                 "factors have ranks %llu and %llu, the configuration says %lld",
                 (unsigned long long)a->shape[0], (unsigned long long)b->shape[1],
                 (long long)m->r);
        return refuse(r, b, WS_E_SHAPE, text, err);
    }
    if (m->in > INT32_MAX || m->out > INT32_MAX)
        return refuse(r, b, WS_E_UNSUPPORTED, "a side of 2^31 or more", err);
    const ws_tensor *bias = g->t[ROLE_BIAS_B], *mag = g->t[ROLE_MAGNITUDE];
    if (bias != NULL && (int64_t)bias->n_elements != m->out)
        return refuse(r, bias, WS_E_SHAPE, "bias has another length than B has rows",
                      err);
    if (mag != NULL && (int64_t)mag->n_elements != m->out)
        return refuse(r, mag, WS_E_SHAPE,
                      "magnitude has another length than B has rows", err);
    return WS_OK;
}

/** What the configuration promises must be there, and nothing else. */
static ws_status promise_check(const struct reader *r, const struct group *g,
                               const ws_adapter_module *m, ws_err *err)
{
    const ws_tensor *bias = g->t[ROLE_BIAS_B], *mag = g->t[ROLE_MAGNITUDE];
    if (g->t[ROLE_ROWS] != NULL)
        return refuse(r, g->t[ROLE_ROWS], WS_E_UNSUPPORTED,
                      "trained rows beside factors of the same embedding", err);
    if (bias != NULL && !r->config.lora_bias)
        return refuse(r, bias, WS_E_HEADER,
                      "a bias of B, which the configuration does not have", err);
    if (bias == NULL && r->config.lora_bias && !m->embedding)
        return refuse(r, m->b, WS_E_MISSING, "'lora_bias' is set, but B has no bias",
                      err);
    if (mag != NULL && !r->config.dora)
        return refuse(r, mag, WS_E_HEADER, "a magnitude, but 'use_dora' is not set",
                      err);
    if (mag == NULL && r->config.dora)
        return refuse(r, m->b, WS_E_MISSING,
                      "'use_dora' is set, but the module has no magnitude", err);
    return WS_OK;
}

static ws_status scale_set(const struct reader *r, ws_adapter_module *m, ws_err *err)
{
    double rank = 0;
    ws_status st = ws_peft_rule_find(&r->config.ranks, m->path, (double)r->config.r,
                                     &rank, r->warnings, err);
    if (st == WS_OK)
        st = ws_peft_rule_find(&r->config.alphas, m->path, r->config.alpha, &m->alpha,
                               r->warnings, err);
    m->r = (int64_t)rank;
    m->scale = m->alpha / (r->config.rslora ? sqrt(rank) : rank);
    return st;
}

static ws_status module_make(struct reader *r, const struct group *g, ws_err *err)
{
    ws_adapter_module m = { .path = g->path };
    m.embedding = g->t[ROLE_EA] != NULL || g->t[ROLE_EB] != NULL;
    m.a = g->t[m.embedding ? ROLE_EA : ROLE_A];
    m.b = g->t[m.embedding ? ROLE_EB : ROLE_B];
    const ws_tensor *any = m.a != NULL ? m.a : m.b;
    if (any == NULL) {
        any = g->t[ROLE_MAGNITUDE] != NULL ? g->t[ROLE_MAGNITUDE] : g->t[ROLE_BIAS_B];
        return refuse(r, any, WS_E_MISSING, "the module has no factors A and B", err);
    }
    if (m.a == NULL || m.b == NULL)
        return refuse(r, any, WS_E_MISSING,
                      "the module has only one of the factors A and B", err);
    if (m.embedding &&
        (g->t[ROLE_A] != NULL || g->t[ROLE_B] != NULL || g->t[ROLE_BIAS_B] != NULL))
        return refuse(r, any, WS_E_HEADER,
                      "the module has factors of a linear and of an embedding", err);
    m.b_bias = g->t[ROLE_BIAS_B];
    m.magnitude = g->t[ROLE_MAGNITUDE];
    ws_status st = scale_set(r, &m, err);
    if (st == WS_OK)
        st = shape_check(r, g, &m, err);
    if (st == WS_OK)
        st = promise_check(r, g, &m, err);
    if (st == WS_OK)
        r->a->modules[r->a->n_modules++] = m;
    return st;
}

static ws_status rows_make(struct reader *r, const struct group *g, ws_err *err)
{
    const ws_tensor *t = g->t[ROLE_ROWS];
    const cJSON *list = ws_peft_token_rows(&r->config, g->path), *item;
    const size_t n = list == NULL ? 0 : (size_t)cJSON_GetArraySize(list);
    if (n == 0)
        return refuse(r, t, WS_E_HEADER,
                      "trained rows, but 'trainable_token_indices' has none for them",
                      err);
    if (t->rank != 2 || t->shape[0] != n)
        return refuse(r, t, WS_E_SHAPE,
                      "as many rows as 'trainable_token_indices' has are wanted", err);
    int64_t *rows = ws_arena_calloc(&r->a->arena, n, sizeof *rows);
    if (rows == NULL)
        return no_memory(err);
    size_t i = 0;
    cJSON_ArrayForEach(item, list) rows[i++] = (int64_t)item->valuedouble;
    r->a->rows[r->a->n_rows++] = (ws_adapter_rows){ g->path, t, rows, n };
    return WS_OK;
}

static ws_status whole_make(struct reader *r, const struct group *g, enum role role,
                            ws_err *err)
{
    const bool bias = role == ROLE_WHOLE_BIAS;
    const bool saved = ws_peft_is_saved(&r->config, g->path);
    if (bias && !saved && !r->config.biases)
        return refuse(r, g->t[role], WS_E_HEADER,
                      "a bias, but 'bias' of the configuration is none", err);
    const size_t n = strlen(g->path) + 8;
    char *name = ws_arena_alloc(&r->a->arena, n);
    if (name == NULL)
        return no_memory(err);
    snprintf(name, n, "%s.%s", g->path, bias ? "bias" : "weight");
    r->a->wholes[r->a->n_wholes++] = (ws_adapter_whole){ name, g->t[role], saved };
    return WS_OK;
}

static ws_status gather(struct reader *r, ws_err *err)
{
    ws_adapter *a = r->a;
    a->modules = ws_arena_calloc(&a->arena, r->n + 1, sizeof *a->modules);
    a->wholes = ws_arena_calloc(&a->arena, r->n + 1, sizeof *a->wholes);
    a->rows = ws_arena_calloc(&a->arena, r->n + 1, sizeof *a->rows);
    if (a->modules == NULL || a->wholes == NULL || a->rows == NULL)
        return no_memory(err);
    ws_status st = WS_OK;
    for (size_t i = 0; i < r->n && st == WS_OK;) {
        struct group g;
        st = group_take(r, &i, &g, err);
        bool factors = false;
        for (int role = ROLE_A; role <= ROLE_MAGNITUDE; role++)
            factors |= g.t[role] != NULL;
        if (st == WS_OK && factors)
            st = module_make(r, &g, err);
        else if (st == WS_OK && g.t[ROLE_ROWS] != NULL)
            st = rows_make(r, &g, err);
        for (int role = ROLE_WHOLE_WEIGHT; role <= ROLE_WHOLE_BIAS; role++)
            if (st == WS_OK && g.t[role] != NULL)
                st = whole_make(r, &g, (enum role)role, err);
    }
    return st;
}

/* ---- opening ---- */

static bool is_file(const char *dir, const char *name)
{
    struct stat sb;
    char path[4096]; // the system takes none that is longer
    const int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    return n > 0 && (size_t)n < sizeof path && stat(path, &sb) == 0 &&
           S_ISREG(sb.st_mode);
}

bool ws_adapter_is(const char *path)
{
    return is_file(path, WS_ADAPTER_CONFIG);
}

/** The text of the configuration; ws_free. */
static ws_status config_read(const char *dir, char **text, size_t *len, ws_err *err)
{
    char *path = ws_path_join(dir, WS_ADAPTER_CONFIG);
    if (path == NULL)
        return no_memory(err);
    ws_status st = WS_OK;
    if (is_file(dir, WS_ADAPTER_CONFIG)) {
        st = ws_file_read(text, len, path, MAX_CONFIG, err);
    } else {
        st = ws_fail(err, WS_E_MISSING, "no adapter: the directory has no '%s'",
                     WS_ADAPTER_CONFIG);
        ws_err_at(err, dir, NULL, -1);
    }
    if (st != WS_OK)
        ws_err_at(err, path, NULL, -1);
    ws_free(path);
    return st;
}

static ws_status weights_open(const char *dir, ws_ckpt **file, ws_diag *warnings,
                              ws_err *err)
{
    static const char *const names[] = { WS_ADAPTER_WEIGHTS, "adapter_model.bin" };
    const char *name = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && name == NULL; i++)
        name = is_file(dir, names[i]) ? names[i] : NULL;
    if (name == NULL) {
        ws_fail(err, WS_E_MISSING, "adapter has neither '%s' nor '%s'", names[0],
                names[1]);
        return ws_err_at(err, dir, NULL, -1), WS_E_MISSING;
    }
    char *path = ws_path_join(dir, name);
    if (path == NULL)
        return no_memory(err);
    const ws_status st = ws_ckpt_open(file, path, warnings, err);
    ws_free(path);
    return st;
}

static ws_status kind_check(const ws_ckpt *file, ws_err *err)
{
    const ws_ckpt_kind kind = ws_ckpt_kind_of(file);
    if (kind == WS_KIND_MODEL || kind == WS_KIND_ADAPTER)
        return WS_OK;
    ws_fail(err, WS_E_HEADER, "the weights' metadata say that they are no adapter");
    return ws_err_at(err, ws_ckpt_path(file), NULL, -1), WS_E_HEADER;
}

/** Facts of the configuration that outlive its tree. */
static ws_status facts_take(struct reader *r, ws_err *err)
{
    const ws_peft_config *c = &r->config;
    ws_adapter *a = r->a;
    a->r = c->r;
    a->alpha = c->alpha;
    a->rslora = c->rslora;
    a->dora = c->dora;
    a->tying = c->tying;
    a->changed_base = c->changed_base;
    a->init = ws_arena_strdup(&a->arena, c->init);
    a->base = c->base == NULL ? NULL : ws_arena_strdup(&a->arena, c->base);
    a->task = c->task == NULL ? NULL : ws_arena_strdup(&a->arena, c->task);
    if (a->init == NULL || (c->base != NULL && a->base == NULL) ||
        (c->task != NULL && a->task == NULL))
        return no_memory(err);
    return WS_OK;
}

/** Last component of the path, as the label of a model directory. */
static const char *label_of(ws_adapter *a)
{
    size_t end = strlen(a->path);
    while (end > 1 && a->path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && a->path[start - 1] != '/')
        start--;
    char *label = ws_arena_alloc(&a->arena, end - start + 1);
    if (label != NULL)
        memcpy(label, a->path + start, end - start);
    return label;
}

/** A report about the configuration of the adapter at @p path. */
static void config_at(const char *path, ws_err *err)
{
    char *config = ws_path_join(path, WS_ADAPTER_CONFIG);
    ws_err_at(err, config != NULL ? config : path, NULL, -1);
    ws_free(config);
}

ws_status ws_adapter_from(ws_adapter **out, const char *path, const char *config,
                          size_t len, ws_ckpt *file, ws_diag *warnings, ws_err *err)
{
    ws_adapter *a = ws_calloc(1, sizeof *a);
    struct reader r = { .a = a, .warnings = warnings };
    if (a == NULL)
        return no_memory(err);
    a->file = file;
    a->content = ws_ckpt_meta(file, WS_META_BASE);
    a->residual = ws_ckpt_meta(file, WS_META_RESIDUAL);
    a->path = ws_arena_strdup(&a->arena, path);
    a->label = a->path == NULL ? NULL : label_of(a);
    ws_status st = a->label == NULL ? no_memory(err) : kind_check(file, err);
    if (st == WS_OK) {
        st = ws_peft_config_parse(&r.config, config, len, err);
        if (st != WS_OK)
            config_at(path, err);
    }
    if (st == WS_OK)
        st = facts_take(&r, err);
    if (st == WS_OK)
        st = entries_make(&r, err);
    if (st == WS_OK)
        st = gather(&r, err);
    if (st == WS_OK && r.n == 0)
        st = ws_fail(err, WS_E_HEADER, "adapter holds no tensor");
    if (st != WS_OK)
        ws_err_at(err, path, NULL, -1);
    ws_free(r.entries);
    ws_peft_config_free(&r.config);
    if (st == WS_OK) {
        *out = a;
        return WS_OK;
    }
    a->file = NULL; // it stays the caller's
    ws_adapter_free(a);
    return st;
}

ws_status ws_adapter_open(ws_adapter **out, const char *path, ws_diag *warnings,
                          ws_err *err)
{
    char *text = NULL, *cached = NULL;
    size_t len = 0;
    ws_ckpt *file = NULL;
    ws_status st = ws_hub_find(&cached, path, err);
    const char *dir = cached != NULL ? cached : path;
    if (st == WS_OK)
        st = config_read(dir, &text, &len, err);
    if (st == WS_OK)
        st = weights_open(dir, &file, warnings, err);
    if (st == WS_OK)
        st = ws_adapter_from(out, dir, text, len, file, warnings, err);
    if (st != WS_OK)
        ws_ckpt_free(file);
    ws_free(text);
    ws_free(cached);
    return st;
}

void ws_adapter_free(ws_adapter *a)
{
    if (a == NULL)
        return;
    ws_ckpt_free(a->file);
    ws_arena arena = a->arena;
    ws_free(a);
    ws_arena_free(&arena);
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(((const ws_adapter_module *)a)->path,
                  ((const ws_adapter_module *)b)->path);
}

const ws_adapter_module *ws_adapter_find(const ws_adapter *a, const char *path)
{
    const ws_adapter_module want = { .path = path };
    return a->n_modules == 0 ? NULL
                             : bsearch(&want, a->modules, a->n_modules,
                                       sizeof *a->modules, compare_paths);
}

/* ---- factors as numbers ---- */

static ws_status not_finite(const ws_adapter *a, const ws_tensor *t, ws_err *err)
{
    ws_fail(err, WS_E_NOT_FINITE, "the adapter holds NaN or infinity");
    return ws_err_at(err, ws_ckpt_path(a->file), t->name, -1), WS_E_NOT_FINITE;
}

/** Bytes of @p t as they are; ws_free. NULL after a report. */
static void *bytes_read(const ws_adapter *a, const ws_tensor *t, ws_status *st,
                        ws_err *err)
{
    void *raw = ws_alloc((size_t)t->n_bytes + 1);
    *st = raw == NULL ? no_memory(err)
                      : ws_ckpt_read(a->file, t, 0, (size_t)t->n_bytes, raw, err);
    return raw;
}

#define DEFINE_READ(name, type, convert)                                               \
    ws_status name(const ws_adapter *a, const ws_tensor *t, type *dst, ws_err *err)    \
    {                                                                                  \
        ws_status st;                                                                  \
        void *raw = bytes_read(a, t, &st, err);                                        \
        if (st == WS_OK) {                                                             \
            convert(t->dtype, raw, dst, (size_t)t->n_elements);                        \
            for (size_t i = 0; i < t->n_elements && st == WS_OK; i++)                  \
                if (!isfinite(dst[i]))                                                 \
                    st = not_finite(a, t, err);                                        \
        }                                                                              \
        ws_free(raw);                                                                  \
        return st;                                                                     \
    }
DEFINE_READ(ws_adapter_read_f32, float, ws_to_f32)
DEFINE_READ(ws_adapter_read_f64, double, ws_to_f64)
