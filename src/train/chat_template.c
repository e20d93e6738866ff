/*
 * chat_template.c - which format a model's chat template is
 *
 * A template is Jinja and never run. It is taken for a format when it has every mark of
 * a rule and none that the rule excludes; what is left over is refused, since a format
 * that is almost right does silent damage.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "train/chat_internal.h"
#include "wsurg/alloc.h"

enum { CONFIG_CAP = 64 << 20, TEMPLATE_CAP = 1 << 20, MARKS = 8 };

static const struct rule {
    const char *format;
    const char *has[MARKS], *lacks[MARKS];
} rules[] = {
    { "qwen3",
      { "<|im_start|>", "<|im_end|>", "</think>", "last_query_index",
        "<tool_response>" },
      { "trim", "reflect" } },
    { "chatml", // with the tools of Qwen 2.5, which are not used here
      { "<|im_start|>", "<|im_end|>", "# Tools", "<tool_response>", "tool_calls" },
      { "trim", "strip", "think", "bos_token" } },
    { "chatml",
      { "<|im_start|>", "<|im_end|>", "message['role']", "message['content']" },
      { "trim", "strip", "think", "bos_token", "eos_token", "tool" } },
    { "chatml",
      { "<|im_start|>", "<|im_end|>", "message.role", "message.content" },
      { "trim", "strip", "think", "bos_token", "eos_token", "tool" } },
    { "llama3.1",
      { "<|start_header_id|>", "<|eot_id|>", "Cutting Knowledge Date: December 2023",
        "26 Jul 2024", "trim" },
      { "strftime_now", "think" } },
    { "llama3",
      { "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "bos_token", "trim" },
      { "Cutting Knowledge", "tool", "think", "{{ content }}\n" } },
    { "llama2",
      { "<<SYS>>", "bos_token + '[INST] ' + content.strip() + ' [/INST]'",
        "' '  + content.strip() + ' ' + eos_token" },
      { "true == true", "[/INST]  " } },
    { "llama2",
      { "<<SYS>>", "bos_token + '[INST] ' + content.strip() + ' [/INST]'",
        "' ' + content.strip() + ' ' + eos_token" },
      { "true == true", "[/INST]  " } },
    { "mistral",
      { "'[INST] ' + message['content'] + ' [/INST]'", "message['content'] + eos_token",
        "bos_token" },
      { "<<SYS>>", "strip", "trim", "eos_token + ' '", "tool", "system" } },
    { "mistral-v1",
      { "' [INST] ' + message['content'] + ' [/INST]'",
        "' [INST] ' + system_message + '\\n\\n' + message['content']",
        "' ' + message['content'] + eos_token", "loop.first and system_message" },
      { "trim", "strip", "tool" } },
    // Earlier ones of these two lose the system's words where an answer comes last.
    { "mistral-v3",
      { "\"[INST] \" + message[\"content\"] + \"[/INST]\"",
        "\"[INST] \" + system_message + \"\\n\\n\" + message[\"content\"]",
        "\" \" + message[\"content\"]|trim + eos_token", "[AVAILABLE_TOOLS]" },
      { "loop.first", "think" } },
    { "mistral-v3-tekken",
      { "\"[INST]\" + message[\"content\"] + \"[/INST]\"",
        "\"[INST]\" + system_message + \"\\n\\n\" + message[\"content\"]",
        "{{- message[\"content\"] + eos_token", "[AVAILABLE_TOOLS]" },
      { "loop.first", "think" } },
    { "mistral-v7",
      { "'[INST] ' + message['content'] + '[/INST]'",
        "'[SYSTEM_PROMPT] ' + message['content'] + '[/SYSTEM_PROMPT]'",
        "' ' + message['content'] + eos_token" },
      { "default_system_message", "trim", "strip", "tool", "think" } },
    { "mistral-v7-tekken",
      { "'[INST]' + message['content'] + '[/INST]'",
        "'[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]'",
        "message['content'] + eos_token" },
      { "default_system_message", "trim", "strip", "tool", "think",
        "' ' + message['content']" } },
    { "zephyr",
      { "{{ '<|user|>\n' + message['content'] + eos_token }}\n",
        "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n",
        "{{ '<|assistant|>' }}\n" },
      { "bos_token", "trim", "strip" } },
    { "zephyr",
      { "{{ '<|user|>\\n' + message['content'] + eos_token }}\n",
        "{{ '<|assistant|>\\n'  + message['content'] + eos_token }}\n",
        "{{ '<|assistant|>' }}\n" },
      { "bos_token", "trim", "strip" } },
    { "phi3",
      { "<|end|>\n", "<|system|>\n", "<|user|>\n", "<|assistant|>\n",
        "{% else %}{{ eos_token }}" },
      { "bos_token", "trim", "strip", "tool" } },
    { "phi3",
      { "<|end|>\\n", "<|system|>\\n", "<|user|>\\n", "<|assistant|>\\n",
        "{% else %}{{ eos_token }}" },
      { "bos_token", "trim", "strip", "tool" } },
    { "gemma3",
      { "<start_of_turn>", "first_user_prefix", "bos_token", "trim", "alternate",
        "<end_of_turn>" },
      { "tool", "think" } },
    { "gemma",
      { "<start_of_turn>", "<end_of_turn>", "System role not supported", "bos_token",
        "trim", "alternate" },
      { "tool", "think" } },
};

static bool fits(const struct rule *r, const char *template)
{
    for (int i = 0; i < MARKS && r->has[i]; i++)
        if (!strstr(template, r->has[i]))
            return false;
    for (int i = 0; i < MARKS && r->lacks[i]; i++)
        if (strstr(template, r->lacks[i]))
            return false;
    return true;
}

/** The system turn that a ChatML template puts where there is none. */
static bool chatml_system(ws_chat *c, const char *template)
{
    static const char *const opens[] = { "<|im_start|>system\\n",
                                         "<|im_start|>system\n" };
    bool found = false;

    for (size_t k = 0; k < sizeof opens / sizeof *opens; k++)
        for (const char *p = template; (p = strstr(p, opens[k]));) {
            p += strlen(opens[k]);
            const char *end = strstr(p, "<|im_end|>");
            const size_t n = end ? (size_t)(end - p) : 0;
            if (n == 0 || strcspn(p, "'\"{}\\\n") < n)
                continue;
            if (found && (strlen(c->system) != n || memcmp(c->system, p, n) != 0))
                return false; // two of them
            if (!ws_chat_system(c, p, n))
                return false;
            found = true;
        }
    // Something is said of a missing system turn, and it is not this.
    return found ||
           (!strstr(template, "!= 'system'") && !strstr(template, "!= \"system\"") &&
            !strstr(template, "# Tools"));
}

bool ws_chat_recognise(ws_chat *c, const char *template)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (!fits(&rules[i], template))
            continue;
        return ws_chat_set(c, rules[i].format) &&
               (strcmp(rules[i].format, "chatml") != 0 || chatml_system(c, template));
    }
    return false;
}

/* ---- the model's files ---- */

static bool join(char *out, size_t size, const char *dir, const char *name)
{
    return (size_t)snprintf(out, size, "%s/%s", dir, name) < size;
}

/** The spelling of a special token: a text, or an object with one. */
static void token_read(const cJSON *config, const char *key, char *out, size_t size)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(config, key);

    if (cJSON_IsObject(v))
        v = cJSON_GetObjectItemCaseSensitive(v, "content");
    out[0] = '\0';
    if (cJSON_IsString(v) && strlen(v->valuestring) < size)
        snprintf(out, size, "%s", v->valuestring);
}

/** The template of tokenizer_config.json: a text, or of several the one called default;
 * NULL: none. */
static const char *template_of(const cJSON *config)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(config, "chat_template"), *item;

    if (cJSON_IsString(v))
        return v->valuestring;
    cJSON_ArrayForEach(item, v)
    {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(item, "name");
        const cJSON *text = cJSON_GetObjectItemCaseSensitive(item, "template");
        if (cJSON_IsString(name) && strcmp(name->valuestring, "default") == 0 &&
            cJSON_IsString(text))
            return text->valuestring;
    }
    return NULL;
}

/** The names of all formats as the hint. */
static void hint_names(ws_err *err)
{
    char list[240];
    size_t n = 0;

    for (size_t i = 0; ws_chat_name(i) && n < sizeof list; i++)
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "",
                              ws_chat_name(i));
    ws_err_hint(err, "--chat-format NAME, one of %s", list);
}

static ws_status recognise(ws_chat *out, const char *dir, const char *config,
                           ws_err *err)
{
    char path[4096];
    char *text = NULL;
    size_t len;
    ws_status st = WS_OK;

    if (!join(path, sizeof path, dir, "chat_template.jinja"))
        return ws_fail(err, WS_E_IO, "the name of the folder is too long");
    if (access(path, F_OK) == 0) {
        st = ws_file_read(&text, &len, path, TEMPLATE_CAP, err);
        if (st)
            return st;
        config = text;
    }
    if (!config) {
        ws_fail(err, WS_E_MISSING, "the model has no chat template");
        ws_err_at(err, dir, NULL, -1);
        st = WS_E_MISSING;
    } else if (!ws_chat_recognise(out, config)) {
        st = ws_fail(err, WS_E_UNSUPPORTED,
                     "the model's chat template is none of those known here");
        ws_err_at(err, dir, NULL, -1);
    }
    if (st)
        hint_names(err);
    ws_free(text);
    return st;
}

ws_status ws_chat_open(ws_chat *out, const char *name, const char *dir, ws_err *err)
{
    char path[4096];
    cJSON *config = NULL;
    ws_chat c = { 0 };
    ws_status st = WS_OK;

    if (name && !ws_chat_set(&c, name)) {
        ws_fail(err, WS_E_USAGE, "no chat format is called '%s'", name);
        hint_names(err);
        return WS_E_USAGE;
    }
    if (!name && !dir) {
        ws_fail(err, WS_E_MISSING, "no model is given whose chat template to follow");
        hint_names(err);
        return WS_E_MISSING;
    }
    if (dir && !join(path, sizeof path, dir, "tokenizer_config.json"))
        return ws_fail(err, WS_E_IO, "the name of the folder is too long");
    if (dir && access(path, F_OK) == 0)
        st = ws_json_read(&config, path, CONFIG_CAP, err);
    if (st == WS_OK && config) {
        token_read(config, "bos_token", c.bos, sizeof c.bos);
        token_read(config, "eos_token", c.eos, sizeof c.eos);
    }
    if (st == WS_OK && !name)
        st = recognise(&c, dir, config ? template_of(config) : NULL, err);
    cJSON_Delete(config);
    if (st == WS_OK)
        *out = c;
    return st;
}
