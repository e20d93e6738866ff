/*
 * recipe_documents.c - several merges in one file: a model whose path is the name of a
 * document is that document's result
 */
#include <string.h>

#include "engine/recipe_internal.h"

/** The document that the first @p n bytes of @p text name; SIZE_MAX if none. */
static size_t find_doc(const ws_recipe *recipe, const char *text, size_t n)
{
    for (size_t i = 0; i < recipe->n; i++) {
        const char *name = recipe->docs[i].name;
        if (name != NULL && strlen(name) == n && memcmp(name, text, n) == 0)
            return i;
    }
    return SIZE_MAX;
}

/** Names are given once, and one document at most has none. */
static void check_names(ws_recipe_reader *r, const ws_recipe *recipe)
{
    const ws_recipe_doc *unnamed = NULL;
    for (size_t i = 0; i < recipe->n; i++) {
        const ws_recipe_doc *doc = &recipe->docs[i];
        if (doc->name == NULL) {
            if (unnamed == NULL) {
                unnamed = doc;
                continue;
            }
            ws_err *e = ws_recipe_fail(
                r, doc->at, "neither this document nor that of line %u has a name",
                unnamed->at.line);
            ws_err_hint(e, "name: WORD makes a document a model of the others; the one "
                           "without is what is written");
            continue;
        }
        const size_t first = find_doc(recipe, doc->name, strlen(doc->name));
        char shown[80];
        if (first == i)
            continue;
        ws_show(doc->name, shown, sizeof shown);
        ws_recipe_fail(r, doc->at,
                       "document '%s' stands twice, first in line "
                       "%u",
                       shown, recipe->docs[first].at.line);
    }
}

/** Which models of @p doc are documents, with adapters or without. */
static void link_refs(const ws_recipe *recipe, ws_recipe_doc *doc)
{
    doc->recipe = recipe;
    for (size_t i = 0; i < doc->n_refs; i++) {
        ws_recipe_ref *ref = &doc->refs[i];
        const size_t n = strcspn(ref->path, "+");
        ref->doc = find_doc(recipe, ref->path, strlen(ref->path));
        ref->adapters = NULL;
        if (ref->doc == SIZE_MAX && ref->path[n] == '+') {
            ref->doc = find_doc(recipe, ref->path, n);
            if (ref->doc != SIZE_MAX)
                ref->adapters = ref->path + n;
        }
    }
}

enum mark { NEW, OPEN, DONE };

/** A depth-first walk; a document that is needed for itself is reported. */
static void visit(ws_recipe_reader *r, const ws_recipe *recipe, size_t i,
                  unsigned char *mark, int depth)
{
    ws_recipe_doc *doc = &recipe->docs[i];
    mark[i] = OPEN;
    for (size_t k = 0; k < doc->n_refs; k++) {
        const ws_recipe_ref *ref = &doc->refs[k];
        if (ref->doc == SIZE_MAX || mark[ref->doc] == DONE)
            continue;
        char shown[80];
        if (mark[ref->doc] == OPEN) {
            ws_show(recipe->docs[ref->doc].name, shown, sizeof shown);
            ws_recipe_fail(r, ref->at, "document '%s' would be made of itself", shown);
        } else if (depth >= WS_RECIPE_DEPTH)
            ws_recipe_fail(r, ref->at, "more than %d documents made of each other",
                           WS_RECIPE_DEPTH);
        else
            visit(r, recipe, ref->doc, mark, depth + 1);
    }
    mark[i] = DONE;
}

/** What is written: the document without a name, or the one that no other takes. */
static void find_final(ws_recipe_reader *r, ws_recipe *recipe, const bool *used)
{
    size_t unused = SIZE_MAX, last = SIZE_MAX;
    for (size_t i = 0; i < recipe->n; i++)
        if (recipe->docs[i].name == NULL)
            last = i;
    for (size_t i = 0; i < recipe->n; i++) {
        const ws_recipe_doc *doc = &recipe->docs[i];
        char shown[80];
        ws_err *e;
        if (used[i] || i == last)
            continue;
        if (last != SIZE_MAX || unused != SIZE_MAX)
            ws_show(doc->name, shown, sizeof shown);
        if (last != SIZE_MAX) {
            e = ws_recipe_void(r, doc->at, "document '%s' is a model of no other",
                               shown);
            ws_err_hint(e, "name it as a model, or leave it out");
        } else if (unused != SIZE_MAX) {
            e = ws_recipe_fail(r, doc->at,
                               "neither document '%s' nor that of line %u is a model "
                               "of another: which is to be written?",
                               shown, recipe->docs[unused].at.line);
            ws_err_hint(e, "leave the name of that one out");
        }
        unused = i;
    }
    recipe->last = last != SIZE_MAX ? last : unused;
}

void ws_recipe_link(ws_recipe_reader *r, ws_recipe *recipe)
{
    const size_t n = recipe->n, before = r->errors->n;
    unsigned char *mark = ws_recipe_take(r, n + 1, 1);
    bool *used = ws_recipe_take(r, n + 1, sizeof *used);
    if (mark == NULL || used == NULL)
        return;
    check_names(r, recipe);
    for (size_t i = 0; i < n; i++)
        link_refs(recipe, &recipe->docs[i]);
    for (size_t i = 0; i < n; i++)
        if (mark[i] == NEW)
            visit(r, recipe, i, mark, 0);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < recipe->docs[i].n_refs; k++)
            if (recipe->docs[i].refs[k].doc != SIZE_MAX)
                used[recipe->docs[i].refs[k].doc] = true;
    if (r->errors->n == before && n > 0)
        find_final(r, recipe, used);
}

const ws_recipe_doc *ws_recipe_result(const ws_recipe *r)
{
    return &r->docs[r->last];
}
