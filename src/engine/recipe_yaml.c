/*
 * recipe_yaml.c - YAML as a tree with the place of every node
 */
#include "engine/recipe_yaml.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "wsurg/text.h"

/** The reading of one file. */
struct reading {
    yaml_parser_t parser;
    const char *name;
    ws_arena *arena;
    ws_diag *errors;
    size_t n_nodes;
    struct anchor {
        struct anchor *next;
        const char *name;
        ws_yaml *node;
        bool open; // still being read: an alias here would make a loop
    } * anchors;   // of the document
    bool memory;   // none left
};

/** A list of nodes that grows in the arena. */
struct nodes {
    ws_yaml **v;
    size_t n, cap;
};

ws_err *ws_place_report(ws_diag *diag, ws_status code, const char *tag,
                        const char *name, ws_place at, const char *fmt, ...)
{
    char msg[512], shown[200], where[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    ws_err *e = ws_diag_report(diag, code, tag, "%s", msg);
    ws_show(name, shown, sizeof shown);
    if (at.line > 0)
        snprintf(where, sizeof where, "%s:%u:%u", shown, at.line, at.column);
    else
        snprintf(where, sizeof where, "%s", shown);
    if (e != NULL)
        ws_err_at(e, where, NULL, -1);
    return e;
}

static ws_place place_of(yaml_mark_t mark)
{
    return (ws_place){ (uint32_t)mark.line + 1, (uint32_t)mark.column + 1 };
}

static void *take(struct reading *r, size_t n, size_t size)
{
    void *p = ws_arena_calloc(r->arena, n, size);
    r->memory |= p == NULL;
    return p;
}

static void fail(struct reading *r, ws_place at, const char *what)
{
    ws_place_report(r->errors, WS_E_RECIPE, NULL, r->name, at, "%s", what);
}

static bool push(struct reading *r, struct nodes *list, ws_yaml *y)
{
    if (list->n == list->cap) {
        const size_t cap = list->cap == 0 ? 8 : list->cap * 2;
        ws_yaml **v = take(r, cap, sizeof *v);
        if (v == NULL)
            return false;
        if (list->n > 0)
            memcpy(v, list->v, list->n * sizeof *v);
        list->v = v;
        list->cap = cap;
    }
    list->v[list->n++] = y;
    return true;
}

/** The next event; false after a report. */
static bool next_event(struct reading *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event) != 0)
        return true;
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) {
        r->memory = true;
        return false;
    }
    char what[200];
    snprintf(what, sizeof what, "not valid YAML: %s%s%s",
             p->problem == NULL ? "unreadable" : p->problem,
             p->context == NULL ? "" : ", ", p->context == NULL ? "" : p->context);
    const ws_place at =
        p->error == YAML_READER_ERROR ? (ws_place){ 0, 0 } : place_of(p->problem_mark);
    fail(r, at, what);
    return false;
}

static ws_yaml *read_node(struct reading *r, yaml_event_t *event, int depth);

/** What an alias names. */
static ws_yaml *find_anchor(struct reading *r, const char *name, ws_place at)
{
    char shown[60], what[160];
    for (struct anchor *a = r->anchors; a != NULL; a = a->next)
        if (strcmp(a->name, name) == 0 && !a->open)
            return a->node;
    ws_show(name, shown, sizeof shown);
    snprintf(what, sizeof what, "alias '*%s' names nothing before it", shown);
    fail(r, at, what);
    return NULL;
}

/** Remember @p y under its anchor, if it has one; what is remembered, or NULL. */
static struct anchor *add_anchor(struct reading *r, const yaml_char_t *name, ws_yaml *y)
{
    struct anchor *a = name == NULL ? NULL : take(r, 1, sizeof *a);
    if (a == NULL)
        return NULL;
    a->name = ws_arena_strdup(r->arena, (const char *)name);
    r->memory |= a->name == NULL;
    if (a->name == NULL)
        return NULL;
    a->node = y;
    a->open = y->kind != WS_YAML_SCALAR;
    a->next = r->anchors;
    r->anchors = a;
    return a;
}

static bool read_items(struct reading *r, ws_yaml *y, int depth)
{
    struct nodes list = { 0 };
    for (;;) {
        yaml_event_t event;
        if (!next_event(r, &event))
            return false;
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            break;
        }
        ws_yaml *item = read_node(r, &event, depth + 1);
        if (item == NULL || !push(r, &list, item))
            return false;
    }
    y->items = list.v;
    y->n = list.n;
    return true;
}

static size_t find_key(const struct nodes *keys, const char *key)
{
    for (size_t i = 0; i < keys->n; i++)
        if (strcmp(keys->v[i]->text, key) == 0)
            return i;
    return SIZE_MAX;
}

/** `<<`: the members of a map, or of a list of maps, that are not there yet. */
static bool merge_in(struct reading *r, const ws_yaml *from, struct nodes *keys,
                     struct nodes *values)
{
    const size_t n = from->kind == WS_YAML_LIST ? from->n : 1;
    for (size_t i = 0; i < n; i++) {
        const ws_yaml *map = from->kind == WS_YAML_LIST ? from->items[i] : from;
        if (map->kind != WS_YAML_MAP) {
            fail(r, map->at, "'<<' wants a map, or a list of maps");
            return false;
        }
        for (size_t k = 0; k < map->n; k++)
            if (find_key(keys, map->keys[k]->text) == SIZE_MAX &&
                (++r->n_nodes > WS_YAML_NODES || !push(r, keys, map->keys[k]) ||
                 !push(r, values, map->items[k])))
                return false;
    }
    return true;
}

/** One key of a map and its value. */
static bool read_member(struct reading *r, ws_yaml *key, struct nodes *keys,
                        struct nodes *values, struct nodes *merged, int depth)
{
    char shown[60], what[120];
    yaml_event_t event;
    if (key->kind != WS_YAML_SCALAR) {
        fail(r, key->at, "a key must be text");
        return false;
    }
    if (!next_event(r, &event))
        return false;
    ws_yaml *value = read_node(r, &event, depth + 1);
    if (value == NULL)
        return false;
    if (key->plain && strcmp(key->text, "<<") == 0)
        return push(r, merged, value);
    if (find_key(keys, key->text) != SIZE_MAX) {
        ws_show(key->text, shown, sizeof shown);
        snprintf(what, sizeof what, "key '%s' stands twice", shown);
        fail(r, key->at, what);
        return true;
    }
    return push(r, keys, key) && push(r, values, value);
}

static bool read_members(struct reading *r, ws_yaml *y, int depth)
{
    struct nodes keys = { 0 }, values = { 0 }, merged = { 0 };
    for (;;) {
        yaml_event_t event;
        if (!next_event(r, &event))
            return false;
        if (event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            break;
        }
        ws_yaml *key = read_node(r, &event, depth + 1);
        if (key == NULL || !read_member(r, key, &keys, &values, &merged, depth))
            return false;
    }
    for (size_t i = 0; i < merged.n; i++)
        if (!merge_in(r, merged.v[i], &keys, &values))
            return false;
    y->keys = keys.v;
    y->items = values.v;
    y->n = keys.n;
    return true;
}

/** A scalar's text into @p y; false after a report. */
static bool read_scalar(struct reading *r, const yaml_event_t *event, ws_yaml *y)
{
    const char *text = (const char *)event->data.scalar.value;
    if (strlen(text) != event->data.scalar.length) {
        fail(r, y->at, "text with a NUL byte");
        return false;
    }
    y->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    y->text = ws_arena_strdup(r->arena, text);
    r->memory |= y->text == NULL;
    return y->text != NULL;
}

/** The node that @p event begins; takes the event. NULL after a report. */
static ws_yaml *read_node(struct reading *r, yaml_event_t *event, int depth)
{
    const ws_place at = place_of(event->start_mark);
    ws_yaml *y = NULL;
    bool ok = false;
    if (event->type == YAML_ALIAS_EVENT) {
        y = find_anchor(r, (const char *)event->data.alias.anchor, at);
        yaml_event_delete(event);
        return y;
    }
    if (++r->n_nodes > WS_YAML_NODES || depth > WS_YAML_DEPTH)
        fail(r, at, depth > WS_YAML_DEPTH ? "nested too deep" : "too many nodes");
    else
        y = take(r, 1, sizeof *y);
    if (y != NULL)
        y->at = at;
    if (y != NULL && event->type == YAML_SCALAR_EVENT) {
        ok = read_scalar(r, event, y);
        add_anchor(r, event->data.scalar.anchor, y);
    } else if (y != NULL) {
        const bool list = event->type == YAML_SEQUENCE_START_EVENT;
        y->kind = list ? WS_YAML_LIST : WS_YAML_MAP;
        struct anchor *a = add_anchor(r,
                                      list ? event->data.sequence_start.anchor
                                           : event->data.mapping_start.anchor,
                                      y);
        ok = list ? read_items(r, y, depth) : read_members(r, y, depth);
        if (a != NULL)
            a->open = false;
    }
    yaml_event_delete(event);
    return ok ? y : NULL;
}

static bool read_documents(struct reading *r, struct nodes *docs)
{
    for (;;) {
        yaml_event_t event;
        if (!next_event(r, &event))
            return false;
        const yaml_event_type_t type = event.type;
        if (type == YAML_STREAM_START_EVENT || type == YAML_DOCUMENT_START_EVENT ||
            type == YAML_DOCUMENT_END_EVENT || type == YAML_STREAM_END_EVENT) {
            yaml_event_delete(&event);
            r->anchors = NULL;
            if (type == YAML_STREAM_END_EVENT)
                return true;
            continue;
        }
        ws_yaml *y = read_node(r, &event, 0);
        if (y == NULL || (!ws_yaml_is_null(y) && !push(r, docs, y)))
            return false;
    }
}

ws_status ws_yaml_parse(ws_yaml ***docs, size_t *n, const char *name, const char *text,
                        size_t len, ws_arena *arena, ws_diag *errors)
{
    struct reading r = { .name = name, .arena = arena, .errors = errors };
    struct nodes list = { 0 };
    const size_t before = errors->n;
    if (len > WS_YAML_BYTES) {
        fail(&r, (ws_place){ 0, 0 }, "too long for a recipe (over 4 MiB)");
        return WS_E_RECIPE;
    }
    if (yaml_parser_initialize(&r.parser) == 0) {
        ws_diag_report(errors, WS_E_MEMORY, NULL, "no memory for the recipe");
        return WS_E_MEMORY;
    }
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
    const bool ok = read_documents(&r, &list);
    yaml_parser_delete(&r.parser);
    if (!ok && errors->n == before) {
        if (r.memory) {
            ws_diag_report(errors, WS_E_MEMORY, NULL, "no memory for the recipe");
            return WS_E_MEMORY;
        }
        fail(&r, (ws_place){ 0, 0 }, "too many nodes");
    }
    *docs = list.v;
    *n = list.n;
    return errors->n == before ? WS_OK : WS_E_RECIPE;
}

const ws_yaml *ws_yaml_get(const ws_yaml *map, const char *key)
{
    for (size_t i = 0; map->kind == WS_YAML_MAP && i < map->n; i++)
        if (ws_name_equal(map->keys[i]->text, key))
            return map->items[i];
    return NULL;
}

static bool one_of(const char *text, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(text, words[i]) == 0)
            return true;
    return false;
}

bool ws_yaml_is_null(const ws_yaml *y)
{
    static const char *const words[] = { "", "~", "null", "Null", "NULL" };
    return y->kind == WS_YAML_SCALAR && y->plain &&
           one_of(y->text, words, sizeof words / sizeof *words);
}

bool ws_yaml_bool(const ws_yaml *y, bool *out)
{
    static const char *const yes[] = { "true", "True", "TRUE", "yes", "Yes",
                                       "YES",  "on",   "On",   "ON" };
    static const char *const no[] = { "false", "False", "FALSE", "no", "No",
                                      "NO",    "off",   "Off",   "OFF" };
    if (y->kind != WS_YAML_SCALAR || !y->plain)
        return false;
    *out = one_of(y->text, yes, sizeof yes / sizeof *yes);
    return *out || one_of(y->text, no, sizeof no / sizeof *no);
}
