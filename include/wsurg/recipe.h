/*
 * recipe.h - merges described in YAML: mergekit's language, read strictly
 *
 *     text --ws_recipe_parse--> recipe (plain data) --ws_merge_req.recipe--> plan
 *
 * A recipe holds one document or several; each is one merge. What the language is, and
 * where this differs from mergekit, is in wsurg-recipe(5).
 */
#ifndef WSURG_RECIPE_H
#define WSURG_RECIPE_H

#include "wsurg/ctx.h"
#include "wsurg/dtype.h"
#include "wsurg/err.h"
#include "wsurg/text.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ws_recipe ws_recipe;

/** One merge of a recipe. Borrowed from it. */
typedef struct ws_recipe_doc ws_recipe_doc;

/**
 * Read a recipe of @p len bytes, called @p name in reports. No file is looked at.
 *
 * Every mistake of every document goes to @p errors as WS_E_RECIPE with its place,
 * 'name:line:column'. With @p lenient what would have no effect (unknown keys,
 * parameters that the method does not have or that stand at the wrong level) is a
 * warning instead.
 * @param warnings warnings and notes; may be NULL
 * @return WS_OK; WS_E_RECIPE; WS_E_MEMORY
 */
WS_API ws_status ws_recipe_parse(ws_recipe **out, const char *name, const char *text,
                                 size_t len, bool lenient, ws_diag *errors,
                                 ws_diag *warnings);

/** As ws_recipe_parse(), of a file; also WS_E_IO. */
WS_API ws_status ws_recipe_load(ws_recipe **out, const char *path, bool lenient,
                                ws_diag *errors, ws_diag *warnings);
WS_API void ws_recipe_free(ws_recipe *r);

/** Number of documents, and one of them, in file order. */
WS_API size_t ws_recipe_count(const ws_recipe *r);
WS_API const ws_recipe_doc *ws_recipe_at(const ws_recipe *r, size_t i);

/** The document to be written: the one without a name, else the one that is a model of
 * no other. Models named like a document are its result; ws_plan_new() makes those on
 * the way. */
WS_API const ws_recipe_doc *ws_recipe_result(const ws_recipe *r);

/** Name of a document's method. */
WS_API const char *ws_recipe_method_name(const ws_recipe_doc *doc);

/** Number of different models that a document names, the base included, and the text
 * that names one. */
WS_API size_t ws_recipe_model_count(const ws_recipe_doc *doc);
WS_API const char *ws_recipe_model(const ws_recipe_doc *doc, size_t i);

/**
 * The recipe of @p len bytes, laid out anew, added to @p out: keys in one order, short
 * values in one line, aliases written out, without comments. It says the same, and laid
 * out again it is the same.
 * @return WS_OK; WS_E_RECIPE no YAML, no recipe, or over 4 MiB; WS_E_MEMORY
 */
WS_API ws_status ws_recipe_format(ws_buf *out, const char *name, const char *text,
                                  size_t len, ws_diag *errors);

/** As ws_recipe_format(), of a file; also WS_E_IO. */
WS_API ws_status ws_recipe_format_file(ws_buf *out, const char *path, ws_diag *errors);

/** Words of a command line; the caller gives room for .cap and frees each of .n. */
typedef struct ws_strings {
    char **v;
    size_t n, cap;
} ws_strings;

/**
 * The words behind `wsurg merge` that say the same as @p doc: at most
 * WS_RECIPE_WORDS.
 * @return WS_OK; WS_E_UNSUPPORTED what options cannot say, with its place in @p errors
 */
#define WS_RECIPE_WORDS 256
WS_API ws_status ws_recipe_options(const ws_recipe_doc *doc, ws_strings *out,
                                   ws_diag *errors);

/** Whether @p path is to be read as a recipe: it ends in .yml or .yaml. */
WS_API bool ws_recipe_is_path(const char *path);

#ifdef __cplusplus
}
#endif

#endif
