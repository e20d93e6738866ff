/*
 * recipe_vocab.c - what a recipe says of tokenizers and chat templates
 */
#include <string.h>

#include "engine/recipe_internal.h"

enum { TEMPLATE_LEAST = 20, NAME_MOST = 32 };

/* ---- chat templates by name ---- */

static const char template_chatml[] =
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

static const char template_alpaca[] =
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'user' %}"
    "{{ '### Instruction:\n' + message['content'] + '\n\n' }}"
    "{% else %}{{ '### Response:\n' + message['content'] + eos_token + '\n\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}";

static const char template_llama3[] =
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + "
    "message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";

static const char template_mistral[] =
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}"
    "{% endfor %}";

static const char template_exaone[] =
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '[|user|]' + message['content'] + '\n' }}"
    "{% else %}{{ '[|' + message['role'] + '|]' + message['content'] + "
    "'[|endofturn|]\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}";

static const struct {
    const char *name, *text;
} templates[] = {
    { "alpaca", template_alpaca },   { "chatml", template_chatml },
    { "exaone", template_exaone },   { "llama3", template_llama3 },
    { "mistral", template_mistral },
};

const char *ws_chat_template(const char *name)
{
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++)
        if (strcmp(name, templates[i].name) == 0)
            return templates[i].text;
    return NULL;
}

static void read_template(ws_recipe_reader *r, ws_recipe_doc *doc, const ws_yaml *y)
{
    if (y == NULL || ws_yaml_is_null(y) ||
        !ws_recipe_is(r, y, WS_YAML_SCALAR, "chat_template"))
        return;
    const bool known =
        strcmp(y->text, "auto") == 0 || ws_chat_template(y->text) != NULL;
    if (known || (strlen(y->text) >= TEMPLATE_LEAST && strchr(y->text, '{') != NULL)) {
        doc->chat_template = y->text;
        return;
    }
    const char *names[] = { "auto", "alpaca", "chatml", "exaone", "llama3", "mistral" };
    char shown[NAME_MOST];
    ws_show(y->text, shown, sizeof shown);
    ws_err *e = ws_recipe_fail(r, y->at,
                               "chat_template '%s' is neither a known name nor a "
                               "template",
                               shown);
    const char *nearest =
        ws_recipe_nearest(y->text, names, sizeof names / sizeof *names);
    if (nearest != NULL)
        ws_err_hint(e, "nearest is '%s'", nearest);
    else
        ws_err_hint(e, "auto, alpaca, chatml, exaone, llama3, mistral, or Jinja");
}

/* ---- where a tokenizer comes from ---- */

/** union, base, or a model. */
static void read_source(ws_recipe_reader *r, ws_recipe_vocab *v, const ws_yaml *y)
{
    const char *text =
        y == NULL || ws_yaml_is_null(y) ? "union" : ws_recipe_reference(r, y);
    if (text == NULL)
        return;
    v->policy = strcmp(text, "union") == 0  ? WS_VOCAB_UNION
                : strcmp(text, "base") == 0 ? WS_VOCAB_BASE
                                            : WS_VOCAB_MODEL;
    v->source = v->policy == WS_VOCAB_MODEL ? text : NULL;
}

/* ---- tokens ---- */

/** Index of the model that @p y names among the document's. */
static bool find_model(ws_recipe_reader *r, const ws_recipe_doc *doc, const ws_yaml *y,
                       size_t *index)
{
    const char *path = ws_recipe_reference(r, y);
    for (*index = 0; path != NULL && *index < doc->n_refs; ++*index)
        if (strcmp(doc->refs[*index].path, path) == 0)
            return true;
    char shown[120];
    if (path != NULL) {
        ws_show(path, shown, sizeof shown);
        ws_recipe_fail(r, y->at, "'%s' is no model of this recipe", shown);
    }
    return false;
}

/** {kind: model_token, model:, token_id: | token:} */
static void read_model_token(ws_recipe_reader *r, const ws_recipe_doc *doc,
                             const ws_yaml *y, ws_token_want *w)
{
    static const char *const keys[] = { "kind", "model", "token_id", "token" };
    const ws_yaml *model = ws_yaml_get(y, "model"), *id = ws_yaml_get(y, "token_id"),
                  *token = ws_yaml_get(y, "token");
    uint64_t number = 0;
    if (id != NULL && ws_yaml_is_null(id))
        id = NULL;
    if (token != NULL && token->plain && ws_yaml_is_null(token))
        token = NULL;
    ws_recipe_keys(r, y, "a token's source", keys, 4);
    if (model == NULL) {
        ws_recipe_fail(r, y->at, "a model_token has no 'model'");
        return;
    }
    if ((id == NULL) == (token == NULL)) {
        ws_recipe_fail(r, y->at,
                       "a model_token wants 'token_id' or 'token', one of them");
        return;
    }
    if (token != NULL && !ws_recipe_is(r, token, WS_YAML_SCALAR, "token"))
        return;
    if (id != NULL && (!ws_recipe_is(r, id, WS_YAML_SCALAR, "token_id") ||
                       !ws_parse_u64(id->text, &number) || number > INT32_MAX)) {
        ws_recipe_fail(r, id->at, "token_id wants a whole number");
        return;
    }
    if (!find_model(r, doc, model, &w->model))
        return;
    w->kind = id != NULL ? WS_ROW_ID : WS_ROW_TOKEN;
    w->id = (int64_t)number;
    w->other = token == NULL ? NULL : token->text;
}

static void read_token_source(ws_recipe_reader *r, const ws_recipe_doc *doc,
                              const ws_yaml *y, ws_token_want *w)
{
    static const char *const kinds[] = { "zero", "model_token" };
    const ws_yaml *kind = y->kind == WS_YAML_MAP ? ws_yaml_get(y, "kind") : NULL;
    if (kind == NULL) {
        if (find_model(r, doc, y, &w->model))
            w->kind = WS_ROW_MODEL;
        return;
    }
    if (!ws_recipe_is(r, kind, WS_YAML_SCALAR, "kind"))
        return;
    if (strcmp(kind->text, kinds[0]) == 0) {
        static const char *const keys[] = { "kind" };
        ws_recipe_keys(r, y, "a token's source", keys, 1);
        w->kind = WS_ROW_ZERO;
    } else if (strcmp(kind->text, kinds[1]) == 0) {
        read_model_token(r, doc, y, w);
    } else {
        char shown[60];
        ws_show(kind->text, shown, sizeof shown);
        ws_err *e = ws_recipe_fail(r, kind->at, "unknown kind '%s'", shown);
        ws_err_hint(e, "zero or model_token");
    }
}

static void read_tokens(ws_recipe_reader *r, ws_recipe_doc *doc, const ws_yaml *y)
{
    static const char *const keys[] = { "source", "force" };
    ws_recipe_vocab *v = &doc->vocab;
    if (y == NULL || ws_yaml_is_null(y) || !ws_recipe_is(r, y, WS_YAML_MAP, "tokens"))
        return;
    v->tokens = ws_recipe_take(r, y->n + 1, sizeof *v->tokens);
    for (size_t i = 0; v->tokens != NULL && i < y->n; i++) {
        const ws_yaml *value = y->items[i];
        ws_recipe_token *t = &v->tokens[v->n++];
        *t = (ws_recipe_token){ { .token = y->keys[i]->text }, y->keys[i]->at };
        if (++r->work > WS_YAML_NODES || ws_yaml_is_null(value) ||
            !ws_recipe_is(r, value, WS_YAML_MAP, t->want.token))
            continue;
        ws_recipe_keys(r, value, "a token", keys, 2);
        const ws_yaml *source = ws_yaml_get(value, "source"),
                      *force = ws_yaml_get(value, "force");
        if (source != NULL && !ws_yaml_is_null(source))
            read_token_source(r, doc, source, &t->want);
        if (force != NULL && !ws_yaml_is_null(force) &&
            !ws_yaml_bool(force, &t->want.force))
            ws_recipe_fail(r, force->at, "force is true or false");
    }
}

void ws_recipe_read_vocab(ws_recipe_reader *r, ws_recipe_doc *doc, const ws_yaml *y)
{
    static const char *const keys[] = { "source", "tokens", "pad_to_multiple_of" };
    const ws_yaml *full = ws_yaml_get(y, "tokenizer");
    const ws_yaml *source = ws_yaml_get(y, "tokenizer_source");
    ws_recipe_vocab *v = &doc->vocab;
    read_template(r, doc, ws_yaml_get(y, "chat_template"));
    if (source != NULL && ws_yaml_is_null(source))
        source = NULL;
    if (full != NULL && ws_yaml_is_null(full))
        full = NULL;
    if (full != NULL && source != NULL) {
        ws_recipe_fail(r, source->at,
                       "both 'tokenizer' and 'tokenizer_source' are given");
        return;
    }
    if (source != NULL) {
        v->at = source->at;
        read_source(r, v, source);
    }
    if (full == NULL || !ws_recipe_is(r, full, WS_YAML_MAP, "tokenizer"))
        return;
    v->at = full->at;
    ws_recipe_keys(r, full, "'tokenizer'", keys, sizeof keys / sizeof *keys);
    read_source(r, v, ws_yaml_get(full, "source"));
    read_tokens(r, doc, ws_yaml_get(full, "tokens"));
    const ws_yaml *pad = ws_yaml_get(full, "pad_to_multiple_of");
    if (pad != NULL && !ws_yaml_is_null(pad) &&
        (!ws_recipe_is(r, pad, WS_YAML_SCALAR, "pad_to_multiple_of") ||
         !ws_parse_u64(pad->text, &v->multiple) || v->multiple < 1 ||
         v->multiple > 1 << 20))
        ws_recipe_fail(r, pad->at, "pad_to_multiple_of wants a whole number");
}
