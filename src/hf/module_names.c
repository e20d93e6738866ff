/*
 * module_names.c - from a module's path to the tensor of a base, and how it is stored
 */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "wsurg/source.h"

/** Pairs of names of which a checkpoint with a tied head stores one. */
static const char *const tied_names[][2] = {
    { "lm_head.weight", "model.embed_tokens.weight" },
    { "lm_head.weight", "transformer.wte.weight" },
    { "lm_head.weight", "wte.weight" },
};

/** What files leave out or add before a module's path. */
static const char *const outer[] = { "transformer.", "model." };

const ws_tensor *ws_tied_tensor(const ws_ckpt *base, const char *name)
{
    for (size_t i = 0; i < sizeof tied_names / sizeof *tied_names; i++)
        for (int side = 0; side < 2; side++) {
            if (strcmp(name, tied_names[i][side]) != 0)
                continue;
            const ws_tensor *t = ws_ckpt_find(base, tied_names[i][1 - side]);
            if (t != NULL)
                return t;
        }
    return NULL;
}

static const ws_tensor *find3(const ws_ckpt *base, const char *before, const char *path,
                              const char *suffix)
{
    char name[2 * WS_MAX_NAME]; // longer is no tensor's
    const int n = snprintf(name, sizeof name, "%s%s%s", before, path, suffix);
    return n < 0 || (size_t)n >= sizeof name ? NULL : ws_ckpt_find(base, name);
}

const ws_tensor *ws_module_tensor(const ws_ckpt *base, const char *path,
                                  const char *suffix)
{
    const ws_tensor *t = find3(base, "", path, suffix);
    for (size_t i = 0; t == NULL && i < sizeof outer / sizeof *outer; i++) {
        const size_t n = strlen(outer[i]);
        if (strncmp(path, outer[i], n) == 0)
            t = find3(base, "", path + n, suffix);
        else
            t = find3(base, outer[i], path, suffix);
    }
    return t;
}

/** model_type of the base's configuration into @p out; false when there is none. */
static bool model_type(const ws_ckpt *base, char *out, size_t size)
{
    size_t len;
    const char *text = ws_ckpt_config(base, &len);
    cJSON *tree = NULL;
    out[0] = '\0';
    if (text == NULL || ws_json_parse(&tree, text, len, NULL) != WS_OK)
        return false;
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(tree, "model_type");
    if (cJSON_IsString(v) && strlen(v->valuestring) < size)
        memcpy(out, v->valuestring, strlen(v->valuestring) + 1);
    cJSON_Delete(tree);
    return out[0] != '\0';
}

static bool is_one_of(const char *word, const char *const *list)
{
    for (; *list != NULL; list++)
        if (strcmp(word, *list) == 0)
            return true;
    return false;
}

/** Whether the fused query, key and value of some block tells: (n, 3n) or (3n, n). */
static bool fused_tells(const ws_ckpt *base, bool *conv1d)
{
    static const char tail[] = "attn.c_attn.weight";
    for (size_t i = 0; i < ws_ckpt_count(base); i++) {
        const ws_tensor *t = ws_ckpt_tensor(base, i);
        const size_t n = strlen(t->name);
        if (n < sizeof tail - 1 || strcmp(t->name + n - sizeof tail + 1, tail) != 0 ||
            t->rank != 2 || t->shape[0] == t->shape[1])
            continue;
        *conv1d = t->shape[1] == 3 * t->shape[0];
        return *conv1d || t->shape[0] == 3 * t->shape[1];
    }
    return false;
}

bool ws_module_is_conv1d(const ws_ckpt *base, const char *path, bool *known)
{
    // the only names that transformers gives to Conv1D, which it uses in these models
    static const char *const names[] = { "c_attn", "c_proj", "c_fc", "q_attn", NULL };
    static const char *const with[] = { "gpt2", "openai-gpt", "imagegpt",
                                        "decision_transformer", NULL };
    static const char *const without[] = { "gpt_bigcode", "gpt_neo", "starcoder2",
                                           "exaone",      "mpt",     "qwen",
                                           NULL };
    char type[64];
    bool conv1d = false;
    const char *dot = strrchr(path, '.');
    *known = true;
    if (!is_one_of(dot == NULL ? path : dot + 1, names))
        return false;
    if (model_type(base, type, sizeof type)) {
        if (is_one_of(type, with))
            return true;
        if (is_one_of(type, without))
            return false;
    }
    *known = fused_tells(base, &conv1d);
    return *known && conv1d;
}
