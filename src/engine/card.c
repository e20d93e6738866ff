/*
 * card.c - README.md of a merged model: what it was made of, and by which recipe
 *
 * Front matter and headings as mergekit writes them: hubs and search engines read
 * those. Nothing depends on where inputs or output lie: models that are no hub names
 * are named by the last part of their path.
 */
#include "engine/card.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/recipe_internal.h"
#include "hf/hub.h"

/** Repositories of one model that are listed: itself and adapters. */
enum { HUB_PARTS = 8 };

/** Models that a card names; strings of the arena. */
struct card {
    const ws_plan *plan;
    ws_arena arena;
    const char **models; // as shown, each once, in the order of their naming
    size_t n;
    const char **inputs; // without a recipe: the plan's, as shown
    const char **hub;    // repositories among their parts
    size_t n_hub, cap_hub;
    size_t visits; // nodes of the recipe that were renamed
};

/** Whether @p s names a model in the hub's cache. */
static bool is_hub(const char *s)
{
    char *dir = NULL;
    const ws_status st = ws_hub_find(&dir, s, NULL);
    const bool found = st == WS_OK && dir != NULL;
    ws_free(dir);
    return found;
}

static void add_once(const char **list, size_t *n, const char *s)
{
    for (size_t i = 0; i < *n; i++)
        if (strcmp(list[i], s) == 0)
            return;
    list[(*n)++] = s;
}

/** Last part of the path @p s (@p n bytes), of either kind. */
static void add_last(ws_buf *b, const char *s, size_t n)
{
    while (n > 1 && (s[n - 1] == '/' || s[n - 1] == '\\'))
        n--;
    size_t from = n;
    while (from > 0 && s[from - 1] != '/' && s[from - 1] != '\\')
        from--;
    const bool dots = strspn(s + from, "./") >= n - from;
    if (dots)
        ws_buf_puts(b, "model");
    else
        ws_buf_add(b, s + from, n - from);
}

/** A model as the card shows it; its repositories join c->hub. */
static const char *show_model(struct card *c, const char *path)
{
    ws_buf b = { 0 };
    for (const char *s = path; *s != '\0';) {
        // a path that is there is one, whatever signs are in it
        const size_t n = access(s, F_OK) == 0 ? strlen(s) : strcspn(s, "+");
        char *part = ws_arena_calloc(&c->arena, n + 1, 1);
        if (part == NULL)
            break;
        memcpy(part, s, n);
        if (is_hub(part)) {
            ws_buf_puts(&b, part);
            part[strcspn(part, "@")] = '\0';
            if (c->n_hub < c->cap_hub)
                add_once(c->hub, &c->n_hub, part);
        } else {
            add_last(&b, part, n);
        }
        s += n;
        if (*s == '+') {
            ws_buf_putc(&b, '+');
            s++;
        }
    }
    const char *shown = b.failed || b.p == NULL ? "" : ws_arena_strdup(&c->arena, b.p);
    ws_buf_free(&b);
    return shown == NULL ? "" : shown;
}

/** Names of the inputs: labels where the last parts of two paths are the same. */
static void show_inputs(struct card *c)
{
    const ws_plan *plan = c->plan;
    bool same = false;
    for (size_t i = 0; i < plan->n_inputs; i++) {
        c->inputs[i] = show_model(c, plan->inputs[i].path);
        for (size_t k = 0; k < i; k++)
            same |= strcmp(c->inputs[k], c->inputs[i]) == 0;
    }
    for (size_t i = 0; i < plan->n_inputs; i++) {
        if (same)
            c->inputs[i] = plan->inputs[i].label;
        add_once(c->models, &c->n, c->inputs[i]);
    }
}

/** Every model of the merge, the base first. */
static bool gather(struct card *c)
{
    const ws_plan *plan = c->plan;
    const ws_recipe_doc *doc = plan->req->recipe;
    const ws_recipe *recipe = doc == NULL ? NULL : doc->recipe;
    size_t most = plan->n_inputs;
    for (size_t i = 0; recipe != NULL && i < recipe->n; i++)
        most += recipe->docs[i].n_refs;
    c->models = ws_arena_calloc(&c->arena, most + 1, sizeof *c->models);
    c->inputs = ws_arena_calloc(&c->arena, most + 1, sizeof *c->inputs);
    c->hub = ws_arena_calloc(&c->arena, most * HUB_PARTS + 1, sizeof *c->hub);
    if (c->models == NULL || c->inputs == NULL || c->hub == NULL)
        return false;
    c->cap_hub = most * HUB_PARTS;
    if (recipe == NULL)
        show_inputs(c);
    for (size_t i = 0; recipe != NULL && i < recipe->n; i++)
        for (size_t k = 0; k < recipe->docs[i].n_refs; k++) {
            const ws_recipe_ref *ref = &recipe->docs[i].refs[k];
            if (ref->doc == SIZE_MAX)
                add_once(c->models, &c->n, show_model(c, ref->path));
        }
    return true;
}

/* ---- the recipe, without this machine's paths ---- */

static bool names_model(const char *key)
{
    static const char *const keys[] = { "model", "base_model",  "path",
                                        "lora",  "source",      "tokenizer_source",
                                        "copy",  "coefficients" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (ws_name_equal(keys[i], key))
            return true;
    return false;
}

/** Rename the models below @p y; false when aliases make it too long. */
static bool rename_models(struct card *c, ws_yaml *y)
{
    if (c->visits++ > WS_YAML_NODES)
        return false;
    for (size_t i = 0; y->kind != WS_YAML_SCALAR && i < y->n; i++) {
        ws_yaml *v = y->items[i];
        if (v->kind == WS_YAML_SCALAR && y->kind == WS_YAML_MAP &&
            names_model(y->keys[i]->text) && !ws_yaml_is_null(v)) {
            v->text = show_model(c, v->text);
        } else if (!rename_models(c, v)) {
            return false;
        }
    }
    return true;
}

/** The YAML that says the merge. */
static ws_status recipe_text(struct card *c, ws_buf *b, ws_err *err)
{
    const ws_recipe_doc *doc = c->plan->req->recipe;
    if (doc == NULL)
        return ws_recipe_of_inputs(c->plan, c->inputs, b, err);
    ws_arena arena = { 0 };
    ws_yaml **docs = NULL;
    size_t n = 0;
    ws_diag errors = { 0 };
    // read once more: the tree of the recipe itself is the caller's
    ws_status st = ws_yaml_parse(&docs, &n, doc->file, doc->recipe->text,
                                 strlen(doc->recipe->text), &arena, &errors);
    bool good = st == WS_OK;
    for (size_t i = 0; good && i < n; i++)
        good = rename_models(c, docs[i]);
    good = good && ws_recipe_write_documents(b, docs, n);
    ws_arena_free(&arena);
    ws_diag_free(&errors);
    return b->failed || st == WS_E_MEMORY
               ? ws_fail(err, WS_E_MEMORY, "no memory for the model card")
               : (good ? WS_OK : WS_E_RECIPE);
}

/* ---- Markdown ---- */

/** A model: linked where the hub has it. */
static void model_write(ws_buf *b, const struct card *c, const char *shown)
{
    const size_t repository = strcspn(shown, "@+");
    for (size_t i = 0; i < c->n_hub; i++)
        if (strlen(c->hub[i]) == repository &&
            strncmp(c->hub[i], shown, repository) == 0) {
            ws_buf_printf(b, "[%s](https://huggingface.co/%s)", shown, c->hub[i]);
            return;
        }
    char name[200];
    ws_show(shown, name, sizeof name);
    for (char *p = name; *p != '\0'; p++)
        if (*p == '`')
            *p = '\'';
    ws_buf_printf(b, "`%s`", name);
}

static void front_write(ws_buf *b, const struct card *c)
{
    ws_buf_puts(b, "---\nbase_model:");
    if (c->n_hub == 0)
        ws_buf_puts(b, " []");
    for (size_t i = 0; i < c->n_hub; i++)
        ws_buf_printf(b, "\n- %s", c->hub[i]);
    ws_buf_puts(b, "\nlibrary_name: transformers\ntags:\n- mergekit\n- merge\n\n---\n");
}

static void title_write(ws_buf *b, const struct card *c)
{
    ws_buf_puts(b, "# Merge of ");
    if (c->n > 3) {
        ws_buf_printf(b, "%zu models", c->n);
    } else {
        for (size_t i = 0; i < c->n; i++) {
            ws_buf_puts(b, i == 0 ? "" : i + 1 == c->n ? " and " : ", ");
            ws_buf_puts(b, c->models[i]);
        }
    }
    ws_buf_puts(b, "\n\nA merge of pre-trained models, made with wsurg.\n\n");
}

static void method_write(ws_buf *b, struct card *c)
{
    const ws_plan *plan = c->plan;
    const ws_method *m = plan->method;
    const char *id = m->source == NULL ? NULL : strstr(m->source, "arXiv:");
    ws_buf_puts(b, "## Merge Details\n### Merge Method\n\nMerged with ");
    if (id != NULL)
        ws_buf_printf(b, "[%s](https://arxiv.org/abs/%.*s)", m->name,
                      (int)strspn(id + 6, "0123456789."), id + 6);
    else
        ws_buf_puts(b, m->name);
    if (plan->has_base) {
        ws_buf_puts(b, ", with ");
        model_write(b, c, show_model(c, plan->inputs[0].path));
        ws_buf_puts(b, " as the base");
    }
    ws_buf_puts(b, ".\n\n### Models Merged\n\n");
    for (size_t i = 0; i < c->n; i++) {
        ws_buf_puts(b, "* ");
        model_write(b, c, c->models[i]);
        ws_buf_putc(b, '\n');
    }
}

/** What was said in options and stands in no recipe. */
static void options_write(ws_buf *b, const ws_plan *plan)
{
    static const char *const vocab[] = { "error", "base", "common", "union", "pad" };
    static const char *const missing[] = { "error", "base", "skip" };
    const ws_merge_req *r = plan->req;
    const ws_recipe_doc *doc = r->recipe;
    ws_buf o = { 0 };
    if (r->on_missing != WS_MISSING_ERROR)
        ws_buf_printf(&o, " --on-missing %s", missing[r->on_missing]);
    if (r->vocab != WS_VOCAB_ERROR)
        ws_buf_printf(&o, " --vocab %s", vocab[r->vocab]);
    if (doc != NULL && doc->lines == NULL && r->lines != NULL)
        ws_buf_printf(&o, " --lines %s", r->lines);
    if (doc != NULL && !doc->has_seed && r->seed != 0)
        ws_buf_printf(&o, " --seed %llu", (unsigned long long)r->seed);
    if (doc != NULL && !doc->has_dtype && !r->write.dtype_keep)
        ws_buf_printf(&o, " --dtype %s", ws_dtype_info(r->write.dtype)->torch_name);
    if (o.n > 0)
        ws_buf_printf(b, "\nOptions beside it: `%s`\n", o.p + 1);
    b->failed |= o.failed;
    ws_buf_free(&o);
}

/** A fence longer than any run of back quotes in @p text. */
static void config_write(ws_buf *b, const ws_buf *text)
{
    size_t run = 0, most = 2;
    for (size_t i = 0; i < text->n; i++) {
        run = text->p[i] == '`' ? run + 1 : 0;
        most = run > most ? run : most;
    }
    ws_buf_puts(b, "\n### Configuration\n\n");
    for (size_t i = 0; i <= most; i++)
        ws_buf_putc(b, '`');
    ws_buf_puts(b, "yaml\n");
    ws_buf_add(b, text->p, text->n);
    if (text->n > 0 && text->p[text->n - 1] != '\n')
        ws_buf_putc(b, '\n');
    for (size_t i = 0; i <= most; i++)
        ws_buf_putc(b, '`');
    ws_buf_putc(b, '\n');
}

ws_status ws_card_write(const ws_plan *plan, ws_buf *b, ws_err *err)
{
    struct card c = { .plan = plan };
    ws_buf text = { 0 };
    ws_status st = gather(&c)
                       ? recipe_text(&c, &text, err)
                       : ws_fail(err, WS_E_MEMORY, "no memory for the model card");
    if (st == WS_OK || st == WS_E_RECIPE) {
        front_write(b, &c);
        title_write(b, &c);
        method_write(b, &c);
        if (st == WS_OK)
            config_write(b, &text);
        options_write(b, plan);
        st = b->failed ? ws_fail(err, WS_E_MEMORY, "no memory for the model card")
                       : WS_OK;
    }
    ws_buf_free(&text);
    ws_arena_free(&c.arena);
    return st;
}
