/*
 * peft_config_text.c - adapter_config.json, with its keys sorted as PEFT writes it
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hf/peft_config.h"
#include "wsurg/alloc.h"
#include "wsurg/text.h"

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for a configuration");
}

/** The modules' most frequent pair of rank and alpha. */
struct common {
    int64_t r;
    double alpha;
};

static int compare_pairs(const void *a, const void *b)
{
    const ws_adapter_factors *x = *(const ws_adapter_factors *const *)a;
    const ws_adapter_factors *y = *(const ws_adapter_factors *const *)b;
    if (x->r != y->r)
        return x->r < y->r ? -1 : 1;
    if (x->alpha != y->alpha)
        return x->alpha < y->alpha ? -1 : 1;
    return x < y ? -1 : x > y; // of equal ones the first module
}

/** Leaves @p out alone when there is no module. */
static ws_status common_find(struct common *out, const ws_adapter_spec *s, ws_err *err)
{
    const size_t n = s->n_modules;
    const ws_adapter_factors **order = ws_calloc(n + 1, sizeof *order);
    size_t best = 0;
    const ws_adapter_factors *of = NULL;
    if (order == NULL)
        return no_memory(err);
    for (size_t i = 0; i < n; i++)
        order[i] = &s->modules[i];
    qsort((void *)order, n, sizeof *order, compare_pairs);
    for (size_t i = 0, run = 0; i < n; i += run) {
        run = 1;
        while (i + run < n && order[i + run]->r == order[i]->r &&
               order[i + run]->alpha == order[i]->alpha)
            run++;
        if (run > best || (run == best && order[i] < of)) {
            best = run;
            of = order[i];
        }
    }
    if (of != NULL)
        *out = (struct common){ of->r, of->alpha };
    ws_free((void *)order);
    return WS_OK;
}

static void put_string(ws_buf *b, const char *s)
{
    if (s == NULL)
        ws_buf_puts(b, "null");
    else
        ws_buf_json_string(b, s, strlen(s));
}

/** The shortest text that reads back as @p x; whole numbers without exponent: Python
 * takes 1e+01 for a float, which is no rank. */
static void put_number(ws_buf *b, double x)
{
    char text[32];
    if (x == floor(x) && fabs(x) < 1e15) {
        ws_buf_printf(b, "%.0f", x);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            break;
    }
    ws_buf_puts(b, text);
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/** A sorted list of strings, as PEFT indents it; null when there are none. */
static void put_list(ws_buf *b, const char **list, size_t n)
{
    if (n == 0) {
        ws_buf_puts(b, "null");
        return;
    }
    qsort((void *)list, n, sizeof *list, compare_text);
    ws_buf_putc(b, '[');
    for (size_t i = 0; i < n; i++) {
        ws_buf_puts(b, i == 0 ? "\n    " : ",\n    ");
        put_string(b, list[i]);
    }
    ws_buf_puts(b, "\n  ]");
}

/** rank_pattern or alpha_pattern: modules unlike the most, each under its path. */
static void put_pattern(ws_buf *b, const ws_adapter_spec *s, const struct common *usual,
                        bool rank)
{
    bool any = false;
    for (size_t i = 0; i < s->n_modules; i++) {
        const ws_adapter_factors *m = &s->modules[i];
        if (rank ? m->r == usual->r : m->alpha == usual->alpha)
            continue;
        ws_buf_puts(b, any ? ",\n    " : "{\n    ");
        put_string(b, m->path);
        ws_buf_puts(b, ": ");
        put_number(b, rank ? (double)m->r : m->alpha);
        any = true;
    }
    ws_buf_puts(b, any ? "\n  }" : "{}");
}

/** Modules of the copies that are no plain biases, each once and sorted; how many.
 * The buffer fails when there is no memory for them. */
static size_t saved_list(const ws_adapter_spec *s, ws_arena *arena, const char **list,
                         ws_buf *b)
{
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < s->n_copies; i++) {
        const char *name = s->copies[i].name, *dot = strrchr(name, '.');
        const size_t len = dot == NULL ? strlen(name) : (size_t)(dot - name);
        if (s->copies[i].bias)
            continue;
        char *module = ws_arena_alloc(arena, len + 1);
        if (module == NULL) {
            b->failed = true;
            break;
        }
        memcpy(module, name, len);
        module[len] = '\0';
        list[n++] = module;
    }
    qsort((void *)list, n, sizeof *list, compare_text);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || strcmp(list[i], list[kept - 1]) != 0)
            list[kept++] = list[i];
    return kept;
}

ws_status ws_peft_config_text(ws_buf *b, const ws_adapter_spec *s, ws_err *err)
{
    const char **list = ws_calloc(s->n_modules + s->n_copies + 1, sizeof *list);
    ws_arena arena = { 0 };
    struct common usual = { 8, 8 };
    bool biases = false;
    const ws_status st = list == NULL ? no_memory(err) : common_find(&usual, s, err);
    if (st != WS_OK) {
        ws_free((void *)list);
        return st;
    }
    for (size_t i = 0; i < s->n_copies; i++)
        biases |= s->copies[i].bias;
    ws_buf_puts(b, "{\n  \"alpha_pattern\": ");
    put_pattern(b, s, &usual, false);
    ws_buf_puts(b, ",\n  \"auto_mapping\": null,\n  \"base_model_name_or_path\": ");
    put_string(b, s->base);
    ws_buf_printf(b, ",\n  \"bias\": \"%s\",\n  \"fan_in_fan_out\": %s",
                  biases ? "all" : "none", s->fan_in_fan_out ? "true" : "false");
    ws_buf_puts(b, ",\n  \"inference_mode\": true,\n  \"init_lora_weights\": true,\n"
                   "  \"lora_alpha\": ");
    put_number(b, usual.alpha);
    ws_buf_puts(b, ",\n  \"lora_bias\": false,\n  \"lora_dropout\": 0.0,\n"
                   "  \"modules_to_save\": ");
    put_list(b, list, saved_list(s, &arena, list, b));
    ws_buf_printf(b, ",\n  \"peft_type\": \"LORA\",\n  \"r\": %lld",
                  (long long)usual.r);
    ws_buf_puts(b, ",\n  \"rank_pattern\": ");
    put_pattern(b, s, &usual, true);
    ws_buf_puts(b, ",\n  \"revision\": null,\n  \"target_modules\": ");
    for (size_t i = 0; i < s->n_modules; i++)
        list[i] = s->modules[i].path;
    if (s->n_modules == 0)
        ws_buf_puts(b, "[]");
    else
        put_list(b, list, s->n_modules);
    ws_buf_puts(b, ",\n  \"task_type\": ");
    put_string(b, s->task == NULL ? "CAUSAL_LM" : s->task);
    ws_buf_printf(b, ",\n  \"use_dora\": %s,\n  \"use_rslora\": %s\n}\n",
                  s->dora ? "true" : "false", s->rslora ? "true" : "false");
    ws_free((void *)list);
    ws_arena_free(&arena);
    return b->failed ? no_memory(err) : WS_OK;
}
