/*
 * recipe_write.c - recipes as text: laid out anew, or made of a plan
 *
 * A short map or list of plain values stands in one line, others in blocks; the keys of
 * a document come in one order; anchors are written out; comments are not kept.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "engine/plan_internal.h"
#include "engine/recipe_internal.h"

enum { WIDTH = 76 };

static const char *const order[] = { "name",         "merge_method", "base_model",
                                     "models",       "slices",       "modules",
                                     "parameters",   "rules",        "lines",
                                     "coefficients", "seed",         "dtype",
                                     "out_dtype",    "tokenizer",    "tokenizer_source",
                                     "chat_template" };

/* ---- one value ---- */

/** Whether text means itself without quotes, also between brackets. */
static bool is_safe(const char *s)
{
    const size_t n = strlen(s);
    static const char *const safe =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
        "0123456789_./+\\-@ ";
    return n > 0 && strspn(s, safe) == n && s[0] != ' ' && s[n - 1] != ' ' &&
           s[0] != '@' && !(s[0] == '-' && (n == 1 || s[1] == ' ' || s[1] == '-'));
}

static void text_write(ws_buf *b, const char *s, bool plain)
{
    if (plain && is_safe(s)) {
        ws_buf_puts(b, s);
        return;
    }
    bool one_line = true;
    for (const char *p = s; *p != '\0'; p++)
        one_line &= (unsigned char)*p >= 0x20 && *p != 0x7f;
    if (!one_line) {
        ws_buf_json_string(b, s, strlen(s));
        return;
    }
    ws_buf_putc(b, '\'');
    for (const char *p = s; *p != '\0'; p++) {
        ws_buf_putc(b, *p);
        if (*p == '\'')
            ws_buf_putc(b, '\'');
    }
    ws_buf_putc(b, '\'');
}

static void scalar_write(ws_buf *b, const ws_yaml *y)
{
    if (ws_yaml_is_null(y))
        ws_buf_puts(b, "null");
    else
        text_write(b, y->text, y->plain);
}

static void key_write(ws_buf *b, const ws_yaml *key)
{
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (ws_name_equal(order[i], key->text)) {
            ws_buf_puts(b, order[i]);
            return;
        }
    text_write(b, key->text, true);
}

/** In one line; false when it would not be short. */
static bool flow_write(ws_buf *b, const ws_yaml *y, size_t room)
{
    const size_t from = b->n;
    if (y->kind == WS_YAML_SCALAR) {
        scalar_write(b, y);
        return b->n - from <= room;
    }
    const bool map = y->kind == WS_YAML_MAP;
    ws_buf_putc(b, map ? '{' : '[');
    for (size_t i = 0; i < y->n; i++) {
        ws_buf_puts(b, i == 0 ? "" : ", ");
        if (map) {
            key_write(b, y->keys[i]);
            ws_buf_puts(b, ": ");
        }
        if (b->failed || b->n - from > room || !flow_write(b, y->items[i], room))
            return false;
    }
    ws_buf_putc(b, map ? '}' : ']');
    return b->n - from <= room;
}

/* ---- blocks ---- */

static bool block_write(ws_buf *b, const ws_yaml *y, size_t indent);

static void new_line(ws_buf *b, size_t indent)
{
    ws_buf_printf(b, "\n%*s", (int)indent, "");
}

/** A value behind "key:" or "-": in the line if it is short. */
static bool value_write(ws_buf *b, const ws_yaml *y, size_t indent, bool item)
{
    if (y->kind == WS_YAML_SCALAR || y->n == 0) {
        ws_buf_putc(b, ' ');
        flow_write(b, y, SIZE_MAX);
        return b->n <= WS_YAML_BYTES;
    }
    const size_t from = b->n, room = indent < WIDTH ? WIDTH - indent : 0;
    ws_buf_putc(b, ' ');
    if (flow_write(b, y, room))
        return true;
    b->n = from; // what did not fit is written over
    if (item)
        ws_buf_putc(b, ' ');
    else
        new_line(b, indent + 2);
    return block_write(b, y, indent + 2);
}

static bool member_write(ws_buf *b, const ws_yaml *y, size_t i, size_t indent)
{
    key_write(b, y->keys[i]);
    ws_buf_putc(b, ':');
    return value_write(b, y->items[i], indent, false);
}

static bool block_write(ws_buf *b, const ws_yaml *y, size_t indent)
{
    for (size_t i = 0; i < y->n; i++) {
        if (b->failed || b->n > WS_YAML_BYTES)
            return false;
        if (i > 0)
            new_line(b, indent);
        if (y->kind == WS_YAML_LIST)
            ws_buf_putc(b, '-');
        if (y->kind == WS_YAML_LIST ? !value_write(b, y->items[i], indent, true)
                                    : !member_write(b, y, i, indent))
            return false;
    }
    return true;
}

/** A document: its keys in one order, what is not known after them. */
static bool document_write(ws_buf *b, const ws_yaml *y)
{
    for (size_t k = 0; k <= sizeof order / sizeof *order; k++)
        for (size_t i = 0; i < y->n; i++) {
            size_t at = 0;
            while (at < sizeof order / sizeof *order &&
                   !ws_name_equal(order[at], y->keys[i]->text))
                at++;
            if (at != k)
                continue;
            if (!member_write(b, y, i, 0))
                return false;
            ws_buf_putc(b, '\n');
        }
    return true;
}

bool ws_recipe_write_documents(ws_buf *out, ws_yaml *const *docs, size_t n)
{
    bool good = true;
    for (size_t i = 0; good && i < n; i++) {
        ws_buf_puts(out, i == 0 ? "" : "---\n");
        good = docs[i]->kind == WS_YAML_MAP && document_write(out, docs[i]);
    }
    return good;
}

ws_status ws_recipe_format(ws_buf *out, const char *name, const char *text, size_t len,
                           ws_diag *errors)
{
    ws_arena arena = { 0 };
    ws_yaml **docs = NULL;
    size_t n = 0;
    ws_status st = ws_yaml_parse(&docs, &n, name, text, len, &arena, errors);
    const bool good = st == WS_OK && ws_recipe_write_documents(out, docs, n);
    if (st == WS_OK && out->failed) {
        ws_diag_report(errors, WS_E_MEMORY, NULL, "no memory for the recipe");
        st = WS_E_MEMORY;
    } else if (st == WS_OK && !good) {
        ws_place_report(errors, WS_E_RECIPE, NULL, name, (ws_place){ 0, 0 },
                        "no recipe, or too long when its aliases are written out");
        st = WS_E_RECIPE;
    }
    ws_arena_free(&arena);
    return st;
}

ws_status ws_recipe_format_file(ws_buf *out, const char *path, ws_diag *errors)
{
    char *text = NULL;
    size_t len = 0;
    ws_err err = WS_ERR_INIT;
    ws_status st = ws_file_read(&text, &len, path, WS_YAML_BYTES, &err);
    if (st != WS_OK) {
        ws_err_at(&err, path, NULL, -1);
        ws_diag_add(errors, &err);
        return st;
    }
    st = ws_recipe_format(out, path, text, len, errors);
    ws_free(text);
    return st;
}

/* ---- from a plan ---- */

static void number_write(ws_buf *b, const ws_param *p, double v)
{
    char word[64];
    if (p->kind == WS_PARAM_BOOLEAN) {
        ws_buf_puts(b, v != 0.0 ? "true" : "false");
        return;
    }
    if (p->kind == WS_PARAM_CHOICE) {
        const char *w = p->choices;
        for (int i = 0; i < (int)v && w != NULL; i++)
            w = strchr(w, '|') == NULL ? NULL : strchr(w, '|') + 1;
        ws_buf_printf(b, "%.*s", w == NULL ? 0 : (int)strcspn(w, "|"),
                      w == NULL ? "" : w);
        return;
    }
    double back = NAN;
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(word, sizeof word, "%.*g", digits, v);
        if (ws_parse_real(word, &back) && back == v)
            break;
    }
    ws_buf_puts(b, word);
}

/** `parameters: {...}` of model @p m, or (SIZE_MAX) of all; nothing where the recipe
 * language's defaults say the same. */
static void parameters_write(const ws_plan *plan, size_t m, const char *lead, ws_buf *b)
{
    size_t n = 0;
    for (size_t i = 0; i < plan->n_values; i++) {
        const ws_value *v = &plan->values[i];
        const size_t k = m == SIZE_MAX ? 0 : m;
        if (v->param->per_model != (m != SIZE_MAX) || v->v[k] == v->param->recipe)
            continue;
        ws_buf_printf(b, "%s%s: ", n++ == 0 ? lead : ", ", v->param->name);
        number_write(b, v->param, v->v[k]);
    }
    if (n > 0)
        ws_buf_putc(b, '}');
}

/** Input @p k as it is to be named. */
static const char *input_name(const ws_plan *plan, const char *const *names, size_t k)
{
    return names != NULL ? names[k] : plan->inputs[k].path;
}

ws_status ws_recipe_of_plan(const ws_plan *plan, ws_buf *b, ws_err *err)
{
    return ws_recipe_of_inputs(plan, NULL, b, err);
}

ws_status ws_recipe_of_inputs(const ws_plan *plan, const char *const *names, ws_buf *b,
                              ws_err *err)
{
    const ws_merge_req *r = plan->req;
    // slerp's t counts from its base, which is the first model here
    const bool slerp = strcmp(plan->method->name, "slerp") == 0;
    ws_buf_printf(b, "merge_method: %s\n", plan->method->name);
    if (plan->has_base || slerp) {
        ws_buf_puts(b, "base_model: ");
        text_write(b, input_name(plan, names, 0), true);
        ws_buf_putc(b, '\n');
    }
    ws_buf_puts(b, "models:\n");
    for (size_t m = 0; m < plan->n_models; m++) {
        ws_buf_puts(b, "  - model: ");
        text_write(b, input_name(plan, names, ws_plan_input_of(plan, m)), true);
        parameters_write(plan, m, "\n    parameters: {", b);
        ws_buf_putc(b, '\n');
    }
    const size_t before = b->n;
    parameters_write(plan, SIZE_MAX, "parameters: {", b);
    if (b->n > before)
        ws_buf_putc(b, '\n');
    if (r->lines != NULL)
        ws_buf_printf(b, "lines: [%.*s, %s]\n", (int)strcspn(r->lines, ","), r->lines,
                      strchr(r->lines, ',') == NULL ? "auto"
                                                    : strchr(r->lines, ',') + 1);
    if (r->coefficients != NULL) {
        ws_buf_puts(b, "coefficients: ");
        text_write(b, r->coefficients, true);
        ws_buf_putc(b, '\n');
    }
    if (r->seed != 0)
        ws_buf_printf(b, "seed: %llu\n", (unsigned long long)r->seed);
    if (!r->write.dtype_keep)
        ws_buf_printf(b, "dtype: %s\n", ws_dtype_info(r->write.dtype)->torch_name);
    return b->failed ? ws_fail(err, WS_E_MEMORY, "no memory for the recipe") : WS_OK;
}

/* ---- as options ---- */

static ws_status refuse(const ws_recipe_doc *doc, ws_place at, const char *what,
                        ws_diag *errors)
{
    ws_err *e = ws_place_report(errors, WS_E_UNSUPPORTED, NULL, doc->file, at,
                                "%s cannot be said in options", what);
    ws_err_hint(e, "wsurg merge RECIPE OUT does it");
    return WS_E_UNSUPPORTED;
}

/** Whether every setting is one value for all tensors; else a report. */
static ws_status check_plain(const ws_recipe_doc *doc, const ws_settings *s,
                             ws_diag *errors)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].n != 1 || s->v[i].rules[0].filter != NULL ||
            s->v[i].rules[0].n != 1)
            return refuse(doc, s->v[i].rules[0].at,
                          "a gradient or a condition on names", errors);
    return WS_OK;
}

static ws_status check_sayable(const ws_recipe_doc *doc, ws_diag *errors)
{
    ws_status st = WS_OK;
    if (doc->recipe->n > 1)
        return refuse(doc, doc->at, "several documents", errors);
    if (doc->sliced)
        return refuse(doc, doc->at, "slices", errors);
    if (doc->n_rules > 0)
        return refuse(doc, doc->rules[0].at, "rules", errors);
    if (doc->vocab.policy != WS_VOCAB_ERROR)
        return refuse(doc, doc->vocab.at, "a tokenizer", errors);
    if (doc->chat_template != NULL)
        return refuse(doc, doc->at, "a chat_template", errors);
    for (size_t i = 0; i < doc->n_refs; i++)
        if (doc->refs[i].n_map > 0)
            return refuse(doc, doc->refs[i].map[0].at, "map", errors);
    st = check_plain(doc, &doc->params, errors);
    if (st == WS_OK)
        st = check_plain(doc, &doc->module, errors);
    for (size_t i = 0; st == WS_OK && i < doc->slices[0].n; i++)
        st = check_plain(doc, &doc->slices[0].sources[i].params, errors);
    return st;
}

/** One more word, for the caller to quote. */
static void word(ws_strings *out, const char *text, size_t n)
{
    if (out->n < out->cap && text != NULL)
        out->v[out->n++] = ws_strndup(text, n);
}

/** `--set K=V[,V...]` where the options' default is another. */
static void set_write(const ws_recipe_doc *doc, const ws_param *p, ws_strings *out)
{
    const ws_recipe_slice *slice = &doc->slices[0];
    ws_buf b = { 0 };
    bool differs = false;
    ws_buf_printf(&b, "%s=", p->name);
    size_t n = 0;
    for (size_t i = 0; i < doc->n_refs; i++) {
        if (p->per_model && doc->has_base && i == doc->base &&
            doc->method->base != WS_BASE_NONE)
            continue;
        ws_recipe_query q = { .slice = slice, .in_name = "", .out_name = "" };
        for (size_t k = 0; k < slice->n; k++)
            if (slice->sources[k].ref == i)
                q.source = &slice->sources[k];
        double v = p->recipe;
        ws_place at;
        ws_recipe_value(doc, p, &q, &v, &at);
        differs |= v != p->cli;
        ws_buf_puts(&b, n++ == 0 ? "" : ",");
        number_write(&b, p, v);
        if (!p->per_model)
            break;
    }
    if (differs && !b.failed) {
        word(out, "--set", 5);
        word(out, b.p, b.n);
    }
    ws_buf_free(&b);
}

ws_status ws_recipe_options(const ws_recipe_doc *doc, ws_strings *out, ws_diag *errors)
{
    const ws_status st = check_sayable(doc, errors);
    char seed[24];
    if (st != WS_OK)
        return st;
    // a base that the method does not know is its first model
    const bool first = doc->has_base && doc->method->base == WS_BASE_NONE;
    if (first)
        word(out, doc->refs[doc->base].path, strlen(doc->refs[doc->base].path));
    for (size_t i = 0; i < doc->n_refs; i++)
        if (!doc->has_base || i != doc->base)
            word(out, doc->refs[i].path, strlen(doc->refs[i].path));
    word(out, "--method", 8);
    word(out, doc->method->name, strlen(doc->method->name));
    if (doc->has_base && !first) {
        word(out, "--base", 6);
        word(out, doc->refs[doc->base].path, strlen(doc->refs[doc->base].path));
    }
    for (const ws_param *p = doc->method->params; p->name != NULL; p++)
        set_write(doc, p, out);
    if (doc->lines != NULL) {
        word(out, "--lines", 7);
        word(out, doc->lines, strlen(doc->lines));
    }
    if (doc->coefficients != NULL) {
        word(out, "--coefficients", 14);
        word(out, doc->coefficients, strlen(doc->coefficients));
    }
    if (doc->has_seed) {
        snprintf(seed, sizeof seed, "%llu", (unsigned long long)doc->seed);
        word(out, "--seed", 6);
        word(out, seed, strlen(seed));
    }
    if (doc->has_dtype) {
        word(out, "--dtype", 7);
        word(out,
             doc->dtype == WS_DT_F32   ? "f32"
             : doc->dtype == WS_DT_F16 ? "f16"
                                       : "bf16",
             doc->dtype == WS_DT_BF16 ? 4 : 3);
    }
    return WS_OK;
}
