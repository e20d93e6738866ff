/*
 * config_edit.c - change values of config.json in place, leaving every other byte
 *
 * The text is checked once; after that a walker that trusts it finds the places.
 */
#include "hf/config_edit.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/json_walk.h"
#include "wsurg/alloc.h"

/* ---- checking ---- */

/** Overwrite each word of Python's that is no JSON, outside strings, by a number. */
static void hide_python_words(char *text, size_t len)
{
    static const char *const words[] = { "-Infinity", "Infinity", "NaN" };
    const char *end = text + len;
    for (char *p = text; p < end;) {
        if (*p == '"') {
            p += ws_json_end(p, end) - p;
            continue;
        }
        size_t n = 0;
        for (size_t i = 0; i < 3 && n == 0; i++)
            if ((size_t)(end - p) >= strlen(words[i]) &&
                memcmp(p, words[i], strlen(words[i])) == 0)
                n = strlen(words[i]);
        if (n > 0) {
            memset(p, ' ', n);
            *p = '0';
        }
        p += n == 0 ? 1 : n;
    }
}

ws_status ws_config_check(const char *text, size_t len, ws_err *err)
{
    cJSON *tree = NULL;
    char *copy = ws_alloc(len + 1);
    if (copy == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to check config.json");
    memcpy(copy, text, len);
    copy[len] = '\0';
    hide_python_words(copy, len);
    ws_status st = ws_json_parse(&tree, copy, len, err);
    if (st == WS_OK && !cJSON_IsObject(tree))
        st = ws_fail(err, WS_E_HEADER, "not a JSON object");
    cJSON_Delete(tree);
    ws_free(copy);
    return st;
}

/* ---- replacing ---- */

static bool is_nested_config(const ws_json_member *m)
{
    static const char tail[] = "_config\"";
    const size_t n = sizeof tail - 1;
    return *m->value == '{' && m->name_len > n &&
           memcmp(m->name + m->name_len - n, tail, n) == 0 &&
           !ws_json_member_is(m, "quantization_config");
}

/** What is replaced, and how far the text is copied. */
struct replace {
    ws_buf *out;
    const char *copied; // up to here
    const char *key, *value;
    size_t count;
};

/** Walk the object whose '{' is at @p p. The nesting is bounded: it was checked. */
static void replace_in(struct replace *r, const char *p, const char *end)
{
    ws_json_member m;
    for (p++; ws_json_member_next(p, end, &m); p = m.stop) {
        if (is_nested_config(&m)) {
            replace_in(r, m.value, m.stop);
        } else if (ws_json_member_is(&m, r->key) && *m.value != '{' &&
                   *m.value != '[') {
            ws_buf_add(r->out, r->copied, (size_t)(m.value - r->copied));
            ws_buf_puts(r->out, r->value);
            r->copied = m.stop;
            r->count++;
        }
    }
}

bool ws_config_has(const char *text, size_t len, const char *key)
{
    const char *end = text + len, *p = ws_json_skip(text, end);
    ws_json_member m;
    for (p++; ws_json_member_next(p, end, &m); p = m.stop)
        if (ws_json_member_is(&m, key))
            return true;
    return false;
}

size_t ws_config_replace(ws_buf *out, const char *text, size_t len, const char *key,
                         const char *value)
{
    const char *end = text + len;
    struct replace r = { .out = out, .copied = text, .key = key, .value = value };
    replace_in(&r, ws_json_skip(text, end), end);
    ws_buf_add(out, r.copied, (size_t)(end - r.copied));
    return r.count;
}

/* ---- layers ---- */

/** What happens to the layers, and how far the text is copied. */
struct restack {
    ws_buf *out;
    const char *copied; // up to here
    uint32_t old;
    const uint32_t *from;
    size_t n, count;
};

/** The list at m->value with one value per layer: those of the new layers. */
static bool restack_list(struct restack *r, const ws_json_member *m)
{
    const char *item, *stop = m->value + 1;
    size_t count = 0;
    while (ws_json_item_next(stop, m->stop, &item, &stop))
        count++;
    for (size_t i = 0; i < r->n; i++)
        if (count != r->old || r->from[i] >= count)
            return false;
    ws_buf_add(r->out, r->copied, (size_t)(m->value - r->copied));
    ws_buf_putc(r->out, '[');
    for (size_t i = 0; i < r->n; i++) {
        stop = m->value + 1;
        for (uint32_t k = 0; k <= r->from[i]; k++)
            ws_json_item_next(stop, m->stop, &item, &stop);
        ws_buf_puts(r->out, i == 0 ? "" : ", ");
        ws_buf_add(r->out, item, (size_t)(stop - item));
    }
    ws_buf_putc(r->out, ']');
    return true;
}

/** The number of layers at m->value, if it is that. */
static bool restack_number(struct restack *r, const ws_json_member *m)
{
    static const char *const keys[] = { "num_hidden_layers", "num_layers", "n_layer",
                                        "n_layers" };
    char old[16];
    bool named = false;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        named = named || ws_json_member_is(m, keys[i]);
    const int n = snprintf(old, sizeof old, "%u", r->old);
    if (!named || m->stop - m->value != n || memcmp(m->value, old, (size_t)n) != 0)
        return false;
    ws_buf_add(r->out, r->copied, (size_t)(m->value - r->copied));
    ws_buf_printf(r->out, "%zu", r->n);
    return true;
}

static bool names_layers(const ws_json_member *m)
{
    static const char word[] = "layer";
    for (size_t i = 0; i + sizeof word - 1 <= m->name_len; i++)
        if (memcmp(m->name + i, word, sizeof word - 1) == 0)
            return !ws_json_member_is(m, "mlp_only_layers");
    return false;
}

static void restack_in(struct restack *r, const char *p, const char *end)
{
    ws_json_member m;
    for (p++; ws_json_member_next(p, end, &m); p = m.stop) {
        bool done = false;
        if (is_nested_config(&m))
            restack_in(r, m.value, m.stop);
        else if (*m.value == '[' && names_layers(&m))
            done = restack_list(r, &m);
        else
            done = restack_number(r, &m);
        if (!done)
            continue;
        r->copied = m.stop;
        r->count++;
    }
}

size_t ws_config_layers(ws_buf *out, const char *text, size_t len, uint32_t old,
                        const uint32_t *from, size_t n)
{
    const char *end = text + len;
    struct restack r = { .out = out, .copied = text, .old = old, .from = from, .n = n };
    restack_in(&r, ws_json_skip(text, end), end);
    ws_buf_add(out, r.copied, (size_t)(end - r.copied));
    return r.count;
}

void ws_config_add(ws_buf *out, const char *text, size_t len, const char *key,
                   const char *value)
{
    const char *end = text + len, *open = ws_json_skip(text, end) + 1;
    const char *after = open, *name = open;
    ws_json_member m, last = { 0 };
    while (ws_json_member_next(after, end, &m)) {
        last = m;
        name = m.name;
        after = m.stop;
    }
    // what sets the last member off from the comma or brace before it
    const char *space = name;
    while (space > open && ws_json_skip(space - 1, end) >= name)
        space--;
    ws_buf_add(out, text, (size_t)(after - text));
    if (after > open)
        ws_buf_putc(out, ',');
    ws_buf_add(out, space, (size_t)(name - space));
    ws_buf_json_string(out, key, strlen(key));
    if (after > open)
        ws_buf_add(out, name + last.name_len,
                   (size_t)(last.value - name) - last.name_len);
    else
        ws_buf_puts(out, ": ");
    ws_buf_puts(out, value);
    ws_buf_add(out, after, (size_t)(end - after));
}

void ws_config_remove(ws_buf *out, const char *text, size_t len, const char *key)
{
    const char *end = text + len, *before = ws_json_skip(text, end) + 1, *open = before;
    ws_json_member m, next;
    while (ws_json_member_next(before, end, &m) && !ws_json_member_is(&m, key))
        before = m.stop;
    if (!ws_json_member_next(before, end, &m)) {
        ws_buf_add(out, text, len);
        return;
    }
    // of the first member the comma behind it goes, of others the one in front
    const bool first = before == open;
    const char *after = m.stop;
    if (first && ws_json_member_next(after, end, &next)) {
        ws_buf_add(out, text, (size_t)(m.name - text));
        after = next.name;
    } else {
        ws_buf_add(out, text, (size_t)(before - text));
    }
    ws_buf_add(out, after, (size_t)(end - after));
}
