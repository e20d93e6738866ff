/*
 * plan_vocab.c - vocabularies in a plan: compared, or aligned as it is asked; and what
 * the output's tokenizer becomes
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/json_walk.h"
#include "engine/plan_internal.h"
#include "engine/recipe_plan.h"
#include "hf/companions.h"
#include "hf/vocab_source.h"
#include "hf/vocab_write.h"
#include "wsurg/source.h"

enum { CONFIG_CAP = 64 << 20 };

static const char *const policies[] = { "error", "base", "common",
                                        "union", "pad",  "model" };

static ws_diag *warnings_of(const ws_plan *plan)
{
    return plan->priv->ctx == NULL ? NULL : plan->priv->ctx->warnings;
}

/** The directory whose tokenizer a model goes with; NULL: a plain file. */
static const char *dir_of(const ws_ckpt *c)
{
    if (!ws_ckpt_is_dir(c))
        return NULL;
    if (ws_source_is_adapted(c)) {
        const char *from = ws_source_facts_of(c).vocab_from;
        char *path = from == NULL ? NULL : ws_path_join(from, "tokenizer.json");
        const bool there = path != NULL && access(path, R_OK) == 0;
        ws_free(path);
        if (there)
            return from;
    }
    return ws_ckpt_home(c);
}

/** The models as the alignment sees them; one more place than (n). */
static ws_vocab_model *models_of(ws_plan *plan, ws_ckpt *const *c, size_t n)
{
    const ws_ckpt **all = ws_plan_alloc(plan, n + 1, sizeof *all);
    ws_vocab_model *m = ws_plan_alloc(plan, n + 2, sizeof *m);
    for (size_t k = 0; all != NULL && k < n; k++)
        all[k] = c[k];
    for (size_t k = 0; all != NULL && m != NULL && k < n; k++)
        m[k] = (ws_vocab_model){ ws_ckpt_label_among(all, n, k, &plan->priv->arena),
                                 dir_of(c[k]), ws_vocab_rows(c[k]) };
    return all == NULL ? NULL : m;
}

/* ---- no policy ---- */

/** Rows of other numbers: an error that names the tokens and the ways out. */
static void refuse(ws_plan *plan, const ws_ckpt *c, const ws_vocab_model *base,
                   const ws_vocab_model *m)
{
    ws_vocab_gap gap;
    ws_err err = WS_ERR_INIT;
    const bool known = ws_vocab_compare(&gap, base, m, &err) == WS_OK;
    if (!known)
        snprintf(gap.what, sizeof gap.what,
                 "has no tokenizer.json to compare tokens by");
    ws_err *e =
        ws_diag_report(plan->priv->errors, WS_E_SHAPE, NULL,
                       "vocabularies differ: '%s' has %llu rows, '%s' %llu; it %s",
                       m->label, (unsigned long long)m->rows, base->label,
                       (unsigned long long)base->rows, gap.what);
    ws_err_at(e, ws_ckpt_path(c), NULL, -1);
    const bool recipe = plan->priv->recipe_plan != NULL;
    if (known)
        ws_err_hint(e,
                    "--vocab union keeps all tokens, base the base's, common those of "
                    "all; pad goes by row number%s",
                    recipe ? "; in a recipe, tokenizer_source: union or base" : "");
    else
        ws_err_hint(e,
                    "--vocab pad goes by row number; the others match tokens and need "
                    "tokenizer.json beside every model");
}

/** As many rows, but ids that stand for other tokens: rows are merged all the same. */
static void warn_moved(ws_plan *plan, const ws_ckpt *c, const ws_vocab_model *base,
                       const ws_vocab_model *m)
{
    ws_vocab_gap gap;
    if (base->dir == NULL || m->dir == NULL || strcmp(base->dir, m->dir) == 0 ||
        ws_vocab_compare(&gap, base, m, NULL) != WS_OK || gap.moved == 0)
        return;
    ws_err *e =
        ws_diag_report(warnings_of(plan), WS_OK, "vocabulary",
                       "'%s' %s: rows of %zu id%s are merged that stand for "
                       "different tokens",
                       m->label, gap.what, gap.moved, gap.moved == 1 ? "" : "s");
    ws_err_at(e, ws_ckpt_path(c), NULL, -1);
    ws_err_hint(e, "--vocab union or base merges rows by their token");
}

static bool compare_all(ws_plan *plan, ws_ckpt *const *c, const ws_vocab_model *m,
                        size_t n, size_t base, bool may_differ)
{
    const size_t before = plan->priv->errors->n;
    for (size_t k = 0; k < n; k++) {
        if (k == base || m[k].rows == 0 || m[base].rows == 0)
            continue;
        if (m[k].rows != m[base].rows && !may_differ)
            refuse(plan, c[k], &m[base], &m[k]);
        else
            warn_moved(plan, c[k], &m[base], &m[k]);
    }
    return plan->priv->errors->n == before;
}

/* ---- what is asked for ---- */

static const ws_recipe_vocab *recipe_vocab(const ws_plan *plan)
{
    const ws_recipe_doc *doc = plan->req->recipe;
    return doc == NULL || doc->vocab.policy == WS_VOCAB_ERROR ? NULL : &doc->vocab;
}

/** Index among the models (n) of the recipe's ref @p ref, found by its path. */
static size_t model_of_ref(const ws_plan *plan, ws_ckpt *const *c, size_t n, size_t ref)
{
    const char *path = plan->req->recipe->refs[ref].path;
    for (size_t k = 0; k < n; k++)
        if (strcmp(ws_ckpt_path(c[k]), path) == 0)
            return k;
    return 0; // the base, listed twice under two names
}

/** Put the recipe's wishes into @p w; *n grows by a model that gives a tokenizer
 * alone. */
static bool want_recipe(ws_plan *plan, const ws_recipe_vocab *v, ws_ckpt *const *c,
                        ws_vocab_model *m, size_t *n, ws_vocab_want *w)
{
    const size_t models = *n;
    ws_token_want *tokens = ws_plan_alloc(plan, v->n + 1, sizeof *tokens);
    if (tokens == NULL)
        return false;
    for (size_t i = 0; i < v->n; i++) {
        tokens[i] = v->tokens[i].want;
        if (tokens[i].kind > WS_ROW_DEFAULT && tokens[i].kind != WS_ROW_ZERO)
            tokens[i].model = model_of_ref(plan, c, models, tokens[i].model);
    }
    w->policy = v->policy;
    w->tokens = tokens;
    w->n_tokens = v->n;
    w->multiple = v->multiple;
    if (v->policy != WS_VOCAB_MODEL)
        return true;
    for (w->model = 0; w->model < models; w->model++)
        if (strcmp(ws_ckpt_path(c[w->model]), v->source) == 0)
            return true;
    m[models] = (ws_vocab_model){ v->source, v->source, 0 };
    ++*n;
    return true;
}

/** As JSON: what was asked, and a digest of where each row comes from. */
static const char *describe(ws_plan *plan, const ws_vocab_map *map,
                            const ws_vocab_want *want)
{
    ws_buf b = { 0 };
    char digest[33];
    ws_buf rows = { 0 };
    for (size_t k = 0; k < map->n_models; k++)
        ws_buf_add(&rows, map->own[k], map->tokens * sizeof **map->own);
    ws_buf_add(&rows, map->fill, map->tokens * sizeof *map->fill);
    ws_buf_add(&rows, map->force, map->tokens);
    for (size_t i = 0; i < map->edit.n_add; i++)
        ws_buf_add(&rows, map->edit.add[i].text, map->edit.add[i].len + 1);
    ws_xxh128_hex(ws_xxh3(rows.p, rows.n), digest);
    ws_buf_printf(&b, "{\"policy\":\"%s\",\"rows\":%llu,\"tokens\":%llu,",
                  policies[want->policy], (unsigned long long)map->rows,
                  (unsigned long long)map->facts.tokens);
    ws_buf_printf(&b, "\"alignment\":\"xxh3-128:%s\"}", digest);
    const char *text =
        b.failed || rows.failed ? NULL : ws_arena_strdup(&plan->priv->arena, b.p);
    if (text == NULL)
        ws_diag_report(plan->priv->errors, WS_E_MEMORY, NULL, "no memory for the plan");
    ws_buf_free(&rows);
    ws_buf_free(&b);
    return text;
}

/* ---- chat templates ---- */

/** The template of the tokenizer in @p dir, by ws_free; NULL: none. */
static char *template_in(const char *dir)
{
    char *path = ws_path_join(dir, "chat_template.jinja"), *text = NULL;
    size_t len;
    if (path != NULL && ws_file_read(&text, &len, path, CONFIG_CAP, NULL) == WS_OK) {
        ws_free(path);
        return text;
    }
    ws_free(path);
    path = ws_path_join(dir, "tokenizer_config.json");
    char *config = NULL;
    if (path == NULL || ws_file_read(&config, &len, path, CONFIG_CAP, NULL) != WS_OK ||
        ws_json_check(config, len, NULL) != WS_OK) {
        ws_free(path);
        ws_free(config);
        return NULL;
    }
    ws_json_member m;
    if (ws_json_member_find(ws_json_skip(config, config + len), config + len,
                            "chat_template", &m) &&
        *m.value == '"') {
        text = ws_alloc((size_t)(m.stop - m.value) + 1);
        if (text != NULL)
            text[ws_json_unescape(m.value, m.stop, text)] = '\0';
    }
    ws_free(path);
    ws_free(config);
    return text;
}

/** Without the white space at both ends. */
static char *strip(char *s)
{
    char *begin = s + strspn(s, " \t\r\n");
    size_t n = strlen(begin);
    while (n > 0 && strchr(" \t\r\n", begin[n - 1]) != NULL)
        n--;
    memmove(s, begin, n);
    s[n] = '\0';
    return s;
}

/** The template that most of the models have; the first of equals. */
static void most_frequent(ws_plan *plan, const ws_vocab_model *m, size_t n)
{
    char **all = ws_calloc(n + 1, sizeof *all);
    size_t best = 0;
    for (size_t k = 0; all != NULL && k < n; k++)
        if (m[k].dir != NULL && (all[k] = template_in(m[k].dir)) != NULL)
            strip(all[k]);
    for (size_t k = 0; all != NULL && k < n; k++) {
        size_t count = 0;
        for (size_t i = 0; all[k] != NULL && all[k][0] != '\0' && i < n; i++)
            count += all[i] != NULL && strcmp(all[i], all[k]) == 0;
        if (count > best) {
            best = count;
            plan->priv->chat_template = ws_arena_strdup(&plan->priv->arena, all[k]);
        }
    }
    for (size_t k = 0; all != NULL && k < n; k++)
        ws_free(all[k]);
    ws_free(all);
    if (best == 0)
        ws_diag_report(warnings_of(plan), WS_OK, "chat-template",
                       "chat_template: auto, and no model has one: none is written");
}

static void take_template(ws_plan *plan, const ws_vocab_model *m, size_t n)
{
    const ws_recipe_doc *doc = plan->req->recipe;
    const char *asked = doc == NULL ? NULL : doc->chat_template;
    if (asked == NULL)
        return;
    if (strcmp(asked, "auto") == 0)
        most_frequent(plan, m, n);
    else
        plan->priv->chat_template =
            ws_chat_template(asked) != NULL ? ws_chat_template(asked) : asked;
}

/* ---- alignment ---- */

/** Put aligned rows in the place of the models' whose rows move. */
static bool replace(ws_plan *plan, ws_ckpt **c, const ws_vocab_model *m, size_t n,
                    const ws_vocab_map *map)
{
    ws_ckpt **all = ws_plan_alloc(plan, map->n_models + 1, sizeof(void *));
    for (size_t k = 0; all != NULL && k < n; k++)
        all[k] = c[k];
    for (size_t k = 0; all != NULL && k < n; k++) {
        ws_err err = WS_ERR_INIT;
        if (m[k].rows == 0 || ws_vocab_is_same(map, &m[k], k))
            continue;
        if (ws_vocab_source(&c[k], map, all, k, &err) != WS_OK) {
            ws_diag_add(plan->priv->errors, &err);
            return false;
        }
    }
    return all != NULL;
}

/** A document that is a model of another has no tokenizer of its own to hand on. */
static bool written_alone(const ws_plan *plan, const ws_vocab_map *map)
{
    const ws_recipe_doc *doc = plan->req->recipe;
    if (doc == NULL || doc == &doc->recipe->docs[doc->recipe->last] ||
        (!ws_tokenizer_is_edited(&map->edit) && map->rows == map->tokens))
        return true;
    ws_err *e = ws_place_report(plan->priv->errors, WS_E_UNSUPPORTED, NULL, doc->file,
                                doc->vocab.at,
                                "a document that is a model of another changes the "
                                "vocabulary");
    ws_err_hint(e, "let the document that is written align the vocabularies");
    return false;
}

bool ws_plan_vocab(ws_plan *plan, ws_ckpt **c, size_t n, size_t base)
{
    struct ws_plan_priv *priv = plan->priv;
    const ws_recipe_vocab *recipe = recipe_vocab(plan);
    ws_vocab_model *m = models_of(plan, c, n);
    ws_vocab_want want = { .policy = plan->req->vocab, .base = base };
    size_t n_models = n;
    if (m == NULL)
        return false;
    take_template(plan, m, n);
    if (recipe != NULL && plan->req->vocab != WS_VOCAB_ERROR) {
        ws_err *e =
            ws_diag_report(priv->errors, WS_E_USAGE, NULL,
                           "--vocab is given, and the recipe names a tokenizer");
        ws_err_hint(e, "leave out one of them");
        return false;
    }
    if (recipe != NULL && !want_recipe(plan, recipe, c, m, &n_models, &want))
        return false;
    if (want.policy == WS_VOCAB_ERROR || want.policy == WS_VOCAB_PAD) {
        if (!compare_all(plan, c, m, n, base, want.policy == WS_VOCAB_PAD))
            return false;
        if (want.policy == WS_VOCAB_ERROR)
            return true;
    }
    if (m[base].rows == 0) {
        ws_err *e =
            ws_diag_report(priv->errors, WS_E_MISSING, NULL,
                           "no embedding is known in '%s': its vocabulary cannot "
                           "be aligned",
                           m[base].label);
        ws_err_at(e, ws_ckpt_path(c[base]), NULL, -1);
        return false;
    }
    want.base_fills = plan->req->base != NULL || plan->base_implied;
    const ws_vocab_map *map = ws_vocab_align(&priv->arena, m, n_models, &want,
                                             priv->errors, warnings_of(plan));
    if (map == NULL || !replace(plan, c, m, n, map))
        return false;
    if (!written_alone(plan, map))
        return false;
    priv->vocab = map;
    priv->vocab_size = map->rows;
    priv->vocab_json = describe(plan, map, &want);
    plan->vocab = &map->facts;
    return priv->vocab_json != NULL;
}

/* ---- the tokenizer's files ---- */

/** Files of the output, and the texts that they hold. */
struct files {
    ws_plan *plan;
    const char *dir; // that they are made of
    ws_companion_file *v;
    size_t n;
};

/** Takes what @p b holds; NULL: the file is left out. */
static ws_status add_file(struct files *f, const char *name, ws_buf *b, ws_err *err)
{
    if (b != NULL && b->failed) {
        ws_buf_free(b);
        return ws_fail(err, WS_E_MEMORY, "no memory for the tokenizer");
    }
    f->v[f->n++] = b == NULL ? (ws_companion_file){ .name = name }
                             : (ws_companion_file){ name, b->p, b->n };
    return WS_OK;
}

/** One file, rewritten, if it is there. */
static ws_status rewrite(struct files *f, const char *name, int kind, ws_err *err)
{
    static const ws_tokenizer_edit none = { 0 };
    const struct ws_plan_priv *priv = f->plan->priv;
    const ws_tokenizer_edit *edit = priv->vocab == NULL ? &none : &priv->vocab->edit;
    char *path = ws_path_join(f->dir, name), *text = NULL;
    size_t len;
    ws_buf b = { 0 };
    if (path == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a path");
    if (access(path, F_OK) != 0) {
        ws_free(path);
        return WS_OK;
    }
    ws_status st = ws_file_read(&text, &len, path, WS_TOKENIZER_CAP, err);
    if (st == WS_OK && kind == 0)
        st = ws_tokenizer_write(&b, text, len, edit, err);
    else if (st == WS_OK && kind == 1)
        st = ws_tokenizer_write_config(&b, text, len, edit, priv->chat_template, err);
    else if (st == WS_OK)
        st = ws_tokenizer_write_added(&b, text, len, edit, err);
    ws_free(text);
    if (st == WS_OK)
        st = add_file(f, name, &b, err);
    else
        ws_buf_free(&b);
    if (st != WS_OK)
        ws_err_at(err, path, NULL, -1);
    ws_free(path);
    return st;
}

ws_status ws_plan_vocab_files(ws_plan *plan, const char *from,
                              const struct ws_companion_file **files, size_t *n,
                              ws_err *err)
{
    // what else says which tokens there are, and cannot be cut
    static const char *const others[] = { "vocab.json", "merges.txt", "tokenizer.model",
                                          "vocab.txt", "spiece.model" };
    const struct ws_plan_priv *priv = plan->priv;
    const ws_tokenizer_edit *edit = priv->vocab == NULL ? NULL : &priv->vocab->edit;
    const bool edited = edit != NULL && ws_tokenizer_is_edited(edit);
    const char *dir = edit != NULL && edit->dir != NULL ? edit->dir : from;
    struct files f = { .plan = plan, .dir = dir };
    *n = 0;
    if (!edited && priv->chat_template == NULL)
        return WS_OK;
    f.v = ws_plan_alloc(plan, 16, sizeof *f.v);
    if (f.v == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the tokenizer");
    ws_status st = edited ? rewrite(&f, "tokenizer.json", 0, err) : WS_OK;
    if (st == WS_OK)
        st = rewrite(&f, "tokenizer_config.json", 1, err);
    if (st == WS_OK && edited)
        st = rewrite(&f, "added_tokens.json", 2, err);
    for (size_t i = 0; st == WS_OK && edited && edit->gone != NULL &&
                       i < sizeof others / sizeof *others;
         i++)
        st = add_file(&f, others[i], NULL, err);
    if (st == WS_OK && priv->chat_template != NULL) {
        ws_buf b = { 0 };
        ws_buf_puts(&b, priv->chat_template);
        st = add_file(&f, "chat_template.jinja", &b, err);
    }
    *files = f.v;
    *n = f.n;
    return st;
}

void ws_plan_vocab_files_free(const struct ws_companion_file *files, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ws_free((void *)(uintptr_t)files[i].text);
}

ws_dtype ws_plan_kept_dtype(const ws_plan *plan, size_t input, const ws_tensor *t)
{
    if (plan->priv->vocab == NULL)
        return t->dtype;
    const ws_ckpt *c = ws_recipe_view_of(plan->inputs[input].ckpt, &t);
    return ws_vocab_dtype(c, t);
}
