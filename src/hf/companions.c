/*
 * companions.c - what a model directory holds beside its weights, carried to an output
 */
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

enum { CONFIG_CAP = 16 << 20 };

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

static bool ends_with(const char *s, const char *tail)
{
    const size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

static bool is_carried(const char *name)
{
    for (size_t i = 0; i < sizeof carried / sizeof *carried; i++)
        if (strcmp(name, carried[i]) == 0)
            return true;
    for (size_t i = 0; i < sizeof carried_prefixes / sizeof *carried_prefixes; i++)
        if (strncmp(name, carried_prefixes[i], strlen(carried_prefixes[i])) == 0)
            return true;
    return false;
}

/** Weights, manifests, cards and the like: left behind without a word. */
static bool is_left(const char *name)
{
    static const char *const tails[] = { ".safetensors", ".safetensors.index.json",
                                         ".bin",         ".bin.index.json",
                                         ".pt",          ".pth",
                                         ".gguf",        "manifest.json" };
    if (name[0] == '.' || strcmp(name, "README.md") == 0 ||
        strcmp(name, "config.json") == 0)
        return true;
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++)
        if (ends_with(name, tails[i]))
            return true;
    return false;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/** Names in the directory, sorted; from the arena. */
static ws_status list_names(const char *from, ws_arena *arena, char ***names, size_t *n,
                            ws_err *err)
{
    DIR *dir = opendir(from);
    if (dir == NULL) {
        ws_fail_sys(err, WS_E_IO, errno, "cannot open the folder");
        ws_err_at(err, from, NULL, -1);
        return WS_E_IO;
    }
    size_t cap = 0;
    bool ok = true;
    char **list = NULL;
    *n = 0;
    const struct dirent *e;
    while (ok && (e = readdir(dir)) != NULL) { // NOLINT(concurrency-mt-unsafe): own
        if (*n == cap) {
            cap = cap == 0 ? 32 : cap * 2;
            char **p = ws_realloc(list, cap * sizeof *p);
            ok = p != NULL;
            list = ok ? p : list;
        }
        if (ok && (list[*n] = ws_arena_strdup(arena, e->d_name)) != NULL)
            ++*n;
        else
            ok = false;
    }
    closedir(dir);
    if (!ok) {
        ws_free(list);
        return ws_fail(err, WS_E_MEMORY, "no memory for the companions' names");
    }
    qsort(list, *n, sizeof *list, by_bytes);
    *names = list;
    return WS_OK;
}

/** Replace the value of @p key in @p text. */
static void edit(ws_buf *text, const char *key, const char *value)
{
    ws_buf next = { 0 };
    ws_config_replace(&next, text->p, text->n, key, value);
    ws_buf_free(text);
    *text = next;
}

/** config.json, edited where the weights differ from what it says. */
static ws_status put_config(ws_stage *stage, const char *path,
                            const ws_companion_opts *o, ws_diag *warnings, ws_err *err)
{
    char *text;
    size_t len;
    cJSON *tree = NULL;
    ws_status st = ws_file_read(&text, &len, path, CONFIG_CAP, err);
    if (st != WS_OK)
        return st;
    st = ws_json_parse(&tree, text, len, err);
    if (st != WS_OK) {
        ws_err_at(err, path, NULL, -1);
        ws_free(text);
        return st;
    }
    if (cJSON_GetObjectItemCaseSensitive(tree, "auto_map") != NULL)
        ws_diag_report(warnings, WS_OK, "custom-code",
                       "config.json names Python code of its own (auto_map); .py files "
                       "are not carried");
    cJSON_Delete(tree);
    ws_buf b = { 0 };
    ws_buf_add(&b, text, len);
    ws_free(text);
    const char *torch = o->dtype_set ? ws_dtype_info(o->dtype)->torch_name : NULL;
    if (torch != NULL) {
        char value[40];
        snprintf(value, sizeof value, "\"%s\"", torch);
        edit(&b, "torch_dtype", value);
        edit(&b, "dtype", value);
    }
    if (o->untie)
        edit(&b, "tie_word_embeddings", "false");
    st = b.failed ? ws_fail(err, WS_E_MEMORY, "no memory for config.json")
                  : ws_stage_put(stage, "config.json", b.p, b.n, err);
    ws_buf_free(&b);
    return st;
}

static ws_status carry_one(ws_stage *stage, const char *from, const char *name,
                           const ws_companion_opts *o, ws_buf *unknown,
                           ws_diag *warnings, ws_err *err)
{
    ws_buf path = { 0 };
    struct stat sb;
    ws_status st = WS_OK;
    ws_buf_printf(&path, "%s/%s", from, name);
    const bool regular = !path.failed && stat(path.p, &sb) == 0 && S_ISREG(sb.st_mode);
    if (regular && strcmp(name, "config.json") == 0)
        st = put_config(stage, path.p, o, warnings, err);
    else if (regular && is_carried(name))
        st = ws_stage_copy(stage, name, path.p, err);
    else if (regular && !is_left(name))
        ws_buf_printf(unknown, "%s%s", unknown->n == 0 ? "" : ", ", name);
    ws_buf_free(&path);
    return st;
}

ws_status ws_companions_carry(ws_stage *stage, const char *from,
                              const ws_companion_opts *o, ws_diag *warnings,
                              ws_err *err)
{
    ws_arena arena = { 0 };
    char **names = NULL;
    size_t n = 0;
    ws_buf unknown = { 0 };
    ws_status st = list_names(from, &arena, &names, &n, err);
    for (size_t i = 0; st == WS_OK && i < n; i++)
        st = carry_one(stage, from, names[i], o, &unknown, warnings, err);
    if (st == WS_OK && unknown.n > 0) {
        char shown[200];
        ws_show(unknown.p, shown, sizeof shown);
        ws_diag_report(warnings, WS_OK, "note", "not carried over from '%s': %s", from,
                       shown);
    }
    ws_buf_free(&unknown);
    ws_free(names);
    ws_arena_free(&arena);
    return st;
}
