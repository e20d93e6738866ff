/*
 * opts.c - the option parser: walks the tables of opts.h
 *
 * It never stops at a mistake: an unknown option close to a known one is read as that
 * one after the report, so that one wrong letter gives one error.
 */
#include <stdio.h>
#include <string.h>

#include "opts.h"
#include "report.h"
#include "spelling.h"
#include "wsurg/text.h"

ws_opt_iter ws_opt_begin(const ws_opt *table)
{
    ws_opt_iter it = { .depth = table ? 0 : -1 };

    it.stack[0].row = table;
    return it;
}

const ws_opt *ws_opt_next(ws_opt_iter *it, size_t *offset)
{
    while (it->depth >= 0) {
        const ws_opt *row = it->stack[it->depth].row;

        if (row->kind != WS_OPT_SET && !row->name) {
            it->depth--;
            continue;
        }
        const size_t base = it->stack[it->depth].base + row->offset;
        it->stack[it->depth].row++;
        if (row->kind != WS_OPT_SET) {
            if (offset)
                *offset = base;
            return row;
        }
        it->depth++;
        it->stack[it->depth].row = row->set;
        it->stack[it->depth].base = base;
    }
    return NULL;
}

bool ws_opt_takes_value(const ws_opt *o)
{
    return o->kind != WS_OPT_FLAG && o->kind != WS_OPT_COUNT && o->kind != WS_OPT_MAYBE;
}

const char *ws_word_at(const char *words, int i, size_t *len)
{
    for (;; i--) {
        *len = strcspn(words, "|");
        if (i == 0)
            return words;
        if (!words[*len])
            return NULL;
        words += *len + 1;
    }
}

int ws_word_find(const char *words, const char *text)
{
    const char *w;
    char word[64];
    size_t len;

    for (int i = 0; (w = ws_word_at(words, i, &len)); i++) {
        snprintf(word, sizeof word, "%.*s", (int)len, w);
        if (ws_name_equal(word, text))
            return i;
    }
    return -1;
}

void ws_opt_default_text(const ws_opt *o, char *out, size_t size)
{
    size_t len;
    char num[32];

    out[0] = '\0';
    if (isnan(o->def))
        return;
    if (o->kind == WS_OPT_REAL || o->kind == WS_OPT_INT) {
        ws_show_num(o->def, num);
        snprintf(out, size, "%s", num);
    } else if (o->kind == WS_OPT_SIZE && o->def > 0.0) {
        snprintf(out, size, "%.0fMiB", o->def / 0x1p20);
    } else if (o->kind == WS_OPT_WORD || o->kind == WS_OPT_DTYPE) {
        const char *w = ws_word_at(o->words, (int)o->def, &len);
        snprintf(out, size, "%.*s", (int)len, w);
    }
}

void ws_opts_defaults(const ws_opt_target *t)
{
    ws_opt_iter it = ws_opt_begin(t->table);
    const ws_opt *o;
    size_t offset;

    while ((o = ws_opt_next(&it, &offset))) {
        void *field = (char *)t->object + offset;

        switch (o->kind) {
        case WS_OPT_REAL:
            *(double *)field = o->def;
            break;
        case WS_OPT_INT:
            *(int64_t *)field = isnan(o->def) ? 0 : (int64_t)o->def;
            break;
        case WS_OPT_SIZE:
            *(uint64_t *)field = o->words     ? UINT64_MAX
                                 : o->def > 0 ? (uint64_t)o->def
                                              : 0;
            break;
        case WS_OPT_WORD:
            ((ws_word *)field)->index = (int)o->def;
            break;
        case WS_OPT_DTYPE:
            ((ws_dtype_opt *)field)->keep = true;
            break;
        default: // flags and texts: the struct is zeroed
            break;
        }
    }
}

/* ---- one value ---- */

/** Report that @p text is no value for option @p o. */
static void value_bad(ws_parse *p, const ws_opt *o, const char *text, const char *want)
{
    ws_diag_report(p->errors, WS_E_USAGE, NULL, "option '--%s' is '%s', wanted %s",
                   o->name, text, want);
}

/** "a number from 0 to 1" */
static void range_text(const ws_opt *o, const char *what, char *out, size_t size)
{
    char lo[32], hi[32];

    ws_show_num(o->min, lo);
    ws_show_num(o->max, hi);
    if (o->max < 1e15)
        snprintf(out, size, "%s from %s to %s", what, lo, hi);
    else if (o->min > -1e15)
        snprintf(out, size, "%s, at least %s", what, lo);
    else
        snprintf(out, size, "%s", what);
}

static void set_real(ws_parse *p, const ws_opt *o, const char *text, double *field)
{
    char want[96];
    double v;

    if (ws_parse_real(text, &v) && v >= o->min && v <= o->max) {
        *field = v;
        return;
    }
    range_text(o, "a number", want, sizeof want);
    value_bad(p, o, text, want);
}

static void set_int(ws_parse *p, const ws_opt *o, const char *text, int64_t *field)
{
    const bool minus = text[0] == '-';
    char want[96];
    uint64_t u;

    if (ws_parse_u64(text + minus, &u) && u <= INT64_MAX) {
        const int64_t v = minus ? -(int64_t)u : (int64_t)u;
        if ((double)v >= o->min && (double)v <= o->max) {
            *field = v;
            return;
        }
    }
    range_text(o, "a whole number", want, sizeof want);
    value_bad(p, o, text, want);
}

static void set_size(ws_parse *p, const ws_opt *o, const char *text, uint64_t *field)
{
    const int word = o->words ? ws_word_find(o->words, text) : -1;
    char want[96];
    uint64_t v;

    if (word >= 0) {
        *field = UINT64_MAX - (uint64_t)word;
    } else if (ws_parse_bytes(text, &v) && v > 0) {
        *field = v;
    } else {
        snprintf(want, sizeof want, "a size with its unit, as 512MiB or 5GB%s%s",
                 o->words ? ", or " : "", o->words ? o->words : "");
        value_bad(p, o, text, want);
    }
}

static void set_word(ws_parse *p, const ws_opt *o, const char *text, ws_word *field)
{
    const int i = ws_word_find(o->words, text);
    char want[192], near[64] = "";
    size_t best = 3, len;
    const char *w;

    if (i >= 0) {
        field->index = i;
        return;
    }
    for (int k = 0; (w = ws_word_at(o->words, k, &len)); k++) {
        char word[64];
        snprintf(word, sizeof word, "%.*s", (int)len, w);
        const size_t d = ws_edit_distance(word, text);
        if (d < best) {
            best = d;
            snprintf(near, sizeof near, "%s", word);
        }
    }
    snprintf(want, sizeof want, "one of %s", o->words);
    value_bad(p, o, text, want);
    if (near[0] && p->errors->n)
        ws_err_hint(&p->errors->items[p->errors->n - 1], "did you mean '--%s %s'?",
                    o->name, near);
}

static void set_dtype(ws_parse *p, const ws_opt *o, const char *text,
                      ws_dtype_opt *field)
{
    ws_dtype dt;

    if (ws_name_equal(text, "keep")) {
        field->keep = true;
    } else if (ws_dtype_parse_user(text, &dt) &&
               (dt == WS_DT_F32 || dt == WS_DT_F16 || dt == WS_DT_BF16)) {
        *field = (ws_dtype_opt){ .dtype = dt };
    } else {
        value_bad(p, o, text, "one of keep|f32|f16|bf16");
    }
}

static void list_add(ws_parse *p, ws_strs *list, const char *text)
{
    // Grown by doubling; the old array stays in the arena.
    if ((list->n & (list->n - 1)) == 0) {
        const char **v =
            ws_arena_calloc(p->arena, list->n ? 2 * list->n : 1, sizeof *v);
        if (!v) {
            ws_diag_report(p->errors, WS_E_MEMORY, NULL, "out of memory");
            return;
        }
        if (list->n)
            memcpy(v, list->v, list->n * sizeof *v);
        list->v = v;
    }
    list->v[list->n++] = text;
}

static void value_set(ws_parse *p, const ws_opt *o, void *field, const char *text)
{
    switch (o->kind) {
    case WS_OPT_REAL:
        set_real(p, o, text, field);
        break;
    case WS_OPT_INT:
        set_int(p, o, text, field);
        break;
    case WS_OPT_SIZE:
        set_size(p, o, text, field);
        break;
    case WS_OPT_FLAG:
        *(bool *)field = true;
        break;
    case WS_OPT_COUNT:
        ((ws_count *)field)->n++;
        break;
    case WS_OPT_TEXT:
        *(const char **)field = text;
        break;
    case WS_OPT_LIST:
        list_add(p, field, text);
        break;
    case WS_OPT_WORD:
        set_word(p, o, text, field);
        break;
    case WS_OPT_DTYPE:
        set_dtype(p, o, text, field);
        break;
    case WS_OPT_MAYBE:
        *(ws_maybe *)field = (ws_maybe){ .given = true, .value = text };
        break;
    case WS_OPT_SET:
        break;
    }
}

/* ---- names ---- */

/** The option called @p name (or with @p letter), and its field. */
static const ws_opt *find(const ws_parse *p, const char *name, char letter,
                          void **field)
{
    const ws_opt *o;
    size_t offset;

    for (int t = 0; t < 2; t++) {
        ws_opt_iter it = ws_opt_begin(p->target[t].table);
        while ((o = ws_opt_next(&it, &offset)))
            if (name ? ws_name_equal(o->name, name) : o->letter == letter) {
                *field = (char *)p->target[t].object + offset;
                return o;
            }
    }
    return NULL;
}

/** The option nearest to @p name by edits, close enough to be meant. */
static const ws_opt *find_near(const ws_parse *p, const char *name, void **field)
{
    size_t best = strlen(name) / 3 + 1, offset;
    const ws_opt *near = NULL, *o;

    for (int t = 0; t < 2; t++) {
        ws_opt_iter it = ws_opt_begin(p->target[t].table);
        while ((o = ws_opt_next(&it, &offset))) {
            const size_t d = ws_edit_distance(o->name, name);
            if (d < best || (d == best && !near)) {
                best = d;
                near = o;
                *field = (char *)p->target[t].object + offset;
            }
        }
    }
    return near;
}

/** Whether @p text opens with dashes and a known name: then it is no value. */
static bool is_option(const ws_parse *p, const char *text)
{
    char name[64];
    void *field;

    if (strncmp(text, "--", 2) != 0)
        return false;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(text + 2, "="), text + 2);
    return name[0] == '\0' || find(p, name, 0, &field);
}

/** Give option @p o its value: @p text after '=', or the next argument. */
static void take(ws_parse *p, const ws_opt *o, void *field, const char *text, int *i)
{
    if (!ws_opt_takes_value(o)) {
        if (text && !*text && o->kind == WS_OPT_MAYBE)
            value_bad(p, o, text, "a file name");
        else if (text && o->kind != WS_OPT_MAYBE)
            ws_diag_report(p->errors, WS_E_USAGE, NULL,
                           "option '--%s' takes no value, got '%s'", o->name, text);
        else
            value_set(p, o, field, text);
        return;
    }
    if (!text && *i + 1 < p->argc && !is_option(p, p->argv[*i + 1]))
        text = p->argv[++*i];
    if (text) {
        value_set(p, o, field, text);
        return;
    }
    p->uncertain = true; // whatever needs this option has no second complaint
    ws_diag_report(p->errors, WS_E_USAGE, NULL, "option '--%s' needs a value: %s",
                   o->name, o->value);
}

/** Another tool's option, reported: read it as ours, so that nothing else is missed. */
static void take_foreign(ws_parse *p, const ws_foreign *f, const char *text, int *i)
{
    char name[32] = "";
    void *field = NULL;

    if (f->takes_value && !text && *i + 1 < p->argc && p->argv[*i + 1][0] != '-')
        text = p->argv[++*i];
    if (!f->ours)
        return;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(f->ours, " "), f->ours);
    const ws_opt *o = strncmp(name, "--", 2) == 0 ? find(p, name + 2, 0, &field)
                                                  : find(p, NULL, name[1], &field);
    if (!o || !text || !f->takes_value || !ws_opt_takes_value(o))
        return;
    const char *begin =
        f->ours + strcspn(f->ours, " "); // " density=" of --set density=
    const size_t n = strlen(begin) + strlen(text) + 1;
    char *value = ws_arena_alloc(p->arena, n);
    if (value) {
        snprintf(value, n, "%s%s", begin + (*begin == ' '), text);
        value_set(p, o, field, value);
    }
}

static void long_option(ws_parse *p, int *i)
{
    const char *arg = p->argv[*i] + 2, *eq = strchr(arg, '=');
    char name[64];
    void *field = NULL;

    snprintf(name, sizeof name, "%.*s", eq ? (int)(eq - arg) : (int)strlen(arg), arg);
    const ws_opt *o = find(p, name, 0, &field);
    if (o) {
        take(p, o, field, eq ? eq + 1 : NULL, i);
        return;
    }
    ws_err *e = ws_diag_report(p->errors, WS_E_USAGE, NULL,
                               "unknown option '--%s' for '%s'", name, p->command);
    const ws_foreign *f = ws_foreign_option(p, name, e);
    if (f) {
        take_foreign(p, f, eq ? eq + 1 : NULL, i);
        return;
    }
    o = find_near(p, name, &field);
    if (o) {
        ws_err_hint(e, "did you mean '--%s'?", o->name);
        const size_t said = p->errors->n; // the guess itself is not to be complained of
        take(p, o, field, eq ? eq + 1 : NULL, i);
        p->errors->n = said;
    } else {
        ws_err_hint(e, "wsurg %s --help lists the options", p->command);
        p->uncertain = p->uncertain || !eq;
    }
}

/** A cluster of letters; the last one may take a value: -qq, -j4, -o OUT. */
static void short_options(ws_parse *p, int *i)
{
    for (const char *c = p->argv[*i] + 1; *c; c++) {
        void *field = NULL;
        const ws_opt *o = find(p, NULL, *c, &field);

        if (!o) {
            ws_err *e = ws_diag_report(p->errors, WS_E_USAGE, NULL,
                                       "unknown option '-%c' for '%s'", *c, p->command);
            if (!ws_foreign_option(p, (char[]){ *c, '\0' }, e))
                ws_err_hint(e, "wsurg %s --help lists the options", p->command);
            p->uncertain = true;
            return;
        }
        if (ws_opt_takes_value(o)) {
            take(p, o, field, c[1] ? c + 1 : NULL, i);
            return;
        }
        take(p, o, field, NULL, i);
    }
}

/** Hand the words out to the positionals: one each, the rest to the list. */
static void assign(ws_parse *p, const ws_strs *words)
{
    void *object = p->target[0].object;
    size_t k = 0;

    for (const ws_arg *a = p->args; a && a->name; a++) {
        void *field = (char *)object + a->offset;
        size_t n = 0;

        while (k < words->n && n < a->max) {
            if (a->list)
                list_add(p, field, words->v[k]);
            else
                *(const char **)field = words->v[k];
            n++;
            k++;
        }
        if (n < a->min && !p->uncertain)
            ws_diag_report(p->errors, WS_E_USAGE, NULL, "'%s' needs %s: %s", p->command,
                           a->name, a->help);
    }
    if (k < words->n && !p->uncertain) {
        ws_err *e = ws_diag_report(p->errors, WS_E_USAGE, NULL,
                                   "'%s' has no place for argument '%s'", p->command,
                                   words->v[k]);
        ws_foreign_argument(p, words, e);
    }
}

void ws_opts_parse(ws_parse *p)
{
    ws_strs words = { 0 };
    bool ended = false;

    for (int i = 0; i < p->argc; i++) {
        const char *arg = p->argv[i];

        if (i == p->skip[0] || i == p->skip[1])
            continue;
        if (ended || arg[0] != '-' || !arg[1])
            list_add(p, &words, arg);
        else if (strcmp(arg, "--") == 0)
            ended = true;
        else if (arg[1] == '-')
            long_option(p, &i);
        else
            short_options(p, &i);
    }
    assign(p, &words);
}

int ws_opts_first_word(const ws_opt *table, int argc, const char *const *argv, int from)
{
    ws_parse p = { .target = { { table, NULL }, { NULL, NULL } },
                   .argc = argc,
                   .argv = argv };
    int i = from;

    for (; i < argc; i++) {
        const char *arg = argv[i];
        char name[64];
        void *field;

        if (arg[0] != '-' || !arg[1])
            break;
        if (strcmp(arg, "--") == 0) {
            i = argc;
            break;
        }
        snprintf(name, sizeof name, "%.*s", (int)strcspn(arg + 2, "="), arg + 2);
        const ws_opt *o =
            arg[1] == '-' ? find(&p, name, 0, &field) : find(&p, NULL, arg[1], &field);
        const bool bare = arg[1] == '-' ? !strchr(arg, '=') : !arg[2];
        if (o && ws_opt_takes_value(o) && bare)
            i++;
    }
    return i < argc ? i : argc;
}
