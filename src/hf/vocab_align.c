/*
 * vocab_align.c - rows of embeddings and heads, put together by token
 */
#include "hf/vocab_align.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "wsurg/text.h"

enum { SHOWN_TOKENS = 3 };

/** An alignment in the making. */
struct align {
    ws_arena *arena;
    const ws_vocab_model *models;
    size_t n;
    const ws_vocab_want *want;
    ws_diag *errors, *warnings;
    ws_token_set set;
    ws_token_table *vocab; // (n)
    bool *read;            // (n) it has a tokenizer of its own
    size_t source;         // whose tokenizer the output's is made of
    int32_t *out;          // (set.n) id in the output; -1: not there
    size_t n_out;
    ws_added_token *added; // over all models, first come
    size_t n_added, cap_added;
    uint32_t *added_at; // (set.n) place in .added + 1; 0: none
    uint8_t *marked;    // (set.n) an added token of the source
    ws_token_add *add;
    size_t n_add, cap_add;
    int32_t next; // id for the next token added
    ws_vocab_map *map;
    bool memory; // none was left
};

static void *take(struct align *a, size_t n, size_t size)
{
    void *p = ws_arena_calloc(a->arena, n + 1, size);
    a->memory |= p == NULL;
    return p;
}

/** The vocabulary of model @p k: its own, or the base's. */
static const ws_token_table *vocab_of(const struct align *a, size_t k)
{
    return &a->vocab[a->read[k] ? k : a->want->base];
}

/** Row of token number @p token in model @p k; -1: it has none. */
static int32_t row_in(const struct align *a, size_t k, size_t token)
{
    const int32_t id = ws_token_table_id(vocab_of(a, k), token);
    return id >= 0 && (uint64_t)id < a->models[k].rows ? id : -1;
}

/** "'x', 'y'": up to SHOWN_TOKENS tokens, as they come. */
static void show_token(const ws_token_set *set, size_t token, size_t nth, ws_buf *b)
{
    char shown[48];
    if (nth > SHOWN_TOKENS)
        return;
    ws_show(set->text[token], shown, sizeof shown);
    if (nth == SHOWN_TOKENS)
        ws_buf_puts(b, ", …");
    else
        ws_buf_printf(b, "%s'%s'", nth == 0 ? "" : ", ", shown);
}

/* ---- reading ---- */

static void read_one(struct align *a, size_t k)
{
    const ws_vocab_model *m = &a->models[k];
    ws_err err = WS_ERR_INIT;
    ws_status st = WS_E_MISSING;
    if (m->dir != NULL)
        st = ws_token_table_read(&a->vocab[k], &a->set, m->dir, &err);
    a->read[k] = st == WS_OK;
    if (st == WS_OK)
        return;
    const bool absent = m->dir == NULL || (st == WS_E_IO && err.sys == ENOENT);
    if (!absent) {
        ws_diag_add(a->errors, &err);
    } else if (k == a->want->base || k == a->source) {
        ws_err *e = ws_diag_report(a->errors, WS_E_MISSING, NULL,
                                   "'%s' has no tokenizer.json: tokens cannot be "
                                   "matched",
                                   m->label);
        ws_err_hint(e, "--vocab pad matches rows by their number");
    } else {
        ws_diag_report(a->warnings, WS_OK, "no-tokenizer",
                       "'%s' has no tokenizer.json: it is taken for that of '%s'",
                       m->label, a->models[a->want->base].label);
    }
}

static void read_all(struct align *a)
{
    // the base first: its tokens are the first numbers
    read_one(a, a->want->base);
    for (size_t k = 0; k < a->n; k++)
        if (k != a->want->base)
            read_one(a, k);
}

/* ---- the output's tokens ---- */

static void assign(struct align *a, size_t token, int32_t id)
{
    a->out[token] = id;
    a->n_out++;
    if (id >= a->next)
        a->next = id + 1;
}

/** Whether every model has the token. */
static bool in_all(const struct align *a, size_t token)
{
    for (size_t k = 0; k < a->n; k++)
        if (row_in(a, k, token) < 0)
            return false;
    return true;
}

/** Tokens of the tokenizer that the output's is made of, but for those left out. */
static void keep_source(struct align *a)
{
    const ws_token_table *v = &a->vocab[a->source];
    uint8_t *gone = take(a, (size_t)v->top, 1);
    size_t n_gone = 0;
    for (size_t i = 0; gone != NULL && i < v->n; i++) {
        const size_t token = (size_t)v->order[i];
        const int32_t id = v->id[token];
        bool keep =
            a->want->policy == WS_VOCAB_MODEL || row_in(a, a->source, token) >= 0;
        if (keep && a->want->policy == WS_VOCAB_COMMON)
            keep = in_all(a, token);
        if (keep)
            assign(a, token, id);
        else
            n_gone += gone[id] = 1;
    }
    a->map->edit.dir = a->models[a->source].dir;
    a->map->edit.bytes = v->bytes;
    a->map->facts.removed = n_gone;
    if (n_gone == 0)
        return;
    a->map->edit.gone = gone;
    a->map->edit.n_gone = (size_t)v->top;
    if (strcmp(v->type, "Unigram") == 0)
        ws_diag_report(
            a->errors, WS_E_UNSUPPORTED, NULL,
            "%zu tokens of '%s' would have to go, and its tokenizer, of type "
            "Unigram, cannot be cut",
            n_gone, a->models[a->source].label);
}

/** An entry for the tokenizer's list of added tokens. */
static void add_entry(struct align *a, size_t token, ws_token_flags flags)
{
    if (!ws_grow((void **)&a->add, a->n_add, &a->cap_add, sizeof *a->add)) {
        a->memory = true;
        return;
    }
    if (a->out[token] < 0) {
        assign(a, token, a->next);
        a->map->facts.added++;
    }
    a->add[a->n_add++] =
        (ws_token_add){ a->set.text[token], a->set.len[token], a->out[token], flags };
}

static bool same_flags(ws_token_flags x, ws_token_flags y)
{
    return x.single_word == y.single_word && x.lstrip == y.lstrip &&
           x.rstrip == y.rstrip && x.normalized == y.normalized &&
           x.special == y.special;
}

/** Gather the added tokens of model @p k that are not yet known. */
static void gather_added(struct align *a, size_t k)
{
    const ws_token_table *v = &a->vocab[k];
    for (size_t i = 0; i < v->n_added; i++) {
        const ws_added_token *t = &v->added[i];
        if (row_in(a, k, t->token) < 0)
            continue;
        const uint32_t at = a->added_at[t->token];
        if (at > 0) {
            // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): at counts them
            if (!same_flags(a->added[at - 1].flags, t->flags)) {
                char shown[60];
                ws_show(a->set.text[t->token], shown, sizeof shown);
                ws_diag_report(a->warnings, WS_OK, "token-settings",
                               "token '%s' has other settings in '%s': those of the "
                               "first model that has it hold",
                               shown, a->models[k].label);
            }
            continue;
        }
        if (!ws_grow((void **)&a->added, a->n_added, &a->cap_added, sizeof *a->added)) {
            a->memory = true;
            return;
        }
        a->added[a->n_added++] = *t;
        a->added_at[t->token] = (uint32_t)a->n_added;
    }
}

/** What the other models have beside the base: ordinary tokens, then added ones. */
static void add_others(struct align *a)
{
    static const ws_token_flags plain = { .normalized = true };
    const ws_token_table *source = &a->vocab[a->source];
    for (size_t i = 0; i < source->n_added; i++)
        a->marked[source->added[i].token] = 1;
    for (size_t k = 0; k < a->n; k++) {
        const ws_token_table *v = &a->vocab[k];
        for (size_t i = 0; a->read[k] && i < v->n; i++) {
            const size_t token = (size_t)v->order[i];
            if (a->added_at[token] == 0 && a->out[token] < 0 &&
                row_in(a, k, token) >= 0)
                add_entry(a, token, plain);
        }
    }
    for (size_t i = 0; i < a->n_added; i++)
        if (a->out[a->added[i].token] < 0 || !a->marked[a->added[i].token])
            add_entry(a, a->added[i].token, a->added[i].flags);
}

/** Tokens that are wanted by name. */
static void add_wanted(struct align *a)
{
    static const ws_token_flags plain = { .normalized = true };
    for (size_t i = 0; i < a->want->n_tokens; i++) {
        const char *s = a->want->tokens[i].token;
        const size_t token = ws_token_set_find(&a->set, s, strlen(s));
        if (a->out[token] < 0)
            add_entry(a, token, plain);
    }
}

/** Tokens whose ids lie beyond the rows of their model. */
static void note_beyond(struct align *a, size_t k)
{
    const ws_token_table *v = &a->vocab[k];
    size_t n = 0;
    for (size_t i = 0; a->read[k] && i < v->n; i++)
        n += (uint64_t)v->id[v->order[i]] >= a->models[k].rows;
    if (n > 0)
        ws_diag_report(a->warnings, WS_OK, "note",
                       "%zu token%s of '%s' lie%s beyond its %llu rows and count%s as "
                       "absent there",
                       n, n == 1 ? "" : "s", a->models[k].label, n == 1 ? "s" : "",
                       (unsigned long long)a->models[k].rows, n == 1 ? "s" : "");
}

static void make_tokens(struct align *a)
{
    for (size_t i = 0; i < a->want->n_tokens; i++) {
        const char *s = a->want->tokens[i].token;
        if (ws_token_set_add(&a->set, s, strlen(s)) == SIZE_MAX)
            a->memory = true;
    }
    a->out = take(a, a->set.n, sizeof *a->out);
    a->added_at = take(a, a->set.n, sizeof *a->added_at);
    a->marked = take(a, a->set.n, 1);
    if (a->memory)
        return;
    memset(a->out, 0xFF, (a->set.n + 1) * sizeof *a->out);
    for (size_t k = 0; k < a->n; k++)
        note_beyond(a, k);
    keep_source(a);
    if (a->want->policy == WS_VOCAB_UNION) {
        gather_added(a, a->want->base);
        for (size_t k = 0; k < a->n; k++)
            if (a->read[k] && k != a->want->base)
                gather_added(a, k);
        add_others(a);
    }
    add_wanted(a);
    a->map->tokens = (uint64_t)a->next;
    a->map->facts.tokens = a->n_out;
}

/* ---- rows ---- */

/** Zero, the only row there is, the base's, or the mean. */
static ws_fill default_fill(const struct align *a, size_t row)
{
    size_t present = 0, first = 0;
    for (size_t k = 0; k < a->n; k++)
        if (a->map->own[k][row] >= 0 && present++ == 0)
            first = k;
    if (present == 0)
        return (ws_fill){ WS_FILL_ZERO, 0 };
    const size_t base = a->want->base;
    if (present > 1 && a->want->base_fills && a->map->own[base][row] >= 0)
        first = base;
    else if (present > 1)
        return (ws_fill){ WS_FILL_MEAN, 0 };
    return (ws_fill){ (int32_t)first, a->map->own[first][row] };
}

/** Rows of every model by the output's; of ids without a token the source's. */
static void make_rows(struct align *a)
{
    ws_vocab_map *map = a->map;
    const size_t n = (size_t)map->tokens;
    int32_t **own = take(a, a->n, sizeof *own);
    for (size_t k = 0; own != NULL && k < a->n; k++)
        if ((own[k] = take(a, n, sizeof **own)) != NULL)
            memset(own[k], 0xFF, n * sizeof **own);
    ws_fill *fill = take(a, n, sizeof *fill);
    uint8_t *taken = take(a, n, 1);
    if (a->memory)
        return;
    map->own = own;
    map->fill = fill;
    map->force = taken;
    for (size_t t = 0; t < a->set.n; t++) {
        if (a->out[t] < 0)
            continue;
        taken[a->out[t]] = 1;
        for (size_t k = 0; k < a->n; k++)
            own[k][a->out[t]] = row_in(a, k, t);
    }
    for (size_t r = 0; r < n; r++)
        if (!taken[r] && r < a->models[a->source].rows)
            own[a->source][r] = (int32_t)r;
    memset(taken, 0, n);
}

static void make_numbered(struct align *a)
{
    ws_vocab_map *map = a->map;
    for (size_t k = 0; k < a->n; k++)
        if (a->models[k].rows > map->tokens)
            map->tokens = a->models[k].rows;
    const size_t n = (size_t)map->tokens;
    int32_t **own = take(a, a->n, sizeof *own);
    ws_fill *fill = take(a, n, sizeof *fill);
    uint8_t *force = take(a, n, 1);
    for (size_t k = 0; own != NULL && k < a->n; k++) {
        own[k] = take(a, n, sizeof **own);
        for (size_t r = 0; own[k] != NULL && r < n; r++)
            own[k][r] = r < a->models[k].rows ? (int32_t)r : -1;
    }
    map->own = own;
    map->fill = fill;
    map->force = force;
    map->facts.tokens = map->tokens;
}

static void make_fill(struct align *a)
{
    ws_vocab_map *map = a->map;
    ws_fill *fill = (ws_fill *)(uintptr_t)map->fill;
    for (size_t r = 0; r < map->tokens; r++)
        fill[r] = default_fill(a, r);
}

/** A row that a wanted token names is not there. */
static void not_there(struct align *a, const ws_token_want *w, const char *what)
{
    char shown[60];
    ws_show(w->token, shown, sizeof shown);
    ws_diag_report(a->errors, WS_E_RECIPE, NULL, "token '%s': '%s' has no %s", shown,
                   a->models[w->model].label, what);
}

/** The row that a wanted token names; false after a report. */
static bool wanted_row(struct align *a, const ws_token_want *w, size_t row, ws_fill *f)
{
    char what[100];
    *f = (ws_fill){ (int32_t)w->model, -1 };
    if (w->kind == WS_ROW_ZERO) {
        *f = (ws_fill){ WS_FILL_ZERO, 0 };
        return true;
    }
    if (w->kind == WS_ROW_ID) {
        f->row = w->id >= 0 && (uint64_t)w->id < a->models[w->model].rows
                     ? (int32_t)w->id
                     : -1;
        snprintf(what, sizeof what, "row %lld", (long long)w->id);
    } else if (w->kind == WS_ROW_MODEL) {
        f->row = a->map->own[w->model][row];
        snprintf(what, sizeof what, "such token");
    } else {
        char shown[60];
        const size_t t = ws_token_set_find(&a->set, w->other, strlen(w->other));
        f->row = t == SIZE_MAX ? -1 : row_in(a, w->model, t);
        ws_show(w->other, shown, sizeof shown);
        snprintf(what, sizeof what, "token '%s'", shown);
    }
    if (f->row < 0)
        not_there(a, w, what);
    return f->row >= 0;
}

static void fill_wanted(struct align *a)
{
    ws_fill *fill = (ws_fill *)(uintptr_t)a->map->fill;
    uint8_t *force = (uint8_t *)(uintptr_t)a->map->force;
    for (size_t i = 0; i < a->want->n_tokens; i++) {
        const ws_token_want *w = &a->want->tokens[i];
        const size_t t = ws_token_set_find(&a->set, w->token, strlen(w->token));
        const size_t row = (size_t)a->out[t];
        ws_fill f;
        force[row] = w->force;
        if (w->kind != WS_ROW_DEFAULT && wanted_row(a, w, row, &f))
            fill[row] = f;
    }
}

/** Figures, and the tokens that no model has. */
static void count_rows(struct align *a)
{
    ws_vocab_map *map = a->map;
    ws_buf names = { 0 };
    size_t unknown = 0;
    for (size_t r = 0; r < map->tokens; r++) {
        size_t present = 0;
        for (size_t k = 0; k < a->n; k++)
            present += map->own[k][r] >= 0;
        map->facts.unknown += map->fill[r].model == WS_FILL_ZERO && present == 0;
        map->facts.averaged += map->fill[r].model == WS_FILL_MEAN && present < a->n;
    }
    for (size_t t = 0; a->out != NULL && t < a->set.n; t++) {
        const int32_t r = a->out[t];
        bool wanted = false;
        if (r < 0 || map->fill[r].model != WS_FILL_ZERO)
            continue;
        for (size_t i = 0; i < a->want->n_tokens; i++)
            wanted |= a->want->tokens[i].kind == WS_ROW_ZERO &&
                      strcmp(a->want->tokens[i].token, a->set.text[t]) == 0;
        if (!wanted)
            show_token(&a->set, t, unknown++, &names);
    }
    if (unknown > 0)
        ws_diag_report(a->warnings, WS_OK, "unknown-tokens",
                       "%zu token%s no model has, rows of zeros: %s", unknown,
                       unknown == 1 ? "" : "s", names.p == NULL ? "" : names.p);
    ws_buf_free(&names);
    map->rows = map->tokens;
    const uint64_t multiple = a->want->multiple;
    if (multiple > 0 && map->rows % multiple != 0)
        map->rows += multiple - map->rows % multiple;
    map->facts.rows = map->rows;
}

/** Take the added tokens over into the arena: the set goes. */
static void keep_edit(struct align *a)
{
    ws_tokenizer_edit *edit = &a->map->edit;
    ws_token_add *add = take(a, a->n_add, sizeof *add);
    for (size_t i = 0; add != NULL && i < a->n_add; i++) {
        add[i] = a->add[i];
        char *text = take(a, add[i].len, 1);
        if (text != NULL)
            memcpy(text, a->add[i].text, add[i].len);
        add[i].text = text;
    }
    edit->add = add;
    edit->n_add = a->n_add;
    if (edit->dir != NULL)
        edit->dir = ws_arena_strdup(a->arena, edit->dir);
    a->map->facts.tokenizer_from = edit->dir;
}

static void align_all(struct align *a)
{
    a->map->facts.policy = a->want->policy;
    const size_t before = a->errors->n;
    if (a->want->policy == WS_VOCAB_PAD) {
        make_numbered(a);
    } else {
        read_all(a);
        if (a->errors->n > before)
            return;
        make_tokens(a);
        if (a->memory || a->errors->n > before)
            return;
        make_rows(a);
    }
    if (a->memory)
        return;
    make_fill(a);
    if (a->want->policy != WS_VOCAB_PAD)
        fill_wanted(a);
    if (a->errors->n > before)
        return;
    count_rows(a);
    keep_edit(a);
}

const ws_vocab_map *ws_vocab_align(ws_arena *arena, const ws_vocab_model *models,
                                   size_t n, const ws_vocab_want *want, ws_diag *errors,
                                   ws_diag *warnings)
{
    const size_t before = errors->n;
    struct align a = { .arena = arena,
                       .models = models,
                       .n = n,
                       .want = want,
                       .errors = errors,
                       .warnings = warnings };
    a.source = want->policy == WS_VOCAB_MODEL ? want->model : want->base;
    a.vocab = take(&a, n, sizeof *a.vocab);
    a.read = take(&a, n, sizeof *a.read);
    a.map = take(&a, 1, sizeof *a.map);
    if (!a.memory) {
        a.map->n_models = n;
        align_all(&a);
    }
    for (size_t k = 0; a.vocab != NULL && k < n; k++)
        ws_token_table_free(&a.vocab[k]);
    ws_token_set_free(&a.set);
    ws_free(a.added);
    ws_free(a.add);
    if (a.memory)
        ws_diag_report(errors, WS_E_MEMORY, NULL, "no memory for vocabularies");
    return errors->n > before ? NULL : a.map;
}

bool ws_vocab_is_same(const ws_vocab_map *map, const ws_vocab_model *model, size_t k)
{
    if (map->rows != model->rows || map->rows != map->tokens)
        return false;
    for (size_t r = 0; r < map->tokens; r++)
        if (map->own[k][r] != (int32_t)r || map->force[r])
            return false;
    return true;
}

/* ---- comparing ---- */

/** Two vocabularies over one set. */
struct pair {
    const ws_vocab_model *model[2];
    ws_token_set set;
    ws_token_table vocab[2];
};

static ws_status read_pair(struct pair *p, bool *same, ws_err *err)
{
    char *path[2] = { 0 }, *text[2] = { 0 };
    size_t len[2] = { 0 };
    ws_status st = WS_OK;
    for (int i = 0; st == WS_OK && i < 2; i++) {
        const char *dir = p->model[i]->dir;
        path[i] = dir == NULL ? NULL : ws_path_join(dir, "tokenizer.json");
        if (dir == NULL)
            st = ws_fail(err, WS_E_MISSING, "no tokenizer.json");
        else if (path[i] == NULL)
            st = ws_fail(err, WS_E_MEMORY, "no memory for a path");
        else
            st = ws_file_read(&text[i], &len[i], path[i], WS_TOKENIZER_CAP, err);
        if (st == WS_E_IO && access(path[i], F_OK) != 0) {
            st = WS_E_MISSING;
            if (err != NULL)
                err->code = st;
        }
    }
    *same = st == WS_OK && len[0] == len[1] && memcmp(text[0], text[1], len[0]) == 0;
    for (int i = 0; st == WS_OK && !*same && i < 2; i++) {
        st = ws_token_table_parse(&p->vocab[i], &p->set, text[i], len[i], err);
        if (st != WS_OK)
            ws_err_at(err, path[i], NULL, -1);
        ws_free(text[i]);
        text[i] = NULL;
    }
    for (int i = 0; i < 2; i++) {
        ws_free(text[i]);
        ws_free(path[i]);
    }
    return st;
}

/** Tokens of @p x that @p y lacks, rows counted; names go to @p names. */
static size_t count_alone(const struct pair *p, int x, int y, ws_buf *names)
{
    const ws_token_table *v = &p->vocab[x];
    size_t n = 0;
    for (size_t i = 0; i < v->n; i++) {
        const size_t token = (size_t)v->order[i];
        const int32_t other = ws_token_table_id(&p->vocab[y], token);
        if ((uint64_t)v->id[token] < p->model[x]->rows &&
            (other < 0 || (uint64_t)other >= p->model[y]->rows))
            show_token(&p->set, token, n++, names);
    }
    return n;
}

/** Ids whose tokens differ; the first of them in words. */
static size_t count_moved(const struct pair *p, ws_buf *first)
{
    const ws_token_table *a = &p->vocab[0], *b = &p->vocab[1];
    size_t n = 0, j = 0;
    for (size_t i = 0; i < a->n; i++) {
        const int32_t x = a->order[i], id = a->id[x];
        while (j < b->n && b->id[b->order[j]] < id)
            j++;
        if (j == b->n || b->id[b->order[j]] != id || b->order[j] == x)
            continue;
        if (n++ > 0)
            continue;
        char ta[48], tb[48];
        ws_show(p->set.text[x], ta, sizeof ta);
        ws_show(p->set.text[b->order[j]], tb, sizeof tb);
        ws_buf_printf(first, "%d is '%s' and '%s'", id, ta, tb);
    }
    return n;
}

/** The difference in words. */
static void say_gap(const struct pair *p, ws_vocab_gap *out, const ws_buf *more,
                    const ws_buf *fewer, const ws_buf *moved)
{
    ws_buf b = { 0 };
    const char *other = p->model[0]->label;
    if (out->more > 0)
        ws_buf_printf(&b, "has %zu token%s that '%s' lacks (%s)", out->more,
                      out->more == 1 ? "" : "s", other, more->p);
    if (out->fewer > 0)
        ws_buf_printf(&b, "%slacks %zu of its tokens (%s)",
                      out->more > 0 ? ", and " : "", out->fewer, fewer->p);
    if (out->more + out->fewer == 0 && out->moved > 0)
        ws_buf_printf(&b, "has the same tokens as '%s', %zu under other ids (%s)",
                      other, out->moved, moved->p);
    else if (out->more + out->fewer == 0)
        ws_buf_printf(&b, "has the same tokens as '%s'", other);
    snprintf(out->what, sizeof out->what, "%s", b.failed ? "differs" : b.p);
    ws_buf_free(&b);
}

ws_status ws_vocab_compare(ws_vocab_gap *out, const ws_vocab_model *a,
                           const ws_vocab_model *b, ws_err *err)
{
    struct pair p = { .model = { a, b } };
    ws_buf more = { 0 }, fewer = { 0 }, moved = { 0 };
    bool same = false;
    *out = (ws_vocab_gap){ 0 };
    const ws_status st = read_pair(&p, &same, err);
    if (st == WS_OK) {
        out->more = count_alone(&p, 1, 0, &more);
        out->fewer = count_alone(&p, 0, 1, &fewer);
        out->moved = count_moved(&p, &moved);
        say_gap(&p, out, &more, &fewer, &moved);
    }
    for (int i = 0; i < 2; i++)
        ws_token_table_free(&p.vocab[i]);
    ws_token_set_free(&p.set);
    ws_buf_free(&more);
    ws_buf_free(&fewer);
    ws_buf_free(&moved);
    return st;
}
