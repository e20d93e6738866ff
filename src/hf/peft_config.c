/*
 * peft_config.c - adapter_config.json: every field known, ignored with reason, or
 * refused
 *
 * Patterns are regular expressions of Python; the subset that PCRE2 reads in the same
 * way is accepted, the rest refused rather than guessed at.
 */
#include "hf/peft_config.h"

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "wsurg/text.h"

/** What becomes of a field. */
enum treatment {
    READ,   // it decides numbers, and is read below
    IGNORE, // provenance, training or selection only: the tensors in the file decide
    REFUSE, // an adapter that is no plain update, when set
};

static const struct field {
    const char *name;
    enum treatment what;
} fields[] = {
    { "alora_invocation_tokens", REFUSE },
    { "alpha_pattern", READ },
    { "arrow_config", REFUSE },
    { "auto_mapping", IGNORE },
    { "base_model_name_or_path", READ },
    { "bias", READ },
    { "corda_config", IGNORE },
    { "ensure_weight_tying", READ },
    { "eva_config", IGNORE },
    { "exclude_modules", IGNORE },
    { "fan_in_fan_out", IGNORE }, // not to be trusted: the shapes tell
    { "inference_mode", IGNORE },
    { "init_lora_weights", READ },
    { "kasa_config", REFUSE },
    { "layer_replication", REFUSE },
    { "layers_pattern", IGNORE },
    { "layers_to_transform", IGNORE },
    { "loftq_config", IGNORE },
    { "lora_alpha", READ },
    { "lora_bias", READ },
    { "lora_dropout", IGNORE },
    { "lora_ga_config", IGNORE },
    { "megatron_config", REFUSE },
    { "megatron_core", IGNORE },
    { "modules_to_save", READ },
    { "monteclora_config", REFUSE },
    { "peft_type", READ },
    { "peft_version", IGNORE },
    { "qalora_group_size", IGNORE },
    { "r", READ },
    { "rank_pattern", READ },
    { "revision", IGNORE },
    { "runtime_config", IGNORE },
    { "target_modules", IGNORE },
    { "target_parameters", REFUSE },
    { "task_type", READ },
    { "trainable_token_indices", READ },
    { "use_bdlora", REFUSE },
    { "use_dora", READ },
    { "use_qalora", REFUSE },
    { "use_rslora", READ },
    { "velora_config", IGNORE },
};

/** null, false, 0, "", [], {}. */
static bool is_unset(const cJSON *v)
{
    if (cJSON_IsNull(v) || cJSON_IsFalse(v))
        return true;
    if (cJSON_IsNumber(v))
        return v->valuedouble == 0;
    if (cJSON_IsString(v))
        return v->valuestring[0] == '\0';
    return (cJSON_IsArray(v) || cJSON_IsObject(v)) && v->child == NULL;
}

static ws_status bad(const char *field, const char *wanted, ws_err *err)
{
    return ws_fail(err, WS_E_HEADER, "'%s' is not %s", field, wanted);
}

/** No field may go by unseen. */
static ws_status fields_check(const cJSON *tree, ws_err *err)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, tree)
    {
        const struct field *f = NULL;
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
            if (strcmp(v->string, fields[i].name) == 0)
                f = &fields[i];
        if ((f != NULL && f->what != REFUSE) || is_unset(v))
            continue;
        char shown[64];
        ws_show(v->string, shown, sizeof shown);
        if (f != NULL)
            return ws_fail(err, WS_E_UNSUPPORTED,
                           "'%s' is set: such an adapter is no plain update", shown);
        ws_fail(err, WS_E_UNSUPPORTED,
                "'%s' is set: the field is unknown and may change numbers", shown);
        ws_err_hint(err, "if it does not, remove it from " WS_ADAPTER_CONFIG);
        return WS_E_UNSUPPORTED;
    }
    return WS_OK;
}

static const cJSON *get(const cJSON *tree, const char *field)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(tree, field);
    return cJSON_IsNull(v) ? NULL : v;
}

static ws_status get_bool(const cJSON *tree, const char *field, bool *out, ws_err *err)
{
    const cJSON *v = get(tree, field);
    if (v != NULL && !cJSON_IsBool(v))
        return bad(field, "true or false", err);
    *out = cJSON_IsTrue(v);
    return WS_OK;
}

static ws_status get_text(const cJSON *tree, const char *field, const char **out,
                          ws_err *err)
{
    const cJSON *v = get(tree, field);
    if (v != NULL && !cJSON_IsString(v))
        return bad(field, "a string", err);
    *out = v == NULL ? NULL : v->valuestring;
    return WS_OK;
}

/** A rank: a whole number from 1. */
static bool rank_of(const cJSON *v, double *out)
{
    uint64_t n;
    if (!ws_json_u64(v, &n) || n < 1 || n > INT32_MAX)
        return false;
    *out = (double)n;
    return true;
}

static bool alpha_of(const cJSON *v, double *out)
{
    if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble))
        return false;
    *out = v->valuedouble;
    return true;
}

static ws_status numbers_read(ws_peft_config *c, ws_err *err)
{
    double r = 8;
    const cJSON *rank = get(c->tree, "r"), *alpha = get(c->tree, "lora_alpha");
    c->alpha = 8;
    if (rank != NULL && !rank_of(rank, &r))
        return bad("r", "a whole number from 1", err);
    if (alpha != NULL && !alpha_of(alpha, &c->alpha))
        return bad("lora_alpha", "a number", err);
    c->r = (int64_t)r;
    return WS_OK;
}

/** Initialisations, and whether they change the base. */
static ws_status init_read(ws_peft_config *c, ws_err *err)
{
    static const char *const plain[] = { "gaussian", "eva", "orthogonal", "mica" };
    static const char *const changing[] = { "pissa", "olora", "corda", "lora_ga",
                                            "loftq" };
    const cJSON *v = get(c->tree, "init_lora_weights");
    c->init = cJSON_IsFalse(v) ? "false" : "true";
    if (v == NULL || cJSON_IsBool(v))
        return WS_OK;
    if (!cJSON_IsString(v))
        return bad("init_lora_weights", "a truth value or a string", err);
    c->init = v->valuestring;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strcmp(c->init, plain[i]) == 0)
            return WS_OK;
    c->changed_base = strncmp(c->init, "pissa_niter_", 12) == 0;
    for (size_t i = 0; i < sizeof changing / sizeof *changing; i++)
        c->changed_base |= strcmp(c->init, changing[i]) == 0;
    if (c->changed_base)
        return WS_OK;
    char shown[64];
    ws_show(c->init, shown, sizeof shown);
    return ws_fail(err, WS_E_UNSUPPORTED,
                   "init_lora_weights is '%s', which is unknown: whether it changed "
                   "the base cannot be told",
                   shown);
}

/** peft_type and bias. */
static ws_status words_read(ws_peft_config *c, ws_err *err)
{
    const char *type = NULL, *bias = NULL;
    char shown[64];
    ws_status st = get_text(c->tree, "peft_type", &type, err);
    if (st != WS_OK)
        return st;
    if (type == NULL)
        return ws_fail(err, WS_E_HEADER, "'peft_type' is missing");
    if (strcmp(type, "LORA") != 0) {
        ws_show(type, shown, sizeof shown);
        return ws_fail(err, WS_E_UNSUPPORTED,
                       "peft_type is '%s': only LORA adapters are read", shown);
    }
    st = get_text(c->tree, "bias", &bias, err);
    if (st != WS_OK)
        return st;
    c->biases = bias != NULL && strcmp(bias, "none") != 0;
    if (c->biases && strcmp(bias, "all") != 0 && strcmp(bias, "lora_only") != 0) {
        ws_show(bias, shown, sizeof shown);
        return ws_fail(err, WS_E_UNSUPPORTED,
                       "bias is '%s', not none, all or lora_only", shown);
    }
    return WS_OK;
}

/* ---- patterns ---- */

/** Whether Python and PCRE2 read @p key alike: letters, digits, dots, classes, groups,
 * alternatives, counts, anchors, \. \d and \w. */
static bool key_is_common(const char *key)
{
    static const char others[] = "_-.*+?|()[]{}^$, /";
    for (const char *p = key; *p != '\0'; p++) {
        const bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                           (*p >= '0' && *p <= '9') || strchr(others, *p) != NULL;
        if (*p == '\\' && (p[1] == '.' || p[1] == 'd' || p[1] == 'w'))
            p++;
        else if (!plain)
            return false;
        if (*p == '(' && p[1] == '?' && p[2] != ':')
            return false; // look-around, flags, names
        if (p > key && *p == '+' && strchr("*+?}", p[-1]) != NULL)
            return false; // possessive: young in Python
        if (*p == '(' && p[1] == '*')
            return false; // PCRE2's verbs
        if (*p == '[' && (p[1] == ':' || p[1] == '.' || p[1] == '='))
            return false; // POSIX classes
    }
    return true;
}

static ws_status rule_compile(ws_peft_rule *rule, const char *field, ws_err *err)
{
    ws_buf b = { 0 };
    char shown[96];
    ws_show(rule->key, shown, sizeof shown);
    if (!key_is_common(rule->key)) {
        ws_fail(err, WS_E_UNSUPPORTED,
                "%s key '%s' is an expression that is not read here", field, shown);
        ws_err_hint(err, "write the modules' names out: one key for each");
        return WS_E_UNSUPPORTED;
    }
    ws_buf_printf(&b, "^(?:.*\\.)?(?:%s)$", rule->key);
    if (b.failed) {
        ws_buf_free(&b);
        return ws_fail(err, WS_E_MEMORY, "no memory for a pattern");
    }
    ws_err why = WS_ERR_INIT;
    ws_status st = ws_pattern_new(&rule->pattern, b.p, &why);
    ws_buf_free(&b);
    if (st == WS_E_USAGE)
        st = ws_fail(err, WS_E_HEADER, "%s key '%s' is no valid expression", field,
                     shown);
    else if (st != WS_OK && err != NULL)
        *err = why;
    return st;
}

static ws_status rules_read(ws_peft_rules *out, const cJSON *tree, const char *field,
                            bool (*value)(const cJSON *, double *), ws_err *err)
{
    const cJSON *map = get(tree, field), *v;
    out->field = field;
    if (map == NULL)
        return WS_OK;
    if (!cJSON_IsObject(map))
        return bad(field, "an object", err);
    out->rules = ws_calloc((size_t)cJSON_GetArraySize(map) + 1, sizeof *out->rules);
    if (out->rules == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for patterns");
    cJSON_ArrayForEach(v, map)
    {
        ws_peft_rule *rule = &out->rules[out->n++];
        char shown[96];
        rule->key = v->string;
        if (!value(v, &rule->value)) {
            ws_show(v->string, shown, sizeof shown);
            return ws_fail(err, WS_E_HEADER, "%s of '%s' is not a valid number", field,
                           shown);
        }
        const ws_status st = rule_compile(rule, field, err);
        if (st != WS_OK)
            return st;
    }
    return WS_OK;
}

ws_status ws_peft_rule_find(const ws_peft_rules *r, const char *module,
                            double otherwise, double *value, ws_diag *warnings,
                            ws_err *err)
{
    const ws_peft_rule *first = NULL;
    *value = otherwise;
    for (size_t i = 0; i < r->n; i++) {
        bool hit = false;
        const ws_status st = ws_pattern_match(r->rules[i].pattern, module, &hit, err);
        if (st != WS_OK)
            return st;
        if (hit && first == NULL) {
            first = &r->rules[i];
            *value = first->value;
        } else if (hit && first != NULL && r->rules[i].value != first->value) {
            ws_diag_report(warnings, WS_OK, "pattern-overlap",
                           "%s gives '%s' two values, by '%s' and '%s': the first "
                           "counts",
                           r->field, module, first->key, r->rules[i].key);
            return WS_OK;
        }
    }
    return WS_OK;
}

/* ---- lists ---- */

static bool is_list_of_names(const cJSON *v)
{
    const cJSON *item;
    if (!cJSON_IsArray(v))
        return false;
    cJSON_ArrayForEach(item, v) if (!cJSON_IsString(item)) return false;
    return true;
}

static bool is_list_of_rows(const cJSON *v)
{
    const cJSON *item;
    uint64_t n;
    if (!cJSON_IsArray(v))
        return false;
    cJSON_ArrayForEach(item, v) if (!ws_json_u64(item, &n)) return false;
    return true;
}

static ws_status lists_read(ws_peft_config *c, ws_err *err)
{
    const cJSON *v, *item;
    v = get(c->tree, "modules_to_save");
    if (v != NULL && !is_list_of_names(v))
        return bad("modules_to_save", "a list of names", err);
    c->modules_to_save = v;
    v = get(c->tree, "trainable_token_indices");
    bool fine = v == NULL || cJSON_IsObject(v) || is_list_of_rows(v);
    if (cJSON_IsObject(v))
        cJSON_ArrayForEach(item, v) fine = fine && is_list_of_rows(item);
    if (!fine)
        return bad("trainable_token_indices", "a list of indices, or lists by module",
                   err);
    c->token_rows = v;
    return WS_OK;
}

/** Whether @p module is @p name, or ends in ".name". */
static bool ends_in_module(const char *module, const char *name)
{
    const size_t n = strlen(module), k = strlen(name);
    return n >= k && strcmp(module + n - k, name) == 0 &&
           (n == k || module[n - k - 1] == '.');
}

bool ws_peft_is_saved(const ws_peft_config *c, const char *module)
{
    const cJSON *item;
    cJSON_ArrayForEach(
        item,
        c->modules_to_save) if (ends_in_module(module, item->valuestring)) return true;
    return false;
}

const cJSON *ws_peft_token_rows(const ws_peft_config *c, const char *module)
{
    const cJSON *item;
    if (!cJSON_IsObject(c->token_rows))
        return c->token_rows;
    cJSON_ArrayForEach(
        item, c->token_rows) if (ends_in_module(module, item->string)) return item;
    return NULL;
}

ws_status ws_peft_config_parse(ws_peft_config *out, const char *text, size_t len,
                               ws_err *err)
{
    *out = (ws_peft_config){ 0 };
    ws_status st = ws_json_parse(&out->tree, text, len, err);
    if (st == WS_OK && !cJSON_IsObject(out->tree))
        st = ws_fail(err, WS_E_HEADER, "configuration is not a JSON object");
    if (st == WS_OK)
        st = words_read(out, err); // the kind first: it decides what fields mean
    if (st == WS_OK)
        st = fields_check(out->tree, err);
    if (st == WS_OK)
        st = numbers_read(out, err);
    if (st == WS_OK)
        st = get_bool(out->tree, "use_rslora", &out->rslora, err);
    if (st == WS_OK)
        st = get_bool(out->tree, "use_dora", &out->dora, err);
    if (st == WS_OK)
        st = get_bool(out->tree, "lora_bias", &out->lora_bias, err);
    if (st == WS_OK)
        st = get_bool(out->tree, "ensure_weight_tying", &out->tying, err);
    if (st == WS_OK)
        st = init_read(out, err);
    if (st == WS_OK)
        st = get_text(out->tree, "base_model_name_or_path", &out->base, err);
    if (st == WS_OK)
        st = get_text(out->tree, "task_type", &out->task, err);
    if (st == WS_OK)
        st = rules_read(&out->ranks, out->tree, "rank_pattern", rank_of, err);
    if (st == WS_OK)
        st = rules_read(&out->alphas, out->tree, "alpha_pattern", alpha_of, err);
    if (st == WS_OK)
        st = lists_read(out, err);
    return st;
}

static void rules_free(ws_peft_rules *r)
{
    for (size_t i = 0; i < r->n; i++)
        ws_pattern_free(r->rules[i].pattern);
    ws_free(r->rules);
}

void ws_peft_config_free(ws_peft_config *c)
{
    rules_free(&c->ranks);
    rules_free(&c->alphas);
    cJSON_Delete(c->tree);
    *c = (ws_peft_config){ 0 };
}
