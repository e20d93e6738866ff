/*
 * plan_inputs.c - the inputs of a plan: opened, the base settled, labels made unique
 */
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "engine/plan_internal.h"
#include "engine/recipe_plan.h"
#include "hf/taskvec_source.h"
#include "wsurg/source.h"
#include "wsurg/spool.h"
#include "wsurg/text.h"

/** Whether two paths lead to the same file or directory. */
static bool same_place(const char *a, const char *b)
{
    struct stat sa, sb;
    return strcmp(a, b) == 0 || (stat(a, &sa) == 0 && stat(b, &sb) == 0 &&
                                 sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino);
}

/** The output must touch neither an adapted model's base nor its adapters, nor a model
 * of the hub's cache. */
static void guard_others(ws_plan *plan, const ws_ckpt *c)
{
    struct ws_plan_priv *priv = plan->priv;
    size_t n = 0;
    while (ws_source_adapter(c, n) != NULL)
        n++;
    if (n == 0 && strcmp(ws_ckpt_home(c), ws_ckpt_path(c)) == 0)
        return;
    const char **paths = ws_plan_alloc(plan, priv->n_paths + n + 1, sizeof *paths);
    if (paths == NULL)
        return;
    for (size_t i = 0; i < priv->n_paths; i++)
        paths[i] = priv->paths[i];
    priv->paths = paths;
    paths[priv->n_paths++] = ws_ckpt_home(c);
    for (size_t k = 0; k < n; k++)
        paths[priv->n_paths++] = ws_source_adapter(c, k)->path;
}

/** Open @p path as the next input. */
static void add_input(ws_plan *plan, const char *path)
{
    struct ws_plan_priv *priv = plan->priv;
    ws_plan_input *in = &plan->inputs[plan->n_inputs];
    ws_err err = WS_ERR_INIT;
    if (priv->recipe_plan != NULL) {
        if (!ws_recipe_open(plan, ws_recipe_ref_of(plan, path), &in->ckpt))
            return;
    } else if (ws_source_open(&in->ckpt, path, WS_FOLD_F32, priv->ctx, &err) != WS_OK) {
        ws_err_at(&err, path, NULL, -1);
        ws_diag_add(priv->errors, &err);
        return;
    }
    in->path = path;
    plan->n_inputs++;
    guard_others(plan, in->ckpt);
}

/** Task vectors among the models become the models that they make of the base. Whether
 * it is their base shows when it has been read. */
static void put_on_base(ws_plan *plan)
{
    struct ws_plan_priv *priv = plan->priv;
    for (size_t i = 1; plan->has_base && i < plan->n_inputs; i++) {
        ws_plan_input *in = &plan->inputs[i];
        ws_ckpt *model = NULL;
        ws_err err = WS_ERR_INIT;
        if (ws_ckpt_kind_of(in->ckpt) != WS_KIND_TASKVEC)
            continue;
        if (ws_taskvec_open(&model, in->path, plan->inputs[0].ckpt, NULL, &err) !=
            WS_OK) {
            ws_diag_add(priv->errors, &err);
            continue;
        }
        ws_ckpt_free(in->ckpt);
        in->ckpt = model;
        priv->hash_inputs = true;
    }
}

/** Give each input a label of its own: equal stems are numbered. */
static void make_labels(ws_plan *plan)
{
    const ws_ckpt **all = ws_plan_alloc(plan, plan->n_inputs + 1, sizeof *all);
    for (size_t i = 0; all != NULL && i < plan->n_inputs; i++)
        all[i] = plan->inputs[i].ckpt;
    for (size_t i = 0; all != NULL && i < plan->n_inputs; i++) {
        plan->inputs[i].label =
            ws_ckpt_label_among(all, plan->n_inputs, i, &plan->priv->arena);
        if (plan->inputs[i].label == NULL)
            ws_diag_report(plan->priv->errors, WS_E_MEMORY, NULL,
                           "no memory for the labels of models");
    }
}

/** Only models can be merged, and task vectors onto their base. */
static void check_kinds(ws_plan *plan)
{
    for (size_t i = 0; i < plan->n_inputs; i++) {
        const ws_ckpt_kind kind = ws_ckpt_kind_of(plan->inputs[i].ckpt);
        if (kind == WS_KIND_MODEL ||
            (kind == WS_KIND_TASKVEC && i > 0 && plan->has_base))
            continue;
        ws_err e = WS_ERR_INIT;
        ws_source_refuse_kind(kind, &e);
        ws_err_at(&e, plan->inputs[i].path, NULL, -1);
        if (kind == WS_KIND_TASKVEC)
            ws_err_hint(&e, plan->has_base
                                ? "name the model it belongs to: --base MODEL"
                                : "wsurg taskvec apply makes a model of it");
        ws_diag_add(plan->priv->errors, &e);
    }
}

/** The digest recorded as "content" of the base in `wsurg.inputs`, or of the model. */
static bool recorded(const ws_ckpt *c, bool of_base, char out[48])
{
    if (!of_base) {
        const char *v = ws_ckpt_meta(c, "wsurg.content");
        if (v == NULL || strlen(v) >= 48)
            return false;
        memcpy(out, v, strlen(v) + 1);
        return true;
    }
    const char *text = ws_ckpt_meta(c, "wsurg.inputs");
    cJSON *list = NULL;
    if (text == NULL || ws_json_parse(&list, text, strlen(text), NULL) != WS_OK)
        return false;
    bool found = false;
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        const cJSON *role = cJSON_GetObjectItemCaseSensitive(item, "role");
        const cJSON *content = cJSON_GetObjectItemCaseSensitive(item, "content");
        if (cJSON_IsString(role) && strcmp(role->valuestring, "base") == 0 &&
            cJSON_IsString(content) && strlen(content->valuestring) < 48) {
            memcpy(out, content->valuestring, strlen(content->valuestring) + 1);
            found = true;
            break;
        }
    }
    cJSON_Delete(list);
    return found;
}

/** An implied base that descends from another listed model is refused. */
static void check_ancestry(ws_plan *plan)
{
    char base[48], other[48];
    if (!recorded(plan->inputs[0].ckpt, true, base))
        return;
    for (size_t i = 1; i < plan->n_inputs; i++) {
        if (!recorded(plan->inputs[i].ckpt, false, other) || strcmp(base, other) != 0)
            continue;
        ws_err *e = ws_diag_report(
            plan->priv->errors, WS_E_ANCESTRY, NULL,
            "the first model '%s' would be the base, but its metadata says that it was "
            "made from '%s'",
            ws_spool_shown(plan->inputs[0].path), ws_spool_shown(plan->inputs[i].path));
        ws_err_hint(e, "say which is the base: --base %s",
                    ws_spool_shown(plan->inputs[i].path));
    }
}

static void warn_implied(ws_plan *plan)
{
    ws_diag *warnings = plan->priv->ctx == NULL ? NULL : plan->priv->ctx->warnings;
    const char *first = ws_spool_shown(plan->inputs[0].path);
    if (plan->n_inputs == 2)
        ws_diag_report(warnings, WS_OK, "implied-base",
                       "no --base: the first model '%s' is the base, %s is merged onto "
                       "it; swapped, the result differs",
                       first, ws_spool_shown(plan->inputs[1].path));
    else
        ws_diag_report(warnings, WS_OK, "implied-base",
                       "no --base: the first model '%s' is the base, the other %zu are "
                       "merged onto it; in another order, the result differs",
                       first, plan->n_inputs - 1);
}

/** Whether the model count suits the method. */
static void check_count(ws_plan *plan)
{
    const ws_method *m = plan->method;
    const size_t n = plan->n_models;
    if (n >= m->models.min && n <= m->models.max)
        return;
    const char *beside = plan->has_base ? " beside the base" : "";
    ws_err *e;
    if (m->models.min == m->models.max)
        e = ws_diag_report(plan->priv->errors, WS_E_USAGE, NULL,
                           "method '%s' takes %zu model%s%s, got %zu", m->name,
                           m->models.min, m->models.min == 1 ? "" : "s", beside, n);
    else
        e = ws_diag_report(plan->priv->errors, WS_E_USAGE, NULL,
                           "method '%s' takes %zu to %zu models%s, got %zu", m->name,
                           m->models.min, m->models.max, beside, n);
    if (n < m->models.min)
        ws_err_hint(e,
                    "list more models: wsurg merge [--base BASE] MODEL... --method %s",
                    m->name);
}

static void align_vocabularies(ws_plan *plan)
{
    ws_ckpt **c = ws_plan_alloc(plan, plan->n_inputs + 1, sizeof(void *));
    for (size_t k = 0; c != NULL && k < plan->n_inputs; k++)
        c[k] = plan->inputs[k].ckpt;
    if (c != NULL)
        ws_plan_vocab(plan, c, plan->n_inputs, 0);
    for (size_t k = 0; c != NULL && k < plan->n_inputs; k++)
        plan->inputs[k].ckpt = c[k];
}

void ws_plan_open_inputs(ws_plan *plan)
{
    const ws_merge_req *req = plan->req;
    struct ws_plan_priv *priv = plan->priv;
    const size_t errors_before = priv->errors->n;
    if (req->recipe != NULL && req->recipe->sliced) {
        ws_recipe_slice_inputs(plan);
        if (priv->errors->n == errors_before) {
            make_labels(plan);
            check_count(plan);
        }
        return;
    }
    plan->inputs = ws_plan_alloc(plan, req->n_models + 1, sizeof *plan->inputs);
    if (plan->inputs == NULL)
        return;
    if (req->base != NULL)
        add_input(plan, req->base);
    for (size_t i = 0; i < req->n_models; i++) {
        if (req->base != NULL && same_place(req->base, req->models[i])) {
            ws_diag_report(priv->ctx == NULL ? NULL : priv->ctx->warnings, WS_OK,
                           "note",
                           "the base '%s' is listed among the models: dropped there",
                           req->models[i]);
            continue;
        }
        add_input(plan, req->models[i]);
    }
    if (priv->errors->n > errors_before || plan->method == NULL)
        return;
    if (plan->n_inputs == 0) {
        ws_diag_report(priv->errors, WS_E_USAGE, NULL, "no model named");
        return;
    }
    plan->has_base = plan->method->base == WS_BASE_REQUIRED ||
                     (plan->method->base == WS_BASE_OPTIONAL && req->base != NULL);
    plan->base_implied = plan->has_base && req->base == NULL;
    plan->n_models = plan->n_inputs - (plan->has_base ? 1 : 0);
    check_kinds(plan);
    if (priv->errors->n == errors_before)
        put_on_base(plan);
    make_labels(plan);
    check_count(plan);
    if (priv->errors->n == errors_before)
        align_vocabularies(plan);
    if (req->base != NULL && !plan->has_base && req->recipe == NULL &&
        priv->errors->n == errors_before)
        ws_diag_report(priv->ctx == NULL ? NULL : priv->ctx->warnings, WS_OK, "note",
                       "method '%s' has no base: '%s' is its first model",
                       plan->method->name, req->base);
    if (plan->base_implied && plan->n_models > 0 && priv->errors->n == errors_before) {
        check_ancestry(plan);
        warn_implied(plan);
    }
}
