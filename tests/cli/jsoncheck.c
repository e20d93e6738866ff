/*
 * jsoncheck.c - whether JSON documents satisfy a JSON Schema, keys in its order
 *
 *   jsoncheck SCHEMA FILE...
 *
 * Knows what wsurg-1.schema.json uses of JSON Schema 2020-12: type, const, enum,
 * properties, required, additionalProperties, items, minimum, maximum, $ref into $defs,
 * anyOf, allOf, if/then. Besides, the keys of an object must come in the order of
 * `properties`, and a file holds one document and a newline.
 */
#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check {
    const cJSON *root;
    const char *file;
    bool quiet;
};

static bool check(const struct check *c, const cJSON *schema, const cJSON *v,
                  const char *path);

__attribute__((format(printf, 3, 4))) static bool
complain(const struct check *c, const char *path, const char *fmt, ...)
{
    va_list ap;

    if (c->quiet)
        return false;
    printf("%s: %s: ", c->file, *path ? path : "the document");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    return false;
}

static const cJSON *get(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

static bool has_type(const cJSON *v, const char *type)
{
    if (strcmp(type, "integer") == 0)
        return cJSON_IsNumber(v) && v->valuedouble == (double)(long long)v->valuedouble;
    return (strcmp(type, "object") == 0 && cJSON_IsObject(v)) ||
           (strcmp(type, "array") == 0 && cJSON_IsArray(v)) ||
           (strcmp(type, "string") == 0 && cJSON_IsString(v)) ||
           (strcmp(type, "number") == 0 && cJSON_IsNumber(v)) ||
           (strcmp(type, "boolean") == 0 && cJSON_IsBool(v)) ||
           (strcmp(type, "null") == 0 && cJSON_IsNull(v));
}

static bool type_ok(const cJSON *type, const cJSON *v)
{
    const cJSON *one;

    if (cJSON_IsString(type))
        return has_type(v, type->valuestring);
    cJSON_ArrayForEach(one, type) if (has_type(v, one->valuestring)) return true;
    return false;
}

static bool check_values(const struct check *c, const cJSON *s, const cJSON *v,
                         const char *path)
{
    const cJSON *w = get(s, "type"), *one;

    if (w && !type_ok(w, v))
        return complain(c, path, "wrong type");
    w = get(s, "const");
    if (w && !cJSON_Compare(w, v, true))
        return complain(c, path, "is not the constant");
    w = get(s, "enum");
    bool found = !w;
    cJSON_ArrayForEach(one, w) found = found || cJSON_Compare(one, v, true);
    if (!found)
        return complain(c, path, "is none of the enum");
    w = get(s, "minimum");
    if (w && cJSON_IsNumber(v) && v->valuedouble < w->valuedouble)
        return complain(c, path, "is below the minimum");
    w = get(s, "maximum");
    if (w && cJSON_IsNumber(v) && v->valuedouble > w->valuedouble)
        return complain(c, path, "is above the maximum");
    return true;
}

/** Position of @p key among the properties, -1 when it is none. */
static int place(const cJSON *properties, const char *key)
{
    int i = 0;
    const cJSON *p;

    cJSON_ArrayForEach(p, properties)
    {
        if (strcmp(p->string, key) == 0)
            return i;
        i++;
    }
    return -1;
}

static bool check_object(const struct check *c, const cJSON *s, const cJSON *v,
                         const char *path)
{
    const cJSON *properties = get(s, "properties"),
                *more = get(s, "additionalProperties");
    const cJSON *item;
    char sub[512];
    int last = -1;
    bool ok = true;

    cJSON_ArrayForEach(item, get(s, "required")) if (!get(v, item->valuestring)) ok =
        complain(c, path, "key '%s' is missing", item->valuestring);
    cJSON_ArrayForEach(item, v)
    {
        const int at = place(properties, item->string);
        snprintf(sub, sizeof sub, "%s.%s", path, item->string);
        if (at >= 0) {
            if (at < last)
                ok = complain(c, sub, "out of order");
            last = at > last ? at : last;
            ok = check(c, get(properties, item->string), item, sub) && ok;
        } else if (cJSON_IsFalse(more)) {
            ok = complain(c, sub, "unknown key");
        } else if (cJSON_IsObject(more)) {
            ok = check(c, more, item, sub) && ok;
        }
    }
    return ok;
}

static bool check_parts(const struct check *c, const cJSON *s, const cJSON *v,
                        const char *path)
{
    const cJSON *any = get(s, "anyOf"), *one, *cond = get(s, "if");
    struct check quiet = *c;
    bool ok = true, found = !any;

    quiet.quiet = true;
    cJSON_ArrayForEach(one, any) found = found || check(&quiet, one, v, path);
    if (!found) {
        complain(c, path, "fits none of anyOf; of the last:");
        cJSON_ArrayForEach(one, any) if (!one->next) check(c, one, v, path);
        ok = false;
    }
    cJSON_ArrayForEach(one, get(s, "allOf")) ok = check(c, one, v, path) && ok;
    if (cond && get(s, "then") && check(&quiet, cond, v, path))
        ok = check(c, get(s, "then"), v, path) && ok;
    return ok;
}

static bool check(const struct check *c, const cJSON *schema, const cJSON *v,
                  const char *path)
{
    static const char defs[] = "#/$defs/";
    const cJSON *ref = get(schema, "$ref"), *items = get(schema, "items"), *item;
    char sub[512];
    int i = 0;

    if (ref) {
        const char *name = ref->valuestring + sizeof defs - 1;
        const cJSON *def = strncmp(ref->valuestring, defs, sizeof defs - 1) == 0
                               ? get(get(c->root, "$defs"), name)
                               : NULL;
        return def ? check(c, def, v, path)
                   : complain(c, path, "schema: no %s", ref->valuestring);
    }
    bool ok = check_values(c, schema, v, path);
    if (cJSON_IsObject(v))
        ok = check_object(c, schema, v, path) && ok;
    if (cJSON_IsArray(v) && items)
        cJSON_ArrayForEach(item, v)
        {
            snprintf(sub, sizeof sub, "%s[%d]", path, i++);
            ok = check(c, items, item, sub) && ok;
        }
    return check_parts(c, schema, v, path) && ok;
}

static char *read_all(const char *path)
{
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    char *text = NULL, part[4096];
    size_t len = 0, n;

    while (f && (n = fread(part, 1, sizeof part, f)) > 0) {
        char *more = realloc(text, len + n + 1);
        if (!more)
            break;
        text = more;
        memcpy(text + len, part, n);
        len += n;
        text[len] = '\0';
    }
    if (f && f != stdin)
        fclose(f);
    return text;
}

int main(int argc, char **argv)
{
    char *text = argc > 2 ? read_all(argv[1]) : NULL;
    cJSON *schema = text ? cJSON_Parse(text) : NULL;
    int bad = 0;

    free(text);
    if (!schema) {
        printf("no schema\n");
        return 2;
    }
    for (int i = 2; i < argc; i++) {
        const struct check c = { .root = schema, .file = argv[i] };
        const char *end = NULL;
        text = read_all(argv[i]);
        cJSON *doc = text ? cJSON_ParseWithOpts(text, &end, false) : NULL;
        if (!doc || strcmp(end, "\n") != 0) {
            complain(&c, "", "not one JSON document and a newline");
            bad++;
        } else if (!check(&c, schema, doc, "")) {
            bad++;
        }
        cJSON_Delete(doc);
        free(text);
    }
    cJSON_Delete(schema);
    return bad != 0;
}
