/*
 * companions.c - what a model directory holds beside its weights, carried to an output
 */
#define _GNU_SOURCE // dirent's d_name beside POSIX's stat macros

#include "hf/companions.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "hf/config_edit.h"
#include "wsurg/alloc.h"
#include "wsurg/text.h"

enum { CONFIG_CAP = 16 << 20, SHOWN_NAMES = 8 };

static const char *const carried[] = {
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "spiece.model",
    "tekken.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
    "vocab.txt",
};

static const char *const carried_prefixes[] = { "LICENSE", "NOTICE", "USE_POLICY" };

static const char *const tokenizers[] = {
    "added_tokens.json",  "chat_template.jinja",
    "chat_template.json", "merges.txt",
    "spiece.model",       "special_tokens_map.json",
    "tekken.json",        "tokenizer.json",
    "tokenizer.model",    "tokenizer_config.json",
    "vocab.json",         "vocab.txt",
};

static const char templates[] = "additional_chat_templates";

static bool ends_with(const char *s, const char *tail)
{
    const size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

/** Code and pickles are never carried, whatever their name begins with. */
static bool is_unsafe(const char *name)
{
    static const char *const tails[] = {
        ".py", ".bin", ".pt", ".pth", ".pkl", ".ckpt"
    };
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++)
        if (ends_with(name, tails[i]))
            return true;
    return false;
}

static bool is_carried(const char *name)
{
    if (is_unsafe(name))
        return false;
    for (size_t i = 0; i < sizeof carried / sizeof *carried; i++)
        if (strcmp(name, carried[i]) == 0)
            return true;
    for (size_t i = 0; i < sizeof carried_prefixes / sizeof *carried_prefixes; i++)
        if (strncmp(name, carried_prefixes[i], strlen(carried_prefixes[i])) == 0)
            return true;
    return false;
}

/** Weights, manifests and hidden files: left behind without a word. */
static bool is_left(const char *name)
{
    static const char *const tails[] = {
        ".safetensors", ".safetensors.index.json",
        ".bin",         ".bin.index.json",
        ".pt",          ".pth",
        ".gguf",        "manifest.json",
        ".h5",          ".msgpack",
        ".onnx",        ".onnx_data",
    };
    if (name[0] == '.' || strcmp(name, "config.json") == 0)
        return true;
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++)
        if (ends_with(name, tails[i]))
            return true;
    return false;
}

/** Names of files that stay behind, the first of them in words. */
struct names {
    ws_buf text;
    size_t n;
};

/** The carrying in the making. */
struct carry {
    ws_stage *stage;
    const char *from;
    const ws_companion_opts *o;
    ws_diag *warnings;
    struct names left, code; // for the notes
    bool other_tokenizer;    // it comes from elsewhere
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory to carry companion files");
}

/* ---- config.json ---- */

/** Replace the value of @p key in @p text; whether there was one. */
static bool edit(ws_buf *text, const char *key, const char *value)
{
    ws_buf next = { 0 };
    const size_t n = ws_config_replace(&next, text->p, text->n, key, value);
    next.failed |= text->failed;
    ws_buf_free(text);
    *text = next;
    return n > 0;
}

static void edit_dtype(ws_buf *text, ws_dtype dtype)
{
    const char *torch = ws_dtype_info(dtype)->torch_name;
    char value[40];
    if (torch == NULL)
        return;
    snprintf(value, sizeof value, "\"%s\"", torch);
    edit(text, "torch_dtype", value);
    if (!text->failed)
        edit(text, "dtype", value);
}

/** Layers were stacked: their number, and lists with a value for each. */
static void edit_layers(ws_buf *text, const ws_companion_opts *o)
{
    ws_buf next = { 0 };
    ws_config_layers(&next, text->p, text->n, o->layers, o->layer_from,
                     o->n_layer_from);
    ws_buf_free(text);
    *text = next;
}

/** Add a member at the top, where there is none of this name. */
static void add_member(ws_buf *text, const char *key, const char *value)
{
    if (text->failed || ws_config_has(text->p, text->n, key))
        return;
    ws_buf next = { 0 };
    ws_config_add(&next, text->p, text->n, key, value);
    ws_buf_free(text);
    *text = next;
}

/** Say false everywhere, and at the top if nothing does: silence may mean true. */
static void edit_untie(ws_buf *text)
{
    static const char key[] = "tie_word_embeddings";
    edit(text, key, "false");
    add_member(text, key, "false");
}

/** The number of rows, everywhere; a model's own default would be another. */
static void edit_vocab(ws_buf *text, uint64_t rows)
{
    static const char key[] = "vocab_size";
    char value[24];
    snprintf(value, sizeof value, "%llu", (unsigned long long)rows);
    if (!edit(text, key, value))
        add_member(text, key, value);
}

/** Where in the output they go. */
static const char *folder_of(const struct carry *c)
{
    return c->o->folder == NULL ? "" : c->o->folder;
}

/** config.json, edited where the weights differ from what it says. */
static ws_status put_config(struct carry *c, const char *path, ws_err *err)
{
    char *text;
    size_t len;
    ws_status st = ws_file_read(&text, &len, path, CONFIG_CAP, err);
    if (st != WS_OK)
        return st;
    st = ws_config_check(text, len, err);
    if (st != WS_OK) {
        ws_err_at(err, path, NULL, -1);
        ws_free(text);
        return st;
    }
    if (ws_config_has(text, len, "auto_map")) {
        ws_err *e = ws_diag_report(c->warnings, WS_OK, "custom-code",
                                   "config.json names Python code of its own "
                                   "(auto_map), which is not carried");
        ws_err_at(e, path, NULL, -1);
        ws_err_hint(e, "copy the .py files yourself if you trust them");
    }
    ws_buf b = { 0 };
    ws_buf_add(&b, text, len);
    ws_free(text);
    if (!b.failed && c->o->dtype_set)
        edit_dtype(&b, c->o->dtype);
    if (!b.failed && c->o->dequantised) {
        ws_buf next = { 0 };
        ws_config_remove(&next, b.p, b.n, "quantization_config");
        ws_buf_free(&b);
        b = next;
    }
    if (!b.failed && c->o->untie)
        edit_untie(&b);
    if (!b.failed && c->o->layer_from != NULL)
        edit_layers(&b, c->o);
    if (!b.failed && c->o->vocab_size > 0)
        edit_vocab(&b, c->o->vocab_size);
    ws_buf to = { 0 };
    ws_buf_printf(&to, "%sconfig.json", folder_of(c));
    st = b.failed || to.failed ? no_memory(err)
                               : ws_stage_put(c->stage, to.p, b.p, b.n, err);
    ws_buf_free(&to);
    ws_buf_free(&b);
    return st;
}

/* ---- the other files ---- */

static void note_left(struct names *v, const char *name)
{
    if (v->n < SHOWN_NAMES) {
        char shown[64];
        ws_show(name, shown, sizeof shown);
        ws_buf_printf(&v->text, "%s%s", v->n == 0 ? "" : ", ", shown);
    }
    v->n++;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/** Names in a directory, sorted, from the arena; *names by ws_free. */
static ws_status list_names(const char *from, ws_arena *arena, char ***names, size_t *n,
                            ws_err *err)
{
    DIR *dir = opendir(from);
    if (dir == NULL) {
        ws_fail_sys(err, WS_E_IO, errno, "cannot open the directory");
        ws_err_at(err, from, NULL, -1);
        return WS_E_IO;
    }
    size_t cap = 0;
    bool ok = true;
    *names = NULL;
    *n = 0;
    const struct dirent *e;
    while (ok && (e = readdir(dir)) != NULL) { // NOLINT(concurrency-mt-unsafe): own
        if (*n == cap) {
            cap = cap == 0 ? 32 : cap * 2;
            char **p = ws_realloc(*names, cap * sizeof *p);
            ok = p != NULL;
            *names = ok ? p : *names;
        }
        if (ok && ((*names)[*n] = ws_arena_strdup(arena, e->d_name)) != NULL)
            ++*n;
        else
            ok = false;
    }
    closedir(dir);
    if (!ok)
        return no_memory(err);
    if (*n > 1)
        qsort(*names, *n, sizeof **names, by_bytes);
    return WS_OK;
}

/** Templates of a tokenizer: the .jinja files of one folder. */
static ws_status carry_templates(struct carry *c, const char *folder, ws_err *err)
{
    ws_arena arena = { 0 };
    char **names = NULL;
    size_t n = 0;
    ws_status st = list_names(folder, &arena, &names, &n, err);
    for (size_t i = 0; st == WS_OK && i < n; i++) {
        ws_buf from = { 0 }, to = { 0 };
        if (names[i][0] == '.' || !ends_with(names[i], ".jinja"))
            continue;
        ws_buf_printf(&from, "%s/%s", folder, names[i]);
        ws_buf_printf(&to, "%s%s/%s", folder_of(c), templates, names[i]);
        st = from.failed || to.failed ? no_memory(err)
                                      : ws_stage_copy(c->stage, to.p, from.p, err);
        ws_buf_free(&from);
        ws_buf_free(&to);
    }
    ws_free(names);
    ws_arena_free(&arena);
    return st;
}

static bool is_tokenizer(const char *name)
{
    for (size_t i = 0; i < sizeof tokenizers / sizeof *tokenizers; i++)
        if (strcmp(name, tokenizers[i]) == 0)
            return true;
    return false;
}

/** Whether a file of this name is written, or left out, on purpose. */
static bool is_replaced(const struct carry *c, const char *name)
{
    for (size_t i = 0; i < c->o->n_files; i++)
        if (strcmp(c->o->files[i].name, name) == 0)
            return true;
    return false;
}

static ws_status put_replaced(struct carry *c, ws_err *err)
{
    ws_status st = WS_OK;
    for (size_t i = 0; st == WS_OK && i < c->o->n_files; i++) {
        const ws_companion_file *f = &c->o->files[i];
        ws_buf to = { 0 };
        if (f->text == NULL)
            continue;
        ws_buf_printf(&to, "%s%s", folder_of(c), f->name);
        st = to.failed ? no_memory(err)
                       : ws_stage_put(c->stage, to.p, f->text, f->len, err);
        ws_buf_free(&to);
    }
    return st;
}

/** Look for, or carry, the tokenizer of another directory. */
static ws_status tokenizer_visit(struct carry *c, bool copy, ws_err *err)
{
    const char *dir = c->o->tokenizer_from;
    struct stat sb;
    ws_status st = WS_OK;
    for (size_t i = 0; st == WS_OK && i < sizeof tokenizers / sizeof *tokenizers; i++) {
        ws_buf path = { 0 }, to = { 0 };
        ws_buf_printf(&path, "%s/%s", dir, tokenizers[i]);
        ws_buf_printf(&to, "%s%s", folder_of(c), tokenizers[i]);
        const bool there =
            !path.failed && stat(path.p, &sb) == 0 && S_ISREG(sb.st_mode);
        if (path.failed || to.failed)
            st = no_memory(err);
        else if (there && copy && !is_replaced(c, tokenizers[i]))
            st = ws_stage_copy(c->stage, to.p, path.p, err);
        else if (there && !copy)
            c->other_tokenizer |= strncmp(tokenizers[i], "chat_", 5) != 0;
        ws_buf_free(&path);
        ws_buf_free(&to);
    }
    return st;
}

static ws_status carry_one(struct carry *c, const char *name, ws_err *err)
{
    ws_buf path = { 0 }, to = { 0 };
    struct stat sb;
    ws_status st = WS_OK;
    if ((c->other_tokenizer && is_tokenizer(name)) || is_replaced(c, name))
        return WS_OK;
    ws_buf_printf(&path, "%s/%s", c->from, name);
    ws_buf_printf(&to, "%s%s", folder_of(c), name);
    if (path.failed || to.failed) {
        ws_buf_free(&path);
        ws_buf_free(&to);
        return no_memory(err);
    }
    const bool there = stat(path.p, &sb) == 0; // through links: the hub's cache is made
                                               // of them
    if (there && S_ISDIR(sb.st_mode) && strcmp(name, templates) == 0)
        st = carry_templates(c, path.p, err);
    else if (there && !S_ISREG(sb.st_mode))
        st = WS_OK; // folders are no part of a model as loaders read it
    else if (strcmp(name, "config.json") == 0)
        st = put_config(c, path.p, err);
    else if (is_carried(name))
        st = ws_stage_copy(c->stage, to.p, path.p, err);
    else if (!is_left(name))
        note_left(ends_with(name, ".py") ? &c->code : &c->left, name);
    ws_buf_free(&path);
    ws_buf_free(&to);
    return st;
}

static void report_left(struct carry *c, struct names *v, const char *what)
{
    if (v->n > SHOWN_NAMES)
        ws_buf_printf(&v->text, " and %zu more", v->n - SHOWN_NAMES);
    if (v->n > 0 && !v->text.failed) {
        ws_err *e = ws_diag_report(c->warnings, WS_OK, "note", "%snot carried over: %s",
                                   what, v->text.p);
        ws_err_at(e, c->from, NULL, -1);
    }
    ws_buf_free(&v->text);
}

ws_status ws_companions_carry(ws_stage *stage, const char *from,
                              const ws_companion_opts *o, ws_diag *warnings,
                              ws_err *err)
{
    struct carry c = { .stage = stage, .from = from, .o = o, .warnings = warnings };
    ws_arena arena = { 0 };
    char **names = NULL;
    size_t n = 0;
    ws_status st = list_names(from, &arena, &names, &n, err);
    if (st == WS_OK && o->tokenizer_from != NULL)
        st = tokenizer_visit(&c, false, err);
    for (size_t i = 0; st == WS_OK && i < n; i++)
        st = carry_one(&c, names[i], err);
    if (st == WS_OK && c.other_tokenizer)
        st = tokenizer_visit(&c, true, err);
    if (st == WS_OK)
        st = put_replaced(&c, err);
    report_left(&c, &c.left, "");
    report_left(&c, &c.code, "code is ");
    ws_free(names);
    ws_arena_free(&arena);
    return st;
}
