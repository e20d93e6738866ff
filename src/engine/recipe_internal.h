/*
 * recipe_internal.h - a recipe as plain data, and the values that it gives
 */
#ifndef WS_ENGINE_RECIPE_INTERNAL_H
#define WS_ENGINE_RECIPE_INTERNAL_H

#include "engine/recipe_yaml.h"
#include "wsurg/method.h"
#include "wsurg/recipe.h"
#include "wsurg/text.h"

/** What a setting says for the tensors whose name holds .filter: one number, or a
 * gradient over the layers. */
typedef struct ws_setting_rule {
    const char *filter; /**< NULL: every name */
    size_t n;
    const double *v; /**< (n) */
    bool gradient;   /**< also of one element, written as a list */
    ws_place at;
} ws_setting_rule;

/** A parameter's setting at one level: the first rule that fits holds. */
typedef struct ws_setting {
    const ws_param *param;
    size_t n;
    const ws_setting_rule *rules;
} ws_setting;

typedef struct ws_settings {
    size_t n;
    const ws_setting *v;
} ws_settings;

/** A model as it is named. */
typedef struct ws_recipe_ref {
    const char *path;     /**< as typed */
    ws_place at;          /**< where it is named first */
    size_t doc;           /**< the document whose result it is; SIZE_MAX: none */
    const char *adapters; /**< put on that result, "+PATH..."; NULL: none */
} ws_recipe_ref;

typedef struct ws_recipe_source {
    size_t ref;     /**< index among the document's refs */
    uint32_t start; /**< first layer; of a slice */
    ws_settings params;
    ws_place at;
} ws_recipe_source;

/** Consecutive layers of the output; the whole model in the form `models:`. */
typedef struct ws_recipe_slice {
    size_t n;
    ws_recipe_source *sources; /**< (n) */
    uint32_t first, layers;    /**< in the output; of a slice */
    ws_settings params;
    ws_place at;
} ws_recipe_slice;

struct ws_recipe_doc {
    const struct ws_recipe *recipe; /**< that holds it */
    const char *file;               /**< for reports */
    const char *name;               /**< NULL: none */
    ws_place at, method_at;
    const ws_method *method; /**< NULL only after an error */
    size_t n_refs;
    ws_recipe_ref *refs; /**< (n_refs) the models named, each once */
    bool too_many;       /**< of them: reported */
    bool has_base;
    size_t base; /**< index among refs */
    bool sliced; /**< layers are counted: slices, else one slice without ranges */
    size_t n_slices;
    ws_recipe_slice *slices;
    uint32_t layers;            /**< of the output, when sliced */
    ws_settings module, params; /**< of the module, of the document */
    bool has_dtype;
    ws_dtype dtype; /**< of the output */
    bool has_seed;
    uint64_t seed;
    const char *lines; /**< "A,B", or NULL */
};

struct ws_recipe {
    ws_arena arena;
    size_t n;
    ws_recipe_doc *docs; /**< (n) */
    size_t last;         /**< the one that is written */
};

/** How long a chain of documents made of each other may be. */
enum { WS_RECIPE_DEPTH = 32 };

/** The reading of one file: what its parts share. */
typedef struct ws_recipe_reader {
    const char *file;
    ws_arena *arena;
    ws_diag *errors, *warnings;
    bool lenient;
    size_t work; /**< nodes looked at: aliases cannot multiply it without end */
    bool memory; /**< none was left */
} ws_recipe_reader;

/** Zeroed memory of the recipe; NULL (and .memory) when there is none. */
void *ws_recipe_take(ws_recipe_reader *r, size_t n, size_t size);

/** Report a mistake. */
ws_err *ws_recipe_fail(ws_recipe_reader *r, ws_place at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** Report what would have no effect: a mistake, or a warning when lenient. */
ws_err *ws_recipe_void(ws_recipe_reader *r, ws_place at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** The word of @p words (n) nearest to @p word; NULL when none is near. */
const char *ws_recipe_nearest(const char *word, const char *const *words, size_t n);

/** Whether @p y is of @p kind; else a mistake that calls it @p what. */
bool ws_recipe_is(ws_recipe_reader *r, const ws_yaml *y, ws_yaml_kind kind,
                  const char *what);

/**
 * recipe_settings.c: a map `parameters:` of @p doc's method. @p of_model: under a
 * model, where only parameters of single models may stand. @p of_base: of the base,
 * whose update does not exist.
 */
void ws_recipe_settings(ws_recipe_reader *r, const ws_recipe_doc *doc, const ws_yaml *y,
                        bool of_model, bool of_base, ws_settings *out);

/** recipe_documents.c: names of documents, which models are documents, which of them is
 * written; documents made of themselves are reported. */
void ws_recipe_link(ws_recipe_reader *r, ws_recipe *recipe);

/** Where a value is asked for. */
typedef struct ws_recipe_query {
    const ws_recipe_slice *slice;
    const ws_recipe_source *source; /**< NULL: of no listed model */
    const char *in_name, *out_name; /**< of the source's and of the output's tensor */
    double t;                       /**< depth in the slice, 0..1 */
} ws_recipe_query;

/** The value of @p p: of the model, its slice, the module, the document. False: none
 * says one. */
bool ws_recipe_value(const ws_recipe_doc *doc, const ws_param *p,
                     const ws_recipe_query *q, double *v, ws_place *at);

/** A level's settings as a JSON object that says them all. */
void ws_recipe_settings_json(ws_buf *b, const ws_settings *s);

#endif
